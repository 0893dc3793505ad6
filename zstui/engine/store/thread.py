"""A thread that owns one SQLite connection."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, TypeVar

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


class ConnectionThread:
    """Implements ``Connection``. A job costs one wake-up of the thread, its reply one of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(cls, path: Path, name: str) -> ConnectionThread:
        """``name`` is for whoever looks at a process's threads. Raises sqlite3.Error."""
        self = cls()
        opened: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._run, args=(path, opened), name=name, daemon=True).start()
        await opened
        return self

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    async def close(self) -> None:
        self._jobs.put(None)
        await self._ended

    def _run(self, path: Path, opened: asyncio.Future[None]) -> None:
        try:
            tx = sqlite3.connect(path, isolation_level=None, cached_statements=STATEMENTS)
        except sqlite3.Error as error:
            self._reply(partial(fail, opened, error))
            return
        self._reply(partial(resolve, opened, None))
        while (job := self._jobs.get()) is not None:
            reply = job(tx)
            if reply is not None:
                self._reply(reply)
            del job, reply  # Nothing of the last job is kept while waiting for the next.
        tx.close()
        self._reply(partial(resolve, self._ended, None))

    def _reply(self, reply: Reply) -> None:
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
