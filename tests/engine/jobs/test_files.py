"""Files that a job is given at /in and leaves in /out."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from tests.engine.jobs.docs import PAYER, evidence, manifest
from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from zstui.engine.errors import BadInput, InvalidManifest, UnknownJob
from zstui.engine.identity.envelope import Body, open_envelope, seal
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.jobs.execution import PARTIAL
from zstui.engine.jobs.manifest import FileRef, Manifest, validate
from zstui.engine.jobs.receipt import Attestation, Receipt, files_hash


def files(alice: Peer, **contents: bytes) -> tuple[str, ...]:
    paths = []
    for name, content in contents.items():
        path = alice.home / name
        path.write_bytes(content)
        paths.append(str(path))
    return tuple(paths)


async def test_inputs_reach_the_job_and_what_it_leaves_comes_back(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(files={"echo": b"", "deep/empty": b""})
    done = await alice.run(bob, inputs=files(alice, one=b"1", two=b"22"), outputs=True)
    assert done.state == "done", done.why
    assert [(f.name, f.size) for f in done.inputs] == [("one", 1), ("two", 2)]
    assert [(f.name, f.size) for f in done.outputs] == [("deep/empty", 0), ("echo", 11)]
    echo = done.outputs[1]
    assert await asyncio.to_thread(Path(echo.path).read_bytes) == b"one=1two=22"
    assert echo.sha256 == hashlib.sha256(b"one=1two=22").hexdigest()
    bundle = await alice.jobs.bundle(done.job_id)
    assert all(c.ok for c in verify_bundle(bundle))
    bundle["outputs"] = []
    assert not all(c.ok for c in verify_bundle(bundle)), "the summary must say what was signed"
    assert not list(bob.home.glob("output/.out-*")), "no scratch directory stays"


async def test_nothing_is_collected_unless_asked_for(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(files={"a": b"a"})
    assert (await alice.run(bob)).outputs == ()


async def test_only_the_submitter_may_fetch_what_a_job_left(world: World) -> None:
    alice, bob = await world.pair()
    carol = await world.peer("carol")
    bob.sandbox.guests[wasm("tool")] = Guest(files={"a": b"secret"})
    done = await alice.run(bob, outputs=True)
    assert bob.jobs._executor.entitled(alice.id, done.guild_id, done.job_id)
    assert not bob.jobs._executor.entitled(carol.id, done.guild_id, done.job_id)
    assert not bob.jobs._executor.entitled(alice.id, "00" * 32, done.job_id)


async def test_a_witness_compares_the_files_too(world: World) -> None:
    alice, bob = await world.pair()
    carol = await world.peer("carol", "executor")
    for peer, content in ((bob, b"same"), (carol, b"other")):
        peer.sandbox.guests[wasm("tool")] = Guest(files={"a": content})
    done = await alice.run(bob, outputs=True, witnesses=1, inputs=files(alice, x=b"x"))
    assert "carol ran it again and got a different result" in done.why
    carol.sandbox.guests[wasm("tool")] = Guest(files={"a": b"same"})
    assert (await alice.run(bob, outputs=True, witnesses=1)).attestations == (carol.id,)


async def test_an_executor_that_serves_other_content_is_found_out(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(files={"a": b"good"})
    cache = bob.jobs._room.artifacts.cache
    put = cache._put

    def lie(content: bytes, pinned: frozenset[str]) -> str:
        cid = put(content, pinned)
        if content == b"good":
            cache._get = lambda cid: b"evil"  # type: ignore[method-assign]
            cache._remember = lambda cid, content: None  # type: ignore[method-assign]
            cache._recent.clear()
        return cid

    cache._put = lie  # type: ignore[method-assign]
    failed = await alice.run(bob, outputs=True, attempts=1)
    assert failed.state == "failed"
    assert failed.fault == "executor"
    assert "does not hash to its content id" in failed.why
    assert failed.outputs == ()


async def test_two_inputs_of_one_name_and_missing_ones_are_refused(world: World) -> None:
    alice, bob = await world.pair()
    (path,) = files(alice, x=b"x")
    with pytest.raises(BadInput, match="Two input files have the name 'x'"):
        await alice.submit(bob, inputs=(path, path))
    with pytest.raises(BadInput, match="Cannot read the input"):
        await alice.submit(bob, inputs=(path + "?",))


async def test_rerun_needs_the_inputs(world: World) -> None:
    alice, bob = await world.pair()
    done = await alice.run(bob, inputs=files(alice, x=b"rare"))
    again = await alice.jobs.rerun(done.job_id)
    assert again.inputs == done.inputs
    await until(lambda: alice.jobs.view(again.job_id).state == "done")
    cid = alice.jobs._room.records[done.job_id].inputs[0].cid
    alice.jobs._room.artifacts.cache.path(cid).unlink()
    with pytest.raises(UnknownJob, match="no longer stored"):
        await alice.jobs.rerun(done.job_id)


@pytest.mark.parametrize("names", [("../x",), ("/x",), ("b", "a"), ("a", "a"), ("a", "a/b"), ("x\n",), ("n" * 256,)])
def test_names_that_no_manifest_may_have(names: tuple[str, ...]) -> None:
    refs = tuple(FileRef(n, bytes(32), 1) for n in names)
    with pytest.raises(InvalidManifest):
        validate(manifest(inputs=refs))


def test_caps_of_input_files() -> None:
    validate(manifest(inputs=(FileRef("a", bytes(32), 64 << 20),)))
    for refs in (
        (FileRef("a", bytes(32), (64 << 20) + 1),),
        (FileRef("a", b"short", 1),),
        (FileRef("a", bytes(32), -1),),
        tuple(FileRef(f"{n:03}", bytes(32), 1) for n in range(65)),
    ):
        with pytest.raises(InvalidManifest):
            validate(manifest(inputs=refs))


def older(body: Body, kind: type[Body], fields: int) -> bytes:
    """``body`` as it was signed before its last fields existed."""
    return msgspec.msgpack.encode(list(msgspec.to_builtins(body, builtin_types=(bytes,)))[:fields])


def test_documents_signed_before_files_existed_still_verify() -> None:
    made = manifest()
    assert msgspec.msgpack.decode(older(made, Manifest, -3), type=Manifest) == made
    signed = open_envelope(evidence().receipt)
    receipt = signed.decode(Receipt)
    assert msgspec.msgpack.decode(older(receipt, Receipt, -1), type=Receipt) == receipt
    word = msgspec.msgpack.decode(older(_word(), Attestation, -1), type=Attestation)
    assert word.outputs_hash == files_hash(()) == b""
    assert open_envelope(seal(PAYER, made)).decode(Manifest) == made


def _word() -> Attestation:
    return open_envelope(evidence(witnessed=True).attestations[0]).decode(Attestation)


async def test_what_was_written_until_the_time_was_up_is_kept_and_said(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(status="timeout", fault="payer", exit_code=None, files={"a": b"half"})
    ended = await alice.run(bob, outputs=True)
    assert ended.state == "failed"
    assert ended.why == f"It went wrong. {PARTIAL}"
    assert await asyncio.to_thread(Path(ended.outputs[0].path).read_bytes) == b"half"
    assert (await alice.jobs.output(ended.job_id)).stdout == b"hello\n"
    assert all(c.ok for c in verify_bundle(await alice.jobs.bundle(ended.job_id)))


@pytest.mark.parametrize("by", ["submitter", "executor"])
async def test_what_a_cancelled_job_had_written_is_its_submitters_when_it_asked_for_that(world: World, by: str) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event(), files={"a": b"half"})
    job = await alice.submit(bob, outputs=True, attempts=1)
    await until(lambda: alice.jobs.view(job.job_id).state == "running")
    await (alice if by == "submitter" else bob).jobs.cancel(job.job_id)
    ended = await asyncio.wait_for(alice.jobs.wait(job.job_id), 10)
    assert ended.state == "cancelled"
    assert [f.name for f in ended.outputs] == (["a"] if by == "submitter" else [])
    assert ended.why.endswith(PARTIAL) == (by == "submitter")
