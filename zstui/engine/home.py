"""The home directory of one node: where things lie, and the lock that keeps a second node out."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path

import platformdirs

from zstui.engine.errors import HomeError, HomeLocked

MAX_SOCKET_PATH = 100
"""Unix socket paths over about 107 bytes are refused by the kernel."""


def default_home() -> Path:
    """``ZSTUI_HOME`` if set, else the platform's data directory for zstui."""
    chosen = os.environ.get("ZSTUI_HOME")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("zstui", appauthor=False))


class Home:
    """Paths inside a home. Nothing is created before ``acquire``."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.key = self.path / "key"
        self.database = self.path / "zstui.db"
        self.lock = self.path / "lock"
        self.config = self.path / "config.toml"
        self.boots = self.path / "boots"
        self.logs = self.path / "log"
        self.output = self.path / "output"
        self.cache = self.path / "cache"
        self.calibration = self.path / "calibration.json"
        self._lock_fd: int | None = None

    @property
    def socket(self) -> Path:
        """The control socket; where the home's path is too long for one, under a short name in the temporary directory."""
        inside = self.path / "control.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
            return inside
        folder = Path(tempfile.gettempdir()) / f"zstui-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise HomeError(
                f"{folder} belongs to somebody else, and {self.path} is too long for a socket: move the home."
            )
        return folder / f"{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}.sock"

    def acquire(self) -> None:
        """Make the home (mode 0700) and take its lock. Raises HomeLocked, HomeError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.logs, self.output, self.cache):
                folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeError(f"Cannot use the home directory {self.path}: {error.strerror or error}.") from error
        if not _locked(fd):
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise HomeLocked(
                f"A zstui node{f' (process {pid})' if pid.isdigit() else ''} already runs on {self.path}; "
                "attach to it with plain zstui, or give another --home."
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._lock_fd = fd

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def running(self) -> bool:
        """Whether a node holds the lock of this home."""
        try:
            fd = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def read_boots(self) -> int:
        """Starts counted in a file outside the database; a database that counts fewer is an old copy."""
        try:
            return int(self.boots.read_text()) if self.boots.exists() else 0
        except (OSError, ValueError) as error:
            raise HomeError(f"Cannot read {self.boots}: {error}.") from error

    def write_boots(self, count: int) -> None:
        """Store the count durably. Call it after the database has counted, so that a crash between looks harmless."""
        temporary = self.boots.with_suffix(".new")
        try:
            with temporary.open("w") as file:
                file.write(str(count))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.boots)
        except OSError as error:
            raise HomeError(f"Cannot write in the home directory {self.path}: {error.strerror or error}.") from error


def _locked(fd: int) -> bool:
    """Take the lock; a few tries, for ``running`` elsewhere may be holding it for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False
