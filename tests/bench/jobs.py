"""What the job runtime costs, from one addition inside a worker to a module of megabytes that nobody compiled before."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import wasmtime

from tests.bench import remote
from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.model import Execution, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox

_RUNS = 300
_CANCELS = 50
_TRIVIAL, _WASI = 20_000, 5_000
_FUNCTIONS = (0, 7_000, 28_000)
"""The modules to compile: the sample "hello", and ones with that many functions, about 1 MB and 4 MB."""
_KERNELS = {"integer": 8_000_000, "float": 4_000_000, "memory": 8_000_000, "branches": 200_000}


async def measure() -> dict[str, Any]:
    """Medians and rates on this machine.

    ``trivial_in_worker_us``: instantiate and call an addition, inside a worker. ``worker_roundtrip_ms_p50``: the same as a
    caller of ``Sandbox.run`` sees it. ``jobs_per_s_trivial_batched`` and ``jobs_per_s_wasi``: additions and WASI hellos through
    ``Sandbox.run_many`` over two workers. ``compile_ms``: by size of the module, on a cache that does not know it.
    ``cached_load_ms``: the first run of the one of about 1 MB in a new sandbox. ``cancel_ms_p50``: from asking a busy loop to
    stop until its result is there. ``fuel_epoch_overhead_ratio``: the loops of "calibrate" as the sandbox compiles them over
    the same loops as wasmtime does by default (geometric mean). ``worker_rss_mib``: a worker's own memory after all that.
    ``remote_job_ms_p50``: from submitting a hello to another process to its verified receipt, see ``remote``.
    """
    modules = {name: path.read_bytes() for name, path in samples().items()}
    add = Execution(module=modules["numbers"], function="add", args=("1", "2"))
    hello = Execution(module=modules["hello"])
    with tempfile.TemporaryDirectory() as directory:
        sandbox = Sandbox(Path(directory), 2)
        await sandbox.start()
        try:
            figures = await _compiles(sandbox, modules["hello"])
            trivial = [await _timed(sandbox, add) for _ in range(_RUNS)]
            figures["trivial_in_worker_us"] = statistics.median(result.duration_us for result, _ in trivial)
            figures["worker_roundtrip_ms_p50"] = statistics.median(ms for _, ms in trivial)
            figures["jobs_per_s_trivial_batched"] = await _rate(sandbox, add, _TRIVIAL)
            figures["jobs_per_s_wasi"] = await _rate(sandbox, hello, _WASI)
            cancels = [await _cancel(sandbox, modules["misbehave"]) for _ in range(_CANCELS)]
            figures["cancel_ms_p50"] = statistics.median(cancels)
            figures["fuel_epoch_overhead_ratio"] = await _overhead(sandbox, modules["kernels"])
            figures["worker_rss_mib"] = statistics.mean(map(_private_mib, sandbox.pids))
        finally:
            await sandbox.stop()
        figures["cached_load_ms"] = await _cached_load(Path(directory))
    figures["remote_job_ms_p50"] = (await remote.measure())["remote_job_ms_p50"]
    return figures


async def _run(sandbox: Sandbox, execution: Execution, stop: asyncio.Event | None = None) -> RunResult:
    return await sandbox.run(execution, on_output=lambda stream, data: None, on_progress=lambda value: None, stop=stop)


async def _timed(sandbox: Sandbox, execution: Execution) -> tuple[RunResult, float]:
    started = time.perf_counter()
    result = await _run(sandbox, execution)
    took = (time.perf_counter() - started) * 1000
    _expect(result, "success")
    return result, took


async def _rate(sandbox: Sandbox, execution: Execution, count: int) -> float:
    await sandbox.run_many([execution] * 500)
    started = time.perf_counter()
    results = await sandbox.run_many([execution] * count)
    rate = count / (time.perf_counter() - started)
    for result in results:
        _expect(result, "success")
    return rate


def _expect(result: RunResult, status: str) -> None:
    if result.status != status:
        raise RuntimeError(f"{result.status}: {result.reason}")


def _large(functions: int) -> bytes:
    body = "(local i64) " + "(local.set 1 (i64.add (i64.mul (local.get 1) (i64.const {n})) (local.get 0)))" * 10
    text = "".join(f"(func (param i64) (result i64) {body.format(n=n + 1000)} (local.get 1))" for n in range(functions))
    return bytes(wasmtime.wat2wasm(f'(module {text} (func (export "_start")))'))


async def _compiles(sandbox: Sandbox, hello: bytes) -> dict[str, Any]:
    """The pause lets the next compiler process come up, as it does in a node."""
    took = {}
    for functions in _FUNCTIONS:
        module = _large(functions) if functions else hello
        await asyncio.sleep(0.5)
        started = time.perf_counter()
        await sandbox.check(module)
        took[f"{len(module):,}"] = (time.perf_counter() - started) * 1000
    return {"compile_ms": took}


async def _cached_load(directory: Path) -> float:
    module = _large(_FUNCTIONS[1])
    sandbox = Sandbox(directory, 1)
    await sandbox.start()
    try:
        return (await _timed(sandbox, Execution(module=module)))[1]
    finally:
        await sandbox.stop()


async def _overhead(sandbox: Sandbox, kernels: bytes) -> float:
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, kernels), []).exports(store)
    ratios = []
    for name, rounds in _KERNELS.items():
        execution = Execution(module=kernels, function=name, args=(str(rounds),))
        loop = exports[name]
        assert isinstance(loop, wasmtime.Func)
        metered, plain = [], []
        for _ in range(5):
            metered.append((await _run(sandbox, execution)).duration_us)
            started = time.perf_counter()
            loop(store, rounds)
            plain.append((time.perf_counter() - started) * 1e6)
        ratios.append(min(metered) / min(plain))
    return statistics.geometric_mean(ratios)


async def _cancel(sandbox: Sandbox, misbehave: bytes) -> float:
    stop = asyncio.Event()
    job = asyncio.create_task(_run(sandbox, Execution(module=misbehave, args=("loop",)), stop))
    await asyncio.sleep(0.02)
    started = time.perf_counter()
    stop.set()
    result = await job
    took = (time.perf_counter() - started) * 1000
    _expect(result, "cancelled")
    return took


def _private_mib(pid: int) -> float:
    """Resident memory that is not mapped from files, which all workers share."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024
