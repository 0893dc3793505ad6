"""How fast this machine runs jobs: a fixed set of kernels in the job sandbox, against a reference machine."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from pathlib import Path

import msgspec

from zstui.engine.errors import HomeError, JobError
from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.model import Execution
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.views import CalibrationView

REFERENCE = "one core of a 2-core cloud server of 2026, x86-64"
_ROUNDS = {"integer": 8_000_000, "float": 4_000_000, "memory": 8_000_000, "branches": 200_000}
_REFERENCE_US = {"integer": 22_200, "float": 29_400, "memory": 23_400, "branches": 40_800}
_REPETITIONS = 5
"""The fastest counts: others were disturbed."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    score: float
    """Geometric mean over the kernels; 1.0 is as fast as ``REFERENCE``, 2.0 twice as fast."""
    kernels: dict[str, int]
    """Microseconds of each."""
    at: int
    """Unix microseconds."""


async def calibrate(sandbox: Sandbox) -> Calibration:
    """Takes about a second of one worker; jobs that run meanwhile make it slower. Raises JobError."""
    module = samples()["kernels"].read_bytes()
    kernels: dict[str, int] = {}
    for _ in range(_REPETITIONS):
        for name, rounds in _ROUNDS.items():
            execution = Execution(module=module, function=name, args=(str(rounds),))
            result = await sandbox.run(execution, on_output=lambda stream, data: None, on_progress=lambda value: None)
            if result.status != "success":
                raise JobError(f"The kernel {name} did not run: {result.reason}")
            kernels[name] = min(kernels.get(name, result.duration_us), max(result.duration_us, 1))
    logs = [math.log(_REFERENCE_US[name] / us) for name, us in kernels.items()]
    score = round(math.exp(sum(logs) / len(logs)), 3)
    return Calibration(score=score, kernels=kernels, at=time.time_ns() // 1000)


async def measure(sandbox: Sandbox, path: Path) -> CalibrationView:
    """``calibrate``, keep the result in ``path``, and show it. Raises JobError, HomeError."""
    done = await calibrate(sandbox)
    await asyncio.to_thread(save, path, done)
    return CalibrationView(score=done.score, kernels=done.kernels, reference=REFERENCE, at=done.at)


async def measure_alone(cache_dir: Path, path: Path) -> CalibrationView:
    """The same without a node: in a sandbox of its own, with the compiled modules in ``cache_dir``."""
    sandbox = Sandbox(cache_dir, 1)
    await sandbox.start()
    try:
        return await measure(sandbox, path)
    finally:
        await sandbox.stop()


def load(path: Path) -> Calibration | None:
    """What ``save`` wrote, or None where there is nothing of use."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    return None


def save(path: Path, calibration: Calibration) -> None:
    """Raises HomeError."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(msgspec.json.encode(calibration))
        temporary.replace(path)
    except OSError as error:
        raise HomeError(f"The calibration cannot be kept in {path}: {error.strerror}.") from error
