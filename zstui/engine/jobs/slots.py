"""Who runs next: so many modules at a time, peers in turn, and of one peer the more urgent first, without anybody starving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId

AGING_US = 10 * US
"""Waiting this long counts as much as one step of priority."""
REMEMBERED = 1024
"""Peers whose turn is remembered."""


class Waiting:
    def __init__(self, peer: PeerId, priority: int, since_us: int) -> None:
        self.peer = peer
        self.priority = priority
        self.since_us = since_us
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def urgency(priority: int, waited_us: int) -> int:
    """The higher, the sooner: a step of priority is worth ``AGING_US`` of waiting."""
    return priority * AGING_US + waited_us


def following(waiting: Sequence[Waiting], served: dict[PeerId, int], now_us: int) -> Waiting:
    """Of the peer served longest ago, the most urgent."""
    return min(waiting, key=lambda w: (served.get(w.peer, -1), -urgency(w.priority, now_us - w.since_us)))


class Slots:
    def __init__(self, limit: int, monotonic_us: Callable[[], int]) -> None:
        self._limit = limit
        self._now = monotonic_us
        self._taken = 0
        self._turns = 0
        self._waiting: list[Waiting] = []
        self._served: dict[PeerId, int] = {}

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        """What runs beyond a lower limit goes on."""
        self._limit = limit
        self._fill()

    @asynccontextmanager
    async def hold(self, peer: PeerId, priority: int) -> AsyncIterator[None]:
        """Wait for a slot for a job of ``peer``, and have it inside the block."""
        me = Waiting(peer, priority, self._now())
        self._waiting.append(me)
        self._fill()
        try:
            await me.turn
        except asyncio.CancelledError:
            if not me.turn.cancelled():
                self._release()
            raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        self._taken -= 1
        self._fill()

    def _fill(self) -> None:
        self._waiting = [w for w in self._waiting if not w.turn.cancelled()]
        while self._waiting and self._taken < self._limit:
            chosen = following(self._waiting, self._served, self._now())
            self._waiting.remove(chosen)
            self._taken += 1
            self._turns += 1
            self._served.pop(chosen.peer, None)
            self._served[chosen.peer] = self._turns
            if len(self._served) > REMEMBERED:
                del self._served[next(iter(self._served))]
            chosen.turn.set_result(None)
