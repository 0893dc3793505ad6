"""What a node learns from bids and results, and that it knows it after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from zstui.engine.bus import Bus
from zstui.engine.clock import US, ManualClock
from zstui.engine.events import BidReceived, JobMoved
from zstui.engine.routing import store
from zstui.engine.routing.model import Result, comparison
from zstui.engine.routing.service import Routing
from zstui.engine.store.database import Database

RESULTS = {
    "j1": Result("cid", "fast", 2 * US, US),
    "j2": Result("cid", "slow", 8 * US, US),
}


def make(
    db: Database, bus: Bus, clock: ManualClock, known: Callable[[], set[str]] = lambda: {"fast", "slow"}
) -> Routing:
    return Routing(
        db,
        bus,
        clock,
        result_of=RESULTS.get,
        typical_us=lambda cid: US,
        cores_of=lambda peer: 2,
        known=known,
    )


def done(job_id: str, *, mine: bool = True) -> JobMoved:
    return JobMoved(job_id, mine, "x.wasm", "peer", "done", "")


async def test_results_and_bids_are_learned_and_outlast_a_restart(tmp_path: Path) -> None:
    clock, bus = ManualClock(), Bus()
    db = await Database.open(tmp_path / "db", store.SCHEMA)
    routing = make(db, bus, clock)
    await routing.start()
    for job_id in ("j1", "j2", "unknown"):
        bus.publish(done(job_id))
    bus.publish(done("j2", mine=False))
    await asyncio.sleep(0.01)
    fast, slow = routing.learned("cid", "fast"), routing.learned("cid", "slow")
    assert fast is not None
    assert slow is not None
    assert (fast.expected_us, fast.samples) == (2 * US, 1)
    assert (slow.expected_us, slow.samples) == (8 * US, 1)
    assert routing.in_order("cid", ["slow", "fast"]) == ["fast", "slow"]
    # The fast one says that 40 jobs wait: on two cores, a second each.
    bus.publish(BidReceived("j3", "fast", "cid", 40))
    await asyncio.sleep(0.01)
    fast = routing.learned("cid", "fast")
    assert fast is not None
    assert (fast.expected_us, fast.waiting, fast.samples) == ((2 * US + 21 * US) // 2, 40, 2)
    assert routing.in_order("cid", ["slow", "fast"]) == ["slow", "fast"]
    await routing.stop()
    await routing.stop()

    again = make(db, bus, clock, known=lambda: {"slow"})
    await again.start()
    assert again.in_order("cid", ["fast", "slow"]) == ["slow", "fast"]
    await again.stop()
    gone = make(db, bus, clock)
    await gone.start()
    assert gone.learned("cid", "fast") is None
    assert gone.learned("cid", "slow") is not None
    await gone.stop()
    await db.close()


async def test_what_a_stranger_claims_is_bounded(tmp_path: Path) -> None:
    clock, bus = ManualClock(), Bus()
    db = await Database.open(tmp_path / "db", store.SCHEMA)
    routing = make(db, bus, clock)
    await routing.start()
    bus.publish(done("j1"))
    for number in range(600):
        bus.publish(BidReceived("j", f"p{number}", "cid", 2**60))
    bus.publish(BidReceived("j", "fast", "cid", -(2**60)))
    await asyncio.sleep(0.05)
    assert len(routing._waiting) <= 256
    fast = routing.learned("cid", "fast")
    assert fast is not None
    assert fast.waiting == 0
    assert routing.learned("cid", "p599") is None, "a bid alone says nothing of a peer whose run times are not known"
    await routing.stop()
    await db.close()


async def test_relays_that_answered_soonest_come_first_and_say_so(tmp_path: Path) -> None:
    clock, bus = ManualClock(), Bus()
    db = await Database.open(tmp_path / "db", store.SCHEMA)
    routing = make(db, bus, clock)
    assert routing.in_order("peer", ["a", "b", "c"]) == ["a", "b", "c"]
    routing.tried("peer", "a", 31 * US)
    routing.tried("peer", "b", US // 10)
    assert routing.in_order("peer", ["a", "b"]) == ["b", "a"]
    assert routing.in_order("peer", ["a", "b", "c"]) == ["c", "b", "a"], "what was never tried is tried once"
    assert routing.why("peer", "b") == "reached in 0.10 s that way, learned from one dial"
    assert routing.why("peer", "c") == ""
    ways = routing.ways("peer", ["c"])
    assert [way.neighbour for way in ways] == ["c", "b", "a"]
    assert [comparison(place, ways) for place in range(3)] == [
        "never tried, so it is tried first",
        "0.1 s more than the first",
        "31.0 s more than the first",
    ]
    assert comparison(0, ways[1:]) == "the least of 2"
    assert comparison(0, ways[2:]) == "the only way known"
    assert comparison(0, ways[:1]) == "the only way known, never tried"
    assert routing.through("b") == routing.destinations() == ["peer"]
    assert routing.through("c") == []
    await db.close()
