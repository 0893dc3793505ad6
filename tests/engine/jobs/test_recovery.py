"""Links that are cut, processes that are killed: both sides agree afterwards, and nothing counts twice."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.channels.messages import PayLine
from zstui.engine.jobs import store
from zstui.engine.jobs.bundle import verify_bundle


async def started(world: World, guest: Guest, **settings: object) -> tuple[Peer, Peer, str]:
    """A job of Alice's that runs at Bob's."""
    alice, bob = await world.pair(**settings)
    bob.sandbox.guests[wasm("tool")] = guest
    view = await alice.submit(bob)
    await until(lambda: alice.jobs.view(view.job_id).state == "running")
    return alice, bob, view.job_id


async def pay(payer: Peer, payee: Peer, job_id: str) -> None:
    """What channels do in their transactions when a payment is made."""
    view = payer.jobs.view(job_id)
    request = next(r for r in payer.requests if r.job_id == job_id)
    line = PayLine(view.cost_u, bytes.fromhex(request.agreement_id), 1, 0, bytes.fromhex(view.receipt_id))
    await payee.db.write(lambda tx: payee.jobs.payments.credited(tx, payer.id, line))
    await payer.db.write(lambda tx: payer.jobs.payments.acknowledged(tx, payee.id, line))


async def test_a_cut_link_is_told_and_the_receipt_comes_when_it_is_back(world: World) -> None:
    hold = asyncio.Event()
    alice, bob, job_id = await started(world, Guest((b"one\n", b"two\n"), hold=hold))
    world.hub.cut(alice.id, bob.id)
    await until(lambda: "bob is unreachable since" in alice.jobs.view(job_id).why)
    assert alice.jobs.view(job_id).state == "running"
    hold.set()
    await until(lambda: bob.jobs.view(job_id).state == "done")
    world.hub.link(alice.id, bob.id)
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.why) == ("done", "")
    assert (await alice.jobs.output(job_id)).stdout == b"one\ntwo\n"
    assert all(c.ok for c in alice.requests[0].checks), alice.requests[0].checks
    await until(lambda: bob.jobs._room.records[job_id].delivered)


async def test_silence_is_told_too(world: World) -> None:
    alice, bob, job_id = await started(world, Guest(hold=asyncio.Event()))
    for task in tuple(bob.network._tasks):
        task.cancel()
    await until(lambda: "bob is unreachable" in alice.jobs.view(job_id).why)
    await until(lambda: alice.jobs.view(job_id).why == "")


async def test_the_executor_says_that_the_submitter_is_away_and_goes_on(world: World) -> None:
    hold = asyncio.Event()
    alice, bob, job_id = await started(world, Guest(hold=hold))
    world.hub.cut(alice.id, bob.id)
    await until(lambda: bob.jobs.view(job_id).why.startswith("alice is unreachable since "))
    assert bob.jobs.view(job_id).why.endswith(". Its job goes on; the result is kept for it.")
    world.hub.link(alice.id, bob.id)
    await until(lambda: bob.jobs.view(job_id).why == "")
    world.hub.cut(alice.id, bob.id)
    hold.set()
    await until(lambda: bob.jobs.view(job_id).state == "done")
    assert bob.jobs.view(job_id).why == ""


async def test_an_executor_away_too_long_fails_the_job_and_a_late_receipt_still_counts(world: World) -> None:
    hold = asyncio.Event()
    alice, bob, job_id = await started(world, Guest(hold=hold, duration_us=10_000))
    room = alice.jobs._room
    world.hub.cut(alice.id, bob.id)
    hold.set()
    await until(lambda: bob.jobs.view(job_id).state == "done")
    alice.jobs._submitter._contact[job_id] -= 40_000_000
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.fault, view.paid) == ("failed", "network", "")
    assert "did not come back within 30 s" in view.why
    assert alice.outcomes == [], "a lost network is nobody's failure"
    world.hub.link(alice.id, bob.id)
    await until(lambda: room.records[job_id].receipt_id and alice.requests)
    view = alice.jobs.view(job_id)
    assert (view.state, view.paid) == ("done", "unpaid")
    assert [c.name for c in alice.requests[0].checks if not c.ok] == ["in time"]


async def test_an_executor_killed_while_it_ran_signs_a_receipt_that_costs_nothing(world: World) -> None:
    alice, bob, job_id = await started(world, Guest(hold=asyncio.Event()))
    await bob.kill()
    await until(lambda: "unreachable" in alice.jobs.view(job_id).why)
    await bob.start()
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.fault, view.cost_u, view.paid) == ("failed", "executor", 0, "free")
    assert view.why == "The executor was interrupted while the job ran."
    theirs = bob.jobs.view(job_id)
    assert (theirs.state, theirs.receipt_id, theirs.cost_u) == ("failed", view.receipt_id, 0)
    assert [(o.receipt_id, o.success) for o in alice.outcomes] == [(view.receipt_id, False)]
    assert all(c.ok for c in verify_bundle(await alice.jobs.bundle(job_id)))


async def test_what_waited_at_a_killed_executor_runs_after_its_restart(world: World) -> None:
    alice, bob, _ = await started(world, Guest(hold=asyncio.Event()), max_jobs=1)
    second = await alice.submit(bob, "second")
    await until(lambda: len(bob.jobs.views()) == 2)
    await bob.kill()
    await bob.start()
    assert (await asyncio.wait_for(alice.jobs.wait(second.job_id), 20)).state == "done"


async def test_a_submitter_killed_while_it_ran_takes_up_the_job(world: World) -> None:
    hold = asyncio.Event()
    alice, bob, job_id = await started(world, Guest((b"a" * 1000, b"b" * 1000), hold=hold))
    await until(lambda: alice.jobs._room.outputs.size(job_id, "stdout") == 2000)
    await alice.kill()
    hold.set()
    await until(lambda: bob.jobs.view(job_id).state == "done")
    await alice.start()
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert view.state == "done"
    assert (await alice.jobs.output(job_id)).stdout == b"a" * 1000 + b"b" * 1000
    assert len(bob.sandbox.runs) == 1
    assert all(c.ok for c in alice.requests[0].checks), alice.requests[0].checks


async def test_an_answer_lost_after_the_agreement_does_not_run_the_job_twice(world: World) -> None:
    """The link is cut at the very moment when both have signed but the submitter does not know it."""
    alice, bob = await world.pair()
    added = bob.jobs._room.records.add

    async def cut_after(*args: object) -> None:
        await added(*args)  # type: ignore[arg-type]
        world.hub.cut(alice.id, bob.id)

    bob.jobs._room.records.add = cut_after  # type: ignore[method-assign, assignment]
    view = await alice.submit(bob)
    await until(lambda: bool(bob.jobs.views()))
    bob.jobs._room.records.add = added  # type: ignore[method-assign]
    world.hub.link(alice.id, bob.id)
    assert (await asyncio.wait_for(alice.jobs.wait(view.job_id), 20)).state == "done"
    assert len(bob.sandbox.runs) == len(bob.jobs.views()) == 1


async def test_an_agreement_that_is_being_committed_is_not_denied(world: World) -> None:
    """The link is lost and back while the executor's disk still works on the agreement."""
    alice, bob = await world.pair()
    added = bob.jobs._room.records.add
    entered, go = asyncio.Event(), asyncio.Event()

    async def slowly(*args: object) -> None:
        entered.set()
        await go.wait()
        await added(*args)  # type: ignore[arg-type]

    bob.jobs._room.records.add = slowly  # type: ignore[method-assign, assignment]
    view = await alice.submit(bob)
    await asyncio.wait_for(entered.wait(), 20)
    world.hub.cut(alice.id, bob.id)
    world.hub.link(alice.id, bob.id)
    await asyncio.sleep(0.2)
    go.set()
    ended = await asyncio.wait_for(alice.jobs.wait(view.job_id), 20)
    assert (ended.state, ended.why) == ("done", "")
    assert len(bob.sandbox.runs) == len(bob.jobs.views()) == 1


async def test_a_graceful_stop_hands_back_what_runs_and_what_waits(world: World) -> None:
    alice, bob, running = await started(world, Guest(hold=asyncio.Event()), max_jobs=1)
    waiting = (await alice.submit(bob, "second")).job_id
    await until(lambda: len(bob.jobs.views()) == 2)
    await bob.jobs.stop()
    one = await asyncio.wait_for(alice.jobs.wait(running), 20)
    two = await asyncio.wait_for(alice.jobs.wait(waiting), 20)
    assert (one.state, one.fault, one.cost_u) == ("cancelled", "executor", 0)
    assert (two.state, two.fault, two.cost_u) == ("cancelled", "network", 0)
    assert [(o.receipt_id, o.success) for o in alice.outcomes] == [(one.receipt_id, False)]


async def test_a_payment_makes_both_sides_paid_and_one_outcome(world: World) -> None:
    alice, bob = await world.pair()
    job_id = (await alice.run(bob)).job_id
    for _ in range(2):
        await pay(alice, bob, job_id)
    await until(lambda: alice.jobs.view(job_id).paid == "paid" == bob.jobs.view(job_id).paid)
    await until(lambda: len(alice.outcomes) == 1)
    assert alice.outcomes[0].success
    assert bob.jobs.standing.at_risk(alice.id) == 0
    assert bob.outcomes == []


async def test_only_the_exact_payment_counts(world: World) -> None:
    alice, bob = await world.pair()
    job_id = (await alice.run(bob)).job_id
    view, request = alice.jobs.view(job_id), alice.requests[0]
    agreement, receipt = bytes.fromhex(request.agreement_id), bytes.fromhex(view.receipt_id)
    for peer, amount, of, ref in (
        (alice.id, view.cost_u - 1, agreement, receipt),
        (alice.id, view.cost_u, receipt, receipt),
        (alice.id, view.cost_u, agreement, agreement),
        (bob.id, view.cost_u, agreement, receipt),
    ):
        line = PayLine(amount, of, 1, 0, ref)
        await bob.db.write(partial(bob.jobs.payments.credited, peer=peer, line=line))
    await asyncio.sleep(0.02)
    assert bob.jobs.view(job_id).paid == "unpaid"


async def test_an_outcome_due_at_a_crash_is_recorded_at_the_next_start(world: World) -> None:
    alice, bob = await world.pair()
    job_id = (await alice.run(bob)).job_id
    request = alice.requests[0]
    line = PayLine(request.amount_u, bytes.fromhex(request.agreement_id), 1, 0, bytes.fromhex(request.receipt_id))
    alice.jobs.payments._loop = None
    await alice.db.write(lambda tx: alice.jobs.payments.acknowledged(tx, bob.id, line))
    await alice.kill()
    assert alice.outcomes == []
    await alice.start()
    await until(lambda: len(alice.outcomes) == 1)
    assert alice.jobs.view(job_id).paid == "paid"
    await alice.kill()
    await alice.start()
    await asyncio.sleep(0.05)
    assert len(alice.outcomes) == 1


async def test_a_payment_not_yet_asked_for_is_asked_for_at_the_next_start(world: World) -> None:
    alice, bob = await world.pair()
    view = await alice.run(bob)
    before = alice.requests[0]
    await alice.kill()
    alice.requests.clear()
    await alice.start()
    await until(lambda: bool(alice.requests))
    assert alice.requests == [before]
    assert (await alice.jobs.output(view.job_id)).stdout == b"hello\n"


async def test_the_guild_may_end_before_the_receipt(world: World) -> None:
    hold = asyncio.Event()
    alice, bob, job_id = await started(world, Guest((b"out\n",), hold=hold))
    world.guild.over = True
    hold.set()
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.output_hash) == ("done", hashlib.sha256(b"out\n").hexdigest())
    await until(lambda: bob.jobs._room.records[job_id].delivered)


async def test_old_settled_jobs_are_forgotten_with_all_they_left(world: World) -> None:
    alice, bob = await world.pair()
    kept = [(await alice.run(bob)).job_id for _ in range(3)]
    await pay(alice, bob, kept[0])
    await pay(alice, bob, kept[1])
    await until(lambda: sum(j.settled for j in alice.jobs._room.records) == 2)
    assert alice.jobs._room.records.beyond(2, 2**62) == [kept[0]]
    assert alice.jobs._room.records.beyond(1, 2**62) == kept[:2]
    assert alice.jobs._room.records.beyond(0, 2**62) == kept, "beyond twice the limit even what is owed goes"
    await alice.jobs._room.records.drop(kept[:1])
    assert {v.job_id for v in alice.jobs.views()} == set(kept[1:])
    rows = await alice.db.read(
        lambda tx: tx.execute("SELECT count(*) FROM job_evidence WHERE job_id = ?", (kept[0],)).fetchone()
    )
    assert rows == (0,)
    assert len(await alice.db.read(store.load)) == 2
