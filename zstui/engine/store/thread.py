"""A connection in a thread of its own, as aiosqlite runs it.

aiosqlite answers each call in a task of its own. Here a group of operations is committed in one call and answered all at once,
so jobs are put straight into the queue of its thread. This module alone touches what aiosqlite keeps private, which is why
`pyproject.toml` holds its version.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import aiosqlite

T = TypeVar("T")
Tx = sqlite3.Connection
"""What an operation gets: a plain connection, inside a transaction. It runs in the database thread: no await, no bus."""
Operation = Callable[[Tx], T]
Reply = Callable[[], None]
Job = Callable[[Tx], Reply | None]
"""Runs in the thread and raises nothing; what it returns runs in the loop."""

STATEMENTS = 512
"""Compiled SQL statements that a connection keeps."""


class Connection(Protocol):
    """Runs jobs on one connection, one at a time in the order they come, elsewhere than in the loop."""

    def put(self, job: Job) -> None: ...

    async def close(self) -> None:
        """Do what waits, then close the connection. Once."""


class ThreadedConnection:
    """Implements ``Connection``. A job costs one wake-up of the thread, its reply one of the loop."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._jobs = connection._tx
        self._tx = connection._conn

    @classmethod
    async def open(cls, path: Path) -> ThreadedConnection:
        """Raises sqlite3.Error."""
        return cls(await aiosqlite.connect(path, isolation_level=None, cached_statements=STATEMENTS))

    def put(self, job: Job) -> None:
        self._jobs.put_nowait((None, partial(self._run, job)))

    async def close(self) -> None:
        await self._connection.close()

    def _run(self, job: Job) -> None:
        reply = job(self._tx)
        if reply is not None:
            with contextlib.suppress(RuntimeError):  # The loop was closed, so nobody waits for it.
                self._loop.call_soon_threadsafe(reply)


async def run(connection: Connection, operation: Operation[T]) -> T:
    """Run ``operation`` on ``connection`` outside of any transaction; raises what it raises."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def job(tx: Tx) -> Reply:
        try:
            value = operation(tx)
        except Exception as error:  # noqa: BLE001  raised again at the caller
            return partial(fail, future, error)
        return partial(resolve, future, value)

    connection.put(job)
    return await future


def resolve(future: asyncio.Future[T], value: T) -> None:
    """Unless whoever waited went away."""
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[T], error: Exception) -> None:
    """Unless whoever waited went away."""
    if not future.done():
        future.set_exception(error)
