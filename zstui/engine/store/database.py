"""The database: one SQLite file, one writer with group commit, one reader, versioned migrations.

``write`` resolves only after the COMMIT that made the change durable (WAL, ``synchronous=FULL``). Waiting writes are drained
together, at most 64 or 2 ms, each in a SAVEPOINT of its own so that one failing operation undoes only itself. A failed
COMMIT stops the database: nothing that depended on it was sent, and the node recovers at its next start.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec

from zstui.engine.errors import DatabaseTooNew, HomeError, StoreError

T = TypeVar("T")
Tx = sqlite3.Connection
"""What an operation gets: a plain connection, inside a transaction. It runs in the database thread: no await, no bus."""
Operation = Callable[[Tx], T]

MAX_GROUP = 64
MAX_WAIT_S = 0.002
LOG_BYTES = 1000 * (4096 + 24) + 32
"""What the write-ahead log grows to before SQLite starts it over: 1,000 pages, each with a header, and one for the file."""
STATEMENTS = 512
"""Compiled SQL statements that a connection keeps."""

_PRAGMAS = (
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    "journal_size_limit=16777216",
)


class Migration(msgspec.Struct, frozen=True):
    """One step of one feature's schema. Steps of a component are numbered 1, 2, 3, ...; published ones never change."""

    component: str
    version: int
    sql: str
    """Statements separated by ";", all tables STRICT."""


class _Pending(msgspec.Struct):
    operation: Operation[Any]
    future: asyncio.Future[Any]


class Database:
    """Use ``open``; close with ``close``. Both methods below may be called from any task of the loop that opened it."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue(maxsize=10_000)
        self._failed: StoreError | None = None
        self._closed = False
        self._task = asyncio.create_task(self._drain(), name="database writer")
        self.failed = asyncio.Event()
        """Set when a COMMIT failed."""

    @classmethod
    async def open(cls, path: Path, migrations: Iterable[Migration]) -> Database:
        """Open or create with mode 0600, and bring the schema up to date. Raises DatabaseTooNew, HomeError."""
        writer = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its WAL the same mode
            writer = await aiosqlite.connect(path, isolation_level=None, cached_statements=STATEMENTS)
            for pragma in _PRAGMAS:
                await writer.execute(f"PRAGMA {pragma}")
            await _run(writer, lambda tx: _migrate(tx, tuple(migrations), path))
            await _run(writer, lambda tx: _lengthen_log(tx, path))
            reader = await aiosqlite.connect(path, isolation_level=None, cached_statements=STATEMENTS)
            await reader.execute("PRAGMA busy_timeout=5000")
            await reader.execute("PRAGMA query_only=ON")
        except (OSError, sqlite3.Error) as error:
            if writer is not None:
                await writer.close()
            raise HomeError(f"Cannot use the database {path}: {error}.") from error
        except HomeError:
            if writer is not None:
                await writer.close()
            raise
        return cls(writer, reader)

    async def write(self, operation: Operation[T]) -> T:
        """Run ``operation`` in the writer's transaction; returns its result once that is durable.

        What it raises is raised here, with its own changes undone. Raises StoreError if the COMMIT failed.
        """
        if self._failed is not None:
            raise self._failed
        if self._closed:
            raise StoreError("The database is closed.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Pending(operation, future))
        return await future

    async def read(self, operation: Operation[T]) -> T:
        """Run a query on the reader: it sees all that is committed."""
        if self._closed:
            raise StoreError("The database is closed.")
        return await _run(self._reader, operation)

    async def close(self) -> None:
        """Finish what is queued, checkpoint, close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._queue.put(None)
        await self._task
        await self._reader.close()
        await self._writer.close()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        stopping = False
        while not stopping:
            group: list[_Pending] = []
            item = await self._queue.get()
            deadline = loop.time() + MAX_WAIT_S
            while True:
                if item is None:
                    stopping = True
                    break
                group.append(item)
                if len(group) >= MAX_GROUP or self._queue.empty() or loop.time() > deadline:
                    break
                item = self._queue.get_nowait()
            if group:
                await self._commit(group)

    async def _commit(self, group: list[_Pending]) -> None:
        operations = [p.operation for p in group]
        try:
            if self._failed is not None:
                raise self._failed
            results = await _run(self._writer, lambda tx: _run_group(tx, operations))
        except (sqlite3.Error, StoreError) as error:
            self._failed = StoreError(
                f"The database could not be written ({error}); the node stops to keep what it has."
            )
            self.failed.set()
            for pending in group:
                if not pending.future.done():
                    pending.future.set_exception(self._failed)
            return
        for pending, (ok, value) in zip(group, results, strict=True):
            if pending.future.done():
                continue
            if ok:
                pending.future.set_result(value)
            else:
                pending.future.set_exception(value)


def _run_group(tx: Tx, operations: list[Operation[Any]]) -> list[tuple[bool, Any]]:
    results: list[tuple[bool, Any]] = []
    tx.execute("BEGIN IMMEDIATE")
    try:
        for operation in operations:
            tx.execute("SAVEPOINT op")
            try:
                value = operation(tx)
            except Exception as error:  # noqa: BLE001  raised again at the caller
                tx.execute("ROLLBACK TO op")
                results.append((False, error))
            else:
                results.append((True, value))
            tx.execute("RELEASE op")
        tx.execute("COMMIT")
    except sqlite3.Error:
        if tx.in_transaction:
            tx.execute("ROLLBACK")
        raise
    return results


async def _run(connection: aiosqlite.Connection, operation: Operation[T]) -> T:
    """Run a whole operation in aiosqlite's thread: one hop instead of one a statement."""
    return await connection._execute(operation, connection._conn)  # type: ignore[no-untyped-call,no-any-return]


def _lengthen_log(tx: Tx, path: Path) -> None:
    """Give the write-ahead log its later length now, if there is plenty of room. A COMMIT that lengthens no file takes half the
    time.

    SQLite reads its log up to the first page that does not follow on the one before, which zeros never do.
    """
    if shutil.disk_usage(path.parent).free < 16 * LOG_BYTES:
        return
    tx.execute("BEGIN IMMEDIATE")  # Nobody else writes to the log.
    try:
        with open(f"{path}-wal", "ab") as log:
            log.write(bytes(max(0, LOG_BYTES - log.tell())))
            log.flush()
            os.fsync(log.fileno())
    finally:
        tx.execute("ROLLBACK")


def _migrate(tx: Tx, migrations: tuple[Migration, ...], path: Path) -> None:
    tx.execute("BEGIN IMMEDIATE")
    try:
        tx.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
        )
        have = dict(tx.execute("SELECT component, version FROM schema_version").fetchall())
        known: dict[str, int] = {}
        for step in migrations:
            known[step.component] = max(known.get(step.component, 0), step.version)
        newer = sorted(c for c, v in have.items() if v > known.get(c, 0))
        if newer:
            raise DatabaseTooNew(
                f"The database {path} was written by a newer zstui ({', '.join(newer)}); update zstui or use another --home."
            )
        for step in sorted(migrations, key=lambda m: m.version):
            if step.version > have.get(step.component, 0):
                for statement in step.sql.split(";"):
                    if statement.strip():
                        tx.execute(statement)
                tx.execute(
                    "INSERT INTO schema_version VALUES (?, ?) ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                    (step.component, step.version),
                )
        tx.execute("COMMIT")
    except BaseException:
        tx.execute("ROLLBACK")
        raise
