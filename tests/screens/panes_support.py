"""Runs the whole app against an in-memory engine and reads what a person would see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.segment import Segment
from textual.pilot import Pilot

from tests.support.fake_engine import FakeEngine
from zstui.app import ZstuiApp
from zstui.bridge import MAX_HZ
from zstui.engine import views as v
from zstui.screens.main import MainScreen

SMALL, LARGE = (80, 24), (160, 50)
SIZES = (SMALL, (120, 30), LARGE)


@dataclass(frozen=True)
class Run:
    app: ZstuiApp
    engine: FakeEngine
    pilot: Pilot[None]

    @property
    def main(self) -> MainScreen:
        screen = self.app.screen_stack[1]
        assert isinstance(screen, MainScreen)
        return screen

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def push(self, *events: v.Feed) -> None:
        """Feed events and wait until they are on the screen."""
        self.engine.push(*events)
        await self.settle()

    async def settle(self) -> None:
        await self.engine.taken()
        await self.pilot.pause(1.5 / MAX_HZ)
        await self.pilot.pause()

    def segments(self) -> list[list[Segment]]:
        """What the screen on top, with those below it, sends to the terminal, line by line."""
        filters = self.app.get_line_filters()
        background = self.app.screen.styles.background
        lines = []
        for strip in self.app.screen._compositor.render_strips():
            segments = list(strip)
            for line_filter in filters:
                segments = line_filter.apply(segments, background)
            lines.append(segments)
        return lines

    def text(self) -> str:
        return "\n".join("".join(segment.text for segment in line).rstrip() for line in self.segments())

    def line(self, number: int) -> str:
        return self.text().splitlines()[number]


@asynccontextmanager
async def running(
    snapshot: v.Snapshot | None = None, size: tuple[int, int] = SMALL, engine: FakeEngine | None = None
) -> AsyncIterator[Run]:
    engine = engine or FakeEngine(snapshot)
    app = ZstuiApp(engine)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        yield Run(app, engine, pilot)
