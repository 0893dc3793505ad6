"""Whom an executor refuses, and with which sentence."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.views import JobView


async def refused(alice: Peer, bob: Peer, **fields: object) -> JobView:
    view = await alice.run(bob, "tool", **fields)
    assert view.state == "failed"
    assert view.why.startswith("bob: ")
    assert (view.paid, view.receipt_id, alice.outcomes) == ("", "", [])
    assert bob.jobs.views() == [], "nothing of it is kept"
    return view


@pytest.mark.parametrize(
    ("settings", "fields", "why"),
    [
        ({"max_memory_mib": 64}, {}, "too little memory: offers 64 MiB, the job asks for 128 MiB"),
        ({"max_timeout_s": 5}, {}, "too little time: offers 5 s"),
        ({}, {"price_per_second_nano": 1}, "price too low: asks 0.010 per second, the job offers 0.000000001"),
        ({}, {"price_per_mib_nano": 1}, "price too low: asks 0.0001 per MiB"),
    ],
)
async def test_limits_and_prices(
    world: World, settings: dict[str, object], fields: dict[str, object], why: str
) -> None:
    alice, bob = await world.pair(**settings)
    assert why in (await refused(alice, bob, **fields)).why


async def test_no_consent(world: World) -> None:
    alice, bob = await world.pair()
    world.guild.roles[bob.id] = "member"
    assert "no consent" in (await refused(alice, bob)).why


async def test_standing_consent_makes_a_member_an_executor(world: World) -> None:
    alice, bob = await world.pair(executor=True)
    world.guild.roles[bob.id] = "member"
    assert (await alice.run(bob)).state == "done"


async def test_blocked(world: World) -> None:
    alice, bob = await world.pair()
    bob.blocked.add(alice.id)
    assert (await refused(alice, bob)).why == "bob: you are blocked here"


async def test_no_channel(world: World) -> None:
    alice, bob = await world.pair()
    bob.channels.open.clear()
    view = await refused(alice, bob)
    assert "no channel with enough balance: none is open, the job may cost 0.3128" in view.why
    assert view.fault == "payment"


async def test_a_channel_too_small(world: World) -> None:
    alice, bob = await world.pair()
    world.fund(alice, bob, 312_799)
    assert "no channel with enough balance: it holds 0.312799" in (await refused(alice, bob)).why


async def test_unpaid_work_counts_against_the_channel(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(duration_us=10_000)
    first = await alice.run(bob)
    world.fund(alice, bob, 312_800 + first.cost_u - 1)
    view = await alice.run(bob)
    assert view.state == "failed"
    assert "for work under way or unpaid" in view.why
    world.fund(alice, bob, 312_800 + first.cost_u)
    assert (await alice.run(bob)).state == "done"


async def test_two_jobs_cannot_reserve_the_same_balance(world: World) -> None:
    alice, bob = await world.pair(max_jobs=8)
    world.fund(alice, bob, 2 * 312_800 + 1)
    hold = asyncio.Event()
    views = []
    for n in range(5):
        bob.sandbox.guests[wasm(f"j{n}")] = Guest(hold=hold)
        views.append(await alice.submit(bob, f"j{n}"))
    await until(lambda: [alice.jobs.view(v.job_id).state for v in views].count("failed") == 3)
    assert bob.jobs.standing.committed(alice.id) == 2 * 312_800
    hold.set()
    states = [(await alice.jobs.wait(v.job_id)).state for v in views]
    assert sorted(states) == ["done", "done", "failed", "failed", "failed"]


async def test_the_queue_is_bounded_for_all_and_for_each(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1, max_queue=4)
    carol = await world.peer("carol", "member")
    dave = await world.peer("dave", "member")
    hold = asyncio.Event()
    for peer in (alice, carol, dave):
        world.fund(peer, bob, 100_000_000)
        for n in range(4):
            bob.sandbox.guests[wasm(f"{peer.name}{n}")] = Guest(hold=hold)
    running = await alice.submit(bob, "alice0")
    await until(lambda: alice.jobs.view(running.job_id).state == "running")

    async def submit(peer: Peer, n: int) -> JobView:
        view = await peer.submit(bob, f"{peer.name}{n}")

        def known() -> bool:
            kept = {v.job_id for v in bob.jobs.views()}
            return peer.jobs.view(view.job_id).state == "failed" or view.job_id in kept

        await until(known)
        return peer.jobs.view(view.job_id)

    mine = [await submit(alice, n) for n in (1, 2, 3)]
    assert [v.state for v in mine] == ["queued", "queued", "failed"]
    assert mine[2].why == "bob: queue full: 2 jobs of yours wait"
    theirs = [await submit(carol, n) for n in (0, 1)]
    assert [v.state for v in theirs] == ["queued", "queued"]
    last = await submit(dave, 0)
    assert last.why == "bob: queue full: 4 jobs wait"
    hold.set()
    assert (await alice.jobs.wait(mine[1].job_id)).state == "done"
    await until(lambda: all(v.state == "done" for v in bob.jobs.views()))


async def test_an_observer_submits_nothing(world: World) -> None:
    alice, bob = await world.pair()
    view = await alice.submit(bob)
    world.guild.roles[alice.id] = "observer"
    ended = await alice.jobs.wait(view.job_id)
    assert ended.why == "bob: observers submit no jobs"


async def test_a_full_queue_is_asked_again(world: World) -> None:
    alice, bob = await world.pair(max_jobs=1, max_queue=1)
    hold = asyncio.Event()
    views = []
    for n in range(3):
        bob.sandbox.guests[wasm(f"j{n}")] = Guest(hold=hold)
        views.append(await alice.submit(bob, f"j{n}"))
        await until(lambda: any(v.state == "running" for v in bob.jobs.views()))
    await until(lambda: any("queue full" in alice.jobs.view(v.job_id).why for v in views))
    assert all(alice.jobs.view(v.job_id).state != "failed" for v in views)
    hold.set()
    ends = [await asyncio.wait_for(alice.jobs.wait(v.job_id), 20) for v in views]
    assert [(e.state, e.why) for e in ends] == [("done", "")] * 3
