"""Yamux: many streams over one ordered channel, with flow control for each (github.com/hashicorp/yamux, spec.md), sans I/O.

A frame is a header of 12 bytes (version 0, type, flags, stream id, length) and, for data, ``length`` bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable

from zstui.engine.errors import ProtocolError, StreamClosed
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.limits import MAX_OUTBOUND_STREAMS, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW
from zstui.engine.net.stream import WireStream

_HEADER = struct.Struct(">BBHII")
_DATA, _WINDOW, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8
_CHUNK = 16 * 1024
_MAX_CONTROL = 4 * (MAX_STREAMS + MAX_OUTBOUND_STREAMS)
"""Frames about frames that may wait: a peer that causes more does not read what it asks for."""


class _Entry:
    """One stream and what flows on it."""

    def __init__(self, stream: WireStream, *, announced: bool) -> None:
        self.stream = stream
        self.announced = announced
        self.outbox = bytearray()
        self.may_send = STREAM_WINDOW
        self.may_receive = STREAM_WINDOW
        self.unread = 0
        self.ending = False
        """The writing side ends after the outbox."""
        self.is_over = False
        """Only the outbox is left to send."""
        self.received_end = False

    @property
    def has_output(self) -> bool:
        return bool(self.outbox and self.may_send) or (self.ending and not self.outbox)


class Yamux:
    """Implements ``stream.Carrier``. ``wake`` is called when there is ``output``."""

    def __init__(
        self, peer: PeerId, *, dialed: bool, inbound: Callable[[WireStream], None], wake: Callable[[], None]
    ) -> None:
        self._peer = peer
        self._inbound = inbound
        self._wake = wake
        self._next_id = 1 if dialed else 2
        self._entries: dict[int, _Entry] = {}
        self._ready: dict[int, None] = {}
        self._control: deque[bytes] = deque()
        self._drains: set[asyncio.Future[None]] = set()
        self._input = bytearray()
        self._is_flooded = False
        self.unread = 0
        """Bytes of all streams that the application has not taken."""
        self.closed_with: int | None = None
        """The code with which the peer said that it goes away."""

    @property
    def streams(self) -> int:
        return len(self._entries)

    def open(self) -> WireStream:
        """Raises StreamClosed if too many streams are open."""
        if sum(not self._is_theirs(i) for i in self._entries) >= MAX_OUTBOUND_STREAMS:
            raise StreamClosed("Too many streams are open to this peer.")
        stream_id, self._next_id = self._next_id, self._next_id + 2
        stream = WireStream(self, stream_id, self._peer)
        self._entries[stream_id] = _Entry(stream, announced=False)
        return stream

    def go_away(self, code: int) -> None:
        self._say(_GO_AWAY, 0, 0, code)

    def lost(self, reason: str) -> None:
        """The channel is gone."""
        for entry in tuple(self._entries.values()):
            entry.stream.lost(reason)
        self._entries.clear()
        self._wake_drains()

    # --- the channel -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take in what came, in pieces of any size. Raises ProtocolError; the channel is useless then."""
        self._input += data
        offset = 0
        while len(self._input) - offset >= _HEADER.size:
            version, kind, flags, stream_id, length = _HEADER.unpack_from(self._input, offset)
            if version or kind > _GO_AWAY or (kind == _DATA and length > STREAM_WINDOW):
                raise ProtocolError("Not a frame of yamux.")
            start = offset + _HEADER.size
            end = start + (length if kind == _DATA else 0)
            if end > len(self._input):
                break
            self._frame(kind, flags, stream_id, length, bytes(self._input[start:end]))
            offset = end
            if self._is_flooded:
                raise ProtocolError("The peer asks and does not read.")
        del self._input[:offset]

    def output(self, limit: int) -> bytes:
        """What to send next, about ``limit`` bytes; b"" if there is nothing. The streams take turns."""
        out = bytearray()
        while len(out) < limit and self._control:
            out += self._control.popleft()
        while len(out) < limit and self._ready:
            stream_id = next(iter(self._ready))
            del self._ready[stream_id]
            out += self._data_frame(stream_id)
        return bytes(out)

    def _data_frame(self, stream_id: int) -> bytes:
        entry = self._entries.get(stream_id)
        if entry is None or not entry.has_output:
            return b""
        data = bytes(entry.outbox[: min(_CHUNK, entry.may_send)])
        del entry.outbox[: len(data)]
        entry.may_send -= len(data)
        flags = 0 if entry.announced else _SYN
        entry.announced = True
        out = _HEADER.pack(0, _DATA, flags, stream_id, len(data)) + data if data or flags else b""
        if entry.ending and not entry.outbox:
            # In a frame of its own: some implementations take an end before the data that it comes with.
            out += _HEADER.pack(0, _WINDOW, _FIN, stream_id, 0)
            entry.ending = False
            if entry.is_over:
                del self._entries[stream_id]
        elif entry.has_output:
            self._ready[stream_id] = None
        if len(entry.outbox) <= SEND_BUFFER:
            self._wake_drains()
        return out

    # --- frames in ---------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes) -> None:
        if kind == _PING:
            if flags & _SYN:
                self._say(_PING, _ACK, 0, length)
            return
        if kind == _GO_AWAY:
            self.closed_with = length
            return
        if flags & _SYN:
            self._accept(stream_id)
        entry = self._entries.get(stream_id)
        if entry is None:
            if data:
                self._say(_WINDOW, _RST, stream_id, 0)
            return
        if kind == _WINDOW:
            entry.may_send += length
            self._offer(stream_id, entry)
        else:
            self._take(entry, data)
        if flags & _RST:
            self._drop(stream_id, entry)
            entry.stream.lost("The other side reset the stream.")
        elif flags & _FIN and not entry.received_end:
            entry.received_end = True
            entry.stream.feed(b"", True)

    def _accept(self, stream_id: int) -> None:
        if not self._is_theirs(stream_id) or stream_id in self._entries:
            raise ProtocolError("A stream with an id that is not the peer's to give.")
        if sum(map(self._is_theirs, self._entries)) >= MAX_STREAMS:
            self._say(_WINDOW, _RST, stream_id, 0)
            return
        stream = WireStream(self, stream_id, self._peer)
        self._entries[stream_id] = _Entry(stream, announced=True)
        self._say(_WINDOW, _ACK, stream_id, 0)
        self._inbound(stream)

    def _take(self, entry: _Entry, data: bytes) -> None:
        if len(data) > entry.may_receive or (data and entry.received_end):
            raise ProtocolError("More data on a stream than was allowed.")
        entry.may_receive -= len(data)
        if data and not entry.is_over:
            self._count(entry, entry.stream.feed(data, False))

    def _count(self, entry: _Entry, unread: int) -> None:
        self.unread += unread - entry.unread
        entry.unread = unread

    def _is_theirs(self, stream_id: int) -> bool:
        return stream_id != 0 and stream_id % 2 != self._next_id % 2

    def _say(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if len(self._control) >= _MAX_CONTROL:
            self._is_flooded = True
            return
        self._control.append(_HEADER.pack(0, kind, flags, stream_id, length))
        self._wake()

    def _drop(self, stream_id: int, entry: _Entry) -> None:
        self._count(entry, 0)
        self._entries.pop(stream_id, None)
        self._wake_drains()

    def _offer(self, stream_id: int, entry: _Entry) -> None:
        if entry.has_output:
            self._ready[stream_id] = None
            self._wake()

    def _wake_drains(self) -> None:
        for waiter in self._drains:
            if not waiter.done():
                waiter.set_result(None)

    # --- stream.Carrier ----------------------------------------------------------------------------------------------

    def write(self, stream_id: int, data: bytes, end: bool = False) -> None:
        entry = self._entries.get(stream_id)
        if entry is not None:
            entry.outbox += data
            entry.ending = entry.ending or end
            self._offer(stream_id, entry)

    def flush(self) -> None:
        self._wake()

    def is_full(self, stream_id: int) -> bool:
        entry = self._entries.get(stream_id)
        return entry is not None and len(entry.outbox) > SEND_BUFFER

    async def drained(self, stream_id: int) -> None:
        while self.is_full(stream_id):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drains.add(waiter)
            try:
                await waiter
            finally:
                self._drains.discard(waiter)

    def read_up(self, stream_id: int, left: int) -> None:
        entry = self._entries.get(stream_id)
        if entry is None:
            return
        self._count(entry, left)
        self._wake()
        due = STREAM_WINDOW - entry.may_receive - left
        if due >= STREAM_WINDOW // 2 and not entry.received_end:
            entry.may_receive += due
            flags = 0 if entry.announced else _SYN
            entry.announced = True
            self._say(_WINDOW, flags, stream_id, due)

    def stop(self, stream_id: int, *, sending: bool, receiving: bool) -> None:
        entry = self._entries.get(stream_id)
        if entry is None or not sending:
            return
        if entry.announced:
            self._say(_WINDOW, _RST, stream_id, 0)
        self._drop(stream_id, entry)

    def forget(self, stream_id: int) -> None:
        entry = self._entries.get(stream_id)
        if entry is None:
            return
        if entry.ending:
            self._count(entry, 0)
            entry.is_over = True
        else:
            self._drop(stream_id, entry)
