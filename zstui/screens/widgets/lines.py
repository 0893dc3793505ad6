"""A scrolling column of ready-made lines: details, log tail, help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from zstui.screens.widgets.styles import LineStyles
from zstui.screens.widgets.text import Line, Span, clip, plain, wrap


class LinesView(LineStyles, can_focus=False):
    """Shows lines; ``show`` paints only those that differ from what is there. With ``tail`` it keeps to the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False, id="lines.up"),
        Binding("down,j", "scroll_down", "Down", show=False, id="lines.down"),
        Binding("pageup,ctrl+b", "page_up", "Page up", show=False, id="lines.page_up"),
        Binding("pagedown,ctrl+f", "page_down", "Page down", show=False, id="lines.page_down"),
        Binding("home,g", "scroll_home", "First", show=False, id="lines.first"),
        Binding("end,G", "scroll_end", "Last", show=False, id="lines.last"),
    ]

    class Resized(Message):
        """There is another number of cells for a line now."""

    def __init__(self, *, tail: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._tail = tail
        self.lines: list[Line] = []

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return "\n".join("".join(span.text for span in line) for line in self.lines)

    @property
    def width(self) -> int:
        """Cells available for one line."""
        return max(0, self.scrollable_content_region.width)

    def show(self, lines: Iterable[Line], *, top: bool = False) -> None:
        """Replace the lines; ``top`` scrolls to the first, as for another record."""
        old, self.lines = self.lines, list(lines)
        if len(old) != len(self.lines):
            self.virtual_size = Size(0, len(self.lines))
            self.refresh()
        else:
            for y, (before, after) in enumerate(zip(old, self.lines, strict=True)):
                if before != after:
                    self.refresh_line(y)
        if top:
            self.scroll_to(y=0, animate=False, force=True)
        elif self._tail:
            self.scroll_to(y=max(0, len(self.lines) - self.size.height), animate=False, force=True)

    def on_resize(self) -> None:
        self.virtual_size = Size(0, len(self.lines))
        if self._tail:
            self.scroll_to(y=max(0, len(self.lines) - self.size.height), animate=False, force=True)
        self.post_message(self.Resized())

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        return self.strip_of(self.lines[index] if index < len(self.lines) else (), self.size.width)


def field(label: str, value: str, style: str = "", width: int = 60, indent: int = 10) -> list[Line]:
    """A label and its value, wrapped under itself; ``value`` may come from a peer."""
    rows = wrap(plain(value), max(8, width - indent))
    return [
        (Span((label if number == 0 else "").ljust(indent), "muted"), Span(text, style))
        for number, text in enumerate(rows)
    ]


def mixed(label: str, value: Sequence[Span], indent: int = 10) -> Line:
    """A label and a value of several styles on one line."""
    return (Span(label.ljust(indent), "muted"), *value)


def paragraph(text: str, style: str = "", width: int = 60) -> list[Line]:
    """Wrapped text; it may come from a peer."""
    return [(Span(row, style),) for row in wrap(plain(text), max(8, width))]


def heading(text: str, width: int = 60) -> list[Line]:
    """A blank line and a title that runs out into a rule."""
    title = clip(plain(text), width)
    return [(), (Span(title + " ", "accent"), Span("─" * max(0, width - cell_len(title) - 1), "faint"))]
