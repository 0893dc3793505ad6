"""One worker process and the job it runs: limits in time, streaming, and how each way to end becomes a result."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import resource
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, ParamSpec

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import BadInput
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.sandbox.artifacts import Artifact
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.hostfiles import Collected
from zstui.engine.jobs.sandbox.messages import Done, FromChild, Left, Load, Memory, NotLoaded, Output, Progress, Run
from zstui.engine.jobs.sandbox.model import RunFault, RunResult, RunStatus
from zstui.engine.jobs.sandbox.process import Child

GRACE_S = 0.25
"""How long a job that was told to stop may take to do so before its process is killed."""
_DATA_MARGIN = 512 << 20
"""Writable memory of a worker beyond the guest's: interpreter, modules, stacks."""
_FILE_COPIES = 3
"""Of each byte that the guest writes or is given: as a file, as a message, and in between."""
_LOADED_MODULES = 16
_LOADED_BYTES = 64 << 20

P = ParamSpec("P")

_StopReason = Literal["timeout", "cancelled"]


class Unloadable(Exception):
    """The worker's wasmtime does not take the compiled module."""


class Attempt(msgspec.Struct, frozen=True):
    """What ``Worker.run`` needs to know of one job."""

    run: Run
    artifact: Artifact
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None]
    on_progress: Callable[[float], None]
    collected: Collected
    stop: asyncio.Event | None = None
    control: RunControl | None = None


def failed(status: RunStatus, fault: RunFault, reason: str) -> RunResult:
    """The result of a job that did not start."""
    return RunResult(
        status=status,
        exit_code=None,
        fault=fault,
        reason=reason,
        gas=0,
        gas_exact=False,
        duration_us=0,
        memory_bytes=0,
        stdout_hash=hashlib.sha256(b"").digest(),
        stdout_bytes=0,
    )


def _stack(attempt: Attempt) -> int:
    """A power of two: the worker keeps one engine for each size in use, so there must be few."""
    return 1 << (attempt.run.limits.stack_bytes - 1).bit_length()


def _data_bytes(run: Run) -> int:
    """Writable memory that the run may take."""
    files = run.limits.files_bytes + sum(len(data) for mount in run.mounts for _, data in mount.files)
    return run.limits.memory_bytes + files * _FILE_COPIES + _DATA_MARGIN


class _Job:
    """State of the running job."""

    def __init__(self, attempt: Attempt, number: int, handle: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.attempt = attempt
        self.number = number
        self.handle = handle
        self.ended: asyncio.Future[Done | None] = loop.create_future()
        """What the worker said at the end; None where it died without a word."""
        self.stopping: _StopReason | None = None
        self.abandoned = False
        """Nobody waits any more: callbacks are over."""
        self.over = asyncio.Event()
        self.hash = hashlib.sha256()
        self.bytes = {"stdout": 0, "stderr": 0}
        self.started = loop.time()
        self.timers: list[asyncio.TimerHandle] = []
        self.begun = False
        self.paused_at: float | None = None
        self.paused_s = 0.0
        """All pauses that are over."""

    def active_s(self) -> float:
        """Time that counts so far."""
        now = asyncio.get_running_loop().time()
        return (now if self.paused_at is None else self.paused_at) - self.started - self.paused_s


class Worker:
    """``run`` one job at a time; after each, wait until it is ``quiet`` before the next."""

    def __init__(self, child: Child, on_lost: Callable[[Worker], None]) -> None:
        self._child = child
        self._on_lost = on_lost
        self._job: _Job | None = None
        self._ahead: deque[_Job] = deque()
        """Sent, and to be run after that one."""
        self._data_bytes = 0
        self._loaded: OrderedDict[bytes, int] = OrderedDict()
        self.jobs = 0
        """Jobs started so far."""
        child.on_message = self._take
        child.on_lost = self._lost

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def busy(self) -> bool:
        """A job runs, or is on its way out."""
        return self._job is not None and (bool(self._ahead) or not self._job.over.is_set())

    @property
    def lost(self) -> bool:
        """The process is gone."""
        return self._child.lost

    def has(self, key: str) -> bool:
        """Whether that compiled module is loaded already."""
        start = bytes.fromhex(key)
        return any(handle.startswith(start) for handle in self._loaded)

    async def close(self) -> None:
        await self._child.close()
        self._lost()

    async def quiet(self) -> None:
        """Return once no job runs: a cancelled one has stopped or its process is dead."""
        while self.busy:
            assert self._job
            await self._job.over.wait()
        self._job = None

    async def run(self, attempt: Attempt) -> RunResult:
        """Raises Unloadable. On CancelledError the job is on its way out: see ``quiet``."""
        job = self._job = self._new_job(attempt)
        if self.lost:
            self._lost()
        watcher: asyncio.Task[None] | None = None
        try:
            self._limit_memory(attempt.run)
            self._begin(job)
            self._child.send(*self._messages(job))
            if attempt.stop:
                watcher = asyncio.create_task(self._watch(job, attempt.stop))
            return await self._result(job, await job.ended)
        except asyncio.CancelledError:
            job.abandoned = True
            self._stop(job, "cancelled")
            raise
        finally:
            if watcher:
                watcher.cancel()

    async def run_batch(self, attempts: Sequence[Attempt]) -> list[RunResult | None]:
        """Several runs, one after the other, sent at once. None for those that did not begin: the process died before, or
        could not load the module.

        On CancelledError all are on their way out: see ``quiet``.
        """
        jobs = [self._new_job(attempt) for attempt in attempts]
        self._job, self._ahead = jobs[0], deque(jobs[1:])
        self._limit_memory(*(attempt.run for attempt in attempts))
        self._begin(jobs[0])
        self._child.send(*(message for job in jobs for message in self._messages(job)))
        if self.lost:
            self._lost()
        try:
            await jobs[-1].over.wait()
        except asyncio.CancelledError:
            for job in jobs:
                job.abandoned = True
            self._stop_batch(jobs[-1])
            raise
        return [await self._batch_result(job) for job in jobs]

    async def _batch_result(self, job: _Job) -> RunResult | None:
        if not job.begun or job.handle not in self._loaded:
            return None
        return await self._result(job, job.ended.result())

    def _stop_batch(self, last: _Job) -> None:
        """End what runs and what is ahead; the process is killed unless all have ended after the usual grace."""
        for job in (self._job, *self._ahead):
            if job and not job.over.is_set():
                self._cancel_timers(job)
                job.stopping = "cancelled"
        if not last.over.is_set():
            self._child.stop(last.number)
            last.timers.append(asyncio.get_running_loop().call_later(GRACE_S, self._child.kill))

    # --- starting and stopping

    def _new_job(self, attempt: Attempt) -> _Job:
        self.jobs += 1
        handle = bytes.fromhex(attempt.artifact.key) + _stack(attempt).to_bytes(4, "big")
        return _Job(attempt, self.jobs, handle)

    def _messages(self, job: _Job) -> Iterator[Load | Run]:
        """What makes the worker run it."""
        run, record = job.attempt.run, job.attempt.artifact.record
        if job.handle in self._loaded:
            self._loaded.move_to_end(job.handle)
        else:
            drop = self._make_room(len(record.image))
            self._loaded[job.handle] = len(record.image)
            yield Load(job.handle, record.image, _stack(job.attempt), record.memory, drop)
        yield msgspec.structs.replace(run, job=job.number, handle=job.handle)

    def _begin(self, job: _Job) -> None:
        """Its time runs from now on."""
        job.begun = True
        job.started = asyncio.get_running_loop().time()
        if not job.stopping:
            self._arm(job)
        control = job.attempt.control
        if control:
            control.attach(
                lambda paused: self._pause(job) if paused else self._resume(job),
                lambda: self._child.ask_memory(job.number),
            )
            if control.paused:
                self._pause(job)

    def _arm(self, job: _Job) -> None:
        left = job.attempt.run.limits.timeout_us / US - job.active_s()
        job.timers.append(asyncio.get_running_loop().call_later(left, self._stop, job, "timeout"))

    def _pause(self, job: _Job) -> None:
        if job.over.is_set() or job.stopping or job.paused_at is not None:
            return
        self._cancel_timers(job)
        job.paused_at = asyncio.get_running_loop().time()
        self._child.suspend(True)

    def _resume(self, job: _Job) -> None:
        if job.paused_at is None:
            return
        job.paused_s += asyncio.get_running_loop().time() - job.paused_at
        job.paused_at = None
        self._child.suspend(False)
        if not job.over.is_set() and not job.stopping:
            self._arm(job)

    def _make_room(self, size: int) -> tuple[bytes, ...]:
        dropped: list[bytes] = []
        while self._loaded and (
            len(self._loaded) >= _LOADED_MODULES or sum(self._loaded.values()) + size > _LOADED_BYTES
        ):
            dropped.append(self._loaded.popitem(last=False)[0])
        return tuple(dropped)

    def _limit_memory(self, *runs: Run) -> None:
        """The worker cannot raise its own limits; wasmtime's own limit on the guest is the first line."""
        data_bytes = max(map(_data_bytes, runs))
        if hasattr(resource, "prlimit") and data_bytes != self._data_bytes:
            self._data_bytes = data_bytes
            with contextlib.suppress(OSError, ValueError):
                hard = resource.prlimit(self.pid, resource.RLIMIT_DATA)[1]
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (data_bytes, hard))

    def _stop(self, job: _Job, why: _StopReason) -> None:
        if job.over.is_set() or job.stopping:
            return
        job.stopping = why
        self._resume(job)
        self._cancel_timers(job)
        self._child.stop(job.number)
        job.timers.append(asyncio.get_running_loop().call_later(GRACE_S, self._child.kill))

    async def _watch(self, job: _Job, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stop(job, "cancelled")

    def _cancel_timers(self, job: _Job) -> None:
        for timer in job.timers:
            timer.cancel()
        job.timers.clear()

    # --- what the process says

    def _take(self, message: FromChild) -> None:
        job = self._job
        if job is None or job.over.is_set():
            return
        if isinstance(message, NotLoaded):
            self._loaded.pop(message.handle, None)
            if message.handle == job.handle:
                self._finish(job, Unloadable(clean_text(message.reason, 200)))
        elif not isinstance(message, Output | Progress | Memory | Left | Done) or message.job != job.number:
            return
        elif isinstance(message, Output):
            self._take_output(job, message)
        elif isinstance(message, Left):
            self._take_file(job, message)
        elif isinstance(message, Progress):
            self._tell(job, job.attempt.on_progress, min(max(message.thousandths, 0), 1000) / 1000)
        elif isinstance(message, Memory):
            if job.attempt.control:
                limit = job.attempt.run.limits.memory_bytes
                job.attempt.control.told_memory(min(max(message.memory_bytes, 0), limit))
        else:
            job.attempt.collected.end()
            self._finish(job, message)

    def _finish(self, job: _Job, how: Done | Unloadable | None) -> None:
        job.over.set()
        if job.attempt.control:
            job.attempt.control.attach(None)
        self._resume(job)
        self._cancel_timers(job)
        if not job.ended.done():
            if isinstance(how, Unloadable):
                job.ended.set_exception(how)
            else:
                job.ended.set_result(how)
        if job is self._job and self._ahead:
            self._job = self._ahead.popleft()
            if not self.lost:
                self._begin(self._job)

    def _take_output(self, job: _Job, message: Output) -> None:
        job.bytes[message.stream] += len(message.data)
        if job.bytes[message.stream] > job.attempt.run.limits.output_bytes:
            self._child.broken = "it sent more output than it may"
            self._child.kill()
            return
        if message.stream == "stdout":
            job.hash.update(message.data)
        self._tell(job, job.attempt.on_output, message.stream, message.data)

    def _take_file(self, job: _Job, message: Left) -> None:
        try:
            job.attempt.collected.take(message.mount, message.name, message.data)
        except BadInput as error:
            self._child.broken = str(error)
            self._child.kill()

    def _tell(self, job: _Job, callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call back, unless nobody waits any more; what it raises ends the job and is raised to whoever runs it."""
        if job.abandoned:
            return
        try:
            callback(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the caller's own, passed on to the caller
            job.abandoned = True
            self._stop(job, "cancelled")
            job.ended.set_exception(error)

    def _lost(self) -> None:
        while self._job and not self._job.over.is_set():
            self._finish(self._job, None)
        self._on_lost(self)

    # --- the result

    async def _result(self, job: _Job, done: Done | None) -> RunResult:
        timeout_us = job.attempt.run.limits.timeout_us
        result = failed("error", "executor", "")
        result = msgspec.structs.replace(result, stdout_hash=job.hash.digest(), stdout_bytes=job.bytes["stdout"])
        if done:
            result = msgspec.structs.replace(
                result,
                exit_code=done.exit_code,
                reason=clean_text(done.reason, 300),
                gas=max(done.gas, 0),
                gas_exact=done.gas_exact,
                duration_us=min(max(done.duration_us - round(job.paused_s * US), 0), timeout_us),
                memory_bytes=max(done.memory_bytes, 0),
                results=tuple(clean_text(text, 80) for text in done.results),
            )
        else:
            result = msgspec.structs.replace(result, duration_us=min(round(job.active_s() * US), timeout_us))
        if done and done.status == "success":
            return msgspec.structs.replace(result, status="success", fault="none")
        if done and done.status == "failure":
            return msgspec.structs.replace(result, status="failure", fault="payer")
        if done and done.status == "error":
            return result
        if job.stopping == "timeout":
            reason = f"The program did not end within its {timeout_us / US:g} s."
            return msgspec.structs.replace(
                result, status="timeout", fault="payer", reason=reason, gas_exact=False, duration_us=timeout_us
            )
        if job.stopping == "cancelled":
            return msgspec.structs.replace(
                result, status="cancelled", fault="none", reason="The job was cancelled.", gas_exact=False
            )
        if done:
            return msgspec.structs.replace(result, reason="The sandbox ended the program without being told to.")
        death = clean_text(await self._child.describe_death(), 200)
        return msgspec.structs.replace(result, reason=f"The sandbox process died: {death}.")
