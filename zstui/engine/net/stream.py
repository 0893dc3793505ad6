"""One stream of a connection: bytes both ways, and the length-prefixed frames of ``link.Stream`` over them."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Protocol

from zstui.engine.errors import DeadlineExceeded, FrameTooLarge, ProtocolError, Refused, StreamClosed
from zstui.engine.identity.keys import PeerId
from zstui.engine.net import multistream
from zstui.engine.net.limits import SEND_STALL_S
from zstui.engine.net.link import MAX_FRAME
from zstui.engine.net.varint import decode_varint, with_length


class Carrier(Protocol):
    """What a stream needs of its connection."""

    def write(self, stream_id: int, data: bytes, end: bool = False) -> None:
        """Queue data; the stream must not have ended its writing side."""

    def flush(self) -> None:
        """Send what is queued now, where that saves a turn of the loop."""

    def is_full(self, stream_id: int) -> bool:
        """So much of the stream is unacknowledged that nothing should be added."""

    async def drained(self, stream_id: int) -> None:
        """Return once it is no longer full, or the connection ended."""

    def read_up(self, stream_id: int, left: int) -> None:
        """The application took data; ``left`` bytes are still unread."""

    def stop(self, stream_id: int, *, sending: bool, receiving: bool) -> None:
        """Drop one or both directions."""

    def forget(self, stream_id: int) -> None:
        """Nothing more will happen on the stream."""


class WireStream:
    """Implements ``link.Stream``. One task reads, any may write."""

    def __init__(self, carrier: Carrier, stream_id: int, peer: PeerId) -> None:
        self._carrier = carrier
        self.stream_id = stream_id
        self._peer = peer
        self._inbox = bytearray()
        self._reader: asyncio.Future[None] | None = None
        """Whoever waits for something to read."""
        self._read_end = ""
        """Why nothing more can be read once the inbox is empty; "" while more may come."""
        self._write_end = ""
        """Why nothing more can be written."""
        self.was_reset = False
        """Reading ended before the other side was done."""
        self._fin_sent = False
        self._replies: list[str] = []
        """Lines of multistream-select that the responder still has to send."""

    @property
    def peer(self) -> PeerId:
        return self._peer

    # --- called by the connection ------------------------------------------------------------------------------------

    def feed(self, data: bytes, end: bool) -> int:
        """Data arrived; returns how many bytes are now unread."""
        if self._read_end:
            return len(self._inbox)
        self._inbox += data
        if end:
            self._read_end = "The other side closed the stream."
        self._wake_reader()
        self._forget_if_over()
        return len(self._inbox)

    def lost(self, reason: str, *, reading: bool = True, writing: bool = True) -> None:
        """The peer reset the stream, or the connection is gone."""
        if reading:
            self.was_reset = self.was_reset or not self._read_end
            self._read_end = self._read_end or reason
            self._wake_reader()
        if writing:
            self._write_end = self._write_end or reason
        self._forget_if_over()

    # --- bytes -------------------------------------------------------------------------------------------------------

    async def read_exactly(self, size: int) -> bytes:
        """Raises StreamClosed if the stream ends before, Refused if the protocol is not spoken."""
        await self._negotiated()
        while len(self._inbox) < size:
            await self._more()
        return self._take(0, size)

    async def read_some(self) -> bytes:
        """What is there, at least one byte. Raises StreamClosed at the end."""
        await self._negotiated()
        while not self._inbox:
            await self._more()
        return self._take(0, len(self._inbox))

    async def read_message(self, limit: int) -> bytes:
        """One length-prefixed message. Raises StreamClosed, Refused, ProtocolError, FrameTooLarge over ``limit`` bytes."""
        await self._negotiated()
        return await self._message(limit)

    async def write_raw(self, data: bytes) -> None:
        """Write and wait while too much is unacknowledged. Raises StreamClosed, DeadlineExceeded."""
        self._check_writable()
        if self._carrier.is_full(self.stream_id):
            try:
                async with asyncio.timeout(SEND_STALL_S):
                    await self._carrier.drained(self.stream_id)
            except TimeoutError:
                self.reset()
                raise DeadlineExceeded("The peer takes no more data.") from None
            self._check_writable()
        self._carrier.write(self.stream_id, data)

    def propose(self, protocol: str) -> None:
        """Ask for ``protocol`` in the lazy form: the answer is read with the first data."""
        self._replies = [multistream.HEADER, protocol]
        self._carrier.write(self.stream_id, multistream.encode_opening(protocol))

    async def negotiated(self, timeout: float) -> None:
        """Wait for the answer to ``propose``. Raises Refused, StreamClosed, DeadlineExceeded."""
        try:
            await self._negotiated(self._now() + timeout)
        except TimeoutError:
            self.reset()
            raise DeadlineExceeded("The peer did not answer in time.") from None

    async def respond(self, protocols: Container[str], proposals: int, timeout: float) -> str:
        """The responder's side: the first of at most ``proposals`` proposed protocols that is spoken.

        Raises ProtocolError, StreamClosed, TimeoutError, Refused if none was.
        """
        deadline = self._now() + timeout
        self._carrier.write(self.stream_id, multistream.encode_line(multistream.HEADER))
        if multistream.decode_line(await self._message(multistream.MAX_LINE, deadline)) != multistream.HEADER:
            raise ProtocolError("A stream that does not begin with multistream-select.")
        for _ in range(proposals):
            protocol = multistream.decode_line(await self._message(multistream.MAX_LINE, deadline))
            spoken = protocol in protocols
            self._check_writable()
            self._carrier.write(
                self.stream_id, multistream.encode_line(protocol if spoken else multistream.NOT_AVAILABLE)
            )
            if spoken:
                return protocol
        raise Refused("No protocol in common.")

    # --- link.Stream -------------------------------------------------------------------------------------------------

    async def send(self, frame: bytes) -> None:
        if len(frame) > MAX_FRAME:
            raise FrameTooLarge(f"A frame of {len(frame)} bytes is over the limit of {MAX_FRAME}.")
        await self.write_raw(with_length(frame))

    def send_now(self, frame: bytes) -> bool:
        if self._write_end or len(frame) > MAX_FRAME or self._carrier.is_full(self.stream_id):
            return False
        self._carrier.write(self.stream_id, with_length(frame))
        self._carrier.flush()
        return True

    def has_frame(self) -> bool:
        try:
            found = None if self._replies else decode_varint(self._inbox)
        except ProtocolError:
            return True
        return found is not None and (found[0] > MAX_FRAME or len(self._inbox) >= sum(found))

    async def receive(self, timeout: float | None = 30.0) -> bytes:
        deadline = None if timeout is None else self._now() + timeout
        try:
            await self._negotiated(deadline)
            return await self._message(MAX_FRAME, deadline)
        except TimeoutError:
            raise DeadlineExceeded("No answer in time.") from None
        except (FrameTooLarge, ProtocolError):
            self.reset()
            raise

    async def close(self) -> None:
        if not self._write_end:
            self._write_end = "The stream is closed."
            self._fin_sent = True
            self._carrier.write(self.stream_id, b"", end=True)
            self._forget_if_over()

    async def drain(self, seconds: float) -> None:
        """Drop what still comes until the other side has ended its half, for at most ``seconds``."""
        deadline = self._now() + seconds
        while not self._read_end:
            self._take(0, len(self._inbox))
            try:
                await self._more(deadline)
            except TimeoutError:
                return

    def reset(self) -> None:
        self._inbox.clear()
        self._carrier.read_up(self.stream_id, 0)
        self._carrier.stop(self.stream_id, sending=not self._fin_sent, receiving=True)
        self.lost("The stream is closed.")

    # --- helpers -----------------------------------------------------------------------------------------------------

    async def _negotiated(self, deadline: float | None = None) -> None:
        if self._replies:
            wanted = multistream.encode_opening(self._replies[-1])
            if len(self._replies) == 2 and self._inbox.startswith(wanted):
                self._take(0, len(wanted))
                self._replies.clear()
        while self._replies:
            try:
                line = multistream.decode_line(await self._message(multistream.MAX_LINE, deadline))
            except (ProtocolError, FrameTooLarge):
                self.reset()
                raise
            if line == multistream.NOT_AVAILABLE and len(self._replies) == 1:
                protocol = self._replies[0]
                self.reset()
                raise Refused(f"The peer does not speak {protocol}.")
            if line != self._replies.pop(0):
                self.reset()
                raise ProtocolError("The peer answered another protocol than was asked for.")

    async def _message(self, limit: int, deadline: float | None = None) -> bytes:
        while True:
            found = decode_varint(self._inbox)
            if found is not None:
                size, start = found
                if size > limit:
                    raise FrameTooLarge(f"The peer announced a message of {size} bytes, over the limit of {limit}.")
                if len(self._inbox) >= start + size:
                    return self._take(start, start + size)
            await self._more(deadline)

    async def _more(self, deadline: float | None = None) -> None:
        """Wait for something to read. Raises StreamClosed, TimeoutError once the loop's clock has passed ``deadline``."""
        if self._read_end:
            raise StreamClosed(self._read_end)
        loop = asyncio.get_running_loop()
        reader = self._reader = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _expire, reader)
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _take(self, start: int, end: int) -> bytes:
        data = bytes(self._inbox[start:end])
        del self._inbox[:end]
        self._carrier.read_up(self.stream_id, len(self._inbox))
        return data

    def _check_writable(self) -> None:
        if self._write_end:
            raise StreamClosed(self._write_end)

    def _forget_if_over(self) -> None:
        if self._read_end and self._write_end:
            self._carrier.forget(self.stream_id)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
