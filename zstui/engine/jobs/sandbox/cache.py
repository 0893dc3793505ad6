"""Compiled modules on disk. They are native code: only what this machine wrote itself, unchanged, is ever read back.

Each entry is a file named by its key, an HMAC over key and content first, made with a key file that never leaves the
directory. What does not verify is deleted and compiled again. All functions block: call them from a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from pathlib import Path

import msgspec

from zstui.engine.errors import HomeError
from zstui.engine.jobs.sandbox.model import Signature

QUOTA_BYTES = 512 << 20
TRANSIENT_S = 3600
"""How long a failure that may be the machine's (time, memory) is remembered."""

_MAC = hashlib.sha256().digest_size
_KEY_FILE = "key"
_SUFFIX = ".module"


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One module, compiled or found impossible to compile."""

    rejected: str
    """Why it does not compile; "" if it does."""
    transient: bool
    """The rejection may be due to the machine's state."""
    exports: dict[str, Signature]
    """Exported functions."""
    memory: str | None
    """Name of the exported linear memory, "" where it is not exported, None where there is none."""
    image: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class Cache:
    """Files under ``directory``, at most ``quota_bytes`` of them; the least recently used go first."""

    def __init__(self, directory: Path, quota_bytes: int = QUOTA_BYTES) -> None:
        self._directory = directory
        self._quota = quota_bytes
        self._key = b""

    def open(self) -> None:
        """Make directory and key where they are missing. Raises HomeError."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            self.empty_dir.mkdir(mode=0o700, exist_ok=True)
            self._key = self._read_key() or self._new_key()
        except OSError as error:
            raise HomeError(f"The module cache {self._directory} cannot be used: {error}.") from error

    @property
    def empty_dir(self) -> Path:
        """Where sandbox processes live: nothing is ever in it."""
        return self._directory / "empty"

    def load(self, key: str) -> Record | None:
        """The entry of that key, or None where there is none that is whole, authentic and still valid."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            age = time.time() - path.stat().st_mtime
        except OSError:
            return None
        body = memoryview(data)[_MAC:]
        record = None
        if len(data) > _MAC and hmac.compare_digest(self._mac(key, body), data[:_MAC]):
            with contextlib.suppress(msgspec.DecodeError):
                record = _decoder.decode(body)
        if record is None or (record.transient and age > TRANSIENT_S):
            self.discard(key)
            return None
        if not record.transient:
            with contextlib.suppress(OSError):
                os.utime(path)
        return record

    def store(self, key: str, record: Record) -> None:
        """Write the entry; a full disk only means that it is compiled again next time."""
        body = _encoder.encode(record)
        with contextlib.suppress(OSError):
            self._write(self._path(key), self._mac(key, memoryview(body)) + body)
            self._evict()

    def discard(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._directory / (key + _SUFFIX)

    def _mac(self, key: str, body: memoryview) -> bytes:
        mac = hmac.new(self._key, key.encode(), hashlib.sha256)
        mac.update(body)
        return mac.digest()

    def _write(self, path: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise

    def _evict(self) -> None:
        entries = []
        for path in self._directory.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._quota:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _read_key(self) -> bytes:
        path = self._directory / _KEY_FILE
        try:
            key = path.read_bytes()
            private = path.stat().st_mode & 0o077 == 0
        except FileNotFoundError:
            return b""
        if len(key) == _MAC and private:
            return key
        path.unlink()
        return b""

    def _new_key(self) -> bytes:
        """Another process may do the same at this moment: the first to link its file wins, for both."""
        handle, name = tempfile.mkstemp(dir=self._directory)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_MAC))
        with contextlib.suppress(FileExistsError):
            os.link(name, self._directory / _KEY_FILE)
        os.unlink(name)
        return (self._directory / _KEY_FILE).read_bytes()
