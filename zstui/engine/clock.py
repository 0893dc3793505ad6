"""Time as an argument: a system clock for the node, a manual one for tests."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

US = 1_000_000
"""Microseconds in a second."""


class Clock(Protocol):
    def now_us(self) -> int:
        """Wall-clock time, integer microseconds since the Unix epoch."""

    def monotonic_us(self) -> int:
        """Integer microseconds that never go back; the origin is arbitrary."""

    async def sleep(self, seconds: float) -> None:
        """Return once ``seconds`` have passed on this clock."""


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only when told; sleepers wake in order of their deadlines."""

    def __init__(self, now_us: int = 1_700_000_000 * US) -> None:
        self._now = now_us
        self._start = now_us
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._now

    def monotonic_us(self) -> int:
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + round(seconds * US), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move forward and let every sleeper whose time has come run."""
        target = self._now + round(seconds * US)
        while True:
            due = sorted((s for s in self._sleepers if s[0] <= target), key=lambda s: s[0])
            if not due:
                break
            self._sleepers.remove(due[0])
            self._now = max(self._now, due[0][0])
            if not due[0][1].done():
                due[0][1].set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)
        self._now = target
