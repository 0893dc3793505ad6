"""Between files of this machine and what a run sees: contents are read before it and written after it, by the engine itself.

A worker process opens no file. What it says that the guest left is checked here, and written below one directory without
following any link. Functions that block say so: call them from a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator

from zstui.engine.errors import BadInput, JobError
from zstui.engine.jobs.sandbox.messages import MountedFiles
from zstui.engine.jobs.sandbox.model import (
    MAX_FILES,
    MAX_INPUT_BYTES,
    MAX_INPUTS,
    MAX_NAME,
    Execution,
    HostDir,
    InputFile,
    OutputFile,
    check_name,
)

IN_DIR, OUT_DIR = "/in", "/out"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directories(execution: Execution) -> tuple[HostDir, ...]:
    """All that is mounted for a run, in the order of its descriptors."""
    mine: list[HostDir] = []
    if execution.inputs:
        mine.append(HostDir(IN_DIR, execution.inputs))
    if execution.out_dir:
        mine.append(HostDir(OUT_DIR, (), execution.out_dir))
    return (*mine, *execution.dirs)


def check_directories(dirs: tuple[HostDir, ...]) -> None:
    """Raises BadInput for names that are not plain, that clash, or are too many."""
    guests = [each.guest for each in dirs]
    if len(set(guests)) < len(guests):
        raise BadInput("A directory is mounted twice under one name.")
    if any(not guest or len(guest.encode()) > MAX_NAME or not guest.isprintable() for guest in guests):
        raise BadInput("A directory must be mounted under a plain name such as /data.")
    if sum(len(each.files) for each in dirs) > MAX_INPUTS:
        raise BadInput(f"A run gets at most {MAX_INPUTS:,} input files.")
    for each in dirs:
        names = {file.name for file in each.files}
        if len(names) < len(each.files):
            raise BadInput("An input file is given twice under one name.")
        for name in names:
            check_name(name)
            if any(parent in names for parent in _parents(name)):
                raise BadInput("An input file has the name of a directory of another.")


def read_directories(dirs: tuple[HostDir, ...]) -> tuple[MountedFiles, ...]:
    """Blocks. Raises JobError where a file cannot be read, BadInput where all together are too large."""
    room = MAX_INPUT_BYTES
    mounted = []
    for each in dirs:
        contents = []
        for file in each.files:
            data = _read(file, room)
            room -= len(data)
            contents.append((file.name, data))
        mounted.append(MountedFiles(each.guest, bool(each.out_dir), tuple(contents)))
    return tuple(mounted)


def _read(file: InputFile, room: int) -> bytes:
    try:
        with open(file.path, "rb") as source:
            data = source.read(room + 1)
    except OSError as error:
        raise JobError(f"The input file {file.name} cannot be read: {error.strerror}.") from error
    if len(data) > room:
        raise BadInput(f"The input files are larger than {MAX_INPUT_BYTES >> 20} MiB together.")
    return data


def _parents(name: str) -> Iterator[str]:
    while (cut := name.rfind("/")) > 0:
        name = name[:cut]
        yield name


class Collected:
    """What a worker says that the guest left: ``take`` pieces, ``end``, then ``save``."""

    def __init__(self, dirs: tuple[HostDir, ...], limit: int) -> None:
        self._dirs = dirs
        self._room = limit
        self._most = MAX_FILES + sum(len(each.files) for each in dirs if each.out_dir)
        self._files: dict[tuple[int, str], bytearray] = {}
        self._whole = False

    def take(self, mount: int, name: str, data: bytes) -> None:
        """Raises BadInput for what a worker in order does not send."""
        if not 0 <= mount < len(self._dirs) or not self._dirs[mount].out_dir:
            raise BadInput("it left a file where it may not write")
        check_name(name)
        self._room -= len(data)
        content = self._files.setdefault((mount, name), bytearray())
        if self._room < 0 or len(self._files) > self._most:
            raise BadInput("it left more files than it may")
        content += data

    def end(self) -> None:
        """All of it was taken. A worker that was killed before leaves nothing."""
        self._whole = True

    def save(self) -> tuple[OutputFile, ...]:
        """Blocks. Write all of it; returns what was left in /out, sorted by name. Raises JobError."""
        outputs: list[OutputFile] = []
        if not self._whole:
            return ()
        for (mount, name), content in sorted(self._files.items()):
            into = self._dirs[mount]
            try:
                _write(into.out_dir, name, content)
            except OSError as error:
                raise JobError(f"The file {name} that the program left cannot be kept: {error.strerror}.") from error
            if into.guest == OUT_DIR:
                digest = hashlib.sha256(content).digest()
                outputs.append(OutputFile(name, os.path.join(into.out_dir, name), len(content), digest))
        return tuple(outputs)


def _write(directory: str, name: str, content: bytearray) -> None:
    """Put the file in place under a name of its own first: what is there already is replaced, never written into."""
    *parents, last = name.split("/")
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=at)
            below = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        temporary = f".zstui-{secrets.token_hex(8)}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            os.replace(temporary, last, src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=at)
            raise
    finally:
        os.close(at)
