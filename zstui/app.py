"""The full-screen app: theme, base screen, and an orderly end whatever ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.theme import Theme

from zstui.bridge import Bridge
from zstui.driver import TerminalDriver
from zstui.engine.commands import Engine
from zstui.engine.errors import CANNOT_WRITE, ZsError
from zstui.engine.jobs.samples import samples
from zstui.screens.dialogs import FirstRunScreen
from zstui.screens.main import MainScreen

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

DARK = Theme(
    name="zs-dark",
    dark=True,
    primary="#5fb3b3",
    secondary="#7f9fc8",
    accent="#e0af68",
    foreground="#c5cdd6",
    background="#0f1317",
    surface="#151b21",
    panel="#1c242c",
    success="#8cc27f",
    warning="#e0a458",
    error="#e2686d",
    variables={
        "border": "#5fb3b3",
        "border-blurred": "#2d3842",
        "block-cursor-background": "#5fb3b3",
        "block-cursor-foreground": "#0f1317",
        "scrollbar": "#2d3842",
        "scrollbar-hover": "#3d4a56",
        "scrollbar-active": "#5fb3b3",
        "scrollbar-background": "#0f1317",
        "scrollbar-background-hover": "#0f1317",
        "scrollbar-background-active": "#0f1317",
        "scrollbar-corner-color": "#0f1317",
    },
)
LIGHT = Theme(
    name="zs-light",
    dark=False,
    primary="#1f7a7a",
    secondary="#3b5f8a",
    accent="#9a6200",
    foreground="#24292f",
    background="#fafafa",
    surface="#f1f2f4",
    panel="#e6e9ec",
    success="#2e7d32",
    warning="#a35200",
    error="#b3261e",
    variables={"border-blurred": "#c4cad0"},
)


class ZstuiApp(App[None]):
    """Shows what a node does and asks it for more. The engine is the caller's: the app neither starts nor stops it.

    ``on_exit`` runs once, after the terminal is restored. The introduction opens where the owner has not chosen a
    name yet, the guide to the next step where the node is a demo.
    """

    TITLE = "zstui"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    """Without the built-in key, which would have priority over open windows."""
    COMMANDS = set()  # noqa: RUF012 - the base class declares it
    BINDINGS: ClassVar[list[BindingType]] = []
    NOTIFICATION_TIMEOUT = 6.0

    def __init__(
        self,
        engine: Engine,
        *,
        on_exit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.use_command_palette = True
        self.bridge = Bridge(engine, tuple(samples()))
        self._on_exit = on_exit
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = "ansi-dark" if self.no_color else "zs-dark"

    def get_driver_class(self) -> type[Driver]:
        chosen = super().get_driver_class()
        return TerminalDriver if chosen is LinuxDriver else chosen

    async def on_mount(self) -> None:
        try:
            await self.bridge.start()
        except (ZsError, OSError) as error:
            self.exit(return_code=1, message=str(error))
            return
        await self.push_screen(MainScreen(self.bridge))
        if self.bridge.status is not None and self.bridge.status.first_run:
            await self.push_screen(FirstRunScreen(self.bridge))

    async def on_unmount(self) -> None:
        await self.bridge.stop()

    async def run_async(self, **options: Any) -> None:
        """Run in this terminal until the end, then ``on_exit``.

        SIGTERM, SIGHUP and SIGINT end it like ``q`` does, without asking; the terminal is restored before ``on_exit`` runs.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.exit)
        try:
            await super().run_async(**options)
        finally:
            try:
                if self._on_exit is not None:
                    await self._on_exit()
            finally:
                for number in SIGNALS:
                    loop.remove_signal_handler(number)


async def run_app(
    engine: Engine, on_exit: Callable[[], Awaitable[None]] | None = None, failed: asyncio.Event | None = None
) -> int:
    """Run the app in this terminal until it ends, then ``on_exit``; returns the exit status.

    It also ends, with status 1 and a sentence, once ``failed`` is set: the node cannot write its database.
    """
    app = ZstuiApp(engine, on_exit=on_exit)

    async def watch(failed: asyncio.Event) -> None:
        await failed.wait()
        app.exit(return_code=1, message=f"zstui: {CANNOT_WRITE}")

    watching = asyncio.create_task(watch(failed), name="database watch") if failed is not None else None
    try:
        await app.run_async()
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return app.return_code or 0
