"""The imports that a guest gets, bound to one ``Host``: all of WASI preview 1, and ``zerostate.progress``.

They are defined without the binding's own conversion of arguments, which costs more than most calls do. A function must not
raise into wasmtime: what fails becomes an errno, and an exit ends the guest with an error that the
worker knows by ``Host.exit_code``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import wasmtime
from wasmtime import FuncType, ValType
from wasmtime import _ffi as ffi

from zstui.engine.jobs.sandbox.files import Errno, WasiError
from zstui.engine.jobs.sandbox.hostcalls import GuestExit, Host
from zstui.engine.jobs.sandbox.model import HOST_CALL_GAS

_WASI = "wasi_snapshot_preview1"
_NO_FINALIZER = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_EXIT = b"exit"
_VALUES = {"i": ValType.i32, "I": ValType.i64}


def _calls(host: Host) -> Iterator[tuple[str, str, Callable[..., None]]]:
    """Name, parameters (i: 32 bits, I: 64 bits) and function of each import of WASI."""
    fds, paths = host.fds, host.paths
    yield from (
        ("args_get", "ii", host.args_get),
        ("args_sizes_get", "ii", host.args_sizes_get),
        ("clock_res_get", "ii", host.clock_res_get),
        ("clock_time_get", "iIi", host.clock_time_get),
        ("environ_get", "ii", host.environ_get),
        ("environ_sizes_get", "ii", host.environ_sizes_get),
        ("fd_advise", "iIIi", fds.fd_advise),
        ("fd_allocate", "iII", fds.fd_allocate),
        ("fd_close", "i", fds.fd_close),
        ("fd_datasync", "i", fds.fd_datasync),
        ("fd_fdstat_get", "ii", fds.fd_fdstat_get),
        ("fd_fdstat_set_flags", "ii", fds.fd_fdstat_set_flags),
        ("fd_fdstat_set_rights", "iII", fds.fd_fdstat_set_rights),
        ("fd_filestat_get", "ii", fds.fd_filestat_get),
        ("fd_filestat_set_size", "iI", fds.fd_filestat_set_size),
        ("fd_filestat_set_times", "iIIi", fds.fd_filestat_set_times),
        ("fd_pread", "iiiIi", fds.fd_pread),
        ("fd_prestat_dir_name", "iii", fds.fd_prestat_dir_name),
        ("fd_prestat_get", "ii", fds.fd_prestat_get),
        ("fd_pwrite", "iiiIi", fds.fd_pwrite),
        ("fd_read", "iiii", fds.fd_read),
        ("fd_readdir", "iiiIi", fds.fd_readdir),
        ("fd_renumber", "ii", fds.fd_renumber),
        ("fd_seek", "iIii", fds.fd_seek),
        ("fd_sync", "i", fds.fd_sync),
        ("fd_tell", "ii", fds.fd_tell),
        ("fd_write", "iiii", fds.fd_write),
        ("path_create_directory", "iii", paths.path_create_directory),
        ("path_filestat_get", "iiiii", paths.path_filestat_get),
        ("path_filestat_set_times", "iiiiIIi", paths.path_filestat_set_times),
        ("path_link", "iiiiiii", paths.path_link),
        ("path_open", "iiiiiIIii", paths.path_open),
        ("path_readlink", "iiiiii", paths.path_readlink),
        ("path_remove_directory", "iii", paths.path_remove_directory),
        ("path_rename", "iiiiii", paths.path_rename),
        ("path_symlink", "iiiii", paths.path_symlink),
        ("path_unlink_file", "iii", paths.path_unlink_file),
        ("poll_oneoff", "iiii", host.poll_oneoff),
        ("proc_raise", "i", host.proc_raise),
        ("random_get", "ii", host.random_get),
        ("sched_yield", "", host.sched_yield),
        ("sock_accept", "iii", host.no_socket),
        ("sock_recv", "iiiiii", host.no_socket),
        ("sock_send", "iiiii", host.no_socket),
        ("sock_shutdown", "ii", host.no_socket),
    )


class Imports:
    """Keep it as long as the linkers that it made: wasmtime calls into it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._entries: list[tuple[str, str, str, bool, Any]] = []
        for name, params, function in _calls(host):
            self._add(_WASI, name, params, True, function)
        self._add(_WASI, "proc_exit", "i", False, host.proc_exit)
        self._add("zerostate", "progress", "i", False, host.progress)

    def linker(self, engine: wasmtime.Engine) -> wasmtime.Linker:
        """Raises WasmtimeError."""
        linker = wasmtime.Linker(engine)
        for module, name, params, returns, entry in self._entries:
            # A type belongs to the engine that first sees it, so each linker needs its own.
            kind = FuncType([_VALUES[param]() for param in params], [ValType.i32()] if returns else [])
            error = ffi.wasmtime_linker_define_func_unchecked(
                linker.ptr(),
                ctypes.create_string_buffer(module.encode()),
                len(module),
                ctypes.create_string_buffer(name.encode()),
                len(name),
                kind.ptr(),
                entry,
                None,
                _NO_FINALIZER,
            )
            if error:
                raise wasmtime.WasmtimeError._from_ptr(error)
        return linker

    def _add(self, module: str, name: str, params: str, returns: bool, function: Callable[..., None]) -> None:
        entry = ffi.wasmtime_func_unchecked_callback_t(_entry(self._host, name, params, returns, function))
        self._entries.append((module, name, params, returns, entry))


def _entry(
    host: Host, name: str, params: str, returns: bool, function: Callable[..., None]
) -> Callable[[Any, Any, Any, int], int]:
    """What wasmtime calls: arguments and result share one array; returns 0, or the address of a trap."""
    wide = [(index, param == "I") for index, param in enumerate(params)]
    memory = host.memory

    def entry(_env: Any, caller: Any, values: Any, _count: int) -> int:
        errno = 0
        try:
            host.gas += HOST_CALL_GAS
            memory.enter(caller)
            function(
                *[values[i].i64 & 0xFFFFFFFFFFFFFFFF if is_wide else values[i].i32 & 0xFFFFFFFF for i, is_wide in wide]
            )
        except WasiError as error:
            errno = error.errno
        except GuestExit as left:
            host.exit_code = left.code
            return _exit_trap()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            host.failure = f"{name}: {error}"
            errno = Errno.IO
        if returns:
            values[0].i32 = errno
        return 0

    return entry


def _exit_trap() -> int:
    trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(_EXIT), len(_EXIT))
    return ctypes.cast(trap, ctypes.c_void_p).value or 0
