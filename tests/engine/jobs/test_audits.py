"""Spot audits: some receipts are checked by a witness that nobody asked for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.engine.jobs.rig import Guest, World, until, wasm
from zstui.cli import main
from zstui.engine.jobs.bundle import verify_bundle


async def test_an_audit_confirms_an_honest_executor(world: World) -> None:
    alice, bob = await world.peer("alice", "creator", audit_share=1.0), await world.peer("bob", "executor")
    carol = await world.peer("carol", "executor")
    world.fund(alice, bob)
    done = await alice.run(bob)
    assert done.attestations == (carol.id,)
    assert done.why == ""
    assert carol.sandbox.runs[0].seed == bob.sandbox.runs[0].seed
    await until(lambda: bob.jobs.view(done.job_id).attestations == (carol.id,))


async def test_without_a_witness_an_audit_is_silent(world: World) -> None:
    alice, bob = await world.peer("alice", "creator", audit_share=1.0), await world.peer("bob", "executor")
    world.fund(alice, bob)
    assert (await alice.run(bob)).why == ""


async def test_a_liar_is_blamed_once_the_submitter_saw_it_itself(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = await world.peer("alice", "creator", audit_share=1.0), await world.peer("bob", "executor")
    carol = await world.peer("carol", "executor")
    world.fund(alice, bob)
    bob.sandbox.guests[wasm("tool")] = Guest((b"forged\n",))
    done = await alice.run(bob)
    assert done.why == (
        "carol ran it again and got a different result. "
        "Run once more here, the executor's result is wrong; this counts against it."
    )
    assert (done.state, done.fault) == ("failed", "executor")
    assert [(o.peer_id, o.success) for o in alice.outcomes] == [(bob.id, False)]
    assert not all(c.ok for c in alice.requests[0].checks), "it is not paid without a person's word"
    bundle = await alice.jobs.bundle(done.job_id)
    (wrong,) = [c for c in verify_bundle(bundle) if not c.ok]
    assert wrong.name == f"witness {carol.id[-8:]}"
    assert "the same module on the same input gave stdout with the hash" in wrong.detail
    path = Path(alice.home) / "proof.json"
    path.write_text(json.dumps(bundle))
    assert _verify(path) == 1
    assert "the executor signed" in capsys.readouterr().out


async def test_a_node_with_another_sandbox_neither_confirms_nor_accuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await world.peer("alice", "creator", audit_share=1.0)
    bob, dave = await world.peer("bob", "executor"), await world.peer("dave", "executor")
    with monkeypatch.context() as patch:
        patch.setattr("zstui.engine.jobs.service.PROFILE", 999)
        carol = await world.peer("carol", "executor")
    world.fund(alice, bob)
    world.fund(alice, carol)
    for name in ("bob", "carol"):
        world.peers[name].sandbox.guests[wasm("tool")] = Guest(gas=1)
    done = await alice.run(bob, witnesses=2)
    assert (done.attestations, carol.sandbox.runs) == ((), [])
    assert "1 of 2 witnesses ran it again: carol: it ran in wasmtime" in done.why
    assert "dave ran it again and got a different result." in done.why
    done = await alice.run(carol)
    assert done.why.startswith("0 of 1 witnesses ran it again: it cannot be judged here: it ran in wasmtime")
    assert "profile 999, and this node has wasmtime" in done.why
    assert [o.peer_id for o in alice.outcomes] == [bob.id], "only what could be compared counts"
    assert len(dave.sandbox.runs) == 1


def _verify(path: Path) -> int:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(main, ["receipt", "verify", str(path)]).result()


async def test_work_whose_result_was_forged_is_done_elsewhere(world: World) -> None:
    alice, bob = await world.peer("alice", "creator", audit_share=1.0), await world.peer("bob", "executor")
    carol = await world.peer("carol", "executor")
    for peer in (bob, carol):
        world.fund(alice, peer)
    bob.sandbox.guests[wasm("tool")] = Guest((b"forged\n",))
    spec = alice.spec("tool", max_price_u=10_000_000)
    batch = await alice.jobs.batches.submit(spec, "", ["one", "two"], None)
    ended = await asyncio.wait_for(alice.jobs.batches.wait(batch.batch_id), 15)
    assert (ended.state, ended.done) == ("done", 2)
    jobs = [alice.jobs.view(job) for job in ended.jobs]
    assert {job.executor for job in jobs} == {carol.id}
    assert any(job.retry_of for job in jobs)


async def test_a_lying_witness_does_not_harm_the_executor(world: World) -> None:
    alice, bob = await world.peer("alice", "creator", audit_share=1.0), await world.peer("bob", "executor")
    carol = await world.peer("carol", "executor")
    world.fund(alice, bob)
    carol.sandbox.guests[wasm("tool")] = Guest((b"slander\n",))
    done = await alice.run(bob)
    assert done.why.endswith("Run once more here, the executor's result is right.")
    assert alice.outcomes == []


async def test_output_of_another_shape_is_a_failed_job_that_blames_nobody_yet(world: World) -> None:
    alice, bob = await world.pair()
    carol = await world.peer("carol", "executor")
    schema = '{"type": "object", "required": ["x"]}'
    bob.sandbox.guests[wasm("tool")] = carol.sandbox.guests[wasm("tool")] = Guest((b'{"y": 1}',))
    failed = await alice.run(bob, output_format="json", output_schema=schema)
    assert (failed.state, failed.fault) == ("failed", "payer")
    assert failed.why == 'Its output is not what was asked for: "x" is a required property.'
    assert failed.attestations == (carol.id,), "a witness got the same: the module did it"
    assert alice.outcomes == []
    bob.sandbox.guests[wasm("tool")] = Guest((b'{"x": 1}',))
    assert (await alice.run(bob, output_format="json", output_schema=schema)).state == "done"
