"""The files of a guest, against a plain model of what they must hold and may take."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zstui.engine.jobs.sandbox.files import Errno, File, Files, WasiError

ROOM, NODES = 100, 6
NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/a"])


class Volume(RuleBasedStateMachine):
    """Every call succeeds or raises WasiError; contents follow the model; no room is lost or won."""

    def __init__(self) -> None:
        super().__init__()
        self.files = Files(ROOM, NODES, 0)
        self.files.mount("/out", [], True)
        self.root = self.files.mounts[0].root
        self.model: dict[str, bytearray] = {}
        self.held: list[File] = []
        self.seen: dict[int, bytes] = {}
        """What each held file held when it was last there under a name."""

    @rule(name=NAMES)
    def make_directory(self, name: str) -> None:
        with contextlib.suppress(WasiError):
            self.files.create_directory(*self.files.locate(self.root, name.encode()), 1)

    @rule(name=NAMES, offset=st.integers(0, 60), data=st.binary(max_size=60))
    def write(self, name: str, offset: int, data: bytes) -> None:
        try:
            parent, last = self.files.locate(self.root, name.encode())
            node = parent.entries.get(last) or self.files.create_file(parent, last, 1)
        except WasiError:
            return
        if not isinstance(node, File):
            return
        content = self.model.setdefault(name, bytearray())
        with contextlib.suppress(WasiError):
            written = self.files.write(node, offset, data, 2)
            if written:
                content.extend(bytes(max(offset - len(content), 0)))
                content[offset : offset + written] = data[:written]

    @rule(name=NAMES, size=st.integers(0, 120))
    def resize(self, name: str, size: int) -> None:
        with contextlib.suppress(WasiError):
            node = self.files.find(self.root, name.encode())
            if isinstance(node, File):
                self.files.resize(node, size, 3)
                content = self.model[name]
                content[:] = content[:size].ljust(size, b"\0")

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        with contextlib.suppress(WasiError):
            parent, last = self.files.locate(self.root, name.encode())
            self.files.remove_file(parent, last, 4)
            del self.model[name]

    @rule(name=NAMES)
    def remove_directory(self, name: str) -> None:
        with contextlib.suppress(WasiError):
            self.files.remove_directory(*self.files.locate(self.root, name.encode()), 4)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        with contextlib.suppress(WasiError):
            found = [self.files.locate(self.root, name.encode()) for name in (old, new)]
            self.files.rename(found[0], found[1], 5)
            if old != new:
                moved = {name: data for name, data in self.model.items() if name == old or name.startswith(f"{old}/")}
                self.model.pop(new, None)
                for name in moved:
                    del self.model[name]
                self.model |= {new + name[len(old) :]: data for name, data in moved.items()}

    @rule(name=NAMES)
    def hold(self, name: str) -> None:
        with contextlib.suppress(WasiError):
            node = self.files.find(self.root, name.encode())
            if isinstance(node, File):
                self.files.opened(node)
                self.held.append(node)

    @rule()
    def let_go(self) -> None:
        if self.held:
            self.files.closed(self.held.pop())

    @invariant()
    def holds_what_it_should(self) -> None:
        assert {name: bytes(file.data) for name, file in self.files.mounts[0].changed()} == {
            name: bytes(data) for name, data in self.model.items()
        }

    @invariant()
    def keeps_what_is_removed_while_it_is_open(self) -> None:
        for file in self.held:
            if file.linked:
                self.seen[file.ino] = bytes(file.data)
            assert bytes(file.data) == self.seen[file.ino]

    @invariant()
    def takes_no_more_than_it_may(self) -> None:
        lost = {id(file): len(file.data) for file in self.held if not file.linked}
        taken = sum(map(len, self.model.values())) + sum(lost.values())
        assert self.files._room == ROOM - taken >= 0
        assert len(self.model) <= NODES


TestVolume = Volume.TestCase
TestVolume.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        (b"..", Errno.NOTCAPABLE),
        (b"d/../..", Errno.NOTCAPABLE),
        (b"/etc", Errno.NOTCAPABLE),
        (b"", Errno.NOENT),
        (b"a\0b", Errno.INVAL),
        (b"\xff", Errno.ILSEQ),
        (b"x" * 5000, Errno.NAMETOOLONG),
        (b"d/a/b", Errno.NOTDIR),
        (b"none/a", Errno.NOENT),
    ],
)
def test_paths_that_lead_nowhere(path: bytes, errno: Errno) -> None:
    files = Files(ROOM, NODES, 0)
    files.mount("/in", [("d/a", b"")], False)
    with pytest.raises(WasiError) as caught:
        files.find(files.mounts[0].root, path)
    assert caught.value.errno == errno
