"""Keeping the database small: what is older than it has to be kept is deleted bit by bit, and its pages given back.

Evidence is kept for more than a year (``KEPT_US``). Each step is one short write among the others, so that payments never
wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from zstui.engine.clock import US, Clock
from zstui.engine.errors import StoreError
from zstui.engine.store.database import Database, Tx

KEPT_US = 400 * 86_400 * US
FIRST_S = 60.0
EVERY_S = 6 * 3_600.0
ROWS = 500
"""Deleted in one write."""
PAGES = 256
"""Given back to the file system in one write."""
PAUSE_S = 0.05

Prune = Callable[[Tx, int, int], int]
"""(transaction, before µs, at most rows): deletes what is older; returns how many rows went."""


class Upkeep:
    def __init__(self, db: Database, path: Path, clock: Clock, prunes: Sequence[Prune]) -> None:
        self._db = db
        self._path = path
        self._clock = clock
        self._prunes = tuple(prunes)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def size_bytes(self) -> int:
        """The database with its journal, on disk."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def tidy(self) -> int:
        """Delete all that is too old and give the space back; returns the rows deleted. Raises StoreError."""
        before, gone = self._clock.now_us() - KEPT_US, 0
        for prune in self._prunes:
            while count := await self._db.write(lambda tx, prune=prune: prune(tx, before, ROWS)):  # type: ignore[misc]
                gone += count
                await asyncio.sleep(PAUSE_S)
        more = True
        while more:
            more = await self._db.write(_give_back)
            await asyncio.sleep(PAUSE_S)
        return gone

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                await self.tidy()
            except StoreError:
                return  # The node is stopping for it.
            await asyncio.sleep(EVERY_S)


def _give_back(tx: Tx) -> bool:
    """Return some free pages; whether there is more worth returning: a few are soon used again."""
    if tx.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
        return False
    free = int(tx.execute("PRAGMA freelist_count").fetchone()[0])
    if free <= PAGES:
        return False
    tx.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    return int(tx.execute("PRAGMA freelist_count").fetchone()[0]) < free
