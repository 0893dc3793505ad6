from __future__ import annotations

import asyncio
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from zstui.engine.errors import DatabaseTooNew, HomeError, StoreError
from zstui.engine.store import database
from zstui.engine.store.database import Database, Migration, Operation, Tx

ONE = Migration("things", 1, "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;")
TWO = Migration("things", 2, "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 0;")


def names(tx: Tx) -> list[str]:
    return [row[0] for row in tx.execute("SELECT name FROM thing ORDER BY id")]


def modes(folder: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in folder.iterdir()]


async def test_write_is_visible_to_the_reader_and_after_a_restart(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    assert (
        await db.write(lambda tx: tx.execute("INSERT INTO thing (name) VALUES ('a') RETURNING id").fetchone()[0]) == 1
    )
    assert await db.read(names) == ["a"]
    await db.close()
    await db.close()
    db = await Database.open(tmp_path / "z.db", [ONE, TWO])
    assert await db.read(names) == ["a"]
    await db.close()


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    assert modes(tmp_path) == [0o600, 0o600, 0o600], "the file, its WAL and its index"
    await db.close()


async def test_a_failing_operation_undoes_only_itself(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])

    def twice(tx: Tx) -> None:
        tx.execute("INSERT INTO thing (name) VALUES ('half')")
        tx.execute("INSERT INTO thing (name) VALUES ('a')")

    def single(name: str) -> object:
        return db.write(lambda tx: tx.execute("INSERT INTO thing (name) VALUES (?)", (name,)) and None)

    results = await asyncio.gather(single("a"), db.write(twice), single("b"), return_exceptions=True)  # type: ignore[call-overload]
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert await db.read(names) == ["a", "b"]
    await db.close()


async def test_reader_cannot_write(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    with pytest.raises(sqlite3.OperationalError):
        await db.read(lambda tx: tx.execute("INSERT INTO thing (name) VALUES ('x')"))
    await db.close()


async def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE, TWO])
    await db.close()
    with pytest.raises(DatabaseTooNew, match="newer zstui"):
        await Database.open(tmp_path / "z.db", [ONE])


async def test_garbage_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "z.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(HomeError, match=r"z\.db"):
        await Database.open(tmp_path / "z.db", [ONE])


async def test_settings_are_durable(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    assert await db.read(lambda tx: tx.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert await db.write(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (2,)
    await db.close()


async def test_submissions_are_told_in_order_once_they_are_durable(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    told: list[object] = []
    other = sqlite3.connect(tmp_path / "z.db")

    def done(name: str) -> None:
        there = other.execute("SELECT count(*) FROM thing WHERE name = ?", (name,)).fetchone()[0]
        told.append((name, there))
        if name == "b":
            raise ValueError("a fault of this caller")

    def add(tx: Tx, name: str) -> str:
        return str(tx.execute("INSERT INTO thing (name) VALUES (?) RETURNING name", (name,)).fetchone()[0])

    for name in ("a", "b", "a", "c"):
        db.submit(partial(add, name=name), done, told.append)
    await db.write(lambda tx: None)
    assert [item if isinstance(item, tuple) else type(item) for item in told] == [
        ("a", 1),
        ("b", 1),
        sqlite3.IntegrityError,
        ("c", 1),
    ]
    other.close()
    await db.close()


async def test_only_what_may_be_lost_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    levels: list[object] = []

    def level(tx: Tx) -> int:
        return int(tx.execute("PRAGMA synchronous").fetchone()[0])

    async def alone(lazily: bool) -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        db.submit(level, told.set_result, told.set_exception, lazily=lazily)
        return await told

    assert [await alone(lazily) for lazily in (True, True, False, True)] == [1, 1, 2, 1]
    occupied = threading.Event()
    db.submit(lambda tx: occupied.wait(10), lambda _: None, levels.append)  # the next three are written together
    for lazily in (True, False, True):
        db.submit(level, levels.append, levels.append, lazily=lazily)
    occupied.set()
    await db.write(lambda tx: None)
    assert levels == [2, 2, 2]
    await db.close()


async def test_a_failed_commit_stops_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = await Database.open(tmp_path / "z.db", [ONE])
    run_group = database._run_group

    def full(tx: Tx, operations: list[Operation[object]]) -> list[tuple[bool, object]]:
        run_group(tx, [lambda tx: None])
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_run_group", full)
    writes = [db.write(lambda tx: None) for _ in range(3)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert db.failed.is_set()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="disk is full"):
        await db.write(lambda tx: None)
    await db.close()
