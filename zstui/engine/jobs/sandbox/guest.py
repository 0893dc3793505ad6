"""The linear memory of the guest that calls. Addresses and lengths come from the guest and are checked here, and nowhere else."""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from zstui.engine.jobs.sandbox.files import Errno, WasiError

_NAME = ctypes.create_string_buffer(b"memory", 6)
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
_base_of = _PROTOTYPE(("wasmtime_memory_data", ffi.dll))
_size_of = _PROTOTYPE(("wasmtime_memory_data_size", ffi.dll))


class GuestMemory:
    """Of one run at a time: ``begin`` a run, ``enter`` each call of an import, then read and write.

    Only the guest's own code can grow its memory, so within one call it stays where it is.
    """

    def __init__(self) -> None:
        self._context: int | None = None
        self._memory: ffi.wasmtime_memory_t | None = None
        self._base = self._size = 0

    def begin(self, store: wasmtime.Store | None) -> None:
        self._context = ctypes.cast(store._context(), ctypes.c_void_p).value if store else None
        self._memory = None
        self._base = self._size = 0

    @property
    def size(self) -> int:
        """Bytes, as of the guest's last call; 0 before the first."""
        return self._size

    def enter(self, caller: Any) -> None:
        """``caller`` is what wasmtime hands to an import. A run has one instance, so its memory is looked up once."""
        if self._memory is None:
            item = ffi.wasmtime_extern_t()
            found = ffi.wasmtime_caller_export_get(caller, _NAME, len(_NAME), ctypes.byref(item))
            if not found or int(item.kind) != int(ffi.WASMTIME_EXTERN_MEMORY.value):
                self._base = self._size = 0
                return
            self._memory = item.of.memory
        memory = ctypes.addressof(self._memory)
        self._base = _base_of(self._context, memory)
        self._size = _size_of(self._context, memory)

    def read(self, offset: int, length: int) -> bytes:
        """Raises WasiError."""
        self.check(offset, length)
        return ctypes.string_at(self._base + offset, length) if length else b""

    def write(self, offset: int, data: bytes) -> None:
        """Raises WasiError."""
        self.check(offset, len(data))
        if data:
            ctypes.memmove(self._base + offset, data, len(data))

    def check(self, offset: int, length: int) -> None:
        """Raises WasiError unless ``length`` bytes at ``offset`` are the guest's."""
        if length and (offset < 0 or offset + length > self._size):
            raise WasiError(Errno.FAULT)
