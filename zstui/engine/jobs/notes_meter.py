"""How long a run has really run, and how much memory it has: its control in the sandbox, which also counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from zstui.engine.jobs.sandbox.control import RunControl

MEASURE_S = 0.1
"""How long a run that is asked for its memory may take to answer."""


class Metered(msgspec.Struct, frozen=True):
    """A running job at one moment."""

    active_us: int
    due_u: int
    """What it has cost so far."""
    paused: bool = False
    why: str = ""
    """Who must act, by when, where it is paused."""


class Meter(RunControl):
    """Time between pauses, since the sandbox began the run."""

    def __init__(self, monotonic_us: Callable[[], int]) -> None:
        super().__init__()
        self._now = monotonic_us
        self.began = asyncio.Event()
        self._measured = asyncio.Event()
        self._began_us: int | None = None
        self._ended_us: int | None = None
        self._held_since_us: int | None = None
        self._held_us = 0

    async def measure(self) -> int:
        """The most memory that the run is known to have had; asks for it, unless it is held still."""
        self._measured.clear()
        if not self.paused and self.ask_memory():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MEASURE_S):
                    await self._measured.wait()
        return self.memory_bytes

    def told_memory(self, memory_bytes: int) -> None:
        super().told_memory(memory_bytes)
        self._measured.set()

    def attach(self, on_change: Callable[[bool], None] | None, ask_memory: Callable[[], None] | None = None) -> None:
        if on_change is not None and self._began_us is None:
            self._began_us = self._now()
            self.began.set()
        elif on_change is None:
            self._ended_us = self._now()
        super().attach(on_change, ask_memory)

    def pause(self) -> None:
        super().pause()
        if self._held_since_us is None:
            self._held_since_us = self._now()

    def resume(self) -> None:
        if self._held_since_us is not None:
            self._held_us += self._now() - self._held_since_us
            self._held_since_us = None
        super().resume()

    def active_us(self) -> int:
        if self._began_us is None:
            return 0
        until = min(t for t in (self._ended_us, self._held_since_us, self._now()) if t is not None)
        return max(0, until - self._began_us - self._held_us)
