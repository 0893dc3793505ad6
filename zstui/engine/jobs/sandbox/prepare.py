"""From what a caller asks for to the message that starts it in a worker: all that can be refused before it runs."""

from __future__ import annotations

from zstui.engine.errors import BadInput, InvalidModule
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.sandbox.artifacts import Artifact
from zstui.engine.jobs.sandbox.hostfiles import check_directories, directories
from zstui.engine.jobs.sandbox.messages import Run
from zstui.engine.jobs.sandbox.model import (
    MAX_ARGUMENTS,
    MAX_FILES_BYTES,
    MAX_MEMORY,
    MAX_STACK,
    MAX_STDIN,
    MIN_STACK,
    Execution,
    Signature,
    callable_from_text,
    parse_arguments,
)

_NAMES_SHOWN = 5


def signature_of(artifact: Artifact, function: str) -> Signature:
    """Type of the function to call. Raises InvalidModule where it cannot be called."""
    exports = artifact.record.exports
    shown = clean_text(function, 60)
    if function not in exports:
        names = [clean_text(name, 40) for name in list(exports)[:_NAMES_SHOWN]]
        more = ", ..." if len(exports) > len(names) else ""
        has = f"it exports {', '.join(names)}{more}" if names else "it exports none"
        raise InvalidModule(f'The module has no function "{shown}"; {has}.')
    signature = exports[function]
    if function == "_start" and signature != Signature((), ()):
        raise InvalidModule('The function "_start" must take and return nothing.')
    if not callable_from_text(signature):
        raise InvalidModule(f'The function "{shown}" takes or returns what cannot be written as text.')
    return signature


def prepare(execution: Execution, artifact: Artifact) -> Run:
    """The message that starts the job, but for its number and handle. Raises InvalidModule, BadInput."""
    signature = signature_of(artifact, execution.function)
    limits = execution.limits
    texts = [*execution.args, *(text for pair in execution.env for text in pair)]
    if any("\0" in text or (not text.isascii() and not _is_utf8(text)) for text in texts):
        raise BadInput("Arguments and environment must be Unicode text without NUL.")
    if sum(len(text.encode()) + 1 for text in texts) > MAX_ARGUMENTS:
        raise BadInput(f"Arguments and environment are longer than {MAX_ARGUMENTS:,} bytes.")
    if any(not name or "=" in name for name, _ in execution.env):
        raise BadInput('A name in the environment must not be empty nor contain "=".')
    if len(execution.stdin) > MAX_STDIN:
        raise BadInput(f"Standard input is longer than {MAX_STDIN:,} bytes.")
    if not (
        0 < limits.memory_bytes <= MAX_MEMORY
        and MIN_STACK <= limits.stack_bytes <= MAX_STACK
        and 0 < limits.timeout_us <= 86_400_000_000
        and 0 < limits.fuel < 1 << 62
        and 0 <= limits.output_bytes <= 1 << 30
        and 0 <= limits.files_bytes <= MAX_FILES_BYTES
    ):
        raise BadInput("A limit is out of range.")
    dirs = directories(execution)
    if dirs:
        check_directories(dirs)
    values = None if execution.function == "_start" else tuple(parse_arguments(signature, execution.args))
    return Run(
        job=0,
        handle=b"",
        function=execution.function,
        values=values,
        signature=signature,
        reactor=values is not None and artifact.record.exports.get("_initialize") == Signature((), ()),
        args=execution.args,
        env=execution.env,
        stdin=execution.stdin,
        seed=execution.seed,
        limits=limits,
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
