"""An in-memory network for tests and property tests: same contract as the QUIC one, with links that can be cut."""

from __future__ import annotations

import asyncio

from zstui.engine.bus import Bus
from zstui.engine.errors import DeadlineExceeded, FrameTooLarge, Refused, StreamClosed, Unreachable, ZsError
from zstui.engine.events import PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import MAX_FRAME, Handler


class MemoryStream:
    def __init__(self, peer: PeerId) -> None:
        self._peer = peer
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1024)
        self._other: MemoryStream | None = None
        self._closed = False
        self._ended = False

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def send(self, frame: bytes) -> None:
        if len(frame) > MAX_FRAME:
            raise FrameTooLarge(f"A frame of {len(frame)} bytes is over the limit of {MAX_FRAME}.")
        if self._closed or self._other is None or self._other._ended:
            raise StreamClosed("The stream is closed.")
        await self._other._inbox.put(bytes(frame))

    def send_now(self, frame: bytes) -> bool:
        if len(frame) > MAX_FRAME or self._closed or self._other is None or self._other._ended:
            return False
        if self._other._inbox.full():
            return False
        self._other._inbox.put_nowait(bytes(frame))
        return True

    def has_frame(self) -> bool:
        return not self._inbox.empty()

    async def receive(self, timeout: float | None = 30.0) -> bytes:
        if self._ended and self._inbox.empty():
            raise StreamClosed("The stream is closed.")
        try:
            frame = await asyncio.wait_for(self._inbox.get(), timeout)
        except TimeoutError:
            raise DeadlineExceeded("No answer in time.") from None
        if frame is None:
            self._ended = True
            raise StreamClosed("The other side closed the stream.")
        return frame

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._other is not None:
                self._other._end()

    def reset(self) -> None:
        self._closed = True
        self._end()
        if self._other is not None:
            self._other._end()
            self._other._closed = True

    def _end(self) -> None:
        if not self._inbox.full():
            self._inbox.put_nowait(None)
        else:
            self._ended = True


class MemoryNetwork:
    """One node's end of a ``MemoryHub``."""

    def __init__(self, hub: MemoryHub, peer_id: PeerId, bus: Bus | None = None) -> None:
        self._hub = hub
        self._peer_id = peer_id
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.bus = bus or Bus()

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    def handle(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def open(self, peer: PeerId, protocol: str, timeout: float = 10.0) -> MemoryStream:
        other = self._hub._reach(self._peer_id, peer)
        handler = other._handlers.get(protocol)
        if handler is None:
            raise Refused(f"The peer does not speak {protocol}.")
        mine, theirs = MemoryStream(peer), MemoryStream(self._peer_id)
        mine._other, theirs._other = theirs, mine
        self._hub._streams.append((frozenset((self._peer_id, peer)), mine))
        task = asyncio.create_task(other._serve(handler, theirs))
        other._tasks.add(task)
        task.add_done_callback(other._tasks.discard)
        return mine

    async def _serve(self, handler: Handler, stream: MemoryStream) -> None:
        try:
            await handler(stream)
        except ZsError:
            stream.reset()
        else:
            await stream.close()

    async def request(self, peer: PeerId, protocol: str, frame: bytes, timeout: float = 10.0) -> bytes:
        stream = await self.open(peer, protocol, timeout)
        try:
            await stream.send(frame)
            await stream.close()
            return await stream.receive(timeout)
        finally:
            stream.reset()

    def connected(self) -> frozenset[PeerId]:
        return frozenset(p for p in self._hub._nodes if p != self._peer_id and self._hub._linked(self._peer_id, p))

    async def stop(self) -> None:
        """Leave the hub: links go down and handlers still running are cancelled."""
        self._hub.remove(self._peer_id)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class MemoryHub:
    """All nodes are linked until ``cut``. ``link``, ``cut`` and ``remove`` publish the connection events on both buses."""

    def __init__(self) -> None:
        self._nodes: dict[PeerId, MemoryNetwork] = {}
        self._cut: set[frozenset[PeerId]] = set()
        self._streams: list[tuple[frozenset[PeerId], MemoryStream]] = []

    def add(self, peer_id: PeerId, bus: Bus | None = None) -> MemoryNetwork:
        """A new node, linked to all others."""
        network = MemoryNetwork(self, peer_id, bus)
        self._nodes[peer_id] = network
        for other in self._nodes.values():
            if other is not network and self._linked(peer_id, other.peer_id):
                other.bus.publish(PeerConnected(peer_id))
                network.bus.publish(PeerConnected(other.peer_id))
        return network

    def remove(self, peer_id: PeerId) -> None:
        for other in list(self._nodes):
            if other != peer_id and self._linked(peer_id, other):
                self._drop(peer_id, other)
        self._nodes.pop(peer_id, None)

    def cut(self, a: PeerId, b: PeerId) -> None:
        """Cut the link: streams end on both sides and new ones are Unreachable."""
        if self._linked(a, b):
            self._cut.add(frozenset((a, b)))
            self._drop(a, b)

    def link(self, a: PeerId, b: PeerId) -> None:
        """Undo ``cut``."""
        if frozenset((a, b)) in self._cut:
            self._cut.remove(frozenset((a, b)))
            self._publish(a, PeerConnected(b))
            self._publish(b, PeerConnected(a))

    def _drop(self, a: PeerId, b: PeerId) -> None:
        pair = frozenset((a, b))
        for key, stream in self._streams:
            if key == pair:
                stream.reset()
        self._streams = [s for s in self._streams if s[0] != pair]
        self._publish(a, PeerDisconnected(b, "link cut"))
        self._publish(b, PeerDisconnected(a, "link cut"))

    def _publish(self, at: PeerId, event: object) -> None:
        if at in self._nodes:
            self._nodes[at].bus.publish(event)

    def _linked(self, a: PeerId, b: PeerId) -> bool:
        return a in self._nodes and b in self._nodes and frozenset((a, b)) not in self._cut

    def _reach(self, a: PeerId, b: PeerId) -> MemoryNetwork:
        if not self._linked(a, b):
            raise Unreachable("There is no link to that peer.")
        return self._nodes[b]
