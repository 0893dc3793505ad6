"""Background work of one service: started here, ended with it, and its surprises told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from zstui.engine.bus import Bus
from zstui.engine.errors import ZsError
from zstui.engine.events import Notice

log = logging.getLogger(__name__)


class Tasks:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run ``work`` in the background. It is closed, not awaited, if ``stop`` comes before it could begin."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(self._guard(name, work), name=name)
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            work.close()

        task.add_done_callback(ended)

    async def stop(self) -> None:
        """Cancel all and wait for their ends."""
        self._closed = True
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _guard(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except ZsError as error:
            log.info("%s: %s", name, error)
        except Exception as error:  # a task's outermost edge
            log.exception("%s failed", name)
            self._bus.publish(Notice("error", "guilds", f"{name} failed: {error}"))
