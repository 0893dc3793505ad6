"""The owner's switch, hours, limits and panic key, and a flood from one peer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.jobs.docs import agreement
from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from tests.engine.jobs.test_queue import anywhere, ended, trio
from zstui.engine.clock import US, ManualClock
from zstui.engine.errors import BadInput
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs import store
from zstui.engine.jobs.hours import DAY, Hours, format_minute, parse_hours
from zstui.engine.jobs.manifest import open_manifest
from zstui.engine.jobs.messages import Accept, Agreed, Bidding, Offer, Refusal
from zstui.engine.jobs.owner import Owner
from zstui.engine.jobs.protocol import open_sealed
from zstui.engine.jobs.receipt import Bid
from zstui.engine.jobs.slots import Slots
from zstui.engine.jobs.submission import prepare
from zstui.engine.net.link import JOB_PROTOCOL
from zstui.engine.store.database import Database


def test_hours_of_the_day() -> None:
    night = parse_hours("22:00", "06:30")
    assert [night.open_at(m) for m in (21 * 60 + 59, 22 * 60, 0, 6 * 60 + 29, 6 * 60 + 30)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert night.changes_in(21 * 60) == 60
    assert night.changes_in(22 * 60) == 8 * 60 + 30
    assert parse_hours("", "").always
    assert Hours().changes_in(5) is None
    assert format_minute(61) == "01:01"
    for start, end in (("", "1:00"), ("24:00", "1:00"), ("1:60", "2:00"), ("5:00", "5:00"), ("noon", "1:00")):
        with pytest.raises(BadInput):
            parse_hours(start, end)


@given(st.integers(0, DAY - 1), st.integers(0, DAY - 1), st.integers(0, DAY - 1))
def test_the_next_change_is_the_first_minute_that_differs(start: int, end: int, minute: int) -> None:
    hours = Hours(start, end)
    ahead = hours.changes_in(minute)
    if ahead is None:
        assert hours.always
        return
    now = hours.open_at(minute)
    assert hours.open_at((minute + ahead) % DAY) != now
    assert all(hours.open_at((minute + n) % DAY) == now for n in range(ahead))


async def test_that_hours_begin_and_end_is_told_within_the_minute(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_030 * US)  # half past a minute
    local = time.localtime(clock.now_us() / US)
    now = local.tm_hour * 60 + local.tm_min
    db = await Database.open(tmp_path / "db", store.SCHEMA)
    owner = Owner(db, clock, Slots(1, clock.monotonic_us), 64)
    told: list[tuple[int, str]] = []
    owner.changed = lambda: told.append((clock.monotonic_us() // US, owner.closed()))
    follow = asyncio.create_task(owner.follow_hours())
    try:
        await owner.set_hours(Hours((now + 2) % DAY, (now + 5) % DAY))
        closed = f"outside its hours, opens at {format_minute((now + 2) % DAY)}"
        for _ in range(6 * 60):
            await clock.advance(1)
    finally:
        follow.cancel()
        await db.close()
    second = 60 - local.tm_sec
    assert told == [(0, closed), (second + 60, ""), (second + 4 * 60, closed)]


async def test_a_closed_executor_ends_what_runs_and_takes_nothing_new(world: World) -> None:
    alice, bob = await world.pair()
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    running = await alice.submit(bob)
    await until(lambda: alice.jobs.view(running.job_id).state == "running")
    await bob.jobs.owner.set_accepting(False)
    waiting = await anywhere(alice, "other")
    await until(lambda: "bob: its owner takes no new work right now" in alice.jobs.view(waiting.job_id).why)
    hold.set()
    assert (await ended(alice, running)).state == "done"
    await bob.jobs.owner.set_accepting(True)
    assert (await ended(alice, waiting)).state == "done"


async def test_hours_and_limits_outlive_a_restart_and_reach_the_submitter(world: World) -> None:
    alice, bob = await world.pair(max_jobs=2)
    await bob.jobs.owner.set_hours(Hours(1, 2) if bob.jobs.owner._minute() != 1 else Hours(5, 6))
    await bob.jobs.owner.set_limits(1, 64)
    await bob.stop()
    await bob.start()
    work = bob.jobs.work()
    assert (work.accepting, work.max_jobs, work.memory_mib) == (False, 1, 64)
    assert work.why == f"outside its hours, opens at {work.hours_start}"
    refused = await alice.run(bob, memory_mib=64)
    assert refused.why == f"bob: {work.why}"
    assert "too little memory: offers 64 MiB, the job asks for 65 MiB" in (await alice.run(bob, memory_mib=65)).why
    for wrong in ((3, None), (0, None), (None, 0), (None, 129)):
        with pytest.raises(BadInput):
            await bob.jobs.owner.set_limits(*wrong)


async def test_the_panic_key_stops_all_and_its_submitters_go_elsewhere(world: World) -> None:
    alice, bob, carol = await trio(world, max_jobs=1)
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    jobs = [await alice.submit(bob) for _ in range(3)]
    moving = await anywhere(alice)
    await until(lambda: any(v.state == "running" for v in bob.jobs.views()))
    await until(lambda: len(bob.jobs.views()) >= 3)
    await bob.jobs.stop_all()
    assert bob.jobs.work().running == bob.jobs.work().waiting == 0
    views = [await ended(alice, j) for j in jobs]
    assert {(v.state, v.fault, v.cost_u) for v in views} == {("cancelled", "executor", 0)}
    assert {v.why for v in views} == {"Stopped by the owner of the executor."}
    last = await ended(alice, moving)
    assert (last.state, last.executor) == ("done", carol.id)


async def offered(alice: Peer, bob: Peer, count: int) -> dict[str, int]:
    """Offer and accept ``count`` jobs as fast as it goes; how often each answer came."""
    room = alice.jobs._room
    _, m = open_manifest(seal(alice.identity, await prepare(room, alice.spec("tool"), bob.id)))
    gate, answers = asyncio.Semaphore(64), dict[str, int]()

    async def one(number: int) -> None:
        raw = seal(alice.identity, type(m)(**{**{f: getattr(m, f) for f in m.__struct_fields__}, "created_us": number}))
        job_id = open_envelope(raw).digest.hex()
        async with gate:
            s = await open_sealed(room.network, room.guilds, bob.id, JOB_PROTOCOL, m.guild_id, job_id)
            await s.send(Offer(raw))
            answer = await s.receive(20)
            if isinstance(answer, Bidding):
                signed = open_envelope(answer.bid)
                bid = signed.decode(Bid)
                terms = {f: getattr(bid, f) for f in ("channel", "note_ms", "accept_ms", "exposure_max_u")}
                a = agreement(raw, m, signed.digest, submitter=alice.id, executor=bob.id, **terms)
                await s.send(Accept(seal(alice.identity, a)))
                answer = await s.receive(20)
            s.reset()
        said = answer.reason if isinstance(answer, Refusal) else type(answer).__name__
        answers[said] = answers.get(said, 0) + 1

    await asyncio.gather(*(one(n) for n in range(count)))
    return answers


async def test_ten_thousand_jobs_from_one_peer_are_bounded_and_do_no_harm(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1, max_queue=8)
    world.fund(alice, bob, 10**9)
    carol = await world.peer("carol")
    world.fund(carol, bob)
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    await bob.jobs._room.artifacts.put(wasm("tool"))
    answers = await offered(alice, bob, 10_000)
    assert sum(answers.values()) == 10_000
    taken = answers.pop(Agreed.__name__)
    assert taken == len(bob.jobs.views()) <= 5, "one runs, and half of the queue waits"
    assert all("queue full" in said or "too many offers" in said for said in answers), answers
    other = await carol.submit(bob, "other")
    await until(lambda: len(bob.jobs.views()) == taken + 1)
    hold.set()
    assert (await ended(carol, other)).state == "done"
