"""How long a run has really run: its control in the sandbox, which also counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from zstui.engine.jobs.sandbox.control import RunControl


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
        self._began_us: int | None = None
        self._ended_us: int | None = None
        self._held_since_us: int | None = None
        self._held_us = 0

    def attach(self, on_change: Callable[[bool], None] | None) -> None:
        if on_change is not None and self._began_us is None:
            self._began_us = self._now()
            self.began.set()
        elif on_change is None:
            self._ended_us = self._now()
        super().attach(on_change)

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
