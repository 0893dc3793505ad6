"""Turns spans with style names into strips; the app's style sheet gives each name its look."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.scroll_view import ScrollView
from textual.strip import Strip

from zstui.screens.widgets.text import Line, fit

STYLES = (
    "muted",
    "faint",
    "strong",
    "accent",
    "ok",
    "warn",
    "error",
    "info",
    "bar",
    "badge",
    "key",
    "tab",
    "alert",
    "flag",
)


@lru_cache(16_384)
def _two_colours(name: str) -> Style:
    front, _, back = name.partition(" on ")
    return Style.from_color(Color.from_rgb(*bytes.fromhex(front[1:])), Color.from_rgb(*bytes.fromhex(back[1:])))


class LineStyles(ScrollView):
    """A scroll view that paints spans by style name; the names are component classes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{name}" for name in STYLES} | {"line--cursor", "line--head"}

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._styles_seen: dict[str, Style] = {}

    def notify_style_update(self) -> None:
        self._styles_seen.clear()
        super().notify_style_update()

    def style_named(self, name: str) -> Style:
        """Rich style of "warn", of a mix such as "warn strong", or of two colours, "#5fb3b3 on #0f1317"."""
        if name.startswith("#"):
            return _two_colours(name)
        style = self._styles_seen.get(name)
        if style is None:
            style = Style()
            for part in name.split():
                style += self._component(part)
            self._styles_seen[name] = style
        return style

    def _component(self, part: str) -> Style:
        """What one component class sets and nothing else; see-through colours are mixed with the background."""
        styles = self.get_component_styles(f"line--{part}")
        behind = self.background_colors[1]
        background = behind + styles.background if styles.has_rule("background") else None
        color = (background or behind) + styles.color if styles.has_rule("color") else None
        return styles.text_style + Style.from_color(color and color.rich_color, background and background.rich_color)

    def strip_of(self, line: Line, width: int, *over: str) -> Strip:
        """``line`` in exactly ``width`` cells, with the styles ``over`` laid over each span."""
        base = self.rich_style
        top = self.style_named(" ".join(over)) if over else None
        segments: list[Segment] = []
        used = 0
        for span in line:
            size = cell_len(span.text)
            text = span.text if used + size <= width else fit(span.text, width - used)
            style = base + self.style_named(span.style) if span.style else base
            segments.append(Segment(text, style + top if top is not None else style))
            used += min(size, width - used)
        if used < width:
            segments.append(Segment(" " * (width - used), base + top if top is not None else base))
        return Strip(segments, width)
