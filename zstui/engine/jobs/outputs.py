"""Files that hold what jobs printed: two a job, complete up to the job's cap."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, NamedTuple

from zstui.engine.errors import JobError

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, ...] = ("stdout", "stderr")


SMALL = 16 << 10
"""What was printed up to this size is committed with the receipt, and its file need not be durable before that."""


class Printed(NamedTuple):
    """What a job of mine printed."""

    sha256: bytes
    """Of stdout."""
    size: int
    """Bytes of stdout."""
    small: dict[StreamName, bytes]
    """Streams whose files are not durable yet."""


class Outputs:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, job_id: str, stream: StreamName) -> Path:
        return self._directory / f"{job_id}.{stream}"

    def file(self, job_id: str, name: str) -> Path:
        """Where a file that the job wrote to /out is kept; ``name`` has been checked."""
        return self._directory / f"{job_id}.files" / name

    def scratch(self, wanted: bool) -> AbstractContextManager[str]:
        """An empty directory for one run, gone afterwards; "" unless ``wanted``."""
        if not wanted:
            return nullcontext("")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=".out-", dir=self._directory, ignore_cleanup_errors=True)

    async def keep_file(self, job_id: str, name: str, content: bytes) -> None:
        """Store a file that the job left in /out; ``name`` has been checked. Raises JobError."""

        def write() -> None:
            path = self.file(job_id, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise JobError(f"Cannot write the job's files to {self._directory}: {error.strerror}.") from error

    def size(self, job_id: str, stream: StreamName) -> int:
        try:
            return self.path(job_id, stream).stat().st_size
        except OSError:
            return 0

    def append(self, job_id: str, stream: StreamName, data: bytes) -> None:
        """Raises JobError where the disk is full."""
        try:
            with self._open(job_id, stream, "ab") as file:
                file.write(data)
        except OSError as error:
            raise JobError(f"Cannot write the job's output to {self._directory}: {error.strerror}.") from error

    async def keep(self, job_id: str, streams: Mapping[StreamName, bytes]) -> dict[StreamName, bytes]:
        """Store all that was printed; an empty stream has no file. Returns the small ones, whose files are not durable yet.

        Raises JobError.
        """
        small = {name: data for name, data in streams.items() if 0 < len(data) <= SMALL}
        for name, data in streams.items():
            if len(data) > SMALL:
                await asyncio.to_thread(self.write, job_id, name, data)
            elif data or self.size(job_id, name):
                self.write(job_id, name, data, sync=False)
        return small

    def write(self, job_id: str, stream: StreamName, data: bytes, *, sync: bool = True) -> None:
        """Store all of a stream; an empty one has no file. Raises JobError."""
        path = self.path(job_id, stream)
        try:
            if not data:
                path.unlink(missing_ok=True)
                return
            with self._open(job_id, stream, "wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise JobError(f"Cannot write the job's output to {self._directory}: {error.strerror}.") from error

    def _open(self, job_id: str, stream: StreamName, mode: Literal["ab", "wb"]) -> BinaryIO:
        path = self.path(job_id, stream)
        try:
            return path.open(mode)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return path.open(mode)

    async def read(self, job_id: str, stream: StreamName) -> bytes:
        """b"" if nothing was printed."""

        return await asyncio.to_thread(self._read, job_id, stream)

    def _read(self, job_id: str, stream: StreamName) -> bytes:
        try:
            return self.path(job_id, stream).read_bytes()
        except FileNotFoundError:
            return b""

    def holds(self, job_id: str, stream: StreamName, data: bytes) -> bool:
        """Whether the stream's file is exactly that."""
        return self._read(job_id, stream) == data

    async def settle(self, job_id: str) -> Printed:
        """Make what arrived durable, but for small streams: those are handed back for the journal."""
        small: dict[StreamName, bytes] = {}
        for name in STREAMS:
            size = self.size(job_id, name)
            if size > SMALL:
                await asyncio.to_thread(self.sync, job_id, name)
            elif size:
                small[name] = self._read(job_id, name)
        if self.size(job_id, "stdout") > SMALL:
            stdout = await self.read(job_id, "stdout")
            digest = (await asyncio.to_thread(hashlib.sha256, stdout)).digest()
        else:
            stdout = small.get("stdout", b"")
            digest = hashlib.sha256(stdout).digest()
        return Printed(digest, len(stdout), small)

    def sync(self, job_id: str, stream: StreamName) -> None:
        """Make a stream's file durable, if there is one."""
        with suppress(FileNotFoundError), self.path(job_id, stream).open("rb+") as file:
            os.fsync(file.fileno())

    def sizes(self) -> dict[str, int]:
        """Bytes that are stored for each job."""
        found: Counter[str] = Counter()
        endings = (*STREAMS, "files")
        with suppress(FileNotFoundError):
            for path in self._directory.iterdir():
                job_id, _, ending = path.name.partition(".")
                if job_id and ending in endings:
                    files = path.rglob("*") if ending == "files" else (path,)
                    found[job_id] += sum(f.stat().st_size for f in files if f.is_file())
        return dict(found)

    def remove(self, job_id: str) -> None:
        for stream in STREAMS:
            self.path(job_id, stream).unlink(missing_ok=True)
        shutil.rmtree(self._directory / f"{job_id}.files", ignore_errors=True)
