"""Wasmtime as the sandbox sets it up: the same settings for compiling and running. Only child processes import this."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
from pathlib import Path

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime._extern import wrap_extern

from zstui.engine.jobs.sandbox.model import Signature

SETTINGS: tuple[tuple[str, bool], ...] = (
    ("consume_fuel", True),
    ("epoch_interruption", True),
    ("cranelift_nan_canonicalization", True),
    ("gc_support", False),
    ("shared_memory", False),
    ("wasm_bulk_memory", True),
    ("wasm_component_model", False),
    ("wasm_custom_page_sizes", False),
    ("wasm_exceptions", False),
    ("wasm_function_references", False),
    ("wasm_gc", False),
    ("wasm_memory64", False),
    ("wasm_multi_memory", False),
    ("wasm_multi_value", True),
    ("wasm_reference_types", True),
    ("wasm_relaxed_simd", False),
    ("wasm_simd", True),
    ("wasm_stack_switching", False),
    ("wasm_tail_call", False),
    ("wasm_threads", False),
    ("wasm_wide_arithmetic", False),
)
"""What a job's code can use is fixed here; proposals that are off are refused when the module is compiled."""

_STACK_MARGIN = 1 << 20


def new_engine(stack_bytes: int) -> wasmtime.Engine:
    """An engine whose guests overflow at ``stack_bytes``; call it from a thread with twice that."""
    config = wasmtime.Config()
    for name, value in SETTINGS:
        setattr(config, name, value)
    # Wasmtime aborts if max_wasm_stack passes the stack size of async calls, which the Python binding does not set.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), stack_bytes + _STACK_MARGIN)
    config.max_wasm_stack = stack_bytes
    return wasmtime.Engine(config)


def fingerprint() -> str:
    """Settings and processor: what compiled code depends on, besides the module and wasmtime's version."""
    features = hashlib.sha256()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.partition(":")[0].strip()
            if name in ("flags", "Features", "model name", "CPU part"):
                features.update(line.encode())
            if not name:
                break
    except OSError:
        features.update(platform.processor().encode())
    settings = hashlib.sha256(repr(SETTINGS).encode()).hexdigest()[:16]
    return f"{platform.machine()}/{settings}/{features.hexdigest()[:16]}"


def find_export(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> object | None:
    """One export by name, without building a table of all of them (a module may have a hundred thousand)."""
    buffer = _buffer(name)
    item = ffi.wasmtime_extern_t()
    found = ffi.wasmtime_instance_export_get(
        store._context(), ctypes.byref(instance._instance), buffer, len(buffer), ctypes.byref(item)
    )
    return wrap_extern(item) if found else None


@functools.lru_cache(256)
def _buffer(name: str) -> ctypes.Array[ctypes.c_char]:
    text = name.encode()
    return ctypes.create_string_buffer(text, len(text))


_TRAP = ctypes.POINTER(ffi.wasm_trap_t)

_KINDS = {
    "i32": (ffi.WASMTIME_I32.value, "i32"),
    "i64": (ffi.WASMTIME_I64.value, "i64"),
    "f32": (ffi.WASMTIME_F32.value, "f32"),
    "f64": (ffi.WASMTIME_F64.value, "f64"),
}


def call(
    store: wasmtime.Store, function: wasmtime.Func, signature: Signature, values: tuple[int | float, ...]
) -> list[int | float]:
    """Call a function of known type with as many values of these types. Raises Trap, WasmtimeError.

    The binding's own call asks wasmtime for the types each time, which takes longer than a small function.
    """
    params = (ffi.wasmtime_val_t * len(values))()
    for param, name, value in zip(params, signature.params, values, strict=True):
        param.kind, field = _KINDS[name]
        setattr(param.of, field, value)
    results = (ffi.wasmtime_val_t * len(signature.results))()
    trap = _TRAP()
    error = ffi.wasmtime_func_call(
        store._context(), ctypes.byref(function._func), params, len(params), results, len(results), ctypes.byref(trap)
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)
    if trap:
        raise wasmtime.Trap._from_ptr(trap)
    return [getattr(result.of, _KINDS[name][1]) for result, name in zip(results, signature.results, strict=True)]
