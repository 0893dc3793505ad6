"""A network that loses frames on request, and one that insists on durability."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from zstui.engine.channels.messages import take
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Handler, Network, Stream
from zstui.engine.net.memory import MemoryNetwork

Filter = Callable[[bytes], bool]
"""Whether a frame may leave."""


class FilteredStream:
    def __init__(self, inner: Stream, keep: Filter) -> None:
        self._inner = inner
        self._keep = keep

    @property
    def peer(self) -> PeerId:
        return self._inner.peer

    async def send(self, frame: bytes) -> None:
        if self._keep(frame):
            await self._inner.send(frame)

    def send_now(self, frame: bytes) -> bool:
        return False

    def has_frame(self) -> bool:
        return self._inner.has_frame()

    async def receive(self, timeout: float | None = 30.0) -> bytes:
        return await self._inner.receive(timeout)

    async def close(self) -> None:
        await self._inner.close()

    def reset(self) -> None:
        self._inner.reset()


class FilteredNetwork:
    """Passes every outgoing frame through ``keep``."""

    def __init__(self, inner: MemoryNetwork, keep: Filter) -> None:
        self._inner = inner
        self._keep = keep

    @property
    def peer_id(self) -> PeerId:
        return self._inner.peer_id

    def handle(self, protocol: str, handler: Handler) -> None:
        async def wrapped(stream: Stream) -> None:
            await handler(FilteredStream(stream, self._keep))

        self._inner.handle(protocol, wrapped)

    async def open(self, peer: PeerId, protocol: str, timeout: float = 10.0) -> Stream:
        return FilteredStream(await self._inner.open(peer, protocol, timeout), self._keep)

    async def request(self, peer: PeerId, protocol: str, frame: bytes, timeout: float = 10.0) -> bytes:
        return await self._inner.request(peer, protocol, frame, timeout)

    def connected(self) -> frozenset[PeerId]:
        return self._inner.connected()


def filtered(keep: Filter) -> Callable[[MemoryNetwork], Network]:
    return lambda network: FilteredNetwork(network, keep)


class Loser:
    """Loses every frame of the given kinds, and all that follow it, until healed."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.lost = asyncio.Event()

    def __call__(self, frame: bytes) -> bool:
        if self.lost.is_set() or take(frame).kind in self.kinds:
            self.lost.set()
            return False
        return True

    def heal(self) -> None:
        self.kinds = set()
        self.lost.clear()


class Auditor:
    """Looks up every promise that leaves in the database file, over a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.checked = 0
        self.missing: list[str] = []

    def __call__(self, frame: bytes) -> bool:
        kind = take(frame).kind
        if kind in ("Pay", "OpenPropose", "OpenAccept", "OpenConfirm", "Close", "Settle"):
            self.checked += 1
            if not self._stored(frame):
                self.missing.append(kind)
        return True

    def _stored(self, frame: bytes) -> bool:
        connection = sqlite3.connect(self._path)
        try:
            head = hashlib.sha256(frame).digest()
            return (
                connection.execute(
                    "SELECT 1 FROM channel_envelopes WHERE head = ? AND raw = ?", (head, frame)
                ).fetchone()
                or connection.execute("SELECT 1 FROM channel_documents WHERE raw = ?", (frame,)).fetchone()
            ) is not None
        finally:
            connection.close()
