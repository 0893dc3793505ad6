"""From a module's bytes to native code that may run: memory, then disk, then a compiler process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import msgspec

from zstui.engine.errors import InvalidModule, JobError
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.sandbox.cache import QUOTA_BYTES, Cache, Record
from zstui.engine.jobs.sandbox.messages import Compile, Compiled, FromChild, Ready, Rejected
from zstui.engine.jobs.sandbox.model import MAX_MODULE
from zstui.engine.jobs.sandbox.process import Child
from zstui.engine.jobs.sandbox.turns import Turns

log = logging.getLogger(__name__)

_MAGIC = b"\0asm"
_CORE_VERSION = b"\1\0\0\0"
_COMPONENT_VERSION = b"\x0d\0\1\0"
_IN_MEMORY_BYTES = 64 << 20
_IN_MEMORY_RECORDS = 512
_HASH_IN_THREAD = 256 << 10


class CompileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What compiling one module may use."""

    wall_s: float = 30.0
    cpu_s: int = 45
    data_bytes: int = 1 << 30
    """Writable memory of the compiler process."""


class Artifact(msgspec.Struct, frozen=True):
    key: str
    record: Record


class Artifacts:
    """``get`` answers from what is known, or compiles; a compiler process waits ready, and serves one module only."""

    def __init__(self, directory: Path, limits: CompileLimits, quota_bytes: int = QUOTA_BYTES) -> None:
        self._cache = Cache(directory, quota_bytes)
        self._limits = limits
        self._memory: OrderedDict[str, Record] = OrderedDict()
        self._memory_bytes = 0
        self._turns = Turns()
        self._coming: dict[str, asyncio.Task[Record]] = {}
        """What is being read or compiled, by key."""
        self._spare: asyncio.Task[tuple[Child, Ready]] | None = None
        self._fingerprint = ""
        """What compiled code depends on: wasmtime's version, settings and this processor's features."""
        self._active: set[Child] = set()
        self._stopped = False

    async def start(self) -> None:
        """Raises HomeError, JobError."""
        await asyncio.to_thread(self._cache.open)
        self._prepare_spare()
        assert self._spare
        _, ready = await asyncio.shield(self._spare)
        self._fingerprint = f"wasmtime {version('wasmtime')}/{ready.fingerprint}"

    async def stop(self) -> None:
        """Kill the compilers; whoever waits for one gets a JobError."""
        self._stopped = True
        for compiler in self._active:
            compiler.kill()
        await asyncio.gather(*self._coming.values(), return_exceptions=True)
        if self._spare:
            spare, self._spare = self._spare, None
            spare.cancel()
            done, _ = await asyncio.wait([spare])
            for task in done:
                if not task.cancelled() and task.exception() is None:
                    await task.result()[0].close()

    @property
    def empty_dir(self) -> Path:
        return self._cache.empty_dir

    async def get(self, module: bytes, owner: str = "") -> Artifact:
        """``owner`` is whose module it is: owners take turns in compiling.

        Raises InvalidModule for what is not WebAssembly or does not compile within the limits, JobError without a compiler.
        """
        _check_header(module)
        if len(module) > _HASH_IN_THREAD:
            key = await asyncio.to_thread(self._key, module)
        else:
            key = self._key(module)
        record = self._memory.get(key)
        if record is None:
            coming = self._coming.get(key)
            if coming is None:
                coming = self._coming[key] = asyncio.create_task(self._bring(key, module, owner), name="sandbox module")
                coming.add_done_callback(lambda task: self._came(key, task))
            record = await asyncio.shield(coming)
        else:
            self._memory.move_to_end(key)
        if record.rejected:
            raise InvalidModule(record.rejected)
        return Artifact(key, record)

    async def _bring(self, key: str, module: bytes, owner: str) -> Record:
        record = await asyncio.to_thread(self._cache.load, key)
        if record is None:
            async with self._turns.turn(owner):
                record = await self._compile(module)
                if record.transient:
                    self._turns.penalise(owner)
            await asyncio.to_thread(self._cache.store, key, record)
        self._remember(key, record)
        return record

    def _came(self, key: str, task: asyncio.Task[Record]) -> None:
        del self._coming[key]
        if not task.cancelled():
            task.exception()

    async def discard(self, key: str) -> None:
        """Forget an entry that a worker could not load."""
        self._forget(key)
        await asyncio.to_thread(self._cache.discard, key)

    def _key(self, module: bytes) -> str:
        return hashlib.sha256(hashlib.sha256(module).digest() + self._fingerprint.encode()).hexdigest()

    def _remember(self, key: str, record: Record) -> None:
        if record.transient:
            return
        self._forget(key)
        self._memory[key] = record
        self._memory_bytes += len(record.image)
        while len(self._memory) > 1 and (
            self._memory_bytes > _IN_MEMORY_BYTES or len(self._memory) > _IN_MEMORY_RECORDS
        ):
            self._forget(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        record = self._memory.pop(key, None)
        if record:
            self._memory_bytes -= len(record.image)

    # --- compiling

    def _prepare_spare(self) -> None:
        if self._spare is None:
            self._spare = asyncio.create_task(self._spawn(), name="sandbox compiler")

    async def _spawn(self) -> tuple[Child, Ready]:
        return await Child.spawn("compiler", self.empty_dir, self._limits.data_bytes, self._limits.cpu_s)

    async def _take_compiler(self) -> Child:
        """The spare process, or a new one where that is taken or gone. Raises JobError."""
        spare, self._spare = self._spare, None
        if spare:
            with contextlib.suppress(JobError):
                child, _ = await spare
                if not child.lost:
                    return child
        return (await self._spawn())[0]

    async def _compile(self, module: bytes) -> Record:
        if self._stopped:
            raise JobError("The job sandbox has stopped.")
        compiler = await self._take_compiler()
        self._active.add(compiler)
        if self._stopped:
            compiler.kill()
        answer: asyncio.Future[FromChild | None] = asyncio.get_running_loop().create_future()

        def settle(message: FromChild | None) -> None:
            if not answer.done():
                answer.set_result(message)

        compiler.on_message = settle
        compiler.on_lost = lambda: settle(None)
        if compiler.lost:
            settle(None)
        compiler.send(Compile(module))
        message: FromChild | None = None
        try:
            async with asyncio.timeout(self._limits.wall_s):
                message = await answer
        except TimeoutError:
            pass
        finally:
            self._active.discard(compiler)
            await asyncio.shield(compiler.close())
        if self._stopped:
            raise JobError("The job sandbox has stopped.")
        self._prepare_spare()
        if isinstance(message, Compiled):
            return Record("", False, message.exports, message.memory, message.image)
        if isinstance(message, Rejected):
            return _rejection(f"The module was refused: {clean_text(message.reason, 250)}.", transient=False)
        log.info("a module of %d bytes did not compile: %s", len(module), await compiler.describe_death())
        limits = f"{self._limits.wall_s:g} s and {self._limits.data_bytes >> 20:,} MiB"
        return _rejection(f"The module does not compile within {limits}.", transient=True)


def _rejection(reason: str, transient: bool) -> Record:
    return Record(reason, transient, {}, None, b"")


def _check_header(module: bytes) -> None:
    if len(module) > MAX_MODULE:
        raise InvalidModule(f"The module has {len(module):,} bytes, more than the {MAX_MODULE:,} allowed.")
    if module[:4] != _MAGIC:
        raise InvalidModule("This is not a WebAssembly module: it does not start with \\0asm.")
    if module[4:8] == _COMPONENT_VERSION:
        raise InvalidModule(
            "This is a component (WASI preview 2), whose runs cannot be repeated exactly; build the program for "
            "WASI preview 1 (wasm32-wasip1) instead."
        )
    if module[4:8] != _CORE_VERSION:
        raise InvalidModule("This is not a core WebAssembly module of version 1.")
