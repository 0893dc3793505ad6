"""Text for a terminal cell grid: cleaning, clipping by cell width, short forms of ids and times, bars and sparklines.

Nothing here knows markup. Every function that takes a peer's words returns text without control or bidi characters.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from zstui.engine.money import format_amount

BLOCKS = " ▁▂▃▄▅▆▇█"
PEER_PREFIX = "12D3KooW"
_MULTIADDR = re.compile(r"/(ip4|ip6|dns4|dns6|dns)/([^/]+)(?:/(?:udp|tcp)/(\d+))?")


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text in one style: "", muted, strong, accent, ok, warn, error, info, bar or a mix "warn strong".

    For pictures a style is two colours, front and back: "#5fb3b3 on #0f1317".
    """

    text: str
    style: str = ""


Line = tuple[Span, ...]
Cell = str | Span | Line
"""Content of one table cell."""


@lru_cache(4096)
def plain(text: str) -> str:
    """``text`` on one line without control, format (bidi, zero-width), surrogate and private characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or unicodedata.category(c)[0] != "C")


def spans(cell: Cell) -> Line:
    """Any cell content as spans."""
    if isinstance(cell, str):
        return (Span(cell),)
    return (cell,) if isinstance(cell, Span) else cell


def fit(text: str, width: int, align: str = "left") -> str:
    """``text`` in exactly ``width`` cells; what does not fit ends in an ellipsis."""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * (width - size) + text if align == "right" else text + " " * (width - size)


def clip(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells."""
    return fit(text, width).rstrip() if cell_len(text) > width else text


def width_of(line: Iterable[Span]) -> int:
    return sum(cell_len(span.text) for span in line)


def wrap(text: str, width: int) -> list[str]:
    """Words of ``text`` on lines of at most ``width`` cells; longer words are cut."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while cell_len(word) > width > 0:
            if line:
                lines.append(line)
                line = ""
            head = set_cell_size(word, width).rstrip() or word[:1]
            lines.append(head)
            word = word[len(head) :]
        if not line:
            line = word
        elif cell_len(line) + 1 + cell_len(word) <= width:
            line += " " + word
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line or not lines else lines


def short_peer(peer_id: str) -> str:
    """Nine cells that tell peers apart: "9f3a·k2d1"."""
    body = plain(peer_id).removeprefix(PEER_PREFIX)
    return f"{body[:4]}·{body[-4:]}" if len(body) > 9 else body


def short_id(text: str) -> str:
    """The first four characters of a hex id."""
    return plain(text)[:4]


def short_address(address: str) -> str:
    """ "192.168.1.23:4433" from a multiaddr; anything else as it is."""
    match = _MULTIADDR.match(address)
    if match is None:
        return plain(address)
    host = plain(match[2])
    if match[1] == "ip6":
        host = f"[{host}]"
    return f"{host}:{match[3]}" if match[3] else host


def now() -> float:
    """Unix time that countdowns are measured against."""
    return time.time()


def duration(seconds: float) -> str:
    """A length of time in at most five cells: "9s", "41m", "3h10m", "10d"."""
    left = max(0, int(seconds))
    if left < 60:
        return f"{left}s"
    if left < 3600:
        return f"{left // 60}m"
    if left < 86_400:
        hours, minutes = left // 3600, left % 3600 // 60
        return f"{hours}h{minutes:02d}m" if minutes and hours < 10 else f"{hours}h"
    return f"{left // 86_400}d"


def countdown(seconds: float) -> str:
    """Minutes and seconds while short, "1:42"; else as ``duration``."""
    left = max(0, int(seconds))
    return f"{left // 60}:{left % 60:02d}" if left < 3600 else duration(left)


def seconds(microseconds: int) -> str:
    """Microseconds as seconds with one decimal below a minute: "20.4s"."""
    value = microseconds / 1e6
    return f"{value:.1f}s" if value < 60 else duration(value)


def clock_time(unix: float) -> str:
    """Local "14:05:09"."""
    return time.strftime("%H:%M:%S", time.localtime(unix))


def until(unix: float) -> str:
    """Local "14:05", with the date if that is not today."""
    local = time.localtime(unix)
    same_day = time.strftime("%j%Y", local) == time.strftime("%j%Y")
    return time.strftime("%H:%M" if same_day else "%d %b %H:%M", local)


def amount(micro: int, width: int = 8) -> str:
    """Micro-units as decimal units in ``width`` cells: exact where that fits, else marked "~" with fewer decimals."""
    exact = format_amount(micro)
    if len(exact) <= width:
        return exact
    whole, _, decimals = exact.partition(".")
    for count in (3, 2, 1):
        if len(text := f"~{whole}.{decimals[:count]}") <= width:
            return text
    return f"~{whole}"


def mebibytes(size: int) -> str:
    return f"{-(-size >> 20)}M"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}ms" if value < 1000 else f"{value / 1000:.1f}s"


def bar(share: float, width: int, full: str = "█", empty: str = "░", style: str = "bar") -> Line:
    """A gauge of ``width`` cells, ``share`` from 0 to 1."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return (Span(full * filled, style), Span(empty * (width - filled), "faint"))


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as eighth blocks, right-aligned. Steady values stay low: only a spread of half shows tall."""
    shown = values[-width:]
    if not shown:
        return " " * width
    low = min(shown)
    spread = max(max(shown) - low, low / 2, 1e-9)
    return "".join(BLOCKS[1 + round((v - low) / spread * 6)] for v in shown).rjust(width)


MOST_STEP = 5
"""Cells for one value of a chart, with the gap."""


def plot(values: Sequence[float], width: int, height: int, unit: str, low: float = 0.0) -> list[Line]:
    """A column chart from ``low`` up, with both ends of its scale in words; [] without values."""
    shown = list(values[-(width - 7) :])
    if not shown:
        return []
    top = max(shown) or 1.0
    step = min(MOST_STEP, max(1, (width - 7) // len(shown)))
    lines: list[Line] = []
    for row in range(height - 1, -1, -1):
        columns = ""
        for value in shown:
            eighths = round(max(0.0, (value - low) / ((top - low) or 1.0)) * height * 8) - row * 8
            if row == 0:
                eighths = max(1, eighths)
            columns += BLOCKS[min(8, max(0, eighths))] * (step - 1 if step > 1 else 1) + (" " if step > 1 else "")
        digits = 0 if top - low >= 10 else 2
        label = (
            f"{top:.{digits}f}{unit}" if row == height - 1 else (f"{low:.{digits if low else 0}f}" if row == 0 else "")
        )
        lines.append((Span(fit(label, 6, "right") + " ", "muted"), Span(columns, "bar")))
    return lines
