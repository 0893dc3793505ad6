"""How fast payments are: two services over an in-memory network, each with a database that syncs every commit.

Run: ``python -m tests.bench.payments``. Numbers are of this machine at this moment.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from zstui.engine.bus import Bus
from zstui.engine.channels import store
from zstui.engine.channels.messages import Ack, PayLine, take
from zstui.engine.channels.service import ChannelService
from zstui.engine.clock import SystemClock
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import Network
from zstui.engine.net.memory import MemoryHub
from zstui.engine.store.database import Database, Tx

_numbers = itertools.count()


def line(amount_u: int = 1) -> PayLine:
    """A line that no other repeats."""
    return PayLine(amount_u, b"a" * 32, 1, next(_numbers), b"r" * 32)


def service(identity: Identity, network: Network, db: Database, bus: Bus) -> ChannelService:
    """A channel service that grants everybody 1,000 units and notes nothing else."""

    def nothing(tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
        return

    return ChannelService(
        identity,
        network,
        db,
        bus,
        SystemClock(),
        name_of=lambda peer: peer[-6:],
        credit_limit=lambda peer: 1_000_000_000,
        at_risk=lambda peer: 0,
        on_credit=nothing,
        on_acknowledged=nothing,
    )


async def timings(
    a: ChannelService, b: PeerId, rounds: int = 100, burst: int = 3_000, opens: int = 10
) -> dict[str, float]:
    """Payments one after another, a burst of concurrent ones, and channels opened and closed, from ``a`` to ``b``."""
    clock = time.perf_counter
    opening: list[float] = []
    closing: list[float] = []
    for _ in range(opens):
        start = clock()
        id = (await a.open(b, 1_000_000, 0, 86_400)).channel_id
        opening.append(clock() - start)
        start = clock()
        await a.close(id)
        closing.append(clock() - start)
    id = (await a.open(b, 100_000_000, 0, 86_400)).channel_id
    single: list[float] = []
    for _ in range(rounds):
        start = clock()
        await a.pay(id, line())
        single.append(clock() - start)
    start = clock()
    payments = await asyncio.gather(*(a.pay(id, line()) for _ in range(burst)))
    took = clock() - start
    if not all(payment.acknowledged for payment in payments):
        raise AssertionError("A payment of the burst was not acknowledged.")
    await a.close(id)
    return {
        "payment_ms_p50": round(statistics.median(single) * 1e3, 3),
        "payments_per_s": round(burst / took),
        "open_ms": round(statistics.median(opening) * 1e3, 3),
        "close_ms": round(statistics.median(closing) * 1e3, 3),
    }


def signatures(rounds: int = 1_000) -> dict[str, float]:
    """Microseconds to seal and to verify one envelope."""
    identity = Identity.generate()
    ack = Ack(b"c" * 32, 1, 1, b"h" * 32)
    start = time.perf_counter()
    for _ in range(rounds):
        raw = seal(identity, ack)
    sealed = time.perf_counter()
    for _ in range(rounds):
        take(raw)
    taken = time.perf_counter()
    return {
        "sign_us": round((sealed - start) / rounds * 1e6, 1),
        "verify_us": round((taken - sealed) / rounds * 1e6, 1),
    }


async def measure() -> dict[str, float]:
    """All figures over the in-memory network."""
    with tempfile.TemporaryDirectory() as folder:
        hub = MemoryHub()
        services: list[ChannelService] = []
        databases: list[Database] = []
        identities = [Identity.generate(), Identity.generate()]
        for number, identity in enumerate(identities):
            bus = Bus()
            db = await Database.open(Path(folder) / f"{number}.db", store.SCHEMA)
            databases.append(db)
            services.append(service(identity, hub.add(identity.peer_id, bus), db, bus))
            await services[-1].start()
        try:
            return await timings(services[0], identities[1].peer_id) | signatures()
        finally:
            for one in services:
                await one.stop()
            for db in databases:
                await db.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure()), indent=2))
