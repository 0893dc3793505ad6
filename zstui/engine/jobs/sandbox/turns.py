"""Whose module is compiled next: owners take turns, and who sent a bomb holds up nobody but others who did."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

from zstui.engine.errors import JobError

SLOTS = 2
PENALTY_S = 3600.0
_MAX_WAITING = 64
"""Of one owner."""
_MAX_PENALTIES = 1024


class Turns:
    """At most ``SLOTS`` turns at a time, one for each owner, and only one for all owners together that were penalised."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._running: set[str] = set()
        self._penalised: OrderedDict[str, float] = OrderedDict()
        """Owner to the end of the penalty."""

    @contextlib.asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Waits. Raises JobError where the owner has too many waiting."""
        queue = self._waiting.setdefault(owner, deque())
        if len(queue) >= _MAX_WAITING:
            raise JobError(f"{_MAX_WAITING} modules of the same sender wait to be compiled already; try later.")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(future)
        self._hand_out()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back(owner)
            elif owner in self._waiting:
                with contextlib.suppress(ValueError):
                    self._waiting[owner].remove(future)
            raise
        try:
            yield
        finally:
            self._give_back(owner)

    def penalise(self, owner: str) -> None:
        """Its modules took all that compiling may take."""
        self._penalised[owner] = asyncio.get_running_loop().time() + PENALTY_S
        self._penalised.move_to_end(owner)
        if len(self._penalised) > _MAX_PENALTIES:
            self._penalised.popitem(last=False)

    def _give_back(self, owner: str) -> None:
        self._running.discard(owner)
        self._hand_out()

    def _hand_out(self) -> None:
        while len(self._running) < SLOTS and (owner := self._next()) is not None:
            queue = self._waiting.pop(owner)
            future = queue.popleft()
            if queue:
                self._waiting[owner] = queue
            if not future.done():
                self._running.add(owner)
                future.set_result(None)

    def _next(self) -> str | None:
        held_up = any(map(self._is_penalised, self._running))
        for owner, queue in list(self._waiting.items()):
            if not queue:
                del self._waiting[owner]
            elif owner not in self._running and not (held_up and self._is_penalised(owner)):
                return owner
        return None

    def _is_penalised(self, owner: str) -> bool:
        until = self._penalised.get(owner, 0.0)
        return until > asyncio.get_running_loop().time()
