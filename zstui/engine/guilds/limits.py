"""How much of each thing one peer may ask for: token buckets, in a bounded table."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId

MAX_BUCKETS = 4096


class Rate(msgspec.Struct, frozen=True):
    burst: int
    per_s: float


RATES: dict[str, Rate] = {
    # guilds, not announcements
    "announce": Rate(256, 8.0),
    "join": Rate(60, 1.0),
    "check": Rate(60, 1.0),
    "leave": Rate(60, 1.0),
    "welcome": Rate(60, 1.0),
    "beat": Rate(20, 1.0),
    "update": Rate(400, 20.0),
    "sync": Rate(160, 2.0),
    "chat": Rate(200, 20.0),
}


class Limits:
    """A full bucket is the same as none, so evicting the least recently used costs honest peers nothing."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[PeerId, str], tuple[float, int]] = OrderedDict()

    def allow(self, peer: PeerId, kind: str, now_us: int, amount: int = 1) -> bool:
        """Take ``amount`` tokens (``now_us`` monotonic), or nothing and return False."""
        rate = RATES[kind]
        tokens, then_us = self._buckets.get((peer, kind), (float(rate.burst), now_us))
        tokens = min(float(rate.burst), tokens + (now_us - then_us) / US * rate.per_s)
        allowed = tokens >= amount
        self._buckets[peer, kind] = (tokens - amount if allowed else tokens, now_us)
        self._buckets.move_to_end((peer, kind))
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return allowed
