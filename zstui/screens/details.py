"""Windows that only show something: one record in full, or any lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from zstui.screens.dialog import KeyLine
from zstui.screens.keys import keys_of, raw_keys
from zstui.screens.pane import Pane
from zstui.screens.widgets.lines import LinesView
from zstui.screens.widgets.text import Line

Hints = tuple[tuple[str, str], ...]


class TextScreen(ModalScreen[None]):
    """Lines under a title; ``lines`` is asked again every second and at each change of width."""

    CSS_PATH = "details.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "close", "Back", id="details.close"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="details.up"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="details.down"),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False, id="details.page_up"),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", show=False, id="details.page_down"),
        Binding("home,g", "edge(-1)", "First", show=False, id="details.first"),
        Binding("end,G", "edge(1)", "Last", show=False, id="details.last"),
        Binding("y", "copy", "Copy", id="details.copy"),
    ]

    def __init__(self, title: str, lines: Callable[[int], list[Line]], hints: Hints = ()) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines
        self._hints = hints
        self.view = LinesView()

    def compose(self) -> ComposeResult:
        with Vertical(id="frame") as frame:
            frame.border_title = Content(f" {self._heading} ")
            yield self.view
            yield KeyLine((("Esc", "Back"), *self._hints, ("y", "Copy")))

    def on_mount(self) -> None:
        self.set_interval(1.0, self.update)

    def on_lines_view_resized(self) -> None:
        self.update()

    def update(self) -> None:
        """Show the lines as they are now."""
        self.view.show(self._lines(self.view.width))

    def action_close(self) -> None:
        self.dismiss(None)

    def action_scroll(self, step: int) -> None:
        self.view.scroll_relative(y=step, animate=False)

    def action_page(self, step: int) -> None:
        self.view.scroll_relative(y=step * max(1, self.view.size.height - 1), animate=False)

    def action_edge(self, side: int) -> None:
        self.view.scroll_to(y=0 if side < 0 else self.view.virtual_size.height, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.view.text)
        self.app.notify("Copied this text.", markup=False)


class DetailScreen(TextScreen):
    """The record that a pane's cursor is on, and stays on whatever arrives. The pane's own keys work here too."""

    def __init__(self, pane: Pane[Any]) -> None:
        self._pane = pane
        last = pane.table.record
        key = "" if last is None else pane.key(last)

        def lines(width: int) -> list[Line]:
            nonlocal last
            last = pane.find(key) or last
            return [] if last is None else pane.details(last, width)

        keymap = pane.app._keymap
        hints = tuple((keys_of(b, keymap).split(" ")[0], b.description) for b in pane.own_bindings())
        super().__init__(pane.RECORD, lines, hints if pane.TITLE != "Log" else ())

    async def on_key(self, event: events.Key) -> None:
        for binding in self._pane.own_bindings():
            if event.key in raw_keys(binding, self.app._keymap):
                event.stop()
                await self._pane.run_action(binding.action)
                break
