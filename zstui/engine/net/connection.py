"""Drives one QUIC connection on the event loop: datagrams and timers in, streams and the peer's proven key out."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import socket
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from zstui.engine.errors import AuthenticationFailed, NetError, StreamClosed, Unreachable
from zstui.engine.identity.certificate import verify_chain
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.net.contract import LinkOwner
from zstui.engine.net.limits import HANDSHAKE_S, MAX_OUTBOUND_STREAMS, SEND_BUFFER, STREAM_WINDOW
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.quic import ACK_DELAY_S, ALPN, BAD_CERTIFICATE, DATAGRAM_BYTES, Quic
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

CLOCK_RESOLUTION_S = 1e-6
"""A timer may ring this much early."""
Address = tuple[str, int] | tuple[str, int, int, int]

CLOSE_NORMAL = 0x0
CLOSE_REFUSED = 0x1001
"""The node does not want this peer."""
CLOSE_DUPLICATE = 0x1002
"""Another connection between the same two peers is kept."""
CLOSE_IDLE = 0x1003
"""The link served its purpose; neither side needs to come back to it."""


_AT_ONCE = DATAGRAM_BYTES
"""Bytes written that are sent without waiting for more: the peer works on them while the rest is being written."""


class Socket(Protocol):
    """What a connection needs of the endpoint."""

    def send(self, data: bytes, address: Address, local: bytes = b"") -> OSError | None:
        """Send one datagram now, from ``local`` if it is given; the error if the system refused it."""

    def register(self, connection_id: bytes, connection: Connection) -> None: ...

    def unregister(self, connection_id: bytes, connection: Connection) -> None: ...

    def forget(self, connection: Connection) -> None:
        """Deliver nothing more to ``connection``."""


class Connection:
    """Implements ``contract.LinkConnection``."""

    relay: PeerId | None = None

    def __init__(
        self, socket: Socket, owner: LinkOwner, quic: Quic, address: Address, *, dialed: bool, expected: PeerId | None
    ) -> None:
        self._socket = socket
        self._owner = owner
        self._quic = quic
        self._loop = asyncio.get_running_loop()
        self.address = address
        """Where the peer was first seen; ``remote`` follows it."""
        self._local = b""
        self.dialed = dialed
        self.expected = expected
        self.peer: PeerId | None = None
        self.is_ready = False
        self.is_closed = False
        self.reason = ""
        self.error: NetError = Unreachable("The connection is closed.")
        """What a dial that ended like this raises."""
        self.close_code: int | None = None
        """Application error code of whichever side closed."""
        self.opened_at = self._loop.time()
        self._streams: dict[int, WireStream] = {}
        self._outbound = 0
        """How many of the streams we opened."""
        self._outgoing: dict[int, bytearray] = {}
        """What has been written since the last ``transmit``."""
        self._waiting = 0
        """How many bytes that is."""
        self._ending: set[int] = set()
        """Streams whose writing side ends after that."""
        self._next_inbound = 1 if dialed else 0
        self._skipped_inbound: set[int] = set()
        self._drains: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._rings_at = 0.0
        """When ``_timer`` does; it may be before ``_timer_at``."""
        self._flush: asyncio.Handle | None = None
        self._flush_soon = False
        self._freed = 0
        """Bytes that were read since the last ``transmit``: the peer may send as many more once it is told."""
        self._deadline: asyncio.TimerHandle | None = self._loop.call_later(HANDSHAKE_S, self._too_slow)

    def __repr__(self) -> str:
        return f"<Connection {'to' if self.dialed else 'from'} {self.peer} at {self.address}>"

    @property
    def remote(self) -> Address:
        """Where datagrams go now."""
        address: Address | None = self._quic.get_peer_address()
        return address or self.address

    @property
    def multiaddr(self) -> Multiaddr:
        remote = self.remote
        plain = Multiaddr(str(ipaddress.ip_address(remote[0])), remote[1], self.peer)
        if len(remote) == 4 and remote[3]:
            with contextlib.suppress(OSError):  # an interface that is gone
                return plain.in_zone(socket.if_indextoname(remote[3]))
        return plain

    # --- driven by the endpoint --------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Send the first flight of a dial."""
        self._quic.connect(self.address, now=self._loop.time())
        self.transmit()

    def receive(self, data: bytes, address: Address, local: bytes = b"") -> None:
        """Take in one datagram; ``process`` must follow before the loop's next turn, and ``transmit`` soon.

        ``local``: at which of this machine's addresses it came. A peer that dialed it knows no other, so answers leave from
        there; a dial of ours leaves from where the system thinks best, also after a change of networks.
        """
        if not self.dialed:
            self._local = local
        try:
            self._quic.receive_datagram(data, address, now=self._loop.time())
        except Exception:  # a bug in the QUIC library, reached by a hostile datagram, must not end the reader
            log.exception("The QUIC library failed on a datagram from %s.", address[0])
            self.close(int(QuicErrorCode.INTERNAL_ERROR), "internal error")

    def process(self) -> None:
        """Hand on what happened."""
        while not self.is_closed and (event := self._quic.next_event()) is not None:
            self._handle(event)
        if self.is_closed:
            return
        if self.peer is not None and not self.is_ready and self._quic.confirmed:
            self.is_ready = True
            self._cancel_deadline()
            if not self.dialed:
                self.transmit()  # The peer waits to hear that it is accepted; what the owner begins takes longer.
            if self.is_closed:
                return
            self._owner.ready(self)
        self._wake_drains()
        self._check_end()

    def transmit(self) -> None:
        """Send what there is to send and set the timer."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._freed = 0
        if self.is_closed or self._quic.get_peer_address() is None:
            return
        self._hand_over()
        for data, address in self._quic.datagrams_to_send(now=self._loop.time()):
            error = self._socket.send(data, address, self._local)
            if error is not None and self.dialed and not self.is_ready:
                self._finish(
                    Unreachable(f"{self.address[0]} cannot be reached from here: {error.strerror or error}."), ""
                )
                return
        self._check_end()
        if not self.is_closed:
            self._set_timer()

    def transmit_soon(self) -> None:
        """``transmit`` once whoever was just woken has had a turn, so that one datagram carries what they have to say."""
        if self._flush is not None and not self._flush_soon:
            self._flush.cancel()
            self._flush = None
        if self._flush is None and not self.is_closed:
            self._flush, self._flush_soon = self._loop.call_soon(self.transmit), True

    def transmit_later(self) -> None:
        """After datagrams came in or were read: soon if data waits, else when an acknowledgement is due, by when an answer has
        mostly taken along all that QUIC itself has to say."""
        if self._quic.has_unsent():
            self.transmit_soon()
        elif self._flush is None and not self.is_closed:
            self._flush, self._flush_soon = self._loop.call_later(ACK_DELAY_S, self.transmit), False

    def close(self, code: int = CLOSE_NORMAL, reason: str = "", *, error: NetError | None = None) -> None:
        """Tell the peer and be done. Idempotent."""
        if self.is_closed:
            return
        is_tls = 0x100 <= code < 0x200 or code == QuicErrorCode.INTERNAL_ERROR
        self._quic.close(code, QuicFrameType.CRYPTO if is_tls else None, reason)
        if self._quic.get_peer_address() is not None:
            for data, address in self._quic.datagrams_to_send(now=self._loop.time()):
                self._socket.send(data, address, self._local)
        self.close_code = None if is_tls else code
        self._finish(error or Unreachable(reason or "The connection was closed."), reason)

    def retire(self) -> None:
        self.close(CLOSE_DUPLICATE, "replaced by a newer connection")

    # --- streams -----------------------------------------------------------------------------------------------------

    def open(self) -> WireStream:
        """A new stream. Raises StreamClosed if the connection is gone or too many streams are open."""
        if self.is_closed or self.peer is None:
            raise StreamClosed("The link is down.")
        if self._outbound >= MAX_OUTBOUND_STREAMS:
            raise StreamClosed("Too many streams are open to this peer.")
        stream_id = self._quic.open_stream()
        stream = self._streams[stream_id] = WireStream(self, stream_id, self.peer)
        self._outbound += 1
        return stream

    def write(self, stream_id: int, data: bytes, end: bool = False) -> None:
        if not self.is_closed and stream_id in self._streams:
            waiting = self._outgoing.get(stream_id)
            if waiting is None:
                self._outgoing[stream_id] = bytearray(data)
            else:
                waiting += data
            if end:
                self._ending.add(stream_id)
            self._waiting += len(data)
            if self._waiting < _AT_ONCE:
                self.transmit_soon()
            else:
                self.transmit()

    def flush(self) -> None:
        self.transmit()

    def is_full(self, stream_id: int) -> bool:
        if self.is_closed or stream_id not in self._streams:
            return False
        return len(self._outgoing.get(stream_id, b"")) + self._quic.unsent(stream_id) > SEND_BUFFER

    async def drained(self, stream_id: int) -> None:
        while self.is_full(stream_id):
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drains.add(waiter)
            try:
                await waiter
            finally:
                self._drains.discard(waiter)

    def read_up(self, stream_id: int, left: int) -> None:
        if self.is_closed:
            return
        before = self._quic.unread.pop(stream_id, 0)
        if left:
            self._quic.unread[stream_id] = left
        self._freed += before - left
        if self._freed >= STREAM_WINDOW // 8:
            self.transmit_soon()
        elif before > left and self._flush is None:
            self.transmit_later()

    def stop(self, stream_id: int, *, sending: bool, receiving: bool) -> None:
        if self.is_closed or stream_id not in self._streams:
            return
        if sending:
            self._outgoing.pop(stream_id, None)
            self._quic.stop_sending(stream_id)
        if receiving:
            self._quic.stop_receiving(stream_id)
        self._wake_drains()
        self.transmit_soon()

    def forget(self, stream_id: int) -> None:
        if self._streams.pop(stream_id, None) is not None and not self._quic.is_inbound(stream_id):
            self._outbound -= 1

    def _hand_over(self) -> None:
        """Pass on what was written, each stream's in one piece: that is much of what a short message costs."""
        for stream_id, data in self._outgoing.items():
            self._quic.write(stream_id, bytes(data), end=stream_id in self._ending)
        self._outgoing.clear()
        self._ending.clear()
        self._waiting = 0

    # --- events ------------------------------------------------------------------------------------------------------

    def _handle(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived(data=data, end_stream=end, stream_id=stream_id):
                stream = self._stream(stream_id)
                if stream is not None:
                    unread = stream.feed(data, end)
                    if unread:
                        self._quic.unread[stream_id] = unread
            case events.StreamReset(stream_id=stream_id):
                stream = self._stream(stream_id)
                if stream is not None:
                    stream.lost("The other side reset the stream.", writing=False)
            case events.StopSendingReceived(stream_id=stream_id):
                stream = self._stream(stream_id)
                if stream is not None:
                    stream.lost("The other side takes no more data.", reading=False)
            case events.HandshakeCompleted():
                self._authenticate(event)
            case events.ConnectionIdIssued(connection_id=connection_id):
                self._socket.register(connection_id, self)
            case events.ConnectionIdRetired(connection_id=connection_id):
                self._socket.unregister(connection_id, self)
            case _:
                pass

    def _authenticate(self, event: events.HandshakeCompleted) -> None:
        try:
            if event.alpn_protocol != ALPN or event.session_resumed or event.early_data_accepted:
                raise AuthenticationFailed("The other side does not speak libp2p.")
            peer = verify_chain(self._quic.peer_certificates(), datetime.datetime.now(datetime.UTC))
            if self.expected is not None and peer != self.expected:
                raise AuthenticationFailed(f"Expected {self.expected} at this address and found {peer}.")
        except AuthenticationFailed as error:
            log.info("Refused %s: %s", self.address[0], error)
            self.close(BAD_CERTIFICATE, "bad certificate", error=error)
            return
        self.peer = peer
        self._owner.authenticated(self)

    def _stream(self, stream_id: int) -> WireStream | None:
        """The stream, made now if the peer just opened it; None if it is one that we dropped."""
        stream = self._streams.get(stream_id)
        if stream is not None or self.peer is None or not self._quic.is_inbound(stream_id) or stream_id & 2:
            return stream
        if stream_id >= self._next_inbound:
            self._skipped_inbound.update(range(self._next_inbound, stream_id, 4))
            self._next_inbound = stream_id + 4
        elif stream_id in self._skipped_inbound:
            self._skipped_inbound.remove(stream_id)
        else:
            return None
        stream = self._streams[stream_id] = WireStream(self, stream_id, self.peer)
        self._owner.inbound(self, stream)
        return stream

    # --- the end -----------------------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        ended = self._quic.termination
        if ended is None or self.is_closed:
            return
        reason = clean_text(ended.reason_phrase, 120)
        error: NetError
        if ended.frame_type is None:
            self.close_code = ended.error_code
            error = Unreachable(f"The peer closed the connection{': ' + reason if reason else ''}.")
        elif 0x100 <= ended.error_code < 0x200:
            error = AuthenticationFailed(f"The handshake failed{': ' + reason if reason else ''}.")
        else:
            error = Unreachable(f"The connection failed{': ' + reason if reason else ''}.")
        self._finish(error, reason or ("closed by the peer" if ended.frame_type is None else "connection failed"))

    def _too_slow(self) -> None:
        self.close(CLOSE_NORMAL, "no answer", error=Unreachable(f"No answer from {self.address[0]}."))

    def _finish(self, error: NetError, reason: str) -> None:
        self.is_closed = True
        self.error, self.reason = error, reason or str(error)
        self._cancel_deadline()
        for handle in (self._timer, self._flush):
            if handle is not None:
                handle.cancel()
        self._timer = self._flush = None
        self._outgoing.clear()
        self._socket.forget(self)
        for stream in tuple(self._streams.values()):
            stream.lost(f"The link went down: {self.reason}")
        self._streams.clear()
        self._wake_drains()
        self._owner.closed(self)

    # --- timers ------------------------------------------------------------------------------------------------------

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _set_timer(self) -> None:
        """A timer that rings too early is left: it is set anew when it rings, and most never do."""
        at = self._timer_at = self._quic.get_timer()
        if self._timer is not None:
            if at is not None and self._rings_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer, self._rings_at = self._loop.call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._timer_at is not None and now < self._timer_at - CLOCK_RESOLUTION_S:
            self._set_timer()
            return
        self._quic.handle_timer(now=max(self._timer_at or 0.0, now))
        self.process()
        self.transmit()

    def _wake_drains(self) -> None:
        for waiter in self._drains:
            if not waiter.done():
                waiter.set_result(None)
