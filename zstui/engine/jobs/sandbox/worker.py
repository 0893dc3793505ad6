"""A worker process: runs one job at a time, each in a store of its own that is gone afterwards.

The runner thread has a stack large enough for the guest's; it reads what the engine wants, loads modules and runs them. It
never compiles. The main thread stops the running job where the engine says so, and flushes output that waits.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal

import wasmtime
from wasmtime import TrapCode

from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.sandbox.child import Channel
from zstui.engine.jobs.sandbox.descriptors import Descriptors
from zstui.engine.jobs.sandbox.files import Files
from zstui.engine.jobs.sandbox.hostcalls import Host
from zstui.engine.jobs.sandbox.imports import Imports
from zstui.engine.jobs.sandbox.messages import (
    ASK,
    OUTPUT_CHUNK,
    STOP,
    Done,
    Left,
    Load,
    Memory,
    NotLoaded,
    Output,
    Progress,
    Ready,
    Run,
)
from zstui.engine.jobs.sandbox.model import BYTE_GAS, MAX_FILES, MAX_STACK, Signature, StreamName, format_result
from zstui.engine.jobs.sandbox.runtime import call, find_export, fingerprint, new_engine

_THREAD_STACK = 2 * MAX_STACK
_FLUSH_MS = 20
_FILE_CHUNK = 512 << 10
_TABLES = 8
_TABLE_ELEMENTS = 1_000_000
_MODULE_NAME = "job"
"""What a guest sees as argv[0]: the same everywhere."""

_EXACT_TRAPS = (TrapCode.UNREACHABLE, TrapCode.OUT_OF_FUEL)
"""After other traps wasmtime has not written back all the fuel that was used."""


class Outputs:
    """The guest's two streams: gathered for at most 20 ms or 64 KiB, then sent, up to a cap for each stream."""

    def __init__(self, channel: Channel, job: int, cap: int, on_pending: Callable[[], None]) -> None:
        """``on_pending`` is called when there is something to ``flush`` a little later."""
        self._channel = channel
        self._on_pending = on_pending
        self._job = job
        self._room = {"stdout": cap, "stderr": cap}
        self._pending: list[tuple[StreamName, bytearray]] = []
        self._pending_bytes = 0
        self._sent_at = time.monotonic()
        self._lock = threading.Lock()
        self.written = 0
        """Bytes accepted on both streams."""
        self.cut: set[str] = set()
        """Streams that were asked to take more than the cap."""

    def write(self, stream: StreamName, data: bytes) -> int:
        """Bytes taken, or a negative errno."""
        accepted = data[: self._room[stream]]
        if len(accepted) < len(data):
            self.cut.add(stream)
            if not accepted:
                return -errno.EPIPE
        self._room[stream] -= len(accepted)
        self.written += len(accepted)
        with self._lock:
            first = not self._pending
            if first or self._pending[-1][0] != stream:
                self._pending.append((stream, bytearray()))
            self._pending[-1][1].extend(accepted)
            self._pending_bytes += len(accepted)
            due = self._pending_bytes >= OUTPUT_CHUNK or time.monotonic() - self._sent_at >= _FLUSH_MS / 1000
        if due:
            self.flush()
        elif first:
            self._on_pending()
        return len(accepted)

    def flush(self, *then: Left | Done, hold: bool = False) -> None:
        """Send what waits, and ``then`` after it; see ``Channel.send``."""
        with self._lock:
            messages = [
                Output(self._job, stream, bytes(data[at : at + OUTPUT_CHUNK]))
                for stream, data in self._pending
                for at in range(0, len(data), OUTPUT_CHUNK)
            ]
            self._pending.clear()
            self._pending_bytes = 0
            if messages or then:
                self._sent_at = time.monotonic()
                self._channel.send(*messages, *then, hold=hold)


class _Ending(Exception):
    """How a job ended, where it is not by returning."""

    def __init__(
        self,
        status: Literal["success", "failure", "stopped", "error"],
        reason: str,
        exit_code: int | None = None,
        exact: bool = False,
    ) -> None:
        self.status = status
        self.reason = reason
        self.exit_code = exit_code
        self.exact = exact


class _Program:
    """A loaded module, ready to be instantiated."""

    def __init__(self, engine: wasmtime.Engine, pre: wasmtime.InstancePre, load: Load) -> None:
        self.engine = engine
        self.pre = pre
        self.memory = load.memory


class Worker:
    """``channel`` carries messages, ``stops`` numbers of jobs that are to end."""

    def __init__(self, channel: Channel, stops: socket.socket) -> None:
        self._channel = channel
        self._stops = stops
        self._wake_reader, self._wake_writer = os.pipe()
        self._host = Host()
        self._imports = Imports(self._host)
        self._linkers: dict[int, wasmtime.Linker] = {}
        self._programs: dict[bytes, _Program] = {}
        self._lock = threading.Lock()
        self._running: wasmtime.Engine | None = None
        self._current = 0
        self._stopped = 0
        """All jobs with numbers up to this one were told to stop; jobs are numbered upwards."""
        self._outputs: Outputs | None = None
        self._files: Files | None = None
        self._resident = os.open("/proc/self/statm", os.O_RDONLY) if os.path.exists("/proc/self/statm") else -1

    def serve(self, lock_down: Callable[[], str]) -> None:
        """Warm up, lock down, and serve until the engine closes its end."""
        made_here = fingerprint()
        self._linker(MAX_STACK)
        self._channel.send(Ready(lock_down(), made_here))
        threading.stack_size(_THREAD_STACK)
        threading.Thread(target=self._run_all, daemon=True).start()
        poll = select.poll()
        poll.register(self._stops, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        waiting = False
        while True:
            ready = [fd for fd, _ in poll.poll(_FLUSH_MS if waiting else None)]
            if self._stops.fileno() in ready:
                self._take_stops()
            if self._wake_reader in ready:
                os.read(self._wake_reader, 4096)
                waiting = True
            elif not ready:
                waiting = False
                outputs = self._outputs
                if outputs:
                    outputs.flush()
                if self._channel.holding:
                    self._channel.send()

    def _wake(self) -> None:
        os.write(self._wake_writer, b"\0")

    def _take_stops(self) -> None:
        data = self._stops.recv(64 * STOP.size)
        if not data:
            os._exit(0)
        for (job,) in STOP.iter_unpack(data):
            if job & ASK:
                self._tell_memory(job & ~ASK)
                continue
            with self._lock:
                self._stopped = max(self._stopped, job)
                if self._current <= job and self._running:
                    self._host.stopped = True
                    self._running.increment_epoch()

    def _tell_memory(self, job: int) -> None:
        """Nothing where that job does not run. The size is the one of the guest's last call: only its own thread may look."""
        with self._lock:
            memory_bytes = self._host.memory.size if self._running and self._current == job else None
        if memory_bytes is not None:
            self._channel.send(Memory(job, memory_bytes))

    # --- in the runner thread

    def _run_all(self) -> None:
        while True:
            message = self._channel.receive()
            if isinstance(message, Load):
                self._load(message)
            elif isinstance(message, Run):
                outputs = self._outputs = Outputs(self._channel, message.job, message.limits.output_bytes, self._wake)
                done = self._run(message, outputs)
                self._outputs = None
                if done.status != "error":
                    self._send_files(message.job, outputs)
                self._files = None
                self._tell_end(done, outputs)

    def _tell_end(self, done: Done, outputs: Outputs) -> None:
        """At once, or together with the end of the next run where that is waiting, but soon."""
        was_holding = self._channel.holding
        hold = self._channel.more
        outputs.flush(done, hold=hold)
        if hold and not was_holding:
            self._wake()

    def _send_files(self, job: int, outputs: Outputs) -> None:
        """What the guest made or changed, a piece at a time."""
        for index, mount in enumerate(self._files.mounts if self._files else ()):
            if mount.writable:
                for name, file in mount.changed():
                    content = bytes(file.data)
                    for at in range(0, max(len(content), 1), _FILE_CHUNK):
                        outputs.flush(Left(job, index, name, content[at : at + _FILE_CHUNK]))

    def _linker(self, stack_bytes: int) -> wasmtime.Linker:
        if stack_bytes not in self._linkers:
            self._linkers[stack_bytes] = self._imports.linker(new_engine(stack_bytes))
        return self._linkers[stack_bytes]

    def _load(self, load: Load) -> None:
        for handle in load.drop:
            self._programs.pop(handle, None)
        try:
            linker = self._linker(load.stack_bytes)
            module = wasmtime.Module.deserialize(linker.engine, load.image)
            self._programs[load.handle] = _Program(linker.engine, linker.instantiate_pre(module), load)
        except wasmtime.WasmtimeError as error:
            self._channel.send(NotLoaded(load.handle, clean_text(str(error), 200)))

    def _run(self, run: Run, outputs: Outputs) -> Done:
        program = self._programs.get(run.handle)
        if program is None:
            return Done(run.job, "error", None, "The module was not loaded.", 0, False, 0, 0, ())
        host = self._host
        store = wasmtime.Store(program.engine)
        store.set_fuel(run.limits.fuel)
        store.set_limits(run.limits.memory_bytes, _TABLE_ELEMENTS, 1, _TABLES, 1)
        host.begin(store, run.seed, run.limits.fuel, lambda value: self._channel.send(Progress(run.job, value)))
        files = self._files = Files(run.limits.files_bytes, MAX_FILES, host.now() if run.mounts else 0)
        for mount in run.mounts:
            files.mount(mount.guest, mount.files, mount.writable)
        descriptors = Descriptors(
            files,
            run.stdin,
            lambda data: outputs.write("stdout", data),
            lambda data: outputs.write("stderr", data),
        )
        host.open(descriptors, [_MODULE_NAME, *(run.args if run.values is None else ())], run.env)
        resident = self._resident_bytes() if program.memory == "" else 0
        with self._lock:
            self._current, self._running = run.job, program.engine
            store.set_epoch_deadline(1)
            stopped = self._stopped >= run.job
        started = time.perf_counter_ns()
        instance: wasmtime.Instance | None = None
        results: tuple[str, ...] = ()
        try:
            if stopped:
                raise _Ending("stopped", "")
            instance = _instantiate(program, store)
            results = _call(run, store, instance, outputs)
            ending = _Ending("success", "", 0, exact=True)
        except wasmtime.Trap as trap:
            ending = _trap_ending(trap, run)
        except _Ending as other:
            ending = other
        except wasmtime.WasmtimeError as error:
            ending = _Ending("failure", f"The program failed: {_last_line(str(error))}.")
        except Exception as error:  # noqa: BLE001 - the outermost edge of a job: the worker lives on
            ending = _Ending("error", f"The sandbox failed: {clean_text(str(error), 200)}")
        if host.exit_code is not None:
            ending = _exit_ending(host.exit_code)
        duration_us = (time.perf_counter_ns() - started) // 1000
        with self._lock:
            self._running = None
        if host.failure:
            ending = _Ending("error", f"The sandbox failed in {clean_text(host.failure, 200)}")
        gas = run.limits.fuel - store.get_fuel() + host.gas + outputs.written * BYTE_GAS
        memory_bytes = self._memory_bytes(program, store, instance, resident)
        host.end()
        store.close()
        reason = ending.reason or _cut_reason(outputs, run)
        return Done(
            run.job, ending.status, ending.exit_code, reason, gas, ending.exact, duration_us, memory_bytes, results
        )

    def _memory_bytes(
        self, program: _Program, store: wasmtime.Store, instance: wasmtime.Instance | None, resident_before: int
    ) -> int:
        """Size of the linear memory, which never shrinks; where there is no handle on it, how much the process grew."""
        if program.memory is None:
            return 0
        memory = find_export(store, instance, program.memory) if instance and program.memory else None
        if isinstance(memory, wasmtime.Memory):
            return memory.data_len(store)
        return max(self._resident_bytes() - resident_before, 0)

    def _resident_bytes(self) -> int:
        if self._resident < 0:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return int(os.pread(self._resident, 128, 0).split()[1]) * resource.getpagesize()


def _instantiate(program: _Program, store: wasmtime.Store) -> wasmtime.Instance:
    """Runs the start function too. Raises Trap, and _Ending where a limit or the host stands in the way."""
    try:
        return program.pre.instantiate(store)
    except wasmtime.WasmtimeError as error:
        text = clean_text(str(error), 200)
        if "os error" in text or "mmap" in text:
            raise _Ending("error", f"The machine could not start the module: {text}.") from None
        raise _Ending("failure", f"The module does not fit its limits: {text}.") from None


def _call(run: Run, store: wasmtime.Store, instance: wasmtime.Instance, outputs: Outputs) -> tuple[str, ...]:
    if run.reactor:
        call(store, _function(store, instance, "_initialize"), Signature((), ()), ())
    values = call(store, _function(store, instance, run.function), run.signature, run.values or ())
    if not values:
        return ()
    results = tuple(format_result(kind, value) for kind, value in zip(run.signature.results, values, strict=True))
    outputs.write("stdout", "".join(f"{result}\n" for result in results).encode())
    return results


def _function(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> wasmtime.Func:
    found = find_export(store, instance, name)
    if not isinstance(found, wasmtime.Func):
        raise _Ending("failure", f"The module has no function {clean_text(name, 80)!r}.")
    return found


def _exit_ending(code: int) -> _Ending:
    if code == 0:
        return _Ending("success", "", 0, exact=True)
    return _Ending("failure", f"The program ended with exit code {code}.", code, exact=True)


def _trap_ending(trap: wasmtime.Trap, run: Run) -> _Ending:
    code = trap.trap_code
    exact = code in _EXACT_TRAPS
    if code == TrapCode.INTERRUPT:
        return _Ending("stopped", "")
    if code == TrapCode.OUT_OF_FUEL:
        return _Ending("failure", f"The program used up its {run.limits.fuel:,} units of fuel.", exact=exact)
    if code == TrapCode.STACK_OVERFLOW:
        return _Ending("failure", f"The program overflowed its stack of {run.limits.stack_bytes >> 10:,} KiB.")
    return _Ending("failure", f"The program trapped: {_last_line(trap.message)}.", exact=exact)


def _last_line(message: str) -> str:
    """The cause at the end of wasmtime's message, after the backtrace."""
    last = (message.strip().splitlines() or ["unknown"])[-1].strip().removeprefix("wasm trap: ")
    return clean_text(last, 120)


def _cut_reason(outputs: Outputs, run: Run) -> str:
    if not outputs.cut:
        return ""
    return f"Its {' and '.join(sorted(outputs.cut))} was cut at {run.limits.output_bytes:,} bytes."
