"""One module in the job sandbox, here and now, without a node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from zstui.engine.errors import BadInput
from zstui.engine.jobs.sandbox.model import MAX_MODULE, Execution, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox


async def run_module(
    path: Path,
    *,
    args: tuple[str, ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    stdin: bytes = b"",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    function: str = "_start",
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None],
    on_progress: Callable[[float], None] = lambda value: None,
    cache_dir: Path,
) -> RunResult:
    """Run the module at ``path`` as a node would; ``cache_dir`` keeps its compiled form and may be a node's.

    Raises BadInput where the file cannot be read, InvalidModule where it cannot be run, JobError or HomeError where the
    sandbox does not start. No files of this machine are visible to the module.
    """
    module = await asyncio.to_thread(_read, path)
    sandbox = Sandbox(cache_dir, 1)
    await sandbox.start()
    try:
        await sandbox.check(module, function)
        execution = Execution(module=module, function=function, args=args, env=env, stdin=stdin, limits=limits)
        return await sandbox.run(execution, on_output=on_output, on_progress=on_progress)
    finally:
        await sandbox.stop()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MODULE + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
