"""A link to a peer through a relay: the same contract as a QUIC connection, carried by one stream to the relay."""

from __future__ import annotations

import asyncio
import logging

from zstui.engine.errors import AuthenticationFailed, NetError, ProtocolError, Refused, StreamClosed, Unreachable
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.connection import CLOSE_NORMAL
from zstui.engine.net.contract import LinkOwner
from zstui.engine.net.limits import CONNECTION_WINDOW, HANDSHAKE_S, MAX_PROPOSALS
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.relay.secure import MAX_CLEAR, NOISE, SecureChannel, secure
from zstui.engine.net.relay.yamux import Yamux
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

_BATCH = MAX_CLEAR // 2
"""Bytes after which no further frame joins a message; a frame has at most ``MAX_CLEAR - _BATCH``."""
_GOODBYE_S = 2.0
_LINGER_S = 2.0
"""By then the other side knows of the better link, too."""
_RETIRE_S = 30.0


class CircuitConnection:
    """Implements ``contract.LinkConnection``. Made by ``join``; lives while ``run`` does."""

    def __init__(
        self,
        stream: WireStream,
        channel: SecureChannel,
        owner: LinkOwner,
        peer: PeerId,
        via: Multiaddr,
        *,
        dialed: bool,
    ) -> None:
        self._stream = stream
        self._channel = channel
        self._owner = owner
        self._mux = Yamux(peer, dialed=dialed, inbound=self._inbound, wake=self._wake)
        self._moved = asyncio.Event()
        self._retiring: asyncio.TimerHandle | None = None
        self._closes_when_idle = False
        self.peer: PeerId | None = peer
        self.via = via
        self.dialed = dialed
        self.opened_at = asyncio.get_running_loop().time()
        self.is_closed = False
        self.reason = ""
        self.error: NetError = Unreachable("The connection is closed.")
        self.close_code: int | None = None

    def __repr__(self) -> str:
        return f"<CircuitConnection {'to' if self.dialed else 'from'} {self.peer} via {self.via}>"

    @property
    def relay(self) -> PeerId | None:
        return self.via.relay

    @property
    def multiaddr(self) -> Multiaddr:
        return self.via

    def open(self) -> WireStream:
        if self.is_closed:
            raise StreamClosed("The link is down.")
        return self._mux.open()

    def close(self, code: int = CLOSE_NORMAL, reason: str = "", *, error: NetError | None = None) -> None:
        if self.is_closed:
            return
        self._mux.go_away(code)
        self._finish(code, reason or "closed", error or Unreachable(reason or "The connection was closed."))

    def retire(self) -> None:
        """A better link has taken over: close as soon as no stream is open, and soon in any case."""
        if self._retiring is None and not self.is_closed:
            self._retiring = asyncio.get_running_loop().call_later(_LINGER_S, self._retire_when_idle)

    def _retire_when_idle(self) -> None:
        self._retiring = asyncio.get_running_loop().call_later(_RETIRE_S, self.close, CLOSE_NORMAL, "replaced")
        self._closes_when_idle = True
        self._wake()

    async def run(self) -> None:
        """Carry everything until the link ends; closes the stream to the relay."""
        reader = asyncio.create_task(self._read(), name="circuit reader")
        writer = asyncio.create_task(self._write(), name="circuit writer")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                await asyncio.wait((writer,), timeout=_GOODBYE_S)
        finally:
            self._finish(None, "shutting down", Unreachable("The connection was closed."))
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            await self._stream.close()
            self._stream.reset()

    async def _read(self) -> None:
        try:
            while not self.is_closed:
                if self._mux.unread > CONNECTION_WINDOW:
                    await self._moved_on()
                    continue
                self._mux.receive(await self._channel.read())
                if self._mux.closed_with is not None:
                    self._finish(self._mux.closed_with, "closed by the peer", Unreachable("The peer closed the link."))
        except (NetError, ProtocolError) as error:
            self._fail(error)

    async def _write(self) -> None:
        try:
            while True:
                data = self._mux.output(_BATCH)
                if data:
                    await self._channel.write(data)
                elif self.is_closed:
                    return
                elif self._closes_when_idle and self._mux.streams == 0:
                    self.close(CLOSE_NORMAL, "replaced")
                else:
                    await self._moved_on()
        except (NetError, ProtocolError) as error:
            self._fail(error)

    async def _moved_on(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _wake(self) -> None:
        self._moved.set()

    def _inbound(self, stream: WireStream) -> None:
        self._owner.inbound(self, stream)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, StreamClosed):
            self._finish(None, "the relay ended the circuit", Unreachable("The relay ended the circuit."))
        else:
            log.info("A circuit to %s failed: %s", self.peer, error)
            self._finish(None, str(error), error if isinstance(error, NetError) else Unreachable(str(error)))

    def _finish(self, code: int | None, reason: str, error: NetError) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.close_code, self.reason, self.error = code, reason, error
        if self._retiring is not None:
            self._retiring.cancel()
        self._mux.lost(f"The link went down: {reason}")
        self._wake()
        self._owner.closed(self)


async def join(
    stream: WireStream, identity: Identity, owner: LinkOwner, via: Multiaddr, *, dialed: bool
) -> CircuitConnection:
    """Make a link of a stream whose other end is, says the relay, ``via.peer``; ``owner`` has taken or closed it.

    Raises AuthenticationFailed if it is somebody else, Unreachable, and what streams raise. ``run`` it then.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            if dialed:
                stream.propose(NOISE)
                await stream.negotiated(HANDSHAKE_S)
            else:
                await stream.respond((NOISE,), MAX_PROPOSALS, HANDSHAKE_S)
            channel, peer = await secure(stream, identity, dialed=dialed)
            if peer != via.peer:
                raise AuthenticationFailed(f"Expected {via.peer} through the relay and found {peer}.")
            await channel.agree_on_yamux(dialed=dialed)
    except TimeoutError:
        stream.reset()
        raise Unreachable("The peer behind the relay did not answer in time.") from None
    except (NetError, ProtocolError, Refused):
        stream.reset()
        raise
    connection = CircuitConnection(stream, channel, owner, peer, via, dialed=dialed)
    owner.authenticated(connection)
    if connection.is_closed:
        stream.reset()
        raise connection.error
    owner.ready(connection)
    return connection
