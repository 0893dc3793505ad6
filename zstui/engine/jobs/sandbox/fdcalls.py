"""The ``fd_*`` calls of WASI preview 1. Numbers come in unsigned; a call that fails raises WasiError."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from zstui.engine.jobs.sandbox.descriptors import STDIN, Descriptors, OpenNode, Stream
from zstui.engine.jobs.sandbox.files import Directory, Errno, File, Node, WasiError
from zstui.engine.jobs.sandbox.guest import GuestMemory

_MAX_IO = 8 << 20
"""Most bytes that one call moves; it may do less than it was asked for."""
_MAX_VECTORS = 1024
_MAX_LISTING = 1 << 20

_IOVEC = struct.Struct("<II")
_FDSTAT = struct.Struct("<BxHxxxxQQ")
_FILESTAT = struct.Struct("<QQBxxxxxxxQQQQQ")
_PRESTAT = struct.Struct("<BxxxI")
_DIRENT = struct.Struct("<QQIBxxx")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

_UNKNOWN, _DIRECTORY, _REGULAR = 0, 3, 4
_APPEND = 1
_SET_ATIM, _ATIM_NOW, _SET_MTIM, _MTIM_NOW = 1, 2, 4, 8
_FROM_START, _FROM_HERE, _FROM_END = range(3)

RIGHT_READ, RIGHT_WRITE, _RIGHT_POLL = 1 << 1, 1 << 6, 1 << 27
_ALL_RIGHTS = (1 << 30) - 1
_OF_FILES_ONLY = RIGHT_READ | RIGHT_WRITE | 1 << 2 | 1 << 5 | 1 << 8 | 1 << 22
"""Reading, writing, seeking, telling, allocating, setting the size."""
_STREAM_RIGHTS = _RIGHT_POLL | 1 << 21


def filestat(node: Node) -> bytes:
    size = len(node.data) if isinstance(node, File) else 0
    kind = _REGULAR if isinstance(node, File) else _DIRECTORY
    return _FILESTAT.pack(1, node.ino, kind, 1, size, node.accessed, node.modified, node.modified)


def set_times(node: Node, accessed: int, modified: int, flags: int, now: int) -> None:
    if flags & (_SET_ATIM | _ATIM_NOW) == _SET_ATIM | _ATIM_NOW or flags & (_SET_MTIM | _MTIM_NOW) == (
        _SET_MTIM | _MTIM_NOW
    ):
        raise WasiError(Errno.INVAL)
    if flags & (_SET_ATIM | _ATIM_NOW):
        node.accessed = now if flags & _ATIM_NOW else accessed
    if flags & (_SET_MTIM | _MTIM_NOW):
        node.modified = now if flags & _MTIM_NOW else modified


class FdCalls:
    """``now`` tells the guest's time in nanoseconds; ``charge`` is told of each byte that is written."""

    def __init__(self, memory: GuestMemory, now: Callable[[], int], charge: Callable[[int], None]) -> None:
        self._memory = memory
        self._now = now
        self._charge = charge
        self._open: Descriptors

    def begin(self, descriptors: Descriptors) -> None:
        self._open = descriptors

    # --- reading and writing

    def fd_read(self, fd: int, vectors: int, count: int, result: int) -> None:
        descriptor = self._open.get(fd)
        if isinstance(descriptor, Stream):
            if descriptor.sink:
                raise WasiError(Errno.BADF)
            descriptor.offset += self._scatter(descriptor.data, descriptor.offset, vectors, count, result)
        else:
            descriptor.offset += self._read(fd, descriptor.offset, vectors, count, result)

    def fd_pread(self, fd: int, vectors: int, count: int, offset: int, result: int) -> None:
        self._read(fd, offset, vectors, count, result)

    def fd_write(self, fd: int, vectors: int, count: int, result: int) -> None:
        descriptor = self._open.get(fd)
        data = self._gather(vectors, count)
        if isinstance(descriptor, OpenNode):
            file = self._writable(fd)
            offset = len(file.data) if descriptor.flags & _APPEND else descriptor.offset
            written = self._open.files.write(file, offset, data, self._now())
            descriptor.offset = offset + written
            self._charge(written)
        elif descriptor.sink is None:
            raise WasiError(Errno.BADF)
        else:
            written = descriptor.sink(data) if data else 0
            if written < 0:
                raise WasiError(Errno.PIPE)
        self._memory.write(result, _U32.pack(written))

    def fd_pwrite(self, fd: int, vectors: int, count: int, offset: int, result: int) -> None:
        written = self._open.files.write(self._writable(fd), offset, self._gather(vectors, count), self._now())
        self._charge(written)
        self._memory.write(result, _U32.pack(written))

    def _read(self, fd: int, offset: int, vectors: int, count: int, result: int) -> int:
        descriptor, file = self._open.file(fd)
        if not descriptor.readable:
            raise WasiError(Errno.BADF)
        return self._scatter(file.data, offset, vectors, count, result)

    def _writable(self, fd: int) -> File:
        descriptor, file = self._open.file(fd)
        if not descriptor.writable:
            raise WasiError(Errno.BADF)
        return file

    def _vectors(self, at: int, count: int) -> Iterator[tuple[int, int]]:
        if count > _MAX_VECTORS:
            raise WasiError(Errno.INVAL)
        left = _MAX_IO
        for address, length in _IOVEC.iter_unpack(self._memory.read(at, count * _IOVEC.size)):
            self._memory.check(address, length)
            yield address, min(length, left)
            left -= min(length, left)

    def _scatter(self, data: bytes | bytearray, offset: int, vectors: int, count: int, result: int) -> int:
        start = offset
        for address, length in self._vectors(vectors, count):
            piece = bytes(data[offset : offset + length])
            self._memory.write(address, piece)
            offset += len(piece)
        self._memory.write(result, _U32.pack(offset - start))
        return offset - start

    def _gather(self, vectors: int, count: int) -> bytes:
        return b"".join([self._memory.read(address, length) for address, length in self._vectors(vectors, count)])

    # --- places

    def fd_seek(self, fd: int, delta: int, whence: int, result: int) -> None:
        descriptor, file = self._open.file(fd)
        if whence > _FROM_END:
            raise WasiError(Errno.INVAL)
        base = {_FROM_START: 0, _FROM_HERE: descriptor.offset, _FROM_END: len(file.data)}[whence]
        target = base + (delta - (1 << 64) if delta >> 63 else delta)
        if not 0 <= target < 1 << 63:
            raise WasiError(Errno.INVAL)
        descriptor.offset = target
        self._memory.write(result, _U64.pack(target))

    def fd_tell(self, fd: int, result: int) -> None:
        descriptor, _ = self._open.file(fd)
        self._memory.write(result, _U64.pack(descriptor.offset))

    def fd_close(self, fd: int) -> None:
        self._open.close(fd)

    def fd_renumber(self, fd: int, to: int) -> None:
        self._open.renumber(fd, to)

    # --- what a descriptor is

    def fd_fdstat_get(self, fd: int, result: int) -> None:
        descriptor = self._open.get(fd)
        if isinstance(descriptor, Stream):
            right = RIGHT_READ if fd == STDIN else RIGHT_WRITE
            stat = _FDSTAT.pack(_UNKNOWN, 0, _STREAM_RIGHTS | right, 0)
        elif isinstance(descriptor.node, Directory):
            stat = _FDSTAT.pack(_DIRECTORY, descriptor.flags, _ALL_RIGHTS & ~_OF_FILES_ONLY, _ALL_RIGHTS)
        else:
            rights = _ALL_RIGHTS
            rights &= ~(0 if descriptor.readable else RIGHT_READ) & ~(0 if descriptor.writable else RIGHT_WRITE)
            stat = _FDSTAT.pack(_REGULAR, descriptor.flags, rights, 0)
        self._memory.write(result, stat)

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        self._open.node(fd).flags = flags & 0x1F

    def fd_fdstat_set_rights(self, fd: int, _base: int, _inheriting: int) -> None:
        self._open.get(fd)
        raise WasiError(Errno.NOTSUP)

    def fd_filestat_get(self, fd: int, result: int) -> None:
        descriptor = self._open.get(fd)
        stat = bytes(_FILESTAT.size) if isinstance(descriptor, Stream) else filestat(descriptor.node)
        self._memory.write(result, stat)

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        self._open.files.resize(self._writable(fd), size, self._now())

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        descriptor = self._open.node(fd)
        if not descriptor.mount.writable:
            raise WasiError(Errno.ROFS)
        set_times(descriptor.node, accessed, modified, flags, self._now())

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        file = self._writable(fd)
        if length == 0:
            raise WasiError(Errno.INVAL)
        if offset + length > len(file.data):
            self._open.files.resize(file, offset + length, self._now())

    def fd_advise(self, fd: int, _offset: int, _length: int, advice: int) -> None:
        self._open.file(fd)
        if advice > 5:
            raise WasiError(Errno.INVAL)

    def fd_sync(self, fd: int) -> None:
        self._open.node(fd)

    def fd_datasync(self, fd: int) -> None:
        self._open.node(fd)

    # --- directories

    def fd_prestat_get(self, fd: int, result: int) -> None:
        self._memory.write(result, _PRESTAT.pack(0, len(self._preopen(fd))))

    def fd_prestat_dir_name(self, fd: int, target: int, length: int) -> None:
        name = self._preopen(fd)
        if length < len(name):
            raise WasiError(Errno.NAMETOOLONG)
        self._memory.write(target, name)

    def _preopen(self, fd: int) -> bytes:
        descriptor = self._open.get(fd)
        if isinstance(descriptor, Stream) or not descriptor.preopen:
            raise WasiError(Errno.BADF)
        return descriptor.mount.guest.encode()

    def fd_readdir(self, fd: int, target: int, size: int, cookie: int, result: int) -> None:
        descriptor, directory = self._open.directory(fd)
        if cookie == 0:
            entries: list[tuple[str, Node]] = [(".", directory), ("..", directory)]
            descriptor.listing = entries + sorted(directory.entries.items())
        size = min(size, _MAX_LISTING)
        listed = bytearray()
        for index, (name, node) in enumerate(descriptor.listing[cookie:], cookie + 1):
            text = name.encode()
            kind = _REGULAR if isinstance(node, File) else _DIRECTORY
            listed += _DIRENT.pack(index, node.ino, len(text), kind) + text
            if len(listed) >= size:
                break
        self._memory.write(target, bytes(listed[:size]))
        self._memory.write(result, _U32.pack(min(len(listed), size)))
