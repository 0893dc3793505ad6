from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.engine.jobs.sandbox.support import Recorder, sample
from zstui.engine.errors import HomeError
from zstui.engine.jobs.sandbox.cache import TRANSIENT_S, Cache, Record
from zstui.engine.jobs.sandbox.pool import Sandbox


def record(image: bytes = b"native", *, rejected: str = "", transient: bool = False) -> Record:
    return Record(rejected, transient, {}, None, image)


def only_entry(directory: Path) -> Path:
    (path,) = directory.glob("*.module")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "modules", quota_bytes=3500)
    cache.open()
    return cache


def entry(cache: Cache, key: str) -> Path:
    return cache.empty_dir.parent / f"{key}.module"


def test_an_entry_reads_back_in_another_process(cache: Cache) -> None:
    cache.store("aa", record())
    again = Cache(cache.empty_dir.parent)
    again.open()
    assert again.load("aa") == record()
    assert again.load("bb") is None


def test_any_changed_byte_is_found_and_the_entry_deleted(cache: Cache) -> None:
    cache.store("aa", record())
    path = entry(cache, "aa")
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert cache.load("aa") is None
        assert not path.exists()
    for size in (0, 10, len(good) - 1):
        path.write_bytes(good[:size])
        assert cache.load("aa") is None


def test_an_entry_under_another_key_is_refused(cache: Cache) -> None:
    cache.store("aa", record())
    os.rename(entry(cache, "aa"), entry(cache, "bb"))
    assert cache.load("bb") is None


def test_a_key_file_that_others_can_read_is_replaced(cache: Cache) -> None:
    cache.store("aa", record())
    (cache.empty_dir.parent / "key").chmod(0o644)
    again = Cache(cache.empty_dir.parent)
    again.open()
    assert again.load("aa") is None


def test_the_least_recently_used_go_first(cache: Cache) -> None:
    for age, key in enumerate(("aa", "bb", "cc")):
        cache.store(key, record(bytes(1000)))
        os.utime(entry(cache, key), (1000 + age, 1000 + age))
    assert cache.load("aa")
    cache.store("dd", record(bytes(1000)))
    assert [key for key in ("aa", "bb", "cc", "dd") if cache.load(key)] == ["aa", "cc", "dd"]


def test_a_failure_of_the_module_is_kept_and_one_of_the_machine_for_an_hour(cache: Cache) -> None:
    cache.store("aa", record(rejected="no"))
    cache.store("bb", record(rejected="no time", transient=True))
    assert cache.load("bb")
    old = time.time() - TRANSIENT_S - 5
    for key in ("aa", "bb"):
        os.utime(entry(cache, key), (old, old))
    assert cache.load("aa")
    assert cache.load("bb") is None


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="module cache"):
        Cache(tmp_path / "file" / "modules").open()


async def test_a_tampered_module_is_compiled_again_and_never_loaded(tmp_path: Path) -> None:
    gas = []
    for tamper in (False, True, False):
        if tamper:
            path = only_entry(tmp_path)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x10
            path.write_bytes(data)
            before = bytes(data)
        sandbox = Sandbox(tmp_path, 1)
        await sandbox.start()
        try:
            result = await Recorder(sandbox).sample("hello")
        finally:
            await sandbox.stop()
        assert result.status == "success"
        gas.append(result.gas)
        if tamper:
            assert path.read_bytes() != before
    assert len(set(gas)) == 1, "compiled and read back run the same"


async def test_a_module_that_wasmtime_does_not_take_is_compiled_again(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, 1)
    await sandbox.start()
    try:
        await sandbox.check(sample("hello"))
    finally:
        await sandbox.stop()
    path = only_entry(tmp_path)
    cache = Cache(tmp_path)
    cache.open()
    whole = cache.load(path.stem)
    assert whole
    cache.store(path.stem, Record("", False, whole.exports, whole.memory, whole.image[:5000]))
    sandbox = Sandbox(tmp_path, 1)
    await sandbox.start()
    try:
        assert (await Recorder(sandbox).sample("hello")).status == "success"
    finally:
        await sandbox.stop()
