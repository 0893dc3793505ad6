"""The background tasks of a node's network: none is lost, all end with it, and a failure is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from zstui.engine.bus import Bus
from zstui.engine.errors import NetError, ProtocolError, Refused
from zstui.engine.events import Notice

log = logging.getLogger(__name__)


class Tasks:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self) -> None:
        """Cancel all and wait for their end."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("The task %r failed.", task.get_name(), exc_info=error)
            self._bus.publish(Notice("error", "net", f"The network's {task.get_name()} task failed: {error!r}."))


async def tolerate(work: Coroutine[Any, Any, None]) -> None:
    """Await work with a peer whose failure matters to nobody else."""
    try:
        await work
    except (NetError, Refused, ProtocolError) as error:
        log.debug("A peer: %s", error)
