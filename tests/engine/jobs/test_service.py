"""Submit, run, receipt, payment request, between two nodes."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from tests.engine.jobs.rig import Guest, World, until, wasm
from zstui.engine.events import ExecutionFinished, ExecutionStarted, JobOutputReceived
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.receipt import verify_bundle


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
    assert bob.jobs.at_risk(alice.id) == due
    events = [event async for event in _drain(seen)]
    assert b"".join(e.data for e in events if e.stream == "stdout") == b"one\ntwo\n"  # type: ignore[attr-defined]
    assert [type(e) async for e in _drain(ran)] == [ExecutionStarted, ExecutionFinished]
    assert world.guild.sealed, "everything between the two is sealed for the guild"

    for node in (alice, bob):
        await until(lambda: node.jobs._room.records[view.job_id].delivered or node is alice)  # noqa: B023
        checks = verify_bundle(await node.jobs.bundle(view.receipt_id[:8]))
        assert checks
        assert all(c.ok for c in checks), checks


async def _drain(subscription):  # type: ignore[no-untyped-def]
    subscription.close()
    async for event in subscription:
        yield event
