"""Other members run a finished job again and sign what they got."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.events import ExecutionFinished
from zstui.engine.jobs.bundle import verify_bundle


async def four(world: World) -> tuple[Peer, Peer, Peer, Peer]:
    alice, bob = await world.pair()
    return alice, bob, await world.peer("carol", "executor"), await world.peer("dave", "member", executor=True)


async def test_matching_witnesses_are_named_on_both_sides(world: World) -> None:
    alice, bob, carol, dave = await four(world)
    view = await alice.run(bob, witnesses=2, stdin=b"in")
    assert set(view.attestations) == {carol.id, dave.id}
    assert view.why == ""
    for witness in (carol, dave):
        assert [e.stdin for e in witness.sandbox.runs] == [b"in"]
        assert witness.sandbox.runs[0].seed == bob.sandbox.runs[0].seed
        assert witness.jobs.views() == []
    names = [c.name for c in alice.requests[0].checks if c.name.startswith("witness")]
    assert sorted(names) == ["witness carol", "witness dave"]
    assert all(c.ok for c in alice.requests[0].checks)
    await until(lambda: set(bob.jobs.view(view.job_id).attestations) == {carol.id, dave.id})
    for node in (alice, bob):
        assert all(c.ok for c in verify_bundle(await node.jobs.bundle(view.job_id)))


@pytest.mark.parametrize(
    "other", [Guest((b"forged\n",)), Guest(gas=1), Guest(exit_code=1, status="failure", fault="payer")]
)
async def test_a_mismatch_is_told_and_fails_a_check(world: World, other: Guest) -> None:
    alice, bob, carol, _ = await four(world)
    world.guild.roles.pop(world.peers["dave"].id)
    carol.sandbox.guests[wasm("tool")] = other
    view = await alice.run(bob, witnesses=1)
    assert view.attestations == ()
    assert (
        view.why == "carol ran it again and got a different result. Run once more here, the executor's result is right."
    )
    assert [c.name for c in alice.requests[0].checks if not c.ok] == ["witness carol"]
    assert [c.name for c in verify_bundle(await alice.jobs.bundle(view.job_id)) if not c.ok] == [
        f"witness {carol.id[-8:]}"
    ]


async def test_too_few_witnesses_say_why(world: World) -> None:
    alice, bob, carol, dave = await four(world)
    carol.blocked.add(alice.id)
    dave.sandbox.guests[wasm("tool")] = Guest(status="error", fault="executor")
    view = await alice.run(bob, witnesses=2)
    assert view.state == "done"
    assert view.why.startswith("0 of 2 witnesses ran it again: ")
    assert "carol: you are blocked here" in view.why
    assert "dave: it could not be repeated here: It went wrong" in view.why
    assert all(c.ok for c in alice.requests[0].checks), "no mismatch, so nothing failed"


async def test_without_other_executors_the_job_still_ends(world: World) -> None:
    alice, bob = await world.pair()
    view = await alice.run(bob, witnesses=1)
    assert (view.state, view.paid) == ("done", "unpaid")
    assert "nobody else in the guild runs jobs" in view.why


async def test_what_cannot_be_repeated_is_not_audited(world: World) -> None:
    alice, bob, carol, _ = await four(world)
    bob.sandbox.guests[wasm("tool")] = Guest(status="timeout", fault="payer", exit_code=None)
    view = await alice.run(bob, witnesses=1)
    assert (view.state, view.attestations, carol.sandbox.runs) == ("failed", (), [])


async def test_an_audit_under_way_goes_on_after_a_restart(world: World) -> None:
    alice, bob = await world.pair()
    carol = await world.peer("carol", "executor")
    hold = asyncio.Event()
    carol.sandbox.guests[wasm("tool")] = Guest(hold=hold)
    view = await alice.submit(bob, witnesses=1)
    await until(lambda: bool(carol.sandbox.runs))
    assert alice.requests == [], "the payment waits for the witnesses"
    await alice.kill()
    hold.set()
    await alice.start()
    done = await asyncio.wait_for(alice.jobs.wait(view.job_id), 20)
    assert done.attestations == (carol.id,)
    assert len(alice.requests) == 1


async def test_a_witness_stops_when_nobody_asks_any_more(world: World) -> None:
    alice, bob = await world.pair()
    carol = await world.peer("carol", "executor")
    carol.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    await alice.submit(bob, witnesses=1)
    await until(lambda: carol.sandbox.at_once == 1)
    ends = carol.bus.subscribe(ExecutionFinished)
    world.hub.cut(alice.id, carol.id)
    await until(lambda: carol.sandbox.at_once == 0)
    assert (await asyncio.wait_for(anext(ends), 20)).status == "cancelled"


async def test_rivals_are_asked_last_and_nobody_twice(world: World) -> None:
    alice, bob, carol, dave = await four(world)
    for _ in range(3):
        assert (await alice.run(bob, witnesses=1)).attestations == (dave.id,), "carol is an executor of the guild"
    carol.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    view = await alice.submit(bob, witnesses=2)
    await until(lambda: alice.jobs.view(view.job_id).attestations == (dave.id,) and carol.sandbox.at_once)
    await alice.kill()
    carol.sandbox.guests.clear()
    await alice.start()
    done = await asyncio.wait_for(alice.jobs.wait(view.job_id), 20)
    assert set(done.attestations) == {carol.id, dave.id}
    assert len(dave.sandbox.runs) == 4
