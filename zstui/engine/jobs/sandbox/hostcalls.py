"""The calls of WASI preview 1 that are about the process, not about files, and ``zerostate.progress(i32)``.

The guest's time is a function of what it did: it starts at an instant drawn from the seed, one unit of fuel is a nanosecond,
and sleeping moves it forward without waiting. Randomness comes from the seed too. So a repetition of the job elsewhere sees
the same times and numbers. Numbers come in unsigned; a call that fails raises WasiError.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Sequence

import wasmtime

from zstui.engine.jobs.sandbox.descriptors import Descriptors
from zstui.engine.jobs.sandbox.fdcalls import FdCalls
from zstui.engine.jobs.sandbox.files import Errno, WasiError
from zstui.engine.jobs.sandbox.guest import GuestMemory
from zstui.engine.jobs.sandbox.model import BYTE_GAS
from zstui.engine.jobs.sandbox.pathcalls import PathCalls

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


class GuestExit(Exception):
    """The guest called ``proc_exit``."""

    def __init__(self, code: int) -> None:
        self.code = code


class Host:
    """What the imports work on: the state of the one job that runs now."""

    def __init__(self) -> None:
        self.memory = GuestMemory()
        self.fds = FdCalls(self.memory, self.now, self._charge_bytes)
        self.paths = PathCalls(self.memory, self.now)
        self.gas = 0
        """Charged so far for host calls, on top of fuel."""
        self.stopped = False
        """Set from another thread to end long host calls early."""
        self.failure = ""
        """What went wrong inside the host itself, if anything."""
        self.exit_code: int | None = None
        """What the guest called ``proc_exit`` with."""
        self._store: wasmtime.Store | None = None

    def begin(self, store: wasmtime.Store, seed: bytes, fuel: int, on_progress: Callable[[int], None]) -> None:
        """Forget the last job; ``fuel`` is what the store starts with. ``open`` comes next."""
        self.memory.begin(store)
        self.gas = 0
        self.stopped = False
        self.failure = ""
        self.exit_code = None
        self._store = store
        self._fuel = fuel
        self._slept_ns = 0
        self._seed = seed
        self._start_ns: int | None = None
        self._random_block = 0
        self._random = b""
        self._on_progress = on_progress
        self._progress = -1
        self._progress_sent = -1
        self._progress_at = 0.0

    def open(self, descriptors: Descriptors, args: Sequence[str], env: Sequence[tuple[str, str]]) -> None:
        """What the job has: files and streams, arguments, environment."""
        self._open = descriptors
        self.fds.begin(descriptors)
        self.paths.begin(descriptors)
        self._args = args
        self._env = env

    def end(self) -> None:
        """Report the last progress that was held back, and let go of the store."""
        if self._progress != self._progress_sent:
            self._on_progress(self._progress)
        self._store = None
        self.memory.begin(None)

    def _charge_bytes(self, count: int) -> None:
        self.gas += count * BYTE_GAS

    # --- arguments and environment

    def args_get(self, pointers: int, target: int) -> None:
        self._put_texts(self._args, pointers, target)

    def args_sizes_get(self, count: int, size: int) -> None:
        self._put_sizes(self._args, count, size)

    def environ_get(self, pointers: int, target: int) -> None:
        self._put_texts([f"{name}={value}" for name, value in self._env], pointers, target)

    def environ_sizes_get(self, count: int, size: int) -> None:
        self._put_sizes([f"{name}={value}" for name, value in self._env], count, size)

    def _put_texts(self, texts: Sequence[str], pointers: int, target: int) -> None:
        encoded = [text.encode() + b"\0" for text in texts]
        addresses = []
        for text in encoded:
            addresses.append(target)
            target += len(text)
        self.memory.write(target - sum(map(len, encoded)), b"".join(encoded))
        self.memory.write(pointers, struct.pack(f"<{len(addresses)}I", *(a & 0xFFFFFFFF for a in addresses)))

    def _put_sizes(self, texts: Sequence[str], count: int, size: int) -> None:
        self.memory.write(count, struct.pack("<I", len(texts)))
        self.memory.write(size, struct.pack("<I", sum(len(text.encode()) + 1 for text in texts)))

    # --- time

    def now(self) -> int:
        """The guest's wall clock, in nanoseconds."""
        if self._start_ns is None:
            digest = hashlib.sha256(b"zstui clock" + self._seed).digest()
            self._start_ns = (_EPOCH_S + int.from_bytes(digest[:8], "big") % _EPOCH_SPAN_S) * 10**9
        return min(self._start_ns + self._elapsed_ns(), _LATEST_NS)

    def _elapsed_ns(self) -> int:
        used = self._fuel - self._store.get_fuel() if self._store else 0
        return used + self.gas + self._slept_ns

    def _clock(self, clock: int) -> int | None:
        if clock == _REALTIME:
            return self.now()
        elapsed = self._elapsed_ns()
        if clock == _MONOTONIC:
            return min(elapsed, _LATEST_NS)
        return elapsed - self._slept_ns if clock in (_PROCESS_CPU, _THREAD_CPU) else None

    def clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        now = self._clock(clock)
        if now is None:
            raise WasiError(Errno.INVAL)
        self.memory.write(result, struct.pack("<Q", now))

    def clock_res_get(self, clock: int, result: int) -> None:
        if not 0 <= clock <= _THREAD_CPU:
            raise WasiError(Errno.INVAL)
        self.memory.write(result, struct.pack("<Q", _RESOLUTION_NS))

    def poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> None:
        """Files are always ready. With clocks only, time moves on to the earliest of them at once."""
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            raise WasiError(Errno.INVAL)
        data = self.memory.read(subscriptions, count * _SUBSCRIPTION.size)
        ready: list[bytes] = []
        alarms: list[tuple[int, int]] = []
        elapsed = self._elapsed_ns()
        for user, kind, which, timeout, _precision, flags in _SUBSCRIPTION.iter_unpack(data):
            if kind != _ON_CLOCK:
                errno = Errno.OK if which in self._open else Errno.BADF
                ready.append(_EVENT.pack(user, errno, kind & 0xFF, 0, 0))
                continue
            now = self._clock(which)
            if now is None:
                ready.append(_EVENT.pack(user, Errno.INVAL, kind, 0, 0))
            else:
                wait = max(timeout - now, 0) if flags & _ABSOLUTE else timeout
                alarms.append((min(elapsed + wait, _LATEST_NS), user))
        if not ready:
            due = max(min(alarms)[0], elapsed)
            self._slept_ns += due - elapsed
            ready = [_EVENT.pack(user, Errno.OK, _ON_CLOCK, 0, 0) for at, user in alarms if at <= due]
        self.memory.write(events, b"".join(ready))
        self.memory.write(result, struct.pack("<I", len(ready)))

    def sched_yield(self) -> None:
        pass

    # --- chance

    def random_get(self, target: int, length: int) -> None:
        for offset in range(0, length, _RANDOM_BLOCK):
            if self.stopped:
                raise WasiError(Errno.IO)
            size = min(_RANDOM_BLOCK, length - offset)
            self.memory.check(target + offset, size)
            self.memory.write(target + offset, self._draw(size))
            self._charge_bytes(size)

    def _draw(self, size: int) -> bytes:
        while len(self._random) < size:
            block = b"zstui random" + self._seed + self._random_block.to_bytes(8, "big")
            self._random += hashlib.shake_256(block).digest(min(_RANDOM_BLOCK, max(size, 64)))
            self._random_block += 1
        drawn, self._random = self._random[:size], self._random[size:]
        return drawn

    # --- the rest

    def proc_exit(self, code: int) -> None:
        raise GuestExit(code - (1 << 32) if code >> 31 else code)

    def proc_raise(self, _signal: int) -> None:
        raise WasiError(Errno.NOTSUP)

    def no_socket(self, fd: int, *_: int) -> None:
        raise WasiError(Errno.NOTSOCK if fd in self._open else Errno.BADF)

    def progress(self, thousandths: int) -> None:
        self._progress = 0 if thousandths >> 31 else min(thousandths, 1000)
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_INTERVAL_S and self._progress != self._progress_sent:
            self._progress_at = now
            self._progress_sent = self._progress
            self._on_progress(self._progress)
