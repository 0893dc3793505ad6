from __future__ import annotations

from pathlib import Path

from tests.bench import payments
from zstui.engine.channels import store
from zstui.engine.identity.keys import Identity
from zstui.engine.net.memory import MemoryHub
from zstui.engine.store.database import Database


async def test_the_bench_measures(tmp_path: Path) -> None:
    hub = MemoryHub()
    identities = [Identity.generate(), Identity.generate()]
    running = []
    for number, identity in enumerate(identities):
        network = hub.add(identity.peer_id)
        db = await Database.open(tmp_path / f"{number}.db", store.SCHEMA)
        running.append((payments.service(identity, network, db, network.bus), db))
        await running[-1][0].start()
    figures = await payments.timings(running[0][0], identities[1].peer_id, rounds=3, burst=70, opens=2)
    assert all(value > 0 for value in (figures | payments.signatures(10)).values())
    for service, db in running:
        await service.stop()
        await db.close()
