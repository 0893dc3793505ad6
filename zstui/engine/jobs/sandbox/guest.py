"""The linear memory of the guest that calls. Addresses and lengths come from the guest and are checked here, and nowhere else."""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from zstui.engine.jobs.sandbox.files import Errno, WasiError

_NAME = ctypes.create_string_buffer(b"memory", 6)


class GuestMemory:
    """Of one run at a time: ``begin`` a run, ``enter`` each call of an import, then read and write."""

    def __init__(self) -> None:
        self._context: Any = None
        self._memory: ffi.wasmtime_memory_t | None = None

    def begin(self, store: wasmtime.Store | None) -> None:
        self._context = store._context() if store else None
        self._memory = None

    def enter(self, caller: Any) -> None:
        """``caller`` is what wasmtime hands to an import. A run has one instance, so its memory is looked up once."""
        if self._memory is None:
            item = ffi.wasmtime_extern_t()
            found = ffi.wasmtime_caller_export_get(caller, _NAME, len(_NAME), ctypes.byref(item))
            if found and int(item.kind) == int(ffi.WASMTIME_EXTERN_MEMORY.value):
                self._memory = item.of.memory

    def read(self, offset: int, length: int) -> bytes:
        """Raises WasiError."""
        return ctypes.string_at(self._address(offset, length), length) if length else b""

    def write(self, offset: int, data: bytes) -> None:
        """Raises WasiError."""
        if data:
            ctypes.memmove(self._address(offset, len(data)), data, len(data))

    def check(self, offset: int, length: int) -> None:
        """Raises WasiError unless ``length`` bytes at ``offset`` are the guest's."""
        if length:
            self._address(offset, length)

    def _address(self, offset: int, length: int) -> int:
        if self._memory is None:
            raise WasiError(Errno.FAULT)
        memory = ctypes.byref(self._memory)
        if offset < 0 or offset + length > ffi.wasmtime_memory_data_size(self._context, memory):
            raise WasiError(Errno.FAULT)
        base = ctypes.cast(ffi.wasmtime_memory_data(self._context, memory), ctypes.c_void_p).value
        if base is None:
            raise WasiError(Errno.FAULT)
        return base + offset
