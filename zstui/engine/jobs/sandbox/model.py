"""What goes into the sandbox and what comes out: frozen structs, the parsing of typed arguments, the price of host calls."""

from __future__ import annotations

import ctypes
import math
from typing import Literal

import msgspec

from zstui.engine.errors import BadInput
from zstui.engine.identity.text import clean_text

RunStatus = Literal["success", "failure", "timeout", "cancelled", "error"]
RunFault = Literal["none", "payer", "executor"]
StreamName = Literal["stdout", "stderr"]

MAX_MODULE = 32 << 20
"""Largest module in bytes."""
MAX_STACK = 8 << 20
MIN_STACK = 64 << 10
MAX_MEMORY = 4 << 30
MAX_ARGUMENTS = 1 << 20
"""Arguments and environment together, in bytes."""
MAX_STDIN = 16 << 20
MAX_FILES = 256
"""Files that one run may leave in /out."""
MAX_FILES_BYTES = 256 << 20
MAX_INPUTS = 4096
MAX_INPUT_BYTES = 64 << 20
"""Content of all input files of one run together."""
MAX_NAME = 255

PROFILE = 1
"""Number of the sandbox's behaviour: one more with each change by which the same run could print, leave or cost something else
(charges, settings of wasmtime, imports, files, the guest's clock and randomness). Only runs of one profile are compared."""
HOST_CALL_GAS = 5_000
"""Gas of one call of an import that the sandbox serves itself."""
BYTE_GAS = 10
"""Gas of one byte written to stdout or stderr, or drawn from the random source."""


class InputFile(msgspec.Struct, frozen=True):
    """A file that the run finds at ``/in/<name>``, and cannot change."""

    name: str
    """Relative path with "/" between its parts; see ``check_name``."""
    path: str
    """File of this machine with the content, which must not change while the run lasts."""


class OutputFile(msgspec.Struct, frozen=True):
    """A file that the run left at ``/out/<name>``."""

    name: str
    path: str
    """File of this machine, inside ``Execution.out_dir``."""
    size: int
    sha256: bytes


def check_name(name: str) -> None:
    """Raises BadInput unless ``name`` is a relative path of plain parts that means the same file name everywhere."""
    parts = name.split("/")
    if not name or len(name.encode("utf-8", "replace")) > MAX_NAME:
        raise BadInput(f"A file name must have 1 to {MAX_NAME} bytes.")
    if any(part in ("", ".", "..") for part in parts):
        raise BadInput(f"{clean_text(name, 60)!r} is not a plain relative file name.")
    if "\\" in name or not name.isprintable():
        raise BadInput(f"{clean_text(name, 60)!r} has characters that a file name must not have.")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may use. The run ends with fault "payer" at the first one it exceeds."""

    memory_bytes: int = 128 << 20
    """Linear memory; ``memory.grow`` beyond it fails inside the guest."""
    timeout_us: int = 30_000_000
    """Wall time from the moment the run has a worker."""
    stack_bytes: int = MAX_STACK
    """Of the guest's calls; taken as the next power of two."""
    fuel: int = 300_000_000_000
    """About one unit per WebAssembly instruction."""
    output_bytes: int = 1 << 20
    """Per stream. A write beyond it fails with EPIPE inside the guest, and nothing more is kept."""
    files_bytes: int = 16 << 20
    """Content of all files under /out together, at most ``MAX_FILES`` of them. A write beyond it fails with ENOSPC."""


class HostDir(msgspec.Struct, frozen=True):
    """A directory of this machine for a run of the owner's own."""

    guest: str
    """Where the guest finds it."""
    files: tuple[InputFile, ...] = ()
    """What is in it at the start."""
    out_dir: str = ""
    """Directory of this machine into which what the run made or changed there is written, over what is there; "": the
    guest may only read."""


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one module."""

    module: bytes
    """The WebAssembly binary itself."""
    function: str = "_start"
    """"_start" runs a WASI command. Any other export is called with ``args`` read as its typed parameters, and its results
    are also written to stdout, one a line, so that the output hash covers them."""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    limits: Limits = Limits()
    seed: bytes = bytes(32)
    """32 bytes from which the guest's clock and random numbers are drawn: the same seed, the same run."""
    inputs: tuple[InputFile, ...] = ()
    """Files under /in."""
    out_dir: str = ""
    """Empty directory of this machine for what the run leaves under /out; "" where it gets no /out."""
    dirs: tuple[HostDir, ...] = ()
    """Further directories."""
    owner: str = ""
    """Whose module it is, such as a peer id: owners take turns in compiling, so that none delays another for long."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    status: RunStatus
    """"failure": the program's own doing (trap, exit code, a limit); "error": the sandbox's."""
    exit_code: int | None
    """None where the program did not end by itself: trap, timeout, cancel, error."""
    fault: RunFault
    """Whose doing it is that the run is not a success: "payer" the module's or its limits', "executor" the host's."""
    reason: str
    """One sentence for a person; "" after a success with nothing to remark."""
    gas: int
    """Fuel, ``HOST_CALL_GAS`` per host call and ``BYTE_GAS`` per byte of output."""
    gas_exact: bool
    """Whether a repetition yields the same ``gas``; otherwise it is a lower bound."""
    duration_us: int
    """Wall time of instantiation and call, never more than the timeout."""
    memory_bytes: int
    """Peak linear memory, or resident memory where the module does not export its memory."""
    stdout_hash: bytes
    """SHA-256 of what ``on_output`` got as stdout."""
    stdout_bytes: int
    results: tuple[str, ...] = ()
    """What an exported function returned, as text."""
    outputs: tuple[OutputFile, ...] = ()
    """What was left in /out, sorted by name; also after a failure, and what a run had written until it was stopped. Empty
    where its process had to be killed."""


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """Types of an exported function, by their names in the text format: i32, i64, f32, f64, ..."""

    params: tuple[str, ...]
    results: tuple[str, ...]


_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})


def callable_from_text(signature: Signature) -> bool:
    """Whether every parameter and result can be written as text."""
    return _NUMBERS.issuperset(signature.params) and _NUMBERS.issuperset(signature.results)


def parse_arguments(signature: Signature, args: tuple[str, ...]) -> list[int | float]:
    """``args`` as numbers of the parameters' types. Integers may be signed or unsigned. Raises BadInput."""
    if len(args) != len(signature.params):
        raise BadInput(f"The function takes {len(signature.params)} arguments, not {len(args)}.")
    return [_parse(kind, text) for kind, text in zip(signature.params, args, strict=True)]


def _parse(kind: str, text: str) -> int | float:
    try:
        if kind in ("f32", "f64"):
            value = float(text)
            rounded = _round_to_f32(value) if kind == "f32" else value
            if math.isinf(rounded) and not math.isinf(value):
                raise BadInput(f"{text[:40]} does not fit an f32.")
            return rounded
        number = int(text, 0)
    except ValueError:
        raise BadInput(f"{text[:40]!r} is not an {kind}.") from None
    bits = 32 if kind == "i32" else 64
    if not -(1 << (bits - 1)) <= number < 1 << bits:
        raise BadInput(f"{text[:40]} does not fit an {kind}.")
    return number - (1 << bits) if number >= 1 << (bits - 1) else number


def format_result(kind: str, value: int | float) -> str:
    """The same text on every machine: signed integers, shortest digits that read back as the same float, one "nan"."""
    if kind in ("i32", "i64"):
        return str(value)
    if math.isnan(value):
        return "nan"
    if kind == "f64" or math.isinf(value):
        return repr(float(value))
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if _round_to_f32(float(text)) == value:
            return repr(float(text))
    return repr(float(value))


def _round_to_f32(value: float) -> float:
    return ctypes.c_float(value).value
