"""What the owner of this machine lets others' jobs do: a switch, hours and limits, kept in the database."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from zstui.engine.clock import US, Clock
from zstui.engine.errors import BadInput
from zstui.engine.jobs import store
from zstui.engine.jobs.hours import Hours, format_minute
from zstui.engine.jobs.slots import Slots
from zstui.engine.store.database import Database

LEAST_MEMORY_MIB = 1
CLOSED = "its owner takes no new work right now"


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """As stored."""

    accept: bool = True
    hours: Hours = Hours()
    max_jobs: int = 0
    """0: as many as the node was started with."""
    memory_mib: int = 0
    """0: as much as the node was started with."""


class Owner:
    def __init__(self, db: Database, clock: Clock, slots: Slots, memory_mib: int) -> None:
        """``slots`` and ``memory_mib`` hold what the node was started with: the owner may go below, not above."""
        self._db = db
        self._clock = clock
        self._slots = slots
        self._most_jobs = slots.limit
        self._most_memory_mib = memory_mib
        self._wishes = Wishes()
        self._told_open = True
        self.changed: Callable[[], None] = lambda: None
        """Called after a change, and when hours begin or end."""

    async def load(self) -> None:
        stored = await self._db.read(store.wishes)
        if stored:
            self._wishes = msgspec.json.decode(stored, type=Wishes)
        self._apply()

    async def follow_hours(self) -> None:
        """Tell when the hours begin and end, until cancelled."""
        while True:
            await self._clock.sleep(60 - self._clock.now_us() / US % 60)
            if self._open() != self._told_open:
                self._told_open = self._open()
                self.changed()

    def _open(self) -> bool:
        return self._wishes.hours.open_at(self._minute())

    @property
    def hours(self) -> Hours:
        return self._wishes.hours

    @property
    def memory_mib(self) -> int:
        return min(self._wishes.memory_mib or self._most_memory_mib, self._most_memory_mib)

    def closed(self) -> str:
        """Why nothing is taken now, as the rest of a sentence about this node; "" while it is."""
        if not self._wishes.accept:
            return CLOSED
        if not self._open():
            return f"outside its hours, opens at {format_minute(self._wishes.hours.start)}"
        return ""

    async def set_accepting(self, accept: bool) -> None:
        await self._set(msgspec.structs.replace(self._wishes, accept=accept))

    async def set_hours(self, hours: Hours) -> None:
        await self._set(msgspec.structs.replace(self._wishes, hours=hours))

    async def set_limits(self, max_jobs: int | None, memory_mib: int | None) -> None:
        """Raises BadInput for a limit above what the node was started with."""
        if max_jobs is not None and not 1 <= max_jobs <= self._most_jobs:
            raise BadInput(f"This node runs 1 to {self._most_jobs} jobs at the same time, not {max_jobs}.")
        if memory_mib is not None and not LEAST_MEMORY_MIB <= memory_mib <= self._most_memory_mib:
            raise BadInput(f"A job here gets 1 to {self._most_memory_mib} MiB, not {memory_mib}.")
        wishes = self._wishes
        await self._set(
            msgspec.structs.replace(
                wishes,
                max_jobs=wishes.max_jobs if max_jobs is None else max_jobs,
                memory_mib=wishes.memory_mib if memory_mib is None else memory_mib,
            )
        )

    async def _set(self, wishes: Wishes) -> None:
        await self._db.write(lambda tx: store.set_wishes(tx, msgspec.json.encode(wishes)))
        self._wishes = wishes
        self._apply()
        self.changed()

    def _apply(self) -> None:
        self._told_open = self._open()
        self._slots.limit = min(self._wishes.max_jobs or self._most_jobs, self._most_jobs)

    def _minute(self) -> int:
        local = time.localtime(self._clock.now_us() / US)
        return local.tm_hour * 60 + local.tm_min
