"""Files of a run: what it finds in /in, what it may leave in /out, and what it never reaches."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.engine.jobs.sandbox.support import Recorder, sample
from zstui.engine.errors import BadInput
from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.hostfiles import Collected
from zstui.engine.jobs.sandbox.local import host_dir, run_module
from zstui.engine.jobs.sandbox.model import MAX_FILES, Execution, HostDir, InputFile, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

FIRST_FILE_SECOND = 1_627_716_379
"""Of the guest's clock for the seed of zeros."""


class Case:
    """Runs samples with files."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.recorder = Recorder(sandbox)
        self.given = folder / "given"
        self.out = folder / "out"
        self.given.mkdir()
        self.out.mkdir()

    async def run(
        self, name: str, *args: str, inputs: dict[str, bytes] | None = None, limits: Limits | None = None
    ) -> RunResult:
        files = []
        for number, (inside, content) in enumerate((inputs or {}).items()):
            path = self.given / str(number)
            path.write_bytes(content)
            files.append(InputFile(inside, str(path)))
        return await self.recorder.run(
            Execution(
                module=sample(name),
                args=args,
                inputs=tuple(files),
                out_dir=str(self.out),
                limits=limits or Limits(),
            )
        )

    @property
    def said(self) -> str:
        return self.recorder.stdout.decode()


@pytest.fixture
def case(sandbox: Sandbox, tmp_path: Path) -> Case:
    return Case(sandbox, tmp_path)


async def test_a_run_reads_in_and_leaves_out(case: Case) -> None:
    result = await case.run("shout", inputs={"b.txt": b"two", "a.txt": b"one", "sub/c.txt": b"not looked at"})
    assert (result.status, result.reason) == ("success", "")
    assert case.said == "a.txt\nb.txt\n", "in the order of names"
    assert [(file.name, file.size) for file in result.outputs] == [("a.txt", 3), ("b.txt", 3)]
    for file, content in zip(result.outputs, (b"ONE", b"TWO"), strict=True):
        assert case.out.joinpath(file.name).read_bytes() == content
        assert file.sha256 == hashlib.sha256(content).digest()
        assert file.path == str(case.out / file.name)
    assert sorted(os.listdir(case.out)) == ["a.txt", "b.txt"]


async def test_no_path_and_no_link_leads_out(case: Case, tmp_path: Path) -> None:
    (tmp_path / "escaped").write_text("untouched")
    inputs = {"a.txt": b"a", "sub/b.txt": b"b"}
    result = await case.run("intrude", "escape", inputs=inputs)
    assert result.status == "success"
    *attempts, last = case.said.splitlines()
    assert last == "read /in/sub/../a.txt: done"
    assert len(attempts) == 17
    assert not [line for line in attempts if line.endswith(": done")]
    assert result.outputs == ()
    assert os.listdir(case.out) == []
    assert (tmp_path / "escaped").read_text() == "untouched"
    assert (case.given / "0").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("disk", "1048576 bytes, then: No space left on device\n"),
        ("hidden", "1 removed files of 1 MiB held open, then: No space left on device\n"),
        ("swarm", f"{MAX_FILES} files, then: No space left on device\n"),
        ("sparse", "truncate 4 TiB: No space left on device\nseek 4 TiB: done\nwrite 4 TiB: No space left on device\n"),
    ],
)
async def test_writing_without_end_ends_at_the_limit(case: Case, mode: str, said: str) -> None:
    result = await case.run("intrude", mode, limits=Limits(files_bytes=1 << 20))
    assert result.status == "success"
    assert case.said == said
    assert sum(file.size for file in result.outputs) <= 1 << 20
    assert len(result.outputs) <= MAX_FILES


async def test_what_a_listing_tells_is_the_same_everywhere(case: Case) -> None:
    for order in (("a", "b"), ("b", "a")):
        os.utime(case.given, (1, 1))
        await case.run("intrude", "list", inputs=dict.fromkeys(order, b"12"))
    first, second = case.said[: len(case.said) // 2], case.said[len(case.said) // 2 :]
    assert [line.split()[0] for line in first.splitlines()] == [".", "..", "a", "b"]
    assert f"a 2 2 {FIRST_FILE_SECOND}\n" in first
    assert first == second


async def test_repetitions_agree_to_the_unit_of_gas(case: Case) -> None:
    results = [await case.run("shout", inputs={"a.txt": b"one"}) for _ in range(2)]
    assert results[0].gas == results[1].gas
    assert results[0].gas_exact
    assert results[0].outputs == results[1].outputs


async def test_inputs_that_clash_or_are_gone_end_the_job_before_it_starts(case: Case) -> None:
    result = await case.run("shout", inputs={"a": b"", "a/b": b""})
    assert (result.status, result.fault) == ("failure", "payer")
    lost = Execution(module=sample("shout"), inputs=(InputFile("a", str(case.given / "none")),))
    result = await case.recorder.run(lost)
    assert (result.status, result.fault) == ("error", "executor")
    assert "cannot be read" in result.reason


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\0b", ""])
async def test_a_worker_that_names_a_file_outside_is_not_believed(tmp_path: Path, name: str) -> None:
    collected = Collected((HostDir("/out", (), str(tmp_path)),), 100)
    with pytest.raises(BadInput):
        collected.take(0, name, b"x")


async def test_a_worker_that_leaves_too_much_is_not_believed(tmp_path: Path) -> None:
    dirs = (HostDir("/in"), HostDir("/out", (), str(tmp_path)))
    collected = Collected(dirs, 100)
    with pytest.raises(BadInput):
        collected.take(0, "x", b"")
    with pytest.raises(BadInput):
        collected.take(2, "x", b"")
    with pytest.raises(BadInput):
        collected.take(1, "x", bytes(101))
    collected = Collected(dirs, 100)
    for number in range(MAX_FILES):
        collected.take(1, str(number), b"")
    with pytest.raises(BadInput):
        collected.take(1, "one more", b"")


async def test_what_is_written_back_follows_no_link(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (inside / "folder").symlink_to(outside)
    (inside / "file").symlink_to(outside / "victim")
    os.link(outside / "victim", inside / "hard")
    collected = Collected((HostDir("/data", (), str(inside)),), 100)
    for name in ("file", "hard"):
        collected.take(0, name, b"new")
    collected.end()
    assert collected.save() == ()
    assert (inside / "file").read_text() == (inside / "hard").read_text() == "new"
    assert (outside / "victim").read_text() == "untouched"
    collected.take(0, "folder/victim", b"new")
    with pytest.raises(Exception, match="cannot be kept"):
        collected.save()
    assert (outside / "victim").read_text() == "untouched"


async def test_a_directory_of_ones_own_is_read_and_where_asked_written_back(tmp_path: Path, cache_dir: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "a.txt").write_text("one")
    (source / "link").symlink_to("/etc/passwd")
    (target / "a.txt").write_text("old")
    (target / "kept").write_text("kept")
    out: list[bytes] = []
    result = await run_module(
        samples()["shout"],
        dirs=(host_dir(source, "/in", False), host_dir(target, "/out", True)),
        on_output=lambda stream, data: out.append(data),
        cache_dir=cache_dir,
    )
    assert (result.status, b"".join(out)) == ("success", b"a.txt\n")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a.txt": "ONE", "kept": "kept"}
    assert (source / "a.txt").read_text() == "one"
    with pytest.raises(BadInput, match="not a directory"):
        host_dir(source / "a.txt", "/in", False)


async def test_what_a_run_had_written_until_it_was_stopped_is_kept(case: Case) -> None:
    result = await case.run("misbehave", "leave", limits=Limits(timeout_us=400_000))
    assert (result.status, [(f.name, f.size) for f in result.outputs]) == ("timeout", [("partial", 17)])
    assert (case.out / "partial").read_bytes() == b"as far as it got\n"


async def test_of_a_worker_that_was_killed_while_it_handed_over_nothing_is_kept(tmp_path: Path) -> None:
    collected = Collected((HostDir("/out", out_dir=str(tmp_path)),), 1000)
    collected.take(0, "half", b"x" * 10)
    assert collected.save() == ()
    collected.end()
    assert [f.name for f in collected.save()] == ["half"]
