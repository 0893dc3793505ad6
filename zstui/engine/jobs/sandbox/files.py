"""The files that a guest sees: directories in memory, the same on every machine, with nothing of the host behind them.

Inode numbers count up as files are made, times are the guest's own, directories are listed by name, and there are no links
and no special files. So a run sees nothing that its repetition elsewhere would not see, and no path leads out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from zstui.engine.errors import BadInput
from zstui.engine.jobs.sandbox.model import MAX_NAME, check_name

_MAX_PATH = 4096


class Errno(enum.IntEnum):
    """Of WASI preview 1."""

    OK = 0
    BADF = 8
    BUSY = 10
    EXIST = 20
    FAULT = 21
    FBIG = 22
    ILSEQ = 25
    INVAL = 28
    IO = 29
    ISDIR = 31
    MFILE = 33
    NAMETOOLONG = 37
    NOENT = 44
    NOSPC = 51
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSOCK = 57
    NOTSUP = 58
    PIPE = 64
    ROFS = 69
    SPIPE = 70
    XDEV = 75
    NOTCAPABLE = 76


class WasiError(Exception):
    """A call fails with that errno, and the guest goes on."""

    def __init__(self, errno: Errno) -> None:
        self.errno = errno


class File:
    def __init__(self, ino: int, data: bytes | bytearray, now: int) -> None:
        self.ino = ino
        self.data = data
        """A bytearray once the guest has written to it, and counted then."""
        self.accessed = self.modified = now
        """Nanoseconds of the guest's clock."""
        self.changed = isinstance(data, bytearray)
        """Made or written to by the guest."""
        self.opens = 0
        self.linked = True


class Directory:
    def __init__(self, ino: int, now: int) -> None:
        self.ino = ino
        self.entries: dict[str, File | Directory] = {}
        self.accessed = self.modified = now
        self.linked = True


Node = File | Directory


class Mount:
    """One directory of the guest with all below it."""

    def __init__(self, guest: str, root: Directory, writable: bool) -> None:
        self.guest = guest
        """Where the guest finds it, such as "/in"."""
        self.root = root
        self.writable = writable

    def changed(self) -> Iterator[tuple[str, File]]:
        """Files that the guest made or wrote to, sorted by name. Those with a name that is not plain are left out."""
        found: list[tuple[str, File]] = []
        ahead: list[tuple[str, Directory]] = [("", self.root)]
        while ahead:
            prefix, directory = ahead.pop()
            for name, node in directory.entries.items():
                if isinstance(node, Directory):
                    ahead.append((f"{prefix}{name}/", node))
                elif node.changed and len((prefix + name).encode()) <= MAX_NAME:
                    found.append((prefix + name, node))
        return iter(sorted(found, key=lambda item: item[0]))


class Files:
    """All mounts of one run, and how much the guest may still write."""

    def __init__(self, room: int, nodes: int, now: int) -> None:
        """``room`` bytes and ``nodes`` files and directories; ``now`` is the time of all that is there at the start."""
        self.mounts: list[Mount] = []
        self._room = room
        self._nodes = nodes
        self._next_ino = 1
        self._start = now

    def mount(self, guest: str, files: Iterable[tuple[str, bytes]], writable: bool) -> None:
        """``files`` by names that ``check_name`` took. Raises BadInput where one is a directory of another."""
        root = Directory(self._ino(), self._start)
        for name, data in sorted(files):
            *parents, last = name.split("/")
            directory = root
            for part in parents:
                found = directory.entries.get(part)
                if found is None:
                    found = directory.entries[part] = Directory(self._ino(), self._start)
                if isinstance(found, File):
                    raise BadInput(f"{part} is given as a file and as a directory.")
                directory = found
            if last in directory.entries:
                raise BadInput(f"{last} is given twice.")
            directory.entries[last] = File(self._ino(), data, self._start)
        self.mounts.append(Mount(guest, root, writable))

    # --- names

    def find(self, base: Directory, path: bytes) -> Node:
        parent, name = self.locate(base, path)
        if not name:
            return parent
        node = parent.entries.get(name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if path.endswith(b"/") and isinstance(node, File):
            raise WasiError(Errno.NOTDIR)
        return node

    def locate(self, base: Directory, path: bytes) -> tuple[Directory, str]:
        """The directory that holds, or would hold, the last part of ``path``; an empty part
        where that is the directory itself, as in "." or "..".

        Raises WasiError where the path would lead above ``base``."""
        if len(path) > _MAX_PATH:
            raise WasiError(Errno.NAMETOOLONG)
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise WasiError(Errno.ILSEQ) from None
        if not text:
            raise WasiError(Errno.NOENT)
        if text.startswith("/"):
            raise WasiError(Errno.NOTCAPABLE)
        if "\0" in text:
            raise WasiError(Errno.INVAL)
        parts = [part for part in text.split("/") if part not in ("", ".")]
        walked = [base]
        last = ""
        for index, part in enumerate(parts):
            if len(part.encode()) > MAX_NAME:
                raise WasiError(Errno.NAMETOOLONG)
            if part == "..":
                if len(walked) == 1:
                    raise WasiError(Errno.NOTCAPABLE)
                walked.pop()
            elif index == len(parts) - 1:
                last = part
            else:
                node = walked[-1].entries.get(part)
                if node is None:
                    raise WasiError(Errno.NOENT)
                if isinstance(node, File):
                    raise WasiError(Errno.NOTDIR)
                walked.append(node)
        return walked[-1], last

    # --- changing

    def create_file(self, parent: Directory, name: str, now: int) -> File:
        self._take_node(parent, name)
        file = File(self._ino(), bytearray(), now)
        parent.entries[name] = file
        parent.modified = now
        return file

    def create_directory(self, parent: Directory, name: str, now: int) -> None:
        if not name or name in parent.entries:
            raise WasiError(Errno.EXIST)
        self._take_node(parent, name)
        parent.entries[name] = Directory(self._ino(), now)
        parent.modified = now

    def remove_file(self, parent: Directory, name: str, now: int) -> None:
        node = parent.entries.get(name)
        if node is None:
            raise WasiError(Errno.NOENT if name else Errno.ISDIR)
        if isinstance(node, Directory):
            raise WasiError(Errno.ISDIR)
        self._unlink(parent, name, now)

    def remove_directory(self, parent: Directory, name: str, now: int) -> None:
        node = parent.entries.get(name)
        if node is None:
            raise WasiError(Errno.NOENT if name else Errno.INVAL)
        if isinstance(node, File):
            raise WasiError(Errno.NOTDIR)
        if node.entries:
            raise WasiError(Errno.NOTEMPTY)
        self._unlink(parent, name, now)

    def rename(self, source: tuple[Directory, str], target: tuple[Directory, str], now: int) -> None:
        (parent, name), (new_parent, new_name) = source, target
        node = parent.entries.get(name)
        if node is None:
            raise WasiError(Errno.NOENT if name else Errno.BUSY)
        if not new_name:
            raise WasiError(Errno.BUSY)
        old = new_parent.entries.get(new_name)
        if old is node:
            return
        _check_new(new_parent, new_name)
        if isinstance(node, Directory) and _contains(node, new_parent):
            raise WasiError(Errno.INVAL)
        if isinstance(old, Directory):
            if isinstance(node, File):
                raise WasiError(Errno.ISDIR)
            if old.entries:
                raise WasiError(Errno.NOTEMPTY)
        elif old is not None and isinstance(node, Directory):
            raise WasiError(Errno.NOTDIR)
        if old is not None:
            self._unlink(new_parent, new_name, now)
        del parent.entries[name]
        new_parent.entries[new_name] = node
        parent.modified = new_parent.modified = now
        for file in _files_below(node):
            file.changed = True

    def write(self, file: File, offset: int, data: bytes, now: int) -> int:
        """Bytes written: fewer than given where the room ends."""
        content = self._own(file)
        room = len(content) + self._room - offset
        if data and room <= 0:
            raise WasiError(Errno.NOSPC)
        data = data[: max(room, 0)]
        end = offset + len(data)
        if data and end > len(content):
            self._room -= end - len(content)
            content.extend(bytes(max(offset - len(content), 0)))
        content[offset:end] = data
        self._touch(file, now)
        return len(data)

    def resize(self, file: File, size: int, now: int) -> None:
        content = self._own(file) if size else self._emptied(file)
        grown = size - len(content)
        if grown > self._room:
            raise WasiError(Errno.NOSPC)
        self._room -= grown
        if grown > 0:
            content.extend(bytes(grown))
        else:
            del content[size:]
        self._touch(file, now)

    def opened(self, file: File) -> None:
        file.opens += 1

    def closed(self, file: File) -> None:
        """What was removed while it was open takes room until now."""
        file.opens -= 1
        self._release(file)

    # --- accounts

    def _ino(self) -> int:
        self._next_ino += 1
        return self._next_ino - 1

    def _take_node(self, parent: Directory, name: str) -> None:
        _check_new(parent, name)
        if self._nodes <= 0:
            raise WasiError(Errno.NOSPC)
        self._nodes -= 1

    def _unlink(self, parent: Directory, name: str, now: int) -> None:
        node = parent.entries.pop(name)
        node.linked = False
        parent.modified = now
        self._nodes += 1
        if isinstance(node, File):
            self._release(node)

    def _release(self, file: File) -> None:
        if not file.opens and not file.linked and isinstance(file.data, bytearray):
            self._room += len(file.data)
            file.data = b""

    def _own(self, file: File) -> bytearray:
        if not isinstance(file.data, bytearray):
            if len(file.data) > self._room:
                raise WasiError(Errno.NOSPC)
            self._room -= len(file.data)
            file.data = bytearray(file.data)
        return file.data

    def _emptied(self, file: File) -> bytearray:
        if not isinstance(file.data, bytearray):
            file.data = bytearray()
        return file.data

    def _touch(self, file: File, now: int) -> None:
        file.changed = True
        file.modified = now


def _check_new(parent: Directory, name: str) -> None:
    if not parent.linked:
        raise WasiError(Errno.NOENT)
    try:
        check_name(name)
    except BadInput:
        raise WasiError(Errno.INVAL) from None


def _contains(directory: Directory, wanted: Directory) -> bool:
    ahead = [directory]
    while ahead:
        at = ahead.pop()
        if at is wanted:
            return True
        ahead += [node for node in at.entries.values() if isinstance(node, Directory)]
    return False


def _files_below(node: Node) -> Iterator[File]:
    ahead = [node]
    while ahead:
        at = ahead.pop()
        if isinstance(at, File):
            yield at
        else:
            ahead += at.entries.values()
