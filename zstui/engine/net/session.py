"""A live link to one peer: opening streams on it, measuring it, and noticing that it is dead."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from zstui.engine.errors import DeadlineExceeded, NetError, ProtocolError, Refused, StreamClosed
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.identify import ID_PROTOCOL, PUSH_PROTOCOL
from zstui.engine.net.limits import NEGOTIATION_S, PING_EVERY_S, PING_TIMEOUT_S, RTT_HISTORY
from zstui.engine.net.link import CARD_PROTOCOL, Stream
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.stream import WireStream

PING_PROTOCOL = "/ipfs/ping/1.0.0"
_UPKEEP = frozenset((PING_PROTOCOL, ID_PROTOCOL, PUSH_PROTOCOL, CARD_PROTOCOL))
_PING_BYTES = 32
_PING_IDLE_S = 60.0


class Session:
    def __init__(self, connection: LinkConnection, on_rtt: Callable[[PeerId], None]) -> None:
        assert connection.peer is not None
        self.connection = connection
        self.peer = connection.peer
        self.rtt_ms: deque[float] = deque(maxlen=RTT_HISTORY)
        """Latest round trips, oldest first."""
        self.protocols: frozenset[str] = frozenset()
        """What the peer said it speaks; empty until it has."""
        self.observed: Multiaddr | None = None
        """Where the peer sees me."""
        self.is_passing = False
        """Made for a look-up alone: closed when idle."""
        self.used_at = connection.opened_at
        """When a stream for something else than upkeep was opened last, by the loop's clock."""
        self.task: asyncio.Task[None] | None = None
        self._on_rtt = on_rtt
        self._ping: WireStream | None = None

    @property
    def address(self) -> Multiaddr:
        """Where the peer is now."""
        return self.connection.multiaddr

    async def open(self, protocol: str, timeout: float = NEGOTIATION_S) -> WireStream:
        """A stream of ``protocol``; at once if the peer is known to speak it, else after its answer.

        Raises Refused, StreamClosed, DeadlineExceeded.
        """
        if protocol not in _UPKEEP:
            self.used_at = asyncio.get_running_loop().time()
        stream = self.connection.open()
        stream.propose(protocol)
        if protocol not in self.protocols:
            await stream.negotiated(timeout)
        return stream

    async def keep_alive(self) -> None:
        """Ping for as long as the peer answers; then close the connection and return."""
        loop = asyncio.get_running_loop()
        while not self.connection.is_closed:
            began = loop.time()
            try:
                async with asyncio.timeout(PING_TIMEOUT_S):
                    await self._round_trip()
            except (TimeoutError, DeadlineExceeded):
                self.connection.close(reason="no answer to pings")
                return
            except ProtocolError:
                self.connection.close(reason="wrong answer to a ping")
                return
            except Refused:
                pass  # an answer all the same
            except NetError:
                self._ping = None
                await asyncio.sleep(PING_EVERY_S)
                continue
            self.rtt_ms.append(round((loop.time() - began) * 1000, 3))
            self._on_rtt(self.peer)
            await asyncio.sleep(PING_EVERY_S)

    async def _round_trip(self) -> None:
        payload = os.urandom(_PING_BYTES)
        if self._ping is None:
            self._ping = await self.open(PING_PROTOCOL, PING_TIMEOUT_S)
        await self._ping.write_raw(payload)
        if await self._ping.read_exactly(_PING_BYTES) != payload:
            raise ProtocolError("A wrong answer to a ping.")


async def answer_pings(stream: Stream) -> None:
    """The other side of ``/ipfs/ping/1.0.0``: sends back 32 bytes at a time until the dialer closes."""
    assert isinstance(stream, WireStream)
    while True:
        try:
            async with asyncio.timeout(_PING_IDLE_S):
                payload = await stream.read_exactly(_PING_BYTES)
        except (StreamClosed, TimeoutError):
            return
        await stream.write_raw(payload)
