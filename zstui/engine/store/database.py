"""The database: one SQLite file, one writer with group commit, one reader, versioned migrations.

``write`` resolves only after the COMMIT that made the change durable (WAL, ``synchronous=FULL``). Whatever waits when the writer
comes free is written together, at most 64 operations, each in a SAVEPOINT of its own so that one failing operation undoes only
itself; a lone one waits for nothing. A failed COMMIT stops the database: nothing that depended on it was sent, and the node
recovers at its next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zstui.engine.errors import DatabaseTooNew, HomeError, StoreError
from zstui.engine.store.thread import Connection, Operation, Reply, ThreadedConnection, Tx, fail, resolve, run

__all__ = ["Database", "Migration", "Operation", "Tx"]

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_GROUP = 64
LOG_BYTES = 1000 * (4096 + 24) + 32
"""What the write-ahead log grows to before SQLite starts it over: 1,000 pages, each with a header, and one for the file."""

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


class _Pending(msgspec.Struct, frozen=True):
    operation: Operation[Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    lazily: bool


class Database:
    """Use ``open``; close with ``close``. The methods may be called from any task of the loop that opened it."""

    def __init__(self, writer: Connection, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._waiting: deque[_Pending] = deque()
        """Filled by the loop, emptied by the writer's thread."""
        self._failure: StoreError | None = None
        self._closed = False
        self._lazily = False
        """How the writer commits now."""
        self.failed = asyncio.Event()
        """Set when a COMMIT failed."""

    @classmethod
    async def open(cls, path: Path, migrations: Iterable[Migration]) -> Database:
        """Open or create with mode 0600, and bring the schema up to date. Raises DatabaseTooNew, HomeError."""
        steps = tuple(migrations)
        writer = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its WAL the same mode
            writer = await ThreadedConnection.open(path)
            await run(writer, lambda tx: _prepare(tx, steps, path))
            reader = await ThreadedConnection.open(path)
            await run(reader, _read_only)
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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(operation, partial(resolve, future), partial(fail, future))
        return await future

    def submit(
        self,
        operation: Operation[T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        *,
        lazily: bool = False,
    ) -> None:
        """As ``write``, without a task: exactly one of the two is called in the loop, in the order of the submissions.

        ``lazily``: for what can be learned again. It outlives the process, and where the power goes it is lost only together
        with all that was written after it; that costs no wait for the disk.

        Raises StoreError where nothing can be written any more.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise StoreError("The database is closed.")
        self._waiting.append(_Pending(operation, done, failed, lazily))
        self._writer.put(self._write_some)

    async def read(self, operation: Operation[T]) -> T:
        """Run a query on the reader: it sees all that is committed."""
        if self._closed:
            raise StoreError("The database is closed.")
        return await run(self._reader, operation)

    async def close(self) -> None:
        """Finish what is queued, checkpoint, close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._reader.close()
        await self._writer.close()

    def _write_some(self, tx: Tx) -> Reply | None:
        """Write what waits, in one transaction. Called once for each submission, and mostly finds nothing left."""
        group: list[_Pending] = []
        while self._waiting and len(group) < MAX_GROUP:
            group.append(self._waiting.popleft())
        if not group:
            return None
        if self._failure is not None:
            return partial(self._refuse, group, self._failure)
        try:
            self._wait_for_disk(tx, not all(pending.lazily for pending in group))
            results = _run_group(tx, [pending.operation for pending in group])
        except sqlite3.Error as error:
            self._failure = StoreError(
                f"The database could not be written ({error}); the node stops to keep what it has."
            )
            return partial(self._refuse, group, self._failure)
        return partial(_tell, group, results)

    def _wait_for_disk(self, tx: Tx, wait: bool) -> None:
        """Whether the next COMMIT does: with synchronous=NORMAL, SQLite's log reaches the disk with the next one that does."""
        if wait is self._lazily:
            tx.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")
            self._lazily = not wait

    def _refuse(self, group: list[_Pending], failure: StoreError) -> None:
        self.failed.set()
        for pending in group:
            pending.failed(failure)


def _tell(group: list[_Pending], results: list[tuple[bool, Any]]) -> None:
    for pending, (ok, value) in zip(group, results, strict=True):
        try:
            (pending.done if ok else pending.failed)(value)
        except Exception:  # A fault of one caller must not keep the others waiting.
            log.exception("What follows from a write failed.")


def _run_group(tx: Tx, operations: list[Operation[Any]]) -> list[tuple[bool, Any]]:
    """(whether it went well, its result or what it raised) of each, in one transaction."""
    results: list[tuple[bool, Any]] = []
    tx.execute("BEGIN IMMEDIATE")
    try:
        if len(operations) == 1:
            results.append(_run_one(tx, operations[0]))
            if not results[0][0]:
                tx.execute("ROLLBACK")
                return results
        else:
            for operation in operations:
                tx.execute("SAVEPOINT op")
                results.append(_run_one(tx, operation))
                if not results[-1][0]:
                    tx.execute("ROLLBACK TO op")
                tx.execute("RELEASE op")
        tx.execute("COMMIT")
    except sqlite3.Error:
        if tx.in_transaction:
            tx.execute("ROLLBACK")
        raise
    return results


def _run_one(tx: Tx, operation: Operation[Any]) -> tuple[bool, Any]:
    try:
        return True, operation(tx)
    except Exception as error:  # noqa: BLE001  raised again at the caller
        return False, error


def _prepare(tx: Tx, migrations: tuple[Migration, ...], path: Path) -> None:
    for pragma in _PRAGMAS:
        tx.execute(f"PRAGMA {pragma}")
    _migrate(tx, migrations, path)
    _lengthen_log(tx, path)


def _read_only(tx: Tx) -> None:
    tx.execute("PRAGMA busy_timeout=5000")
    tx.execute("PRAGMA query_only=ON")


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
