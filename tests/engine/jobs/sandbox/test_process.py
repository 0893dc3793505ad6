"""A worker that was taken over says what it must not: it is killed, and its job is the executor's failure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.engine.jobs.sandbox.support import Recorder, alive, sample
from zstui.engine.errors import JobError
from zstui.engine.jobs.sandbox import process
from zstui.engine.jobs.sandbox.artifacts import Artifacts, CompileLimits
from zstui.engine.jobs.sandbox.messages import Done, NotLoaded, Output, Progress, encode
from zstui.engine.jobs.sandbox.model import Execution, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.jobs.sandbox.process import Child

LIMITS = Limits(output_bytes=1000)


async def run_while_it_says(cache_dir: Path, *said: bytes) -> tuple[RunResult, Recorder]:
    sandbox = Sandbox(cache_dir, 1)
    await sandbox.start()
    recorder = Recorder(sandbox)
    try:
        (worker,) = sandbox._workers
        job = asyncio.create_task(recorder.sample("misbehave", "loop", limits=LIMITS))
        async with asyncio.timeout(30):
            while not worker.busy:  # noqa: ASYNC110  the module may have to be compiled first
                await asyncio.sleep(0.01)
        for data in said:
            worker._child.data_received(data)
        return await job, recorder
    finally:
        await sandbox.stop()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\xff\xff\xff\xff", "a message of 4,294,967,295 bytes"),
        (b"\0\0\0\3abc", "what cannot be read"),
        (encode(Output(1, "stdout", bytes(1001))), "more output than it may"),
    ],
)
async def test_a_worker_that_breaks_the_protocol_is_killed(cache_dir: Path, said: bytes, reason: str) -> None:
    result, recorder = await run_while_it_says(cache_dir, said)
    assert (result.status, result.fault) == ("error", "executor")
    assert reason in result.reason
    assert recorder.stdout == b""


async def test_values_out_of_range_are_clamped_and_other_jobs_ignored(cache_dir: Path) -> None:
    result, recorder = await run_while_it_says(
        cache_dir,
        encode(Done(7, "success", 0, "", 0, True, 0, 0, ())),
        encode(Output(7, "stdout", b"not of this job")),
        encode(NotLoaded(b"other", "x")),
        encode(Progress(1, 5000)),
        encode(Done(1, "failure", 1, "\x1b[2Jbad\nnews", -5, True, 10**15, -1, ("\x07",))),
    )
    assert recorder.progress == [1.0]
    assert (result.reason, result.gas, result.memory_bytes) == ("[2Jbad news", 0, 0)
    assert result.duration_us == LIMITS.timeout_us
    assert result.results == ("",)


async def test_frames_may_come_in_pieces(cache_dir: Path) -> None:
    done = encode(Output(1, "stdout", b"ab")) + encode(Done(1, "success", 0, "", 1, True, 1, 1, ()))
    result, recorder = await run_while_it_says(cache_dir, *(bytes([byte]) for byte in done))
    assert (result.status, result.stdout_bytes) == ("success", 2)
    assert recorder.stdout.startswith(b"ab")


async def test_a_process_that_does_not_come_up_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_BOOT", "import sys; sys.exit('no luck')")
    with pytest.raises(JobError, match=r"did not start \(exit status 1\): no luck"):
        await Child.spawn("worker", tmp_path)
    sandbox = Sandbox(tmp_path / "cache", 2)
    with pytest.raises(JobError, match="no luck"):
        await sandbox.start()
    assert sandbox.pids == ()


async def test_a_compiler_that_dies_leaves_the_next_one_to_serve(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, CompileLimits())
    await artifacts.start()
    try:
        child, _ = await artifacts._spare  # type: ignore[misc]
        child.kill()
        await child.reap()
        await asyncio.sleep(0.05)
        assert (await artifacts.get(sample("numbers"))).record.exports
        assert not alive(child.pid)
    finally:
        await artifacts.stop()


async def test_callers_that_ask_for_the_same_module_share_one_compilation(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, 2)
    await sandbox.start()
    try:
        recorder = Recorder(sandbox)
        results = await asyncio.gather(*(recorder.run(Execution(module=sample("hello"))) for _ in range(8)))
        assert {result.status for result in results} == {"success"}
        assert len({result.gas for result in results}) == 1
    finally:
        await sandbox.stop()
