"""One module over many inputs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from tests.engine.jobs.test_queue import trio
from zstui.engine.errors import BadInput
from zstui.engine.jobs import batches
from zstui.engine.jobs.batch import Item, committed_u, next_cap_u
from zstui.engine.jobs.model import Job
from zstui.engine.views import BatchView


async def lines(peer: Peer, count: int, **fields: object) -> BatchView:
    spec = peer.spec("tool", **({"max_price_u": 10_000_000} | fields))
    return await peer.jobs.batches.submit(spec, "", [f"line {n}" for n in range(count)], None)


async def ended(peer: Peer, view: BatchView) -> BatchView:
    return await asyncio.wait_for(peer.jobs.batches.wait(view.batch_id), 15)


async def test_each_line_is_a_job_and_they_spread_over_all_executors(world: World) -> None:
    alice, bob, carol = await trio(world, max_jobs=1)
    done = await ended(alice, await lines(alice, 12))
    assert (done.state, done.done, done.total, done.running, done.queued) == ("done", 12, 12, 0, 0), done.why
    jobs = [alice.jobs.view(j) for j in done.jobs]
    assert [j.batch_index for j in jobs] == list(range(12))
    assert min(Counter(j.executor for j in jobs).values()) >= 3
    stdins = Counter(r.stdin for p in (bob, carol) for r in p.sandbox.runs)
    assert stdins == Counter(f"line {n}\n".encode() for n in range(12))
    assert done.cost_u == sum(j.cost_u for j in jobs)
    await until(lambda: done.cost_u == sum(r.amount_u for r in alice.requests))
    assert {r.submitted_as for r in alice.requests} == {done.batch_id}, "one allowance can cover them all"
    assert alice.jobs.batches.views()[0].jobs == ()


async def test_a_line_goes_where_an_argument_says(world: World) -> None:
    alice, bob = await world.pair()
    await ended(alice, await lines(alice, 2, args=("--at={}", "x")))
    assert sorted(r.args for r in bob.sandbox.runs) == [("--at=line 0", "x"), ("--at=line 1", "x")]
    assert {r.stdin for r in bob.sandbox.runs} == {b""}


async def test_a_job_for_each_file(world: World) -> None:
    alice, bob = await world.pair()
    for name in ("b.txt", "a.txt", "other.bin"):
        (alice.home / name).write_bytes(name.encode())
    spec = alice.spec("tool", args=("{}",), max_price_u=10_000_000)
    view = await alice.jobs.batches.submit(spec, "files", None, (str(alice.home / "*.txt"),))
    assert (await ended(alice, view)).done == 2
    assert sorted((r.args, r.inputs[0].name) for r in bob.sandbox.runs) == [
        (("/in/a.txt",), "a.txt"),
        (("/in/b.txt",), "b.txt"),
    ]
    with pytest.raises(BadInput, match="No file is called"):
        await alice.jobs.batches.submit(spec, "", None, (str(alice.home / "*.png"),))
    for wrong in (((), None), (None, None), (("a",), ("b",)), (["x"] * 4097, None)):
        with pytest.raises(BadInput):
            await alice.jobs.batches.submit(spec, "", *wrong)


async def test_the_price_of_the_whole_is_never_passed(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(duration_us=1_000, memory_bytes=1000 << 20)
    view = await lines(alice, 9, max_price_u=50_000, memory_mib=128)
    done = await ended(alice, view)
    assert done.state == "failed"
    assert 0 < done.done < 9
    assert done.cost_u == sum(j.cost_u for j in alice.jobs.views()) <= 50_000
    assert "price for the whole batch is used up" in done.why


async def test_results_are_collected_by_input(world: World) -> None:
    alice, bob = await world.pair()
    for peer in (alice, bob):
        peer.sandbox.guests[wasm("tool")] = Guest((b"said",), files={"a/b": b"left"})
    done = await ended(alice, await lines(alice, 11, outputs=True))
    into = alice.home / "new" / "results"
    view = await alice.jobs.batches.collect(done.batch_id, str(into))
    assert (view.jobs, view.files) == (11, 33)
    assert view.size == sum(p.stat().st_size for p in into.rglob("*") if p.is_file())
    assert sorted(p.name for p in into.iterdir())[:4] == ["00-a", "00.stderr", "00.stdout", "01-a"]
    assert (into / "10.stdout").read_bytes() + (into / "10-a" / "b").read_bytes() == b"saidleft"
    assert await alice.jobs.batches.collect(done.batch_id, str(into)) == view
    with pytest.raises(BadInput, match="Cannot collect the results in"):
        await alice.jobs.batches.collect(done.batch_id, str(into / "10.stdout"))
    with pytest.raises(BadInput, match="whole path"):
        await alice.jobs.batches.collect(done.batch_id, "results")


async def test_a_price_that_holds_the_batch_up_is_said(world: World) -> None:
    alice, bob, carol = await trio(world)
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("tool")] = carol.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    view = await lines(alice, 4, max_price_u=400_000)
    await until(lambda: "each job may cost up to" in alice.jobs.batches.view(view.batch_id).why)
    hold.set()
    assert (await ended(alice, view)).why == ""


async def test_a_job_that_ends_while_others_begin_frees_its_part_of_the_price(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _ = await world.pair()
    submitter = alice.jobs._submitter
    begin = submitter.begin
    ends: list[str] = []

    async def slow(*args: Any, **fields: Any) -> Job:
        job = await begin(*args, **fields)
        ends.append(job.job_id)
        if len(ends) == 2:
            await until(lambda: all(alice.jobs._room.records[j].final for j in ends))
            await asyncio.sleep(0.1)
        return job

    monkeypatch.setattr(submitter, "begin", slow)
    monkeypatch.setattr(batches, "LOOK_S", 60.0)
    assert (await ended(alice, await lines(alice, 4, max_price_u=700_000))).done == 4


async def test_what_is_in_stays_when_others_fail(world: World) -> None:
    alice, bob, carol = await trio(world)
    for peer in (bob, carol):
        peer.sandbox.guests[wasm("tool")] = Guest(status="failure", fault="payer", exit_code=1)
    done = await ended(alice, await lines(alice, 4))
    assert (done.state, done.failed) == ("failed", 4)


async def test_a_job_that_is_tried_again_counts_once(world: World) -> None:
    alice, bob, carol = await trio(world)
    bob.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor", exit_code=None)
    done = await ended(alice, await lines(alice, 5))
    assert (done.state, done.done) == ("done", 5), done
    assert {alice.jobs.view(j).executor for j in done.jobs} == {carol.id}
    assert done.cost_u == sum(alice.jobs.view(j).cost_u for j in done.jobs)


async def test_cancelling_keeps_results_and_begins_no_more(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1)
    hold = asyncio.Event()
    view = await lines(alice, 60)
    await until(lambda: alice.jobs.batches.view(view.batch_id).done >= 2)
    bob.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    await asyncio.sleep(0.1)
    cancelled = await alice.jobs.batches.cancel(view.batch_id)
    assert (cancelled.state, cancelled.running, cancelled.queued, cancelled.failed) == ("cancelled", 0, 0, 0)
    assert cancelled.done >= 2
    assert cancelled.done + cancelled.cancelled == 60
    assert cancelled.finished_at
    jobs = [alice.jobs.view(j) for j in cancelled.jobs if j]
    assert {v.state for v in jobs} == {"done", "cancelled"}
    assert cancelled.cost_u == sum(v.cost_u for v in jobs), "what was metered is shown"
    assert any(v.state == "cancelled" and v.cost_u for v in jobs)
    begun = len(alice.jobs.views())
    await asyncio.sleep(0.1)
    assert len(alice.jobs.views()) == begun < 60
    with pytest.raises(BadInput, match="ended already"):
        await alice.jobs.batches.cancel(view.batch_id)


async def test_cancelling_ends_with_an_executor_that_was_away(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1)
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    view = await lines(alice, 3)
    await until(lambda: alice.jobs.batches.view(view.batch_id).running)
    await bob.network.stop()
    world.hub.remove(bob.id)
    with patch.object(batches, "CANCEL_S", 0.1):
        cancelled = await alice.jobs.batches.cancel(view.batch_id)
    assert (cancelled.state, cancelled.running, cancelled.finished_at) == ("cancelled", 1, None)
    await alice.kill()
    await alice.start()
    assert alice.jobs.batches.view(view.batch_id).finished_at is None
    await bob.kill()
    await bob.start()
    done = await ended(alice, view)
    assert (done.state, done.cancelled, done.running, done.queued) == ("cancelled", 3, 0, 0), done


async def test_a_job_that_would_be_tried_again_is_not_once_its_batch_is_cancelled(world: World) -> None:
    alice, bob, carol = await trio(world, max_jobs=1)
    hold = asyncio.Event()
    for peer in (bob, carol):
        peer.sandbox.guests[wasm("tool")] = Guest(hold=hold, status="error", fault="executor", exit_code=None)
    view = await lines(alice, 2)
    await until(lambda: alice.jobs.batches.view(view.batch_id).running)
    hold.set()
    cancelled = await alice.jobs.batches.cancel(view.batch_id)
    assert (cancelled.cancelled, cancelled.running, cancelled.queued) == (2, 0, 0), cancelled
    await asyncio.sleep(0.1)
    assert all(v.state in ("failed", "cancelled") for v in alice.jobs.views())


async def test_a_batch_goes_on_after_its_submitter_was_killed(world: World) -> None:
    alice, bob, carol = await trio(world, max_jobs=1)
    view = await lines(alice, 15)
    await until(lambda: alice.jobs.batches.view(view.batch_id).done >= 3)
    await alice.kill()
    await alice.start()
    done = await ended(alice, view)
    assert (done.state, done.done) == ("done", 15), done
    assert len(done.jobs) == len(set(done.jobs)) == 15
    ran = Counter(r.stdin for p in (bob, carol) for r in p.sandbox.runs)
    assert ran == Counter(f"line {n}\n".encode() for n in range(15)), "none twice, none lost"


@given(
    st.integers(1, 1000),
    st.integers(0, 400),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_caps_never_add_up_to_more_than_the_whole(most: int, full: int, steps: list[tuple[bool, float]]) -> None:
    items = [Item(n, "") for n in range(len(steps))]
    for begin, share in steps:
        begun = [i for i in items if i.state == "begun"]
        cap = next_cap_u(most - committed_u(items), full, waits=bool(begun))
        if begin and cap and (waiting := next((i for i in items if i.state == "waiting"), None)):
            items[waiting.number] = Item(waiting.number, "", "begun", cap)
        elif begun:
            cost = int(begun[0].cost_u * share)
            items[begun[0].number] = Item(begun[0].number, "", "done", cost)
        assert committed_u(items) <= most
        assert cap is None or cap >= 0
    assert next_cap_u(most, 0, waits=False) == 1
