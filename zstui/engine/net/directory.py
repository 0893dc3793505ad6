"""The table of known peers, kept on disk: what changes is saved soon, what a person changes is saved at once."""

from __future__ import annotations

import asyncio

from zstui.engine.bus import Bus
from zstui.engine.clock import Clock
from zstui.engine.errors import StoreError, UnknownPeer
from zstui.engine.events import Notice, PeerChanged
from zstui.engine.identity.keys import PeerId
from zstui.engine.net import store
from zstui.engine.net.peers import PeerBook, PeerRecord
from zstui.engine.store.database import Database, Tx

_SAVE_S = 0.25
"""Changes are saved together this long after the first."""


class Directory:
    def __init__(self, book: PeerBook, limit: int, db: Database, bus: Bus, clock: Clock) -> None:
        self._book = book
        self._limit = limit
        self._db = db
        self._bus = bus
        self._clock = clock
        self._unsaved: set[PeerId] = set()
        self._forgotten: set[PeerId] = set()
        self._due = asyncio.Event()
        self._saving = asyncio.Lock()

    async def load(self) -> None:
        self._book.load(await self._db.read(lambda tx: store.load(tx, self._limit)))

    def get(self, peer: PeerId) -> PeerRecord | None:
        return self._book.get(peer)

    def remember(self, peer: PeerId) -> PeerRecord:
        """The record of ``peer``, made now if it is new."""
        record, forgotten = self._book.add(peer, self._clock.now_us())
        self._forgotten.update(forgotten)
        for other in forgotten:
            self._bus.publish(PeerChanged(other))
        return record

    def hear(self, peer: PeerId) -> None:
        """``peer`` was heard of through others. It is not saved before it was met."""
        for other in self._book.hear(peer, self._clock.now_us()):
            self._bus.publish(PeerChanged(other))

    def changed(self, peer: PeerId) -> None:
        """Save the record of ``peer`` soon, and tell."""
        self._unsaved.add(peer)
        self._due.set()
        self._bus.publish(PeerChanged(peer))

    async def rename(self, peer: PeerId, name: str) -> None:
        """Raises UnknownPeer, BadInput."""
        record = self._book.get(peer)
        if record is None:
            raise UnknownPeer(f"No peer {peer[:60]!r} is known.")
        record.name = self._book.check_name(peer, name)
        await self._db.write(lambda tx: store.save(tx, [record]))
        self._bus.publish(PeerChanged(peer))

    async def run(self) -> None:
        """Save changes, for ever."""
        while True:
            await self._due.wait()
            await asyncio.sleep(_SAVE_S)
            self._due.clear()
            await self.flush()

    async def flush(self) -> None:
        """Save what has changed, after what is being saved. A failure is told, not raised."""
        async with self._saving:
            await self._flush()

    async def _flush(self) -> None:
        records = [r for r in (self._book.get(p) for p in self._unsaved) if r is not None and (r.met or not r.heard_us)]
        forgotten = tuple(self._forgotten)
        self._unsaved.clear()
        self._forgotten.clear()
        if not records and not forgotten:
            return

        def write(tx: Tx) -> None:
            store.delete(tx, forgotten)
            store.save(tx, records)

        try:
            await self._db.write(write)
        except StoreError as error:
            self._bus.publish(Notice("error", "net", f"Known peers could not be saved: {error}"))
