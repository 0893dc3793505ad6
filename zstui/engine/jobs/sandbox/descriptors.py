"""What the guest has open: its three streams, the directories it was given, and what it opened below them."""

from __future__ import annotations

from collections.abc import Callable

from zstui.engine.jobs.sandbox.files import Directory, Errno, File, Files, Mount, Node, WasiError

_MAX_OPEN = 256
STDIN, STDOUT, STDERR = range(3)

Sink = Callable[[bytes], int]
"""Takes bytes of an output stream and returns how many it took, or a negative number where it takes no more."""


class Stream:
    """Standard input, or a sink for output."""

    def __init__(self, data: bytes = b"", sink: Sink | None = None) -> None:
        self.data = data
        self.sink = sink
        self.offset = 0


class OpenNode:
    def __init__(self, node: Node, mount: Mount, *, readable: bool, writable: bool, flags: int, preopen: bool) -> None:
        self.node = node
        self.mount = mount
        self.readable = readable
        self.writable = writable
        self.flags = flags
        self.preopen = preopen
        self.offset = 0
        self.listing: list[tuple[str, Node]] = []
        """What ``fd_readdir`` goes through, as it was when it began."""


Descriptor = Stream | OpenNode


class Descriptors:
    def __init__(self, files: Files, stdin: bytes, stdout: Sink, stderr: Sink) -> None:
        self.files = files
        self._open: dict[int, Descriptor] = {
            STDIN: Stream(stdin),
            STDOUT: Stream(sink=stdout),
            STDERR: Stream(sink=stderr),
        }
        for mount in files.mounts:
            self.add(OpenNode(mount.root, mount, readable=True, writable=False, flags=0, preopen=True))

    def __contains__(self, fd: int) -> bool:
        return fd in self._open

    def add(self, descriptor: OpenNode) -> int:
        """The lowest free number."""
        if len(self._open) >= _MAX_OPEN:
            raise WasiError(Errno.MFILE)
        fd = next(n for n in range(_MAX_OPEN) if n not in self._open)
        self._open[fd] = descriptor
        if isinstance(descriptor.node, File):
            self.files.opened(descriptor.node)
        return fd

    def close(self, fd: int) -> None:
        descriptor = self.get(fd)
        del self._open[fd]
        if isinstance(descriptor, OpenNode) and isinstance(descriptor.node, File):
            self.files.closed(descriptor.node)

    def renumber(self, fd: int, to: int) -> None:
        """``to`` must be open, and is closed first."""
        descriptor = self.get(fd)
        self.get(to)
        if fd != to:
            self.close(to)
            self._open[to] = descriptor
            del self._open[fd]

    def get(self, fd: int) -> Descriptor:
        found = self._open.get(fd)
        if found is None:
            raise WasiError(Errno.BADF)
        return found

    def node(self, fd: int) -> OpenNode:
        """A file or directory. A stream has no place to seek in."""
        found = self.get(fd)
        if isinstance(found, Stream):
            raise WasiError(Errno.SPIPE)
        return found

    def file(self, fd: int) -> tuple[OpenNode, File]:
        found = self.node(fd)
        if isinstance(found.node, Directory):
            raise WasiError(Errno.ISDIR)
        return found, found.node

    def directory(self, fd: int) -> tuple[OpenNode, Directory]:
        found = self.get(fd)
        if isinstance(found, Stream) or isinstance(found.node, File):
            raise WasiError(Errno.NOTDIR)
        return found, found.node
