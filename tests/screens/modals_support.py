"""A small app around one modal window, with an in-memory engine and bindings that try to interfere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar, cast

import msgspec
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import MouseDown, MouseUp
from textual.message import Message
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from tests.support import samples
from tests.support.fake_engine import FakeEngine
from zstui.bridge import Bridge
from zstui.engine import views as v
from zstui.engine.commands import Command
from zstui.screens.dialog import ARM_DELAY, Guarded

R = TypeVar("R")
Open = Callable[[Bridge], Screen[Any]]


class SlowEngine(FakeEngine):
    """Answers while ``answering`` is set, and with ``answers`` where a test gives one for a command class."""

    def __init__(self, snapshot: v.Snapshot) -> None:
        super().__init__(snapshot)
        self.answering = asyncio.Event()
        self.answering.set()
        self.answers: dict[type[Command[Any]], object] = {}

    async def execute(self, command: Command[R]) -> R:
        await self.answering.wait()
        if type(command) in self.answers:
            self.executed.append(command)
            return cast("R", self.answers[type(command)])
        return await super().execute(command)


class ModalApp(App[None]):
    """Enter opens the window; priority bindings and q do what must not happen while some windows are open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("q", "quit", "Quit"),
        Binding("f9", "intrude", "Intrude", priority=True),
        Binding("f10", "quit", "Quit", priority=True),
    ]

    def __init__(self, bridge: Bridge, make: Open) -> None:
        super().__init__()
        self.bridge = bridge
        self.make = make
        self.results: list[Any] = []
        self.intruded = 0
        self.quits = 0

    def compose(self) -> ComposeResult:
        yield Static("main screen")

    def action_open(self) -> None:
        self.push_screen(self.make(self.bridge), self.results.append)

    def action_intrude(self) -> None:
        self.intruded += 1

    async def action_quit(self) -> None:
        self.quits += 1


class Stage:
    """What a test handles: the engine, the bridge, the app and its pilot."""

    def __init__(self, engine: SlowEngine, app: ModalApp, pilot: Pilot[None]) -> None:
        self.engine = engine
        self.bridge = app.bridge
        self.app = app
        self.pilot = pilot

    @property
    def screen(self) -> Screen[Any]:
        return self.app.screen

    def text(self) -> str:
        """What the terminal shows, row by row."""
        return "\n".join(
            "".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()
        )

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def click_at(self, *places: tuple[int, int]) -> None:
        """Click at each column and row, as a terminal reports it."""
        for x, y in places:
            for event in (MouseDown, MouseUp):  # App makes the click of them
                self.app.post_message(
                    event(None, x, y, 0, 0, button=1, shift=False, meta=False, ctrl=False, screen_x=x, screen_y=y)
                )
            await self.pilot._wait_for_screen()
        await self.pilot.pause()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that takes more than one turn of the app; fails the test if it does not come."""
        async with asyncio.timeout(20):
            while not condition():
                await self.pilot.pause(0.02)

    async def write(self, text: str) -> None:
        names = {" ": "space", ".": "full_stop", "/": "slash", "-": "minus", "_": "underscore", ":": "colon"}
        await self.press(*(names.get(c, c) for c in text))

    async def arm(self) -> None:
        """Let a guarded window listen, as it does by itself after the delay."""
        await self.pilot.pause()
        window = self.screen
        assert isinstance(window, Guarded)
        window._arm_at = Message().time
        window._try_arm()
        assert window.armed
        await self.pilot.pause()

    async def wait_armed(self) -> None:
        """Wait until a guarded window listens by itself."""
        async with asyncio.timeout(20):
            while not getattr(self.screen, "armed", False):
                await self.pilot.pause(ARM_DELAY / 6)

    async def push(self, *events: v.Feed) -> None:
        """Let the node report changes and the window see them."""
        self.engine.push(*events)
        await self.engine.taken()
        await self.pilot.pause(0.25)

    async def change(self, request_id: str, **fields: object) -> v.ApprovalView:
        view = msgspec.structs.replace(self.engine.approvals[request_id], **fields)
        await self.push(v.ApprovalUpdated(view=view))
        return view


@asynccontextmanager
async def stage(
    make: Open, *, size: tuple[int, int] = (80, 24), snapshot: v.Snapshot | None = None, opened: bool = True
) -> AsyncIterator[Stage]:
    engine = SlowEngine(snapshot if snapshot is not None else samples.snapshot())
    bridge = Bridge(engine)
    await bridge.start()
    app = ModalApp(bridge, make)
    async with app.run_test(size=size) as pilot:
        it = Stage(engine, app, pilot)
        if opened:
            await it.press("enter")
            await pilot.pause(0.1)
        yield it
    await bridge.stop()
