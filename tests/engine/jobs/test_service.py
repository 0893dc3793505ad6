"""Submit, run, receipt, payment request, between two nodes."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.commands import JobSpec
from zstui.engine.errors import BadInput, InvalidManifest, InvalidModule, NoExecutor, NotPermitted, UnknownJob
from zstui.engine.events import ExecutionFinished, ExecutionStarted, JobOutputReceived
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.cost import cost


async def test_a_job_runs_elsewhere_and_its_payment_is_asked_for(world: World) -> None:
    alice, bob = await world.pair()
    seen = alice.bus.subscribe(JobOutputReceived)
    ran = bob.bus.subscribe(ExecutionStarted, ExecutionFinished)
    bob.sandbox.guests[wasm("tool")] = Guest((b"one\n", b"two\n"), duration_us=20_000)

    view = await alice.run(bob, args=("x",), env=(("K", "V"),), stdin=b"input", memory_mib=64, timeout_s=5)

    assert (view.state, view.exit_code, view.fault, view.paid) == ("done", 0, "none", "unpaid")
    assert view.output_hash == hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert view.module_cid == cid_of(wasm("tool"))
    due = cost(10_000_000, 100_000, 20_000, 1 << 20, 1_000_000).total_u
    assert view.cost_u == due > 0
    output = await alice.jobs.output(view.job_id)
    assert (output.stdout, output.stderr, output.complete) == (b"one\ntwo\n", b"note\n", True)
    assert await asyncio.to_thread(Path(output.path).read_bytes) == output.stdout

    execution = bob.sandbox.runs[0]
    assert (execution.module, execution.args, execution.env) == (wasm("tool"), ("x",), (("K", "V"),))
    assert (execution.stdin, execution.limits.memory_bytes, execution.limits.timeout_us) == (
        b"input",
        64 << 20,
        5_000_000,
    )

    (request,) = alice.requests
    assert (request.amount_u, request.peer_id, request.receipt_id) == (due, bob.id, view.receipt_id)
    assert all(check.ok for check in request.checks), request.checks
    assert {"signature", "agreement", "cost", "output", "duration", "limits"} <= {c.name for c in request.checks}

    theirs = bob.jobs.view(view.job_id)
    assert (theirs.state, theirs.mine, theirs.cost_u, theirs.receipt_id) == ("done", False, due, view.receipt_id)
    assert bob.jobs.standing.at_risk(alice.id) == due
    seen.close()
    assert b"".join([e.data async for e in seen if e.stream == "stdout"]) == b"one\ntwo\n"
    ran.close()
    assert [type(e) async for e in ran] == [ExecutionStarted, ExecutionFinished]
    assert world.guild.sealed, "everything between the two is sealed for the guild"

    await until(lambda: bob.jobs._room.records[view.job_id].delivered)
    for node in (alice, bob):
        checks = verify_bundle(await node.jobs.bundle(view.receipt_id[:8]))
        assert checks
        assert all(c.ok for c in checks), checks


async def test_output_is_complete_up_to_its_cap_and_no_further(world: World) -> None:
    alice, bob = await world.pair()
    big = b"x" * (1 << 20)
    bob.sandbox.guests[wasm("tool")] = Guest((big,), duration_us=50_000)
    view = await alice.run(bob)
    assert (await alice.jobs.output(view.job_id)).stdout == big
    assert view.output_hash == hashlib.sha256(big).hexdigest()
    assert all(c.ok for c in alice.requests[0].checks)


async def test_output_and_progress_are_seen_while_it_runs(world: World) -> None:
    alice, bob = await world.pair()
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("tool")] = Guest((b"early\n",), hold=hold)
    view = await alice.submit(bob)
    await until(lambda: alice.jobs.view(view.job_id).progress == 0.5)
    await until(lambda: alice.jobs.view(view.job_id).state == "running" == bob.jobs.view(view.job_id).state)
    output = await alice.jobs.output(view.job_id)
    assert (output.stdout, output.complete) == (b"early\n", False)
    hold.set()
    done = await alice.jobs.wait(view.job_id)
    assert (done.state, done.progress) == ("done", 1.0)


async def test_a_trap_is_paid_and_an_executors_failure_is_not(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("trap")] = Guest(status="failure", fault="payer", exit_code=None, duration_us=10_000)
    bob.sandbox.guests[wasm("late")] = Guest(status="timeout", fault="payer", exit_code=None, duration_us=10_000)
    bob.sandbox.guests[wasm("bad")] = Guest(status="error", fault="executor", exit_code=None, duration_us=10_000)
    trap, late, bad = await alice.run(bob, "trap"), await alice.run(bob, "late"), await alice.run(bob, "bad")
    assert (trap.state, trap.fault, late.fault, bad.fault) == ("failed", "payer", "payer", "executor")
    assert trap.cost_u == late.cost_u == cost(10_000_000, 100_000, 10_000, 1 << 20, 10**9).total_u
    assert (bad.cost_u, bad.paid) == (0, "free")
    assert [r.job_id for r in alice.requests] == [trap.job_id, late.job_id]
    assert [(o.receipt_id, o.success) for o in alice.outcomes] == [(bad.receipt_id, False)]
    assert trap.why == "It went wrong."


async def test_free_work_needs_no_channel_and_counts_at_once(world: World) -> None:
    alice = await world.peer("alice", "creator")
    bob = await world.peer("bob", "executor", price_per_second_nano=0, price_per_mib_nano=0)
    view = await alice.run(bob)
    assert (view.state, view.paid, view.cost_u, alice.requests) == ("done", "free", 0, [])
    assert [(o.peer_id, o.success, o.category) for o in alice.outcomes] == [(bob.id, True, "tool")]
    assert bob.jobs.standing.at_risk(alice.id) == 0


async def test_the_executors_own_price_is_agreed_not_the_payers_limit(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(duration_us=10_000)
    await alice.run(bob, price_per_second_nano=10**9, price_per_mib_nano=10**9)
    assert alice.requests[0].amount_u == cost(10_000_000, 100_000, 10_000, 1 << 20, 10**9).total_u


async def test_jobs_queue_behind_each_other(world: World) -> None:
    alice, bob = await world.pair(max_jobs=2)
    hold = asyncio.Event()
    views = []
    for n in range(4):
        bob.sandbox.guests[wasm(f"j{n}")] = Guest(hold=hold)
        views.append(await alice.submit(bob, f"j{n}"))
    await until(
        lambda: sorted(bob.jobs.view(v.job_id).state for v in views if _has(bob, v.job_id)).count("queued") == 2
    )
    await until(lambda: any("wait before it" in alice.jobs.view(v.job_id).why for v in views))
    await until(lambda: bob.sandbox.at_once == 2)
    hold.set()
    ends = await asyncio.gather(*(alice.jobs.wait(v.job_id) for v in views))
    assert {e.state for e in ends} == {"done"}
    assert all(not e.why for e in ends)
    assert bob.sandbox.most_at_once == 2


def _has(peer: Peer, job_id: str) -> bool:
    return any(v.job_id == job_id for v in peer.jobs.views())


async def test_cancelling_while_it_runs_pays_what_was_used(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event(), duration_us=10_000)
    view = await alice.submit(bob)
    await until(lambda: alice.jobs.view(view.job_id).state == "running")
    cancelled = await alice.jobs.cancel(view.job_id)
    assert (cancelled.state, cancelled.fault, cancelled.why) == ("cancelled", "payer", "Cancelled by its submitter.")
    assert cancelled.cost_u == cost(10_000_000, 100_000, 10_000, 1 << 20, 10**9).total_u
    await until(lambda: bool(alice.requests))
    assert all(c.ok for c in alice.requests[0].checks), alice.requests[0].checks
    with pytest.raises(BadInput, match="ended already"):
        await alice.jobs.cancel(view.job_id)


async def test_cancelling_in_the_queue_costs_nothing(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1)
    hold = asyncio.Event()
    bob.sandbox.guests[wasm("first")] = Guest(hold=hold)
    first = await alice.submit(bob, "first")
    await until(lambda: alice.jobs.view(first.job_id).state == "running")
    second = await alice.submit(bob, "second")
    await until(lambda: _has(bob, second.job_id))
    cancelled = await alice.jobs.cancel(second.job_id)
    assert (cancelled.state, cancelled.cost_u, cancelled.paid) == ("cancelled", 0, "free")
    hold.set()
    assert (await alice.jobs.wait(first.job_id)).state == "done"
    assert len(bob.sandbox.runs) == 1
    assert alice.outcomes == []


async def test_the_owner_of_an_executor_can_stop_a_job(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    view = await alice.submit(bob)
    await until(lambda: bool(bob.sandbox.runs))
    await bob.jobs.cancel(view.job_id)
    ended = await alice.jobs.wait(view.job_id)
    assert (ended.state, ended.fault, ended.cost_u) == ("cancelled", "executor", 0)
    assert [o.success for o in alice.outcomes] == [False]


async def test_running_again_is_a_new_job(world: World) -> None:
    alice, bob = await world.pair()
    first = await alice.run(bob, stdin=b"data", args=("1",))
    again = await alice.jobs.rerun(first.job_id)
    second = await alice.jobs.wait(again.job_id)
    assert (second.state, second.module_cid, second.args) == ("done", first.module_cid, ("1",))
    assert second.job_id != first.job_id
    one, two = bob.sandbox.runs
    assert (one.stdin, one.args) == (two.stdin, two.args)
    assert one.seed != two.seed
    with pytest.raises(BadInput, match="Only its submitter"):
        await bob.jobs.rerun(first.job_id)


async def test_what_is_wrong_here_is_said_before_anything_is_sent(world: World) -> None:
    alice, bob = await world.pair()
    stranger = await world.peer("dave", "observer")
    (alice.home / "bad.wasm").write_bytes(b"#!/bin/sh")
    spec = JobSpec(module=str(alice.home / "bad.wasm"), guild="lab")
    with pytest.raises(InvalidModule, match="Not a WebAssembly module"):
        await alice.jobs.submit(spec, bob.id)
    with pytest.raises(InvalidModule, match="Cannot read the module"):
        await alice.jobs.submit(JobSpec(module="/no/such/file", guild="lab"), bob.id)
    with pytest.raises(InvalidModule, match="no function 'missing'"):
        await alice.submit(bob, function="missing")
    with pytest.raises(InvalidManifest, match="memory limit"):
        await alice.submit(bob, memory_mib=-1)
    with pytest.raises(InvalidManifest, match="largest price"):
        await alice.submit(bob, max_price_u=0)
    with pytest.raises(BadInput, match="does not run its own jobs"):
        await alice.submit(alice)
    with pytest.raises(NoExecutor, match="no member"):
        await alice.submit(stranger)
    with pytest.raises(NotPermitted):
        await stranger.submit(bob)
    alice.blocked.add(bob.id)
    with pytest.raises(NoExecutor, match="blocked"):
        await alice.submit(bob)
    assert alice.jobs.views() == []
    assert world.guild.sealed == []


async def test_ids_resolve_by_prefix(world: World) -> None:
    alice, bob = await world.pair()
    view = await alice.run(bob)
    assert alice.jobs.resolve(view.job_id[:8]) == view.job_id == alice.jobs.resolve(view.receipt_id[:8].upper())
    for unknown in ("", "zz", "0" * 64):
        with pytest.raises(UnknownJob):
            alice.jobs.resolve(unknown)
    with pytest.raises(UnknownJob):
        alice.jobs.view("0" * 64)


async def test_stopping_beside_a_task_that_has_just_ended_ends(world: World) -> None:
    alice, _ = await world.pair()
    await alice.jobs.stop()
    over = asyncio.Event()

    async def work() -> None:
        over.set()

    alice.jobs._room.spawn(work(), "ending")
    await over.wait()  # wakes before the callbacks of the task's end
    await alice.jobs._room.stop_tasks()
