"""The dispute stream: one signed message in, one signed answer out. Bounds what one peer may ask of this node."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from zstui.engine.channels.disputes.messages import KINDS, Declined
from zstui.engine.channels.disputes.store import digest_of
from zstui.engine.channels.messages import read, take
from zstui.engine.clock import US, Clock
from zstui.engine.errors import ProtocolError, Refused
from zstui.engine.identity.envelope import Body, Signed, seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import Stream

BURST = 64
"""Messages that a peer may send at once ..."""
PER_SECOND = 4
"""... and that it may send again each second."""
MAX_PEERS = 1024
RECEIVE_S = 10.0


class Busy(Exception):
    """Not now; the sender keeps the message and tries again."""


class Desk(Protocol):
    async def handle(self, sender: PeerId, signed: Signed, body: Body) -> Body:
        """Carry out one verified message, durably, and answer. Raises Busy, Refused or another ZsError: declined."""


class Meter:
    """A token bucket for each peer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[PeerId, tuple[float, int]] = OrderedDict()

    def take(self, peer: PeerId) -> bool:
        """Whether one more message is within the peer's rate."""
        now = self._clock.monotonic_us()
        left, at = self._buckets.pop(peer, (float(BURST), now))
        left = min(BURST, left + (now - at) / US * PER_SECOND)
        self._buckets[peer] = (max(0.0, left - 1), now)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return left >= 1


class DisputeProtocol:
    def __init__(self, identity: Identity, clock: Clock, desk: Desk) -> None:
        self._identity = identity
        self._desk = desk
        self._meter = Meter(clock)
        self.kinds: dict[str, type[Body]] = dict(KINDS)
        """What may arrive unasked."""

    async def serve(self, stream: Stream) -> None:
        raw = await stream.receive(RECEIVE_S)
        digest = digest_of(raw)
        try:
            if not self._meter.take(stream.peer):
                raise Busy("Too many messages; try later.")
            signed = take(raw)
            kind = self.kinds.get(signed.kind)
            if kind is None:
                raise ProtocolError(f"A {signed.kind!r} is not known here.")
            answer = await self._desk.handle(stream.peer, signed, read(signed, kind))
        except Busy as error:
            answer = Declined(digest, True, str(error))
        except (Refused, ProtocolError) as error:
            answer = Declined(digest, False, clean_text(str(error), 200))
        await stream.send(seal(self._identity, answer))
