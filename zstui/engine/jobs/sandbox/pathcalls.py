"""The ``path_*`` calls of WASI preview 1: paths lead down from an open directory, never above it. There are no links."""

from __future__ import annotations

import struct
from collections.abc import Callable

from zstui.engine.jobs.sandbox.descriptors import Descriptors, OpenNode
from zstui.engine.jobs.sandbox.fdcalls import RIGHT_READ, RIGHT_WRITE, filestat, set_times
from zstui.engine.jobs.sandbox.files import Directory, Errno, File, Node, WasiError
from zstui.engine.jobs.sandbox.guest import GuestMemory

_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8
_MAX_PATH = 4096


class PathCalls:
    """``now`` tells the guest's time in nanoseconds."""

    def __init__(self, memory: GuestMemory, now: Callable[[], int]) -> None:
        self._memory = memory
        self._now = now
        self._open: Descriptors

    def begin(self, descriptors: Descriptors) -> None:
        self._open = descriptors

    def path_open(
        self,
        fd: int,
        _lookup: int,
        path: int,
        length: int,
        how: int,
        rights: int,
        _inheriting: int,
        flags: int,
        result: int,
    ) -> None:
        base, directory = self._open.directory(fd)
        name = self._path(path, length)
        writes = bool(rights & RIGHT_WRITE)
        if (writes or how & (_CREATE | _TRUNCATE)) and not base.mount.writable:
            self._refuse_change(directory, name, how, writes)
        node = self._node(directory, name, how)
        if isinstance(node, Directory):
            if writes:
                raise WasiError(Errno.ISDIR)
        elif how & _DIRECTORY:
            raise WasiError(Errno.NOTDIR)
        elif how & _TRUNCATE:
            self._open.files.resize(node, 0, self._now())
        opened = OpenNode(
            node, base.mount, readable=bool(rights & RIGHT_READ), writable=writes, flags=flags & 0x1F, preopen=False
        )
        self._memory.write(result, struct.pack("<I", self._open.add(opened)))

    def _node(self, directory: Directory, path: bytes, how: int) -> Node:
        """What is there, or a new file where the flags ask for one."""
        files = self._open.files
        if not how & _CREATE:
            return files.find(directory, path)
        parent, last = files.locate(directory, path)
        if last and last not in parent.entries:
            if path.endswith(b"/") or how & _DIRECTORY:
                raise WasiError(Errno.INVAL if how & _DIRECTORY else Errno.ISDIR)
            return files.create_file(parent, last, self._now())
        if how & _EXCLUSIVE:
            raise WasiError(Errno.EXIST)
        return files.find(directory, path)

    def _refuse_change(self, directory: Directory, path: bytes, how: int, writes: bool) -> None:
        """In a directory that is only for reading, opening with intent to create is fine where the file is there."""
        try:
            self._open.files.find(directory, path)
        except WasiError as error:
            if error.errno != Errno.NOENT or not how & _CREATE:
                raise
            raise WasiError(Errno.ROFS) from None
        if writes or how & _TRUNCATE:
            raise WasiError(Errno.ROFS)

    def path_filestat_get(self, fd: int, _lookup: int, path: int, length: int, result: int) -> None:
        _, directory = self._open.directory(fd)
        self._memory.write(result, filestat(self._open.files.find(directory, self._path(path, length))))

    def path_filestat_set_times(
        self, fd: int, _lookup: int, path: int, length: int, accessed: int, modified: int, flags: int
    ) -> None:
        node = self._open.files.find(self._writable(fd), self._path(path, length))
        set_times(node, accessed, modified, flags, self._now())

    def path_create_directory(self, fd: int, path: int, length: int) -> None:
        parent, name = self._open.files.locate(self._writable(fd), self._path(path, length))
        self._open.files.create_directory(parent, name, self._now())

    def path_remove_directory(self, fd: int, path: int, length: int) -> None:
        parent, name = self._open.files.locate(self._writable(fd), self._path(path, length))
        self._open.files.remove_directory(parent, name, self._now())

    def path_unlink_file(self, fd: int, path: int, length: int) -> None:
        text = self._path(path, length)
        parent, name = self._open.files.locate(self._writable(fd), text)
        if text.endswith(b"/") and isinstance(parent.entries.get(name), File):
            raise WasiError(Errno.NOTDIR)
        self._open.files.remove_file(parent, name, self._now())

    def path_rename(self, fd: int, path: int, length: int, to_fd: int, to_path: int, to_length: int) -> None:
        files = self._open.files
        source = files.locate(self._writable(fd), self._path(path, length))
        target = files.locate(self._writable(to_fd), self._path(to_path, to_length))
        if self._open.directory(fd)[0].mount is not self._open.directory(to_fd)[0].mount:
            raise WasiError(Errno.XDEV)
        files.rename(source, target, self._now())

    def path_link(self, *_: int) -> None:
        raise WasiError(Errno.NOTSUP)

    def path_symlink(self, *_: int) -> None:
        raise WasiError(Errno.NOTSUP)

    def path_readlink(self, fd: int, path: int, length: int, _target: int, _size: int, _result: int) -> None:
        _, directory = self._open.directory(fd)
        self._open.files.find(directory, self._path(path, length))
        raise WasiError(Errno.INVAL)

    def _path(self, at: int, length: int) -> bytes:
        if length > _MAX_PATH:
            raise WasiError(Errno.NAMETOOLONG)
        return self._memory.read(at, length)

    def _writable(self, fd: int) -> Directory:
        descriptor, directory = self._open.directory(fd)
        if not descriptor.mount.writable:
            raise WasiError(Errno.ROFS)
        return directory
