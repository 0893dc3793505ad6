"""A compiler process: turns one module into native code and ends.

Compiling is where a small module can ask for hours and gigabytes, so the process has limits on both, and no module is ever
compiled anywhere else. The module's imports are resolved here too, so that one that could never start is refused early.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import wasmtime

from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.sandbox.child import Channel
from zstui.engine.jobs.sandbox.hostcalls import Host
from zstui.engine.jobs.sandbox.imports import Imports
from zstui.engine.jobs.sandbox.messages import Compile, Compiled, Ready, Rejected
from zstui.engine.jobs.sandbox.model import MAX_STACK, Signature
from zstui.engine.jobs.sandbox.runtime import fingerprint, new_engine

_REASON_LENGTH = 200
_MEMORY_SECTION = 5


def serve(channel: Channel, lock_down: Callable[[], str]) -> None:
    """Compile the one module that the engine sends, answer, and end the process."""
    made_here = fingerprint()
    engine = new_engine(MAX_STACK)
    imports = Imports(Host())
    linker = imports.linker(engine)
    channel.send(Ready(lock_down(), made_here))
    request = channel.receive()
    if isinstance(request, Compile):
        try:
            channel.send(compile_module(engine, linker, request.module))
        except wasmtime.WasmtimeError as error:
            channel.send(Rejected(_sentence(str(error))))
    os._exit(0)


def compile_module(engine: wasmtime.Engine, linker: wasmtime.Linker, binary: bytes) -> Compiled:
    """Raises WasmtimeError where the module is invalid or imports what the sandbox does not offer."""
    module = wasmtime.Module(engine, binary)
    linker.instantiate_pre(module)
    functions: dict[str, Signature] = {}
    memory = "" if _has_memory(binary) else None
    for export in module.exports:
        kind = export.type
        if isinstance(kind, wasmtime.FuncType):
            functions[export.name] = Signature(tuple(map(str, kind.params)), tuple(map(str, kind.results)))
        elif isinstance(kind, wasmtime.MemoryType) and (not memory or export.name == "memory"):
            memory = export.name
    return Compiled(bytes(module.serialize()), functions, memory)


def _has_memory(binary: bytes) -> bool:
    """Whether a valid module defines a memory (it cannot import one here): looks for a memory section that is not empty."""
    at = 8
    while at < len(binary):
        section = binary[at]
        size, at = _unsigned(binary, at + 1)
        if section == _MEMORY_SECTION:
            return _unsigned(binary, at)[0] > 0
        at += size
    return False


def _unsigned(binary: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = binary[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at


def _sentence(message: str) -> str:
    """The cause at the end of wasmtime's chain, in one line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    outer, cause = (lines or ["unknown error"])[0], (lines or [""])[-1]
    text = outer if outer == cause or cause.startswith("at offset") else f"{outer}: {cause.removeprefix('0: ')}"
    return clean_text(text, _REASON_LENGTH)
