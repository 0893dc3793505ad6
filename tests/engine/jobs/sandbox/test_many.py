from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.engine.jobs.sandbox.support import Recorder, sample
from zstui.engine.jobs.sandbox.model import Execution, InputFile, Limits
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")


def add(a: int, b: int) -> Execution:
    return Execution(module=sample("numbers"), function="add", args=(str(a), str(b)))


async def test_many_runs_have_the_results_of_single_ones(sandbox: Sandbox) -> None:
    executions = [add(n, 1) for n in range(300)]
    results = await sandbox.run_many(executions)
    assert [result.results for result in results] == [(str(n + 1),) for n in range(300)]
    single = await Recorder(sandbox).run(executions[7])
    assert (results[7].gas, results[7].stdout_hash) == (single.gas, single.stdout_hash)


async def test_each_of_many_has_its_own_end_and_output(sandbox: Sandbox) -> None:
    limits = Limits(timeout_us=100_000)
    executions = [
        Execution(module=sample("hello"), args=("a",)),
        Execution(module=sample("misbehave"), args=("loop",), limits=limits),
        Execution(module=sample("hello"), args=("b",)),
        Execution(module=sample("misbehave"), args=("exit", "7")),
        Execution(module=b"text"),
        add(1, 2),
        Execution(module=sample("hello"), inputs=(InputFile("x", "/nowhere/at/all"),)),
    ]
    out: dict[int, bytes] = {}

    def on_output(index: int, stream: str, data: bytes) -> None:
        out[index] = out.get(index, b"") + data

    results = await sandbox.run_many(executions, on_output=on_output)
    ends = [(result.status, result.fault, result.exit_code) for result in results]
    assert ends == [
        ("success", "none", 0),
        ("timeout", "payer", None),
        ("success", "none", 0),
        ("failure", "payer", 7),
        ("failure", "payer", None),
        ("success", "none", 0),
        ("error", "executor", None),
    ]
    assert b"argument 1: a" in out[0]
    assert b"argument 1: b" in out[2]
    assert out[5] == b"3\n"


async def test_cancelling_ends_all_of_many(sandbox: Sandbox) -> None:
    pids = set(sandbox.pids)
    loop = Execution(module=sample("misbehave"), args=("loop",))
    task = asyncio.create_task(sandbox.run_many([loop] * 10))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [result.results for result in await sandbox.run_many([add(1, 1)] * 3)] == [("2",)] * 3
    assert set(sandbox.pids) == pids, "an interrupt is enough"


async def test_a_worker_that_dies_takes_only_the_run_it_was_at(sandbox: Sandbox) -> None:
    loop = Execution(module=sample("misbehave"), args=("loop",))
    task = asyncio.create_task(sandbox.run_many([loop] + [add(n, 0) for n in range(20)]))
    await asyncio.sleep(1.0)  # by then the other worker is through with its own
    for pid in sandbox.pids:
        os.kill(pid, signal.SIGKILL)
    first, *others = await task
    assert (first.status, first.fault) == ("error", "executor")
    assert [result.results for result in others] == [(str(n),) for n in range(20)]
