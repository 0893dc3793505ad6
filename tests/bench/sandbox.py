"""How long the job sandbox takes for work that is next to nothing. ``python -m tests.bench.sandbox`` prints it."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.model import Execution, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox

_RUNS = 300
_CANCELS = 50
_COMPILES = 5
_BATCH = 64


async def measure() -> dict[str, float]:
    """Medians on this machine.

    ``trivial_in_worker``: microseconds to instantiate and call an addition, inside a worker. ``worker_roundtrip_ms_p50`` and
    ``wasi_roundtrip_ms_p50``: an addition and a hello over WASI, as a caller of ``Sandbox.run`` sees them. ``batch_per_s``:
    additions, 64 at a time over two workers. ``compile_ms``: a module of about 25 KB that no cache knows.
    ``cancel_ms_p50``: from asking a busy loop to stop until its result is there.
    """
    modules = {name: path.read_bytes() for name, path in samples().items()}
    add = Execution(module=modules["numbers"], function="add", args=("1", "2"))
    hello = Execution(module=modules["hello"])
    with tempfile.TemporaryDirectory() as directory:
        sandbox = Sandbox(Path(directory), 2)
        await sandbox.start()
        try:
            compile_ms = [await _compile(sandbox, modules["hello"], n) for n in range(_COMPILES)]
            trivial = [await _timed(sandbox, add) for _ in range(_RUNS)]
            wasi = [await _timed(sandbox, hello) for _ in range(_RUNS)]
            started = time.perf_counter()
            for _ in range(_RUNS // _BATCH):
                await asyncio.gather(*(_run(sandbox, add) for _ in range(_BATCH)))
            batch = _RUNS // _BATCH * _BATCH / (time.perf_counter() - started)
            cancels = [await _cancel(sandbox, modules["misbehave"]) for _ in range(_CANCELS)]
        finally:
            await sandbox.stop()
    return {
        "trivial_in_worker": statistics.median(result.duration_us for result, _ in trivial),
        "worker_roundtrip_ms_p50": statistics.median(ms for _, ms in trivial),
        "wasi_roundtrip_ms_p50": statistics.median(ms for _, ms in wasi),
        "batch_per_s": batch,
        "compile_ms": statistics.median(compile_ms),
        "cancel_ms_p50": statistics.median(cancels),
    }


async def _run(sandbox: Sandbox, execution: Execution, stop: asyncio.Event | None = None) -> RunResult:
    return await sandbox.run(execution, on_output=lambda stream, data: None, on_progress=lambda value: None, stop=stop)


async def _timed(sandbox: Sandbox, execution: Execution) -> tuple[RunResult, float]:
    started = time.perf_counter()
    result = await _run(sandbox, execution)
    took = (time.perf_counter() - started) * 1000
    if result.status != "success":
        raise RuntimeError(result.reason)
    return result, took


async def _compile(sandbox: Sandbox, module: bytes, number: int) -> float:
    """A custom section makes it another module; the pause lets the next compiler process come up, as it does in a node."""
    await asyncio.sleep(0.4)
    started = time.perf_counter()
    await sandbox.check(module + bytes([0, 3, 1, 120, number]))
    return (time.perf_counter() - started) * 1000


async def _cancel(sandbox: Sandbox, misbehave: bytes) -> float:
    stop = asyncio.Event()
    job = asyncio.create_task(_run(sandbox, Execution(module=misbehave, args=("loop",)), stop))
    await asyncio.sleep(0.02)
    started = time.perf_counter()
    stop.set()
    result = await job
    took = (time.perf_counter() - started) * 1000
    if result.status != "cancelled":
        raise RuntimeError(result.reason)
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure()), indent=2))
