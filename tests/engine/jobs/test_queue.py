"""Jobs that wait for an executor, and jobs that are tried again on another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.errors import BadInput
from zstui.engine.jobs.dispatch import MOST_AHEAD, SAID_PEERS, depth, sentence
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.slots import AGING_US, Slots
from zstui.engine.views import JobView


async def anywhere(peer: Peer, name: str = "tool", **fields: object) -> JobView:
    """A job for whoever is free."""
    return await peer.jobs.submit(peer.spec(name, **fields), "", only=False)


async def ended(peer: Peer, view: JobView) -> JobView:
    return await asyncio.wait_for(peer.jobs.wait(view.job_id), 10)


async def trio(world: World, **settings: object) -> tuple[Peer, Peer, Peer]:
    """Alice who submits, Bob and Carol who run."""
    alice, bob = await world.pair(**settings)
    carol = await world.peer("carol", "executor", **settings)
    world.fund(alice, carol)
    return alice, bob, carol


async def test_a_job_that_nobody_can_take_waits_and_says_why_for_each_peer(world: World) -> None:
    alice, bob, carol = await trio(world)
    for peer in (bob, carol):
        world.hub.cut(alice.id, peer.id)
    job = await anywhere(alice)
    await until(lambda: alice.jobs.view(job.job_id).why == "Waiting for an executor: bob: offline; carol: offline.")
    assert job.state == "queued"
    assert job.executor is None
    assert job.queued_until == job.created_at + 3600
    world.hub.link(alice.id, carol.id)
    done = await ended(alice, job)
    assert (done.state, done.executor, done.why) == ("done", carol.id, "")


async def test_a_job_waits_no_longer_than_it_was_told_to(world: World) -> None:
    alice = await world.peer("alice", "creator")
    ended_at_once = await ended(alice, await anywhere(alice, queue_s=0))
    assert ended_at_once.state == "failed"
    assert ended_at_once.fault == "none"
    assert ended_at_once.why == "No executor took it in time. Nobody else in the guild runs jobs for others."
    wrongs: list[dict[str, Any]] = [{"queue_s": -1}, {"attempts": 0}, {"attempts": 11}, {"queue_s": 10**9}]
    for wrong in wrongs:
        with pytest.raises(BadInput):
            await anywhere(alice, **wrong)


async def test_a_full_executor_passes_jobs_on_to_a_free_one(world: World) -> None:
    alice, bob, carol = await trio(world, max_jobs=1, max_queue=1)
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("tool")] = carol.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    jobs = [await anywhere(alice) for _ in range(8)]
    await until(lambda: [v.state for v in alice.jobs.views()].count("running") == 2)
    await until(lambda: any("bob: " in v.why and "carol: " in v.why for v in alice.jobs.views()))
    hold.set()
    states = [await ended(alice, j) for j in jobs]
    assert {v.state for v in states} == {"done"}
    assert {v.executor for v in states} == {bob.id, carol.id}
    assert len({v.receipt_id for v in states}) == 8


@pytest.mark.parametrize("fault", ["executor", "none"])
async def test_a_job_that_its_executor_spoilt_is_tried_on_another(world: World, fault: str) -> None:
    alice, bob, carol = await trio(world)
    bad = Guest(status="error", fault="executor", exit_code=None) if fault == "executor" else Guest()
    bob.sandbox.guests[wasm("tool")] = bad
    first = await anywhere(alice)
    done = await ended(alice, first)
    assert done.state == "done"
    if fault == "none":
        assert (done.job_id, done.attempts, done.retried_as) == (first.job_id, 1, "")
        return
    assert (done.executor, done.attempts, done.retry_of) == (carol.id, 2, first.job_id)
    before = alice.jobs.view(first.job_id)
    assert (before.state, before.fault, before.cost_u, before.retried_as) == ("failed", "executor", 0, done.job_id)
    assert [r.job_id for r in alice.requests] == [done.job_id], "one payment, for the attempt that worked"
    assert alice.requests[0].submitted_as == first.job_id, "what was allowed for the job holds for its second attempt"
    assert [(o.peer_id, o.success) for o in alice.outcomes] == [(bob.id, False)]
    assert alice.jobs._room.records[done.job_id].exposure_u <= 1_000_000


async def test_attempts_are_limited(world: World) -> None:
    alice, bob, carol = await trio(world)
    for peer in (bob, carol):
        peer.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor", exit_code=None)
    last = await ended(alice, await anywhere(alice))
    assert (last.state, last.attempts, last.retried_as) == ("failed", 3, "")
    assert len(alice.jobs.views()) == 3
    assert {v.executor for v in alice.jobs.views()} == {bob.id, carol.id}


@pytest.mark.parametrize(
    "guest",
    [
        Guest(status="failure", fault="payer", exit_code=None),
        Guest(status="failure", fault="payer", exit_code=3),
        Guest(status="timeout", fault="payer", exit_code=None),
    ],
)
async def test_what_a_module_did_itself_is_never_tried_again(world: World, guest: Guest) -> None:
    alice, bob, carol = await trio(world)
    for peer in (bob, carol):
        peer.sandbox.guests[wasm("tool")] = guest
    first = await anywhere(alice)
    assert (await ended(alice, first)).job_id == first.job_id
    await asyncio.sleep(0.1)
    assert len(alice.jobs.views()) == 1


async def test_a_job_for_one_peer_stays_with_it(world: World) -> None:
    alice, bob, _ = await trio(world)
    bob.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor", exit_code=None)
    failed = await alice.run(bob)
    assert (failed.state, failed.attempts, failed.retried_as) == ("failed", 1, "")


async def test_a_dead_executor_loses_its_job_to_a_free_one(world: World) -> None:
    world.timing = replace(world.timing, away=0.2)
    alice, bob, carol = await trio(world)
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    first = await anywhere(alice)
    await until(lambda: alice.jobs.view(first.job_id).state == "running")
    await bob.kill()
    done = await ended(alice, first)
    assert (done.state, done.executor, done.attempts) == ("done", carol.id, 2)
    before = alice.jobs.view(first.job_id)
    assert (before.state, before.fault) == ("failed", "network")
    await bob.start()
    await until(lambda: alice.jobs.view(first.job_id).fault == "executor")
    assert [r.job_id for r in alice.requests] == [done.job_id]
    assert len(alice.jobs.views()) == 2, "the late receipt begins no third attempt"
    del world.peers["bob"]
    await bob.stop()


async def test_with_nobody_else_free_a_lost_executor_is_waited_for(world: World) -> None:
    world.timing = replace(world.timing, away=0.1)
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    first = await anywhere(alice)
    await until(lambda: alice.jobs.view(first.job_id).state == "running")
    world.hub.cut(alice.id, bob.id)
    await until(lambda: "unreachable" in alice.jobs.view(first.job_id).why)
    await asyncio.sleep(0.3)
    assert alice.jobs.view(first.job_id).state == "running"
    world.hub.link(alice.id, bob.id)
    bob.sandbox.guests[wasm("tool")].hold.set()  # type: ignore[union-attr]
    assert (await ended(alice, first)).state == "done"


async def test_a_waiting_job_survives_a_kill_and_can_be_cancelled(world: World) -> None:
    alice, bob = await world.pair()
    world.hub.cut(alice.id, bob.id)
    kept, dropped = await anywhere(alice), await anywhere(alice)
    await until(lambda: "offline" in alice.jobs.view(kept.job_id).why)
    cancelled = await alice.jobs.cancel(dropped.job_id)
    assert (cancelled.state, cancelled.why) == ("cancelled", "Cancelled by you before anybody had agreed to run it.")
    await alice.kill()
    await alice.start()
    assert alice.jobs.view(kept.job_id).state == "queued"
    world.hub.link(alice.id, bob.id)
    assert (await ended(alice, kept)).state == "done"
    assert [v.state for v in bob.jobs.views()] == ["done"]


async def test_a_kill_before_the_next_attempt_does_not_lose_it(world: World) -> None:
    alice, bob, carol = await trio(world)
    bob.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor", exit_code=None)

    async def never(job_id: str) -> None:
        await asyncio.Future()

    alice.jobs._settler._again = never
    first = await anywhere(alice)
    await until(lambda: alice.jobs._room.records[first.job_id].outcome == "recorded")
    await alice.kill()
    await alice.start()
    await until(lambda: alice.jobs.view(first.job_id).retried_as)
    assert (await ended(alice, first)).executor == carol.id


async def test_cancelling_reaches_the_latest_attempt(world: World) -> None:
    alice, bob, carol = await trio(world)
    bob.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor", exit_code=None)
    carol.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    first = await anywhere(alice)
    await until(lambda: any(v.executor == carol.id and v.state == "running" for v in alice.jobs.views()))
    cancelled = await alice.jobs.cancel(first.job_id)
    assert (cancelled.state, cancelled.executor) == ("cancelled", carol.id)
    assert len(alice.jobs.views()) == 2


async def test_a_bid_above_the_card_is_no_bargain(world: World) -> None:
    alice, bob, carol = await trio(world)
    object.__setattr__(bob.jobs._room, "settings", replace(bob.settings, price_per_second_nano=10**12))
    done = await ended(alice, await anywhere(alice))
    assert done.executor == carol.id
    assert done.cost_u < 1_000_000


# --- the executor's queue --------------------------------------------------------------------------------------------


class Ticker:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


async def order(asked: list[tuple[str, int, int]]) -> list[str]:
    """In which order jobs (peer, priority, arrival in µs) get the only slot."""
    clock = Ticker()
    slots = Slots(1, clock)
    ran: list[str] = []

    async def job(peer: str, priority: int, number: int) -> None:
        async with slots.hold(peer, priority):
            ran.append(f"{peer}{number}")

    async with slots.hold("first", 0):
        tasks = []
        for number, (peer, priority, at) in enumerate(asked):
            clock.now = at
            tasks.append(asyncio.create_task(job(peer, priority, number)))
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return ran


async def test_peers_take_turns_and_priority_orders_only_ones_own() -> None:
    assert await order([("a", 0, 0), ("a", 9, 0), ("b", 0, 0), ("a", 5, 0)]) == ["a1", "b2", "a3", "a0"]


async def test_who_waits_long_enough_overtakes_any_priority() -> None:
    assert await order([("a", 0, 0), ("a", 9, 9 * AGING_US - 1)]) == ["a1", "a0"]
    assert await order([("a", 0, 0), ("a", 9, 9 * AGING_US + 1)]) == ["a0", "a1"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.just(0)), min_size=1, max_size=12))
def test_everybody_gets_a_turn_before_anybody_gets_two(asked: list[tuple[str, int, int]]) -> None:
    ran = asyncio.run(order(asked))
    assert len(ran) == len(asked)
    peers = {peer for peer, _, _ in asked}
    assert {name[0] for name in ran[: len(peers)]} == peers


async def test_a_cancelled_waiter_gives_its_place_back() -> None:
    slots = Slots(1, lambda: 0)

    async def job() -> None:
        async with slots.hold("a", 0):
            await asyncio.sleep(0)

    async with slots.hold("a", 0):
        first, second = asyncio.create_task(job()), asyncio.create_task(job())
        await asyncio.sleep(0)
        first.cancel()
    await asyncio.wait_for(second, 20)
    assert first.cancelled()
    slots.limit = 2
    async with slots.hold("a", 0), slots.hold("b", 0):
        pass


def test_many_reasons_are_cut_short() -> None:
    said = sentence([(f"peer{n}", "offline") for n in range(SAID_PEERS + 3)])
    assert said.endswith("and 3 more.")
    assert sentence([]) == "Nobody else in the guild runs jobs for others."


def test_rows_of_older_databases_are_never_tried_again() -> None:
    from zstui.engine.jobs.attempts import worth_another

    old = Job(
        job_id="a", mine=True, guild_id="g", submitter="me", executor="bob", module="m", module_cid="c",
        state="failed", fault="executor",
    )  # fmt: skip
    assert not worth_another(old)
    assert worth_another(replace(old, attempts=2))


def test_an_executor_is_given_more_of_short_jobs_than_of_long_ones() -> None:
    assert depth(4, None) == depth(4, 10_000_000) == 5
    assert depth(4, 200_000) == 9
    assert depth(4, 0) == depth(4, 100) == 4 + MOST_AHEAD
