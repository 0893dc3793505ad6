"""The terminal driver: Textual's own, but for a terminal that goes away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import IO, Any, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver


class LastingOutput:
    """A text file that takes writes also after the terminal is gone, and says so once, from the writing thread.

    Textual's writer thread would end with the error; its queue then fills up and blocks the event loop for ever.
    """

    def __init__(self, file: IO[str], on_gone: Callable[[], None]) -> None:
        self._file = file
        self._on_gone = on_gone
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._file.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            action()
        except OSError:
            self._gone = True
            self._on_gone()


class TerminalDriver(LinuxDriver):
    """Ends the app when its terminal is gone."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        loop = self._loop

        def leave() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(app.exit)

        self._file = cast(Any, LastingOutput(cast(IO[str], self._file), leave))
