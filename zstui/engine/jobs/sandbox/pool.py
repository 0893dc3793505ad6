"""The sandbox: a pool of worker processes, each running one job at a time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from zstui.engine.errors import BadInput, InvalidModule, JobError
from zstui.engine.jobs.sandbox.artifacts import Artifact, Artifacts, CompileLimits
from zstui.engine.jobs.sandbox.cache import QUOTA_BYTES
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.hostfiles import Collected, directories, read_directories
from zstui.engine.jobs.sandbox.messages import ALL_IN_FORCE, Run
from zstui.engine.jobs.sandbox.model import (
    Execution,
    HostDir,
    RunResult,
)
from zstui.engine.jobs.sandbox.prepare import prepare, signature_of
from zstui.engine.jobs.sandbox.process import Child
from zstui.engine.jobs.sandbox.session import Attempt, Unloadable, Worker, failed

log = logging.getLogger(__name__)

OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]
OnProgress = Callable[[float], None]

BATCH = 64
"""Runs that ``run_many`` sends to a worker at once."""
RECYCLE_AFTER = 20_000
"""Jobs that one worker process runs before a fresh one takes its place."""
_RESPAWN_DELAYS_S = (0.0, 0.5, 2.0, 10.0, 30.0)
_NO_FILES = Collected((), 0)


class Sandbox:
    """``start`` it, ``run`` modules from any task of the same loop, ``stop`` it: no process outlives ``stop``.

    ``cache_dir`` is made where missing, with mode 0700; several processes may share one.
    """

    def __init__(
        self,
        cache_dir: Path,
        workers: int,
        *,
        compile_limits: CompileLimits | None = None,
        cache_bytes: int = QUOTA_BYTES,
        recycle_after: int = RECYCLE_AFTER,
    ) -> None:
        self._artifacts = Artifacts(cache_dir, compile_limits or CompileLimits(), cache_bytes)
        self._size = max(workers, 1)
        self._recycle_after = recycle_after
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hardening = ""
        self._state: Literal["new", "running", "stopped"] = "new"

    @property
    def hardening(self) -> str:
        """What confines the workers, for a person: "seccomp, no_new_privs, rlimits", or what is missing and why."""
        return self._hardening

    @property
    def notice(self) -> str:
        """What the owner should know of how jobs are confined here; "" where all of it is in force."""
        return "" if self._hardening in ("", ALL_IN_FORCE) else f"Jobs are confined by {self._hardening}."

    @property
    def pids(self) -> tuple[int, ...]:
        """Worker processes that live now."""
        return tuple(worker.pid for worker in self._workers)

    async def start(self) -> None:
        """Returns once all workers are ready. Raises HomeError, JobError."""
        await self._artifacts.start()
        self._state = "running"
        try:
            outcomes = await asyncio.gather(*(self._add_worker() for _ in range(self._size)), return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Kill all processes; jobs that run end with status "error". Idempotent."""
        self._state = "stopped"
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting:
            if not future.done():
                future.set_exception(JobError("The job sandbox has stopped."))
        await asyncio.gather(*(worker.close() for worker in list(self._workers)))
        self._workers.clear()
        self._idle.clear()
        await self._artifacts.stop()

    async def check(self, module: bytes, function: str = "_start", *, owner: str = "") -> None:
        """Compile ``module`` unless that is done already; for ``owner`` see ``Execution``.

        Raises InvalidModule, with the reason in one sentence.
        """
        self._require_running()
        signature_of(await self._artifacts.get(module, owner), function)

    async def run(
        self,
        execution: Execution,
        *,
        on_output: OnOutput,
        on_progress: OnProgress,
        stop: asyncio.Event | None = None,
        control: RunControl | None = None,
    ) -> RunResult:
        """Run one job; waits for a free worker first. What goes wrong is in the result; only a sandbox that is not running,
        or has no compiler, raises (JobError).

        Cancelling the task that awaits this ends the job in its worker. Setting ``stop`` does the same, and returns a
        result with status "cancelled". ``control`` pauses and resumes it. ``on_output`` gets pieces of any size, in order;
        ``on_progress`` values from 0 to 1, at most ten a second.
        """
        self._require_running()
        try:
            artifact = await self._artifacts.get(execution.module, execution.owner)
            prepared = prepare(execution, artifact)
        except (InvalidModule, BadInput) as error:
            return failed("failure", "payer", str(error))
        dirs = directories(execution)
        for retry in (False, True):
            worker = await self._acquire(artifact.key)
            try:
                run = await _with_files(prepared, dirs)
                collected = Collected(dirs, execution.limits.files_bytes)
                attempt = Attempt(run, artifact, on_output, on_progress, collected, stop, control)
                result = await worker.run(attempt)
                if self._running() or result.status != "error":
                    return await _keep_files(result, collected) if dirs else result
                return msgspec.structs.replace(result, reason="The job sandbox has stopped.")
            except BadInput as error:
                return failed("failure", "payer", str(error))
            except JobError as error:
                return failed("error", "executor", str(error))
            except Unloadable as error:
                # The image is not one of this machine's, whatever its HMAC says: make it again, once.
                if retry:
                    return failed("error", "executor", f"The compiled module cannot be loaded: {error}.")
                log.warning("compiled module %s cannot be loaded: %s", artifact.key, error)
                await self._artifacts.discard(artifact.key)
                artifact = await self._artifacts.get(execution.module, execution.owner)
            finally:
                self._after(worker)
        raise AssertionError("unreachable")

    async def run_many(
        self,
        executions: Sequence[Execution],
        *,
        on_output: Callable[[int, Literal["stdout", "stderr"], bytes], None] = lambda index, stream, data: None,
    ) -> list[RunResult]:
        """Results of many short runs in their order, much sooner than one ``run`` for each: they go to the workers in batches.

        Each has a store, limits and a timeout of its own, as in ``run``. ``on_output`` gets the run's index first. Cancelling
        the task ends all that are not done.
        """
        self._require_running()
        artifacts: dict[int, Artifact | InvalidModule] = {}
        for execution in executions:
            if id(execution.module) not in artifacts:
                try:
                    artifacts[id(execution.module)] = await self._artifacts.get(execution.module, execution.owner)
                except InvalidModule as error:
                    artifacts[id(execution.module)] = error
        results: dict[int, RunResult] = {}
        attempts: dict[int, Attempt] = {}
        for index, execution in enumerate(executions):
            artifact = artifacts[id(execution.module)]
            if isinstance(artifact, InvalidModule):
                results[index] = failed("failure", "payer", str(artifact))
                continue
            try:
                prepared = prepare(execution, artifact)
            except (InvalidModule, BadInput) as error:
                results[index] = failed("failure", "payer", str(error))
                continue
            if not directories(execution):
                attempts[index] = Attempt(
                    prepared, artifact, functools.partial(on_output, index), lambda value: None, _NO_FILES
                )
        batches = _batched(sorted(attempts))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._size):
                    group.create_task(self._run_batches(batches, attempts, results))
        except* JobError as errors:
            raise errors.exceptions[0] from None
        for index, execution in enumerate(executions):
            if index not in results:
                results[index] = await self.run(
                    execution, on_output=functools.partial(on_output, index), on_progress=lambda value: None
                )
        return [results[index] for index in range(len(executions))]

    async def _run_batches(
        self, batches: Iterator[Sequence[int]], attempts: dict[int, Attempt], results: dict[int, RunResult]
    ) -> None:
        for batch in batches:
            worker = await self._acquire(attempts[batch[0]].artifact.key)
            try:
                for index, result in zip(batch, await worker.run_batch([attempts[i] for i in batch]), strict=True):
                    if result:
                        results[index] = result
            finally:
                self._after(worker)

    # --- workers

    def _running(self) -> bool:
        return self._state == "running"

    def _require_running(self) -> None:
        if not self._running():
            raise JobError("The job sandbox is not running.")

    async def _acquire(self, key: str) -> Worker:
        """A living worker for this job alone: an idle one, at best one that has the module; else the next to be free."""
        while (worker := await self._next_worker(key)).lost:
            self._spawn_task(self._retire(worker))
        return worker

    async def _next_worker(self, key: str) -> Worker:
        self._require_running()
        if self._idle:
            worker = next((w for w in reversed(self._idle) if w.has(key)), self._idle[-1])
            self._idle.remove(worker)
            return worker
        future: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._offer(future.result())
            raise
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _offer(self, worker: Worker) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    def _after(self, worker: Worker) -> None:
        """Give the worker on, once what it runs has ended."""
        if worker.busy:
            self._spawn_task(self._settle(worker))
        else:
            self._release(worker)

    async def _settle(self, worker: Worker) -> None:
        await worker.quiet()
        self._release(worker)

    def _release(self, worker: Worker) -> None:
        """After a job: give the worker to the next one, or replace it."""
        if self._running() and not worker.lost and worker.jobs < self._recycle_after:
            self._offer(worker)
        else:
            self._spawn_task(self._retire(worker))

    async def _retire(self, worker: Worker) -> None:
        await worker.close()
        self._workers.discard(worker)
        if self._running():
            self._spawn_task(self._replace())

    async def _replace(self) -> None:
        """Try until a new worker is up, ever more slowly."""
        for delay in itertools.chain(_RESPAWN_DELAYS_S, itertools.repeat(_RESPAWN_DELAYS_S[-1])):
            await asyncio.sleep(delay)
            try:
                await self._add_worker()
                return
            except JobError as error:
                log.warning("%s", error)

    async def _add_worker(self) -> None:
        child, ready = await Child.spawn("worker", self._artifacts.empty_dir)
        worker = Worker(child, self._lost_while_idle)
        self._workers.add(worker)
        self._hardening = ready.hardening
        if not self._running():
            await self._retire(worker)
        elif worker.lost:
            self._lost_while_idle(worker)
        else:
            self._offer(worker)

    def _lost_while_idle(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._spawn_task(self._retire(worker))

    def _spawn_task(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _with_files(run: Run, dirs: tuple[HostDir, ...]) -> Run:
    """Raises JobError, BadInput."""
    if not dirs:
        return run
    return msgspec.structs.replace(run, mounts=await asyncio.to_thread(read_directories, dirs))


async def _keep_files(result: RunResult, collected: Collected) -> RunResult:
    """Also of a run that was stopped: what it had written until then."""
    try:
        outputs = await asyncio.to_thread(collected.save)
    except JobError as error:
        return msgspec.structs.replace(result, status="error", fault="executor", reason=str(error))
    return msgspec.structs.replace(result, outputs=outputs)


def _batched(indexes: Sequence[int]) -> Iterator[Sequence[int]]:
    return (indexes[at : at + BATCH] for at in range(0, len(indexes), BATCH))
