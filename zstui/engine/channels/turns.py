"""Turns at something that only one may change at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Turns:
    """Granted in the order they are asked for; the first of them at once, without a turn of the event loop."""

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[Callable[[], None]] = deque()
        self._giving = False

    def take(self, start: Callable[[], None]) -> None:
        """Call ``start``, which raises nothing, when it is its turn. ``give`` must follow."""
        if self.taken:
            self._waiting.append(start)
        else:
            self.taken = True
            start()

    def give(self) -> None:
        """The turn is over."""
        self.taken = False
        if self._giving:
            return  # A turn that was over as soon as it began: the loop below goes on.
        self._giving = True
        while self._waiting and not self.taken:
            self.taken = True
            self._waiting.popleft()()
        self._giving = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Take a turn for as long as the block lasts."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> None:
            if mine.done():  # cancelled while it waited
                self.give()
            else:
                mine.set_result(None)

        self.take(start)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # granted, and cancelled before it could begin
                self.give()
            raise
        try:
            yield
        finally:
            self.give()
