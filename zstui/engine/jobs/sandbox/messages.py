"""What the engine and its sandbox processes say to each other: one length-prefixed msgpack struct at a time.

The engine trusts nothing that it reads: a worker may have been taken over by the module it ran.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from zstui.engine.jobs.sandbox.model import Limits, Signature, StreamName

HEADER = struct.Struct(">I")
STOP = struct.Struct(">Q")
"""All that the engine says on a worker's second socket: the number of a job. That one and all before it, begun or not, are to
end now, and answer with Done; with ``ASK`` added it is to tell its memory instead."""
ASK = 1 << 63
MAX_FROM_WORKER = 1 << 20
MAX_FROM_COMPILER = 512 << 20
OUTPUT_CHUNK = 64 << 10
ALL_IN_FORCE = "seccomp, no_new_privs, rlimits"
"""``Ready.hardening`` where nothing is missing."""


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    pass


class Ready(_Message, frozen=True):
    """A child's first message: it has locked itself down."""

    hardening: str
    fingerprint: str
    """Settings and processor: what native code made here depends on, besides wasmtime's version."""


# --- to and from a worker --------------------------------------------------------------------------------------------


class Load(_Message, frozen=True):
    """Hold a compiled module ready under ``handle``, and let go of those in ``drop``."""

    handle: bytes
    image: bytes
    stack_bytes: int
    memory: str | None
    """Name of the exported linear memory, "" where it is not exported, None where there is none."""
    drop: tuple[bytes, ...] = ()


class MountedFiles(msgspec.Struct, frozen=True, array_like=True):
    """A directory of the guest."""

    guest: str
    writable: bool
    files: tuple[tuple[str, bytes], ...]
    """Name and content."""


class Run(_Message, frozen=True):
    job: int
    handle: bytes
    function: str
    values: tuple[int | float, ...] | None
    """Arguments of an exported function; None for a WASI command."""
    signature: Signature
    reactor: bool
    """Whether ``_initialize`` is to be called first."""
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    stdin: bytes
    seed: bytes
    limits: Limits
    mounts: tuple[MountedFiles, ...] = ()


class NotLoaded(_Message, frozen=True):
    """Wasmtime does not take the image. Runs that name the handle will not start."""

    handle: bytes
    reason: str


class Output(_Message, frozen=True):
    job: int
    stream: StreamName
    data: bytes


class Progress(_Message, frozen=True):
    job: int
    thousandths: int


class Memory(_Message, frozen=True):
    """How much linear memory the guest had when it last called the host: the answer to ``ASK``."""

    job: int
    memory_bytes: int


class Left(_Message, frozen=True):
    """A piece of a file that the guest left in the directory ``mount`` of ``Run.mounts``; a file's pieces come in order, and
    all before Done."""

    job: int
    mount: int
    name: str
    data: bytes


class Done(_Message, frozen=True):
    job: int
    status: Literal["success", "failure", "stopped", "error"]
    exit_code: int | None
    reason: str
    gas: int
    gas_exact: bool
    duration_us: int
    memory_bytes: int
    results: tuple[str, ...]


# --- to and from a compiler ------------------------------------------------------------------------------------------


class Compile(_Message, frozen=True):
    module: bytes


class Compiled(_Message, frozen=True):
    image: bytes
    exports: dict[str, Signature]
    """Exported functions."""
    memory: str | None


class Rejected(_Message, frozen=True):
    reason: str


ToChild = Load | Run | Compile
FromChild = Ready | NotLoaded | Output | Progress | Memory | Left | Done | Compiled | Rejected

_encoder = msgspec.msgpack.Encoder()
to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def encode(message: ToChild | FromChild) -> bytes:
    """One frame, header and all."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body
