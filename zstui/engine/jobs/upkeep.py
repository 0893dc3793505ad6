"""What the jobs room does from time to time: forget old jobs, make outputs durable and bound them, keep who was online."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from zstui.engine.errors import JobError, StoreError
from zstui.engine.jobs import presence_store, store
from zstui.engine.jobs.agreeing import REMEMBERED_US
from zstui.engine.jobs.output_journal import flush
from zstui.engine.jobs.presence import Presence
from zstui.engine.jobs.retention import Retention
from zstui.engine.jobs.room import Room

log = logging.getLogger(__name__)

EVERY_S = 60.0


class Upkeep:
    def __init__(self, room: Room, retention: Retention, presence: Presence) -> None:
        self._room = room
        self._retention = retention
        self._presence = presence

    async def start(self) -> None:
        """Once the jobs are loaded."""
        await presence_store.restore(self._room.db, self._presence)
        await self._tidy()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._tidy()
            await self._save_presence()

    async def stop(self) -> None:
        with suppress(StoreError):  # a node whose disk failed stops all the same
            await self._save_presence()

    async def _tidy(self) -> None:
        await self._flush_outputs()
        await self._forget()
        await self._bound_outputs()

    async def _save_presence(self) -> None:
        await presence_store.save(self._room.db, self._presence, self._room.clock.monotonic_us())

    async def _flush_outputs(self) -> None:
        try:
            await flush(self._room.db, self._room.outputs)
        except (JobError, OSError) as error:
            log.error("outputs are not durable yet: %s", error)

    async def _forget(self) -> None:
        gone = self._room.records.beyond(store.RETAIN, self._room.clock.now_us() - REMEMBERED_US)
        if gone:
            await self._room.records.drop(gone)
            for job_id in gone:
                self._room.outputs.remove(job_id)

    async def _bound_outputs(self) -> None:
        try:
            await self._retention.look()
        except OSError as error:
            log.error("outputs cannot be measured: %s", error)
