from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engine.jobs.sandbox.support import Recorder, alive, compile_bomb, sample, wat
from zstui.engine.errors import JobError
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.model import Execution, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

LOOP = Execution(module=sample("misbehave"), args=("loop",))
SAYS_HI_THEN_LOOPS = """
    (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 16) "hi")
    (func (export "_start")
      (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 2))
      (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (loop br 0))"""

GROWS_THEN_LOOPS = """
    (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
      (drop (memory.grow (i32.const 3)))
      (drop (call $yield))
      (loop br 0))"""


@pytest_asyncio.fixture(loop_scope="package")
async def one(cache_dir: Path) -> AsyncIterator[Sandbox]:
    """A sandbox of one worker, to be treated badly."""
    sandbox = Sandbox(cache_dir, 1, recycle_after=5)
    await sandbox.start()
    pids = sandbox.pids
    yield sandbox
    pids += sandbox.pids
    await sandbox.stop()
    assert not any(map(alive, pids))


async def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_cancelling_the_task_frees_the_worker(one: Sandbox) -> None:
    (pid,) = one.pids
    task = asyncio.create_task(Recorder(one).run(LOOP))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)
    assert time.monotonic() - started < 3
    assert one.pids == (pid,), "an epoch interrupt is enough"


async def test_setting_stop_returns_a_cancelled_result(one: Sandbox) -> None:
    stop = asyncio.Event()
    recorder = Recorder(one)
    asyncio.get_running_loop().call_later(0.05, stop.set)
    result = await one.run(LOOP, on_output=recorder.on_output, on_progress=recorder.progress.append, stop=stop)
    assert (result.status, result.fault, result.exit_code, result.gas_exact) == ("cancelled", "none", None, False)
    assert 40_000 < result.duration_us < 5_000_000


async def test_a_stuck_worker_is_killed_and_replaced(one: Sandbox) -> None:
    (pid,) = one.pids
    task = asyncio.create_task(Recorder(one).run(LOOP))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)
    assert pid not in one.pids
    assert not alive(pid)


async def test_a_paused_run_uses_no_time_and_goes_on_where_it_was(one: Sandbox) -> None:
    control, recorder = RunControl(), Recorder(one)
    limits = Limits(timeout_us=400_000)
    started = time.monotonic()
    task = asyncio.create_task(
        one.run(
            Execution(module=sample("misbehave"), args=("loop",), limits=limits),
            on_output=recorder.on_output,
            on_progress=recorder.progress.append,
            control=control,
        )
    )
    await asyncio.sleep(0.1)
    control.pause()
    (pid,) = one.pids
    await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    await asyncio.sleep(0.6)
    assert not task.done()
    control.resume()
    result = await task
    assert result.status == "timeout"
    assert time.monotonic() - started > 0.9
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)


async def test_a_run_that_begins_paused_does_nothing_until_it_is_resumed(one: Sandbox) -> None:
    control, recorder = RunControl(), Recorder(one)
    control.pause()
    execution = Execution(module=sample("hello"), limits=Limits(timeout_us=500_000))
    task = asyncio.create_task(
        one.run(execution, on_output=recorder.on_output, on_progress=recorder.progress.append, control=control)
    )
    await asyncio.sleep(0.6)
    assert not task.done()
    assert recorder.stdout == b""
    control.resume()
    result = await task
    assert result.status == "success"
    assert result.duration_us < 500_000


async def test_a_run_tells_its_memory_while_it_goes_on(one: Sandbox) -> None:
    control, stop = RunControl(), asyncio.Event()
    assert not control.ask_memory(), "there is no run yet"
    execution = Execution(module=wat(GROWS_THEN_LOOPS))
    task = asyncio.create_task(
        one.run(execution, on_output=lambda *_: None, on_progress=lambda _: None, stop=stop, control=control)
    )
    async with asyncio.timeout(20):
        while control.memory_bytes != 4 << 16:
            assert control.ask_memory() or not control.memory_bytes
            await asyncio.sleep(0.01)
    stop.set()
    result = await task
    assert (result.status, result.memory_bytes) == ("cancelled", 4 << 16)
    assert not control.ask_memory()


async def test_a_paused_run_can_be_cancelled(one: Sandbox) -> None:
    control, stop = RunControl(), asyncio.Event()
    (pid,) = one.pids
    task = asyncio.create_task(
        one.run(LOOP, on_output=lambda *_: None, on_progress=lambda _: None, stop=stop, control=control)
    )
    await asyncio.sleep(0.05)
    control.pause()
    await asyncio.sleep(0.05)
    stop.set()
    assert (await task).status == "cancelled"
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)
    assert one.pids == (pid,), "it was woken to end by itself"


async def test_a_stuck_worker_is_a_timeout_when_the_time_is_up(one: Sandbox) -> None:
    (pid,) = one.pids
    limits = Limits(timeout_us=150_000)
    task = asyncio.create_task(Recorder(one).sample("misbehave", "loop", limits=limits))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGSTOP)
    result = await task
    assert (result.status, result.fault, result.duration_us) == ("timeout", "payer", 150_000)


async def test_output_survives_the_death_of_the_worker_which_is_the_executors_fault(one: Sandbox) -> None:
    recorder = Recorder(one)
    (pid,) = one.pids
    task = asyncio.create_task(recorder.wat(SAYS_HI_THEN_LOOPS))
    await until(lambda: recorder.stdout)
    os.kill(pid, signal.SIGKILL)
    result = await task
    assert recorder.stdout == b"hi"
    assert (result.status, result.fault, result.exit_code) == ("error", "executor", None)
    assert result.reason == "The sandbox process died: killed by SIGKILL."
    assert result.stdout_bytes == 2


async def test_a_worker_that_dies_idle_is_replaced(one: Sandbox) -> None:
    (pid,) = one.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: one.pids and pid not in one.pids)
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)


async def test_a_worker_is_recycled_after_its_share_of_jobs(one: Sandbox) -> None:
    (pid,) = one.pids
    results = await asyncio.gather(
        *(Recorder(one).sample("numbers", str(n), "0", function="add") for n in range(7)),
    )
    assert [result.results[0] for result in results] == [str(n) for n in range(7)]
    assert pid not in one.pids


async def test_a_waiting_job_can_be_cancelled(one: Sandbox) -> None:
    first = asyncio.create_task(Recorder(one).run(LOOP))
    second = asyncio.create_task(Recorder(one).run(LOOP))
    third = asyncio.create_task(Recorder(one).sample("numbers", "1", "1", function="add"))
    await asyncio.sleep(0.1)
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await third).results == ("2",)


async def test_stop_ends_what_runs_and_what_waits(cache_dir: Path) -> None:
    sandbox = Sandbox(cache_dir, 1)
    with pytest.raises(JobError, match="not running"):
        await sandbox.check(sample("hello"))
    await sandbox.start()
    pids = sandbox.pids
    running = asyncio.create_task(Recorder(sandbox).run(LOOP))
    waiting = asyncio.create_task(Recorder(sandbox).run(LOOP))
    await asyncio.sleep(0.1)
    await sandbox.stop()
    await sandbox.stop()
    ended = [task for task in asyncio.as_completed([running, waiting])]
    results: list[RunResult] = []
    for each in ended:
        with contextlib.suppress(JobError):
            results.append(await each)
    assert [(result.status, result.fault) for result in results] == [("error", "executor")]
    assert not any(map(alive, pids))
    with pytest.raises(JobError, match="not running"):
        await Recorder(sandbox).run(LOOP)


async def test_a_callback_that_raises_is_raised_to_the_caller(one: Sandbox) -> None:
    def fails(*_: object) -> None:
        raise LookupError("not mine")

    with pytest.raises(LookupError, match="not mine"):
        await one.run(Execution(module=sample("hello")), on_output=fails, on_progress=fails)
    assert (await Recorder(one).sample("numbers", "1", "1", function="add")).results == ("2",)


async def test_output_is_streamed_while_the_job_runs(one: Sandbox) -> None:
    recorder = Recorder(one)
    task = asyncio.create_task(recorder.wat(SAYS_HI_THEN_LOOPS, limits=Limits(timeout_us=5_000_000)))
    started = time.monotonic()
    await until(lambda: recorder.stdout)
    assert not task.done()
    assert time.monotonic() - started < 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_worker_has_nothing_of_ours(one: Sandbox, cache_dir: Path) -> None:
    (pid,) = one.pids
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert one.hardening == "seccomp, no_new_privs, rlimits"
    assert one.notice == ""
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"
    try:
        environment = (proc / "environ").read_bytes()
    except PermissionError:
        return  # a worker cannot be inspected by its own user: it is not dumpable
    assert environment.strip(b"\0") == b""
    assert os.readlink(proc / "cwd") == str(cache_dir / "empty")
    assert os.listdir(cache_dir / "empty") == []
    kinds = sorted(os.readlink(fd).partition(":")[0] for fd in (proc / "fd").iterdir())
    allowed = ("socket", "pipe", "anon_inode", "/dev/null", f"/proc/{pid}/statm")
    assert all(kind in allowed or "(deleted)" in kind for kind in kinds), kinds


@pytest.mark.usefixtures("one")
async def test_the_cache_directory_is_private(cache_dir: Path) -> None:
    assert stat.S_IMODE(os.stat(cache_dir).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(cache_dir / "key").st_mode) == 0o600


ABANDONED = """
import asyncio, sys
from pathlib import Path
from tests.engine.jobs.sandbox.support import Recorder
from zstui.engine.jobs.sandbox.pool import Sandbox

async def main():
    sandbox = Sandbox(Path(sys.argv[1]), 2)
    await sandbox.start()
    jobs = [asyncio.create_task(Recorder(sandbox).sample("misbehave", "loop")) for _ in range(2)]
    await asyncio.sleep(0.1)
    print(*sandbox.pids, flush=True)
    await asyncio.gather(*jobs)

asyncio.run(main())
"""


async def test_workers_do_not_outlive_an_engine_that_is_killed(cache_dir: Path) -> None:
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ABANDONED, str(cache_dir), stdout=asyncio.subprocess.PIPE
    )
    assert engine.stdout
    pids = [int(pid) for pid in (await engine.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    engine.kill()
    await engine.wait()
    await until(lambda: not any(map(alive, pids)))


async def test_stop_ends_a_compilation(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, 1)
    await sandbox.start()
    compiling = asyncio.create_task(sandbox.check(compile_bomb()))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await sandbox.stop()
    assert time.monotonic() - started < 5
    with pytest.raises(JobError, match="stopped"):
        await compiling
    assert not list(os.scandir(tmp_path / "empty"))
    assert [name for name in os.listdir(tmp_path) if name.endswith(".module")] == []
