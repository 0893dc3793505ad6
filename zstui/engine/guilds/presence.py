"""Who of a guild's members is there: by the heartbeats and everything else that comes from them."""

from __future__ import annotations

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId

BEAT_S = 30
"""Every member tells every other one it is connected to that it is there, this often."""
GONE_US = 100 * US
"""Who was silent for three heartbeats and a bit is gone: an officer then acts in the creator's place."""


class Presence:
    """Of one guild. Times are microseconds: ``mono`` monotonic, ``now`` Unix."""

    def __init__(self, mono_us: int) -> None:
        self._started_us = mono_us
        self._heard: dict[PeerId, int] = {}
        self._seen: dict[PeerId, int] = {}
        self._unsaved: set[PeerId] = set()

    def heard(self, peer: PeerId, now_us: int, mono_us: int) -> None:
        """Something came from ``peer``."""
        self._heard[peer] = mono_us
        self._seen[peer] = now_us
        self._unsaved.add(peer)

    def recall(self, peer: PeerId, now_us: int) -> None:
        """``peer`` was last heard of in an earlier run."""
        self._seen[peer] = now_us

    def last_seen_us(self, peer: PeerId) -> int | None:
        return self._seen.get(peer)

    def is_here(self, peer: PeerId, mono_us: int) -> bool:
        """Heard of lately. After a start everybody has as long as a silence may last to be heard of."""
        return mono_us - self._heard.get(peer, self._started_us) < GONE_US

    def unsaved(self) -> list[tuple[PeerId, int]]:
        """What changed since the last call."""
        changed, self._unsaved = self._unsaved, set()
        return [(peer, self._seen[peer]) for peer in changed]

    def keep(self, peers: set[PeerId]) -> None:
        """Forget all others, so that it does not grow with who came and went."""
        for table in (self._heard, self._seen):
            for peer in table.keys() - peers:
                del table[peer]
        self._unsaved &= peers
