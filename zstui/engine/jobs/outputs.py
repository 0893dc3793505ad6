"""Files that hold what jobs printed: two a job, complete up to the job's cap."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from zstui.engine.errors import JobError

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, ...] = ("stdout", "stderr")


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
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path(job_id, stream).open("ab") as file:
                file.write(data)
        except OSError as error:
            raise JobError(f"Cannot write the job's output to {self._directory}: {error.strerror}.") from error

    async def replace(self, job_id: str, stream: StreamName, data: bytes) -> None:
        """Store all of a stream durably; an empty one has no file."""
        await asyncio.to_thread(self._replace, job_id, stream, data)

    def _replace(self, job_id: str, stream: StreamName, data: bytes) -> None:
        path = self.path(job_id, stream)
        try:
            if not data:
                path.unlink(missing_ok=True)
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise JobError(f"Cannot write the job's output to {self._directory}: {error.strerror}.") from error

    async def read(self, job_id: str, stream: StreamName) -> bytes:
        """b"" if nothing was printed."""

        def read() -> bytes:
            try:
                return self.path(job_id, stream).read_bytes()
            except FileNotFoundError:
                return b""

        return await asyncio.to_thread(read)

    async def settle(self, job_id: str) -> tuple[bytes, int]:
        """Make stdout and stderr durable; SHA-256 of stdout, and its size."""

        def settle() -> tuple[bytes, int]:
            for stream in STREAMS:
                try:
                    with self.path(job_id, stream).open("rb+") as file:
                        os.fsync(file.fileno())
                except FileNotFoundError:
                    pass
            try:
                data = self.path(job_id, "stdout").read_bytes()
            except FileNotFoundError:
                data = b""
            return hashlib.sha256(data).digest(), len(data)

        return await asyncio.to_thread(settle)

    def remove(self, job_id: str) -> None:
        for stream in STREAMS:
            self.path(job_id, stream).unlink(missing_ok=True)
        shutil.rmtree(self._directory / f"{job_id}.files", ignore_errors=True)
