"""One module in the job sandbox, here and now, without a node."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from zstui.engine.errors import BadInput
from zstui.engine.jobs.sandbox.model import (
    MAX_INPUT_BYTES,
    MAX_INPUTS,
    MAX_MODULE,
    Execution,
    HostDir,
    InputFile,
    Limits,
    RunResult,
    check_name,
)
from zstui.engine.jobs.sandbox.pool import Sandbox


async def run_module(
    path: Path,
    *,
    args: tuple[str, ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    stdin: bytes = b"",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    function: str = "_start",
    dirs: tuple[HostDir, ...] = (),
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None],
    on_progress: Callable[[float], None] = lambda value: None,
    cache_dir: Path,
) -> RunResult:
    """Run the module at ``path`` as a node would; ``cache_dir`` keeps its compiled form and may be a node's.

    Raises BadInput where the file cannot be read, InvalidModule where it cannot be run, JobError or HomeError where the
    sandbox does not start. The module sees no files of this machine but those in ``dirs`` (see ``host_dir``).
    """
    module = await asyncio.to_thread(_read, path)
    sandbox = Sandbox(cache_dir, 1)
    await sandbox.start()
    try:
        await sandbox.check(module, function)
        execution = Execution(
            module=module, function=function, args=args, env=env, stdin=stdin, limits=limits, dirs=dirs
        )
        return await sandbox.run(execution, on_output=on_output, on_progress=on_progress)
    finally:
        await sandbox.stop()


def host_dir(directory: Path, guest: str, writable: bool) -> HostDir:
    """The regular files below ``directory``, for the guest to find at ``guest``. Blocks. Raises BadInput.

    Links and special files are left out, so nothing outside of the directory is seen or, where it is writable, changed.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory} is not a directory.")
    files: list[InputFile] = []
    size = 0
    for at, folders, names in os.walk(directory, onerror=_unreadable):
        folders.sort()
        for name in sorted(names):
            path = Path(at, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                continue
            inside = path.relative_to(directory).as_posix()
            check_name(inside)
            files.append(InputFile(inside, str(path)))
            size += status.st_size
            if len(files) > MAX_INPUTS or size > MAX_INPUT_BYTES:
                raise BadInput(
                    f"{directory} holds more than {MAX_INPUTS:,} files or {MAX_INPUT_BYTES >> 20} MiB, which a run may see."
                )
    return HostDir(guest, tuple(files), str(directory.absolute()) if writable else "")


def _unreadable(error: OSError) -> None:
    raise BadInput(f"{error.filename} cannot be read: {error.strerror}.") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MODULE + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
