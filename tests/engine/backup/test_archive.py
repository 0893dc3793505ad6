"""The file of a backup: whole or refused, with a sentence that says why."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from nacl.pwhash import argon2id

from zstui.engine.backup import archive
from zstui.engine.backup.archive import Cost, Manifest
from zstui.engine.errors import BackupError, BadInput

CHEAP = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
SECRET = "correct horse"


def backup(folder: Path, size: int = 200_000) -> Path:
    data, key = folder / "data", folder / "key"
    data.write_bytes(os.urandom(size))
    key.write_bytes(b"k" * 32)
    manifest = Manifest(
        version="1",
        peer_id="peer",
        name="me",
        taken_us=1,
        boots=3,
        channels=(),
        owed_to_me_u=0,
        i_owe_u=0,
        files=(("key", 32), ("data", size)),
    )
    archive.write(folder / "b", SECRET, manifest, {"key": key, "data": data}, CHEAP)
    return folder / "b"


@pytest.mark.parametrize("size", [0, 1, archive.CHUNK, archive.CHUNK + 1, 200_000])
def test_what_goes_in_comes_out(tmp_path: Path, size: int) -> None:
    path = backup(tmp_path, size)
    out = tmp_path / "out"
    out.mkdir()
    assert archive.extract(path, SECRET, out) == archive.peek(path, SECRET)
    assert (out / "data").read_bytes() == (tmp_path / "data").read_bytes()
    assert (out / "key").read_bytes() == b"k" * 32
    assert [p.stat().st_mode & 0o077 for p in (path, out / "key", out / "data")] == [0, 0, 0]
    assert b"k" * 32 not in path.read_bytes()


def test_a_wrong_passphrase_and_a_short_one(tmp_path: Path) -> None:
    path = backup(tmp_path)
    with pytest.raises(BackupError, match="passphrase is wrong"):
        archive.peek(path, "another horse")
    with pytest.raises(BadInput, match="8 characters"):
        archive.check_passphrase("short")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = backup(tmp_path).read_bytes()
    for number, length in enumerate((5, 40, 200, 70_000, len(whole) - 22, len(whole) - 1)):
        cut, out = tmp_path / f"cut{number}", tmp_path / f"out{number}"
        cut.write_bytes(whole[:length])
        out.mkdir()
        with pytest.raises(BackupError, match=r"cut short|not a backup"):
            archive.extract(cut, SECRET, out)


@pytest.mark.parametrize("at", [12, 60, 300, 100_000, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, at: int) -> None:
    path, out = backup(tmp_path), tmp_path / "out"
    out.mkdir()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupError):
        archive.extract(path, SECRET, out)


def test_more_after_the_end_and_a_newer_version(tmp_path: Path) -> None:
    path, out = backup(tmp_path), tmp_path / "out"
    out.mkdir()
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    with pytest.raises(BackupError, match="follows its end"):
        archive.extract(path, SECRET, out)
    path.write_bytes(data[:8] + bytes([archive.VERSION + 1]) + data[9:])
    with pytest.raises(BackupError, match="newer zstui"):
        archive.peek(path, SECRET)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupError, match="No space left"):
        backup(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"data", "key"}


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    path = backup(tmp_path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        backup(tmp_path)
    assert path.read_bytes() == before
