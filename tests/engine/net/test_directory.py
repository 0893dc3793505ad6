from __future__ import annotations

from pathlib import Path

from zstui.engine.bus import Bus
from zstui.engine.clock import ManualClock
from zstui.engine.events import PeerChanged
from zstui.engine.identity.keys import Identity
from zstui.engine.net import store
from zstui.engine.net.directory import Directory
from zstui.engine.net.peers import PeerBook
from zstui.engine.store.database import Database


async def test_a_peer_that_gives_way_is_told(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", store.SCHEMA)
    bus = Bus()
    changes = bus.subscribe(PeerChanged)
    book = PeerBook(2, lambda peer: False)
    directory = Directory(book, 2, db, bus, ManualClock())
    peers = [Identity.generate().peer_id for _ in range(3)]
    for peer in peers:
        directory.remember(peer)
    (gone,) = set(peers) - {record.peer_id for record in book}
    changes.close()
    assert [change.peer_id async for change in changes] == [gone]
    await directory.flush()
    await db.close()
