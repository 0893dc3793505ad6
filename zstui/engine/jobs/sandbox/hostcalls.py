"""The imports that a guest gets: WASI preview 1 without files, a clock and a random source drawn from the job's seed,
and ``zerostate.progress(i32)``.

The guest's time is a function of what it did: it starts at an instant drawn from the seed, one unit of fuel is a nanosecond,
and sleeping moves it forward without waiting. So a repetition of the job elsewhere sees the same times.

A function defined here must not raise: wasmtime's binding keeps the exception in one global. ``GuestExit`` is the exception
to that rule; a worker has a single thread that runs guests, so nobody else can pick it up.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
import time
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import Caller, FuncType, ValType

from zstui.engine.jobs.sandbox.model import BYTE_GAS, HOST_CALL_GAS

_OK, _BADF, _FAULT, _INVAL, _IO = 0, 8, 21, 28, 29
_REALTIME, _MONOTONIC, _PROCESS_CPU, _THREAD_CPU = range(4)
_RESOLUTION_NS = 1_000
_EPOCH_S, _EPOCH_SPAN_S = 1_600_000_000, 100_000_000
_LATEST_NS = (1 << 63) - 1

_SUBSCRIPTION = struct.Struct("<QB7xI4xQQH6x")
_EVENT = struct.Struct("<QHB5xQH6x")
_MAX_SUBSCRIPTIONS = 1024
_ON_CLOCK = 0
_ABSOLUTE = 1

_RANDOM_BLOCK = 1 << 16
_PROGRESS_INTERVAL_S = 0.1

I32, I64 = ValType.i32, ValType.i64


class GuestExit(Exception):
    """The guest called ``proc_exit``."""

    def __init__(self, code: int) -> None:
        self.code = code


class Host:
    """What the imports work on: the state of the one job that runs now."""

    def __init__(self) -> None:
        self.begin(None, bytes(32), 0, lambda thousandths: None)

    def begin(self, store: wasmtime.Store | None, seed: bytes, fuel: int, on_progress: Callable[[int], None]) -> None:
        """Forget the last job; ``fuel`` is what the store starts with."""
        self.gas = 0
        """Charged so far for host calls, on top of fuel."""
        self.stopped = False
        """Set from another thread to end long host calls early."""
        self.failure = ""
        """What went wrong inside the host itself, if anything."""
        self._store = store
        self._fuel = fuel
        self._slept_ns = 0
        self._seed = seed
        self._random_block = 0
        self._random = b""
        self._on_progress = on_progress
        self._progress = -1
        self._progress_sent = -1
        self._progress_at = 0.0

    def end(self) -> None:
        """Report the last progress that was held back, and let go of the store."""
        if self._progress != self._progress_sent:
            self._on_progress(self._progress)
        self._store = None

    # --- time

    def _elapsed_ns(self) -> int:
        used = self._fuel - self._store.get_fuel() if self._store else 0
        return used + self.gas + self._slept_ns

    def _now(self, clock: int) -> int | None:
        elapsed = self._elapsed_ns()
        if clock == _REALTIME:
            digest = hashlib.sha256(b"zstui clock" + self._seed).digest()
            start_s = _EPOCH_S + int.from_bytes(digest[:8], "big") % _EPOCH_SPAN_S
            return min(start_s * 10**9 + elapsed, _LATEST_NS)
        if clock == _MONOTONIC:
            return min(elapsed, _LATEST_NS)
        return elapsed - self._slept_ns if clock in (_PROCESS_CPU, _THREAD_CPU) else None

    def clock_time_get(self, caller: Caller, clock: int, _precision: int, result: int) -> int:
        now = self._now(clock)
        if now is None:
            return _INVAL
        return _OK if _store_bytes(caller, result, struct.pack("<Q", now)) else _FAULT

    def clock_res_get(self, caller: Caller, clock: int, result: int) -> int:
        if not 0 <= clock <= _THREAD_CPU:
            return _INVAL
        return _OK if _store_bytes(caller, result, struct.pack("<Q", _RESOLUTION_NS)) else _FAULT

    def poll_oneoff(self, caller: Caller, subscriptions: int, events: int, count: int, result: int) -> int:
        """Files are always ready. With clocks only, time moves on to the earliest of them at once."""
        count &= 0xFFFFFFFF
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            return _INVAL
        data = _load_bytes(caller, subscriptions, count * _SUBSCRIPTION.size)
        if data is None:
            return _FAULT
        ready: list[bytes] = []
        alarms: list[tuple[int, int]] = []
        elapsed = self._elapsed_ns()
        for user, kind, which, timeout, _precision, flags in _SUBSCRIPTION.iter_unpack(data):
            if kind != _ON_CLOCK:
                ready.append(_EVENT.pack(user, _OK if which <= 2 else _BADF, kind & 0xFF, 0, 0))
                continue
            now = self._now(which)
            if now is None:
                ready.append(_EVENT.pack(user, _INVAL, kind, 0, 0))
            else:
                wait = max(timeout - now, 0) if flags & _ABSOLUTE else timeout
                alarms.append((min(elapsed + wait, _LATEST_NS), user))
        if not ready:
            due = max(min(alarms)[0], elapsed)
            self._slept_ns += due - elapsed
            ready = [_EVENT.pack(user, _OK, _ON_CLOCK, 0, 0) for at, user in alarms if at <= due]
        written = _store_bytes(caller, events, b"".join(ready))
        return _OK if written and _store_bytes(caller, result, struct.pack("<I", len(ready))) else _FAULT

    # --- chance

    def random_get(self, caller: Caller, target: int, length: int) -> int:
        length &= 0xFFFFFFFF
        target &= 0xFFFFFFFF
        for offset in range(0, length, _RANDOM_BLOCK):
            if self.stopped:
                return _IO
            size = min(_RANDOM_BLOCK, length - offset)
            if not _store_bytes(caller, target + offset, self._draw(size)):
                return _FAULT
            self.gas += size * BYTE_GAS
        return _OK

    def _draw(self, size: int) -> bytes:
        while len(self._random) < size:
            block = b"zstui random" + self._seed + self._random_block.to_bytes(8, "big")
            self._random += hashlib.shake_256(block).digest(min(_RANDOM_BLOCK, max(size, 64)))
            self._random_block += 1
        drawn, self._random = self._random[:size], self._random[size:]
        return drawn

    # --- the rest

    def proc_exit(self, _caller: Caller, code: int) -> None:
        raise GuestExit(code)

    def progress(self, _caller: Caller, thousandths: int) -> None:
        self._progress = min(max(thousandths, 0), 1000)
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_INTERVAL_S and self._progress != self._progress_sent:
            self._progress_at = now
            self._progress_sent = self._progress
            self._on_progress(self._progress)


def new_linker(engine: wasmtime.Engine, host: Host) -> wasmtime.Linker:
    """A linker with all imports of the sandbox, bound to ``host``."""
    linker = wasmtime.Linker(engine)
    linker.allow_shadowing = True
    linker.define_wasi()

    def define(module: str, function: Callable[..., int | None], params: list[ValType]) -> None:
        def call(*args: Any) -> int | None:
            host.gas += HOST_CALL_GAS
            try:
                return function(*args)
            except GuestExit:
                raise
            except Exception as error:  # noqa: BLE001 - see the module's docstring
                host.failure = f"{function.__name__}: {error}"
                return _IO if results else None

        results = [] if function in (host.proc_exit, host.progress) else [I32()]
        linker.define_func(module, function.__name__, FuncType(params, results), call, access_caller=True)

    wasi = "wasi_snapshot_preview1"
    define(wasi, host.clock_time_get, [I32(), I64(), I32()])
    define(wasi, host.clock_res_get, [I32(), I32()])
    define(wasi, host.poll_oneoff, [I32(), I32(), I32(), I32()])
    define(wasi, host.random_get, [I32(), I32()])
    define(wasi, host.proc_exit, [I32()])
    define("zerostate", host.progress, [I32()])
    return linker


def _address(caller: Caller, offset: int, length: int) -> int | None:
    """Where ``length`` bytes at the guest's ``offset`` are in this process; None where they are not all its own."""
    memory = caller.get("memory")
    if not isinstance(memory, wasmtime.Memory):
        return None
    offset &= 0xFFFFFFFF
    if length == 0 or offset + length > memory.data_len(caller):
        return None
    return ctypes.addressof(memory.data_ptr(caller).contents) + offset


def _load_bytes(caller: Caller, offset: int, length: int) -> bytes | None:
    address = _address(caller, offset, length)
    return None if address is None else ctypes.string_at(address, length)


def _store_bytes(caller: Caller, offset: int, data: bytes) -> bool:
    address = _address(caller, offset, len(data))
    if address is not None:
        ctypes.memmove(address, data, len(data))
    return address is not None
