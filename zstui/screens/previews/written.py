"""Text, JSON and anything else as lines: the beginning of it, cut to size. Pure."""

from __future__ import annotations

import json
from itertools import islice

from zstui.screens.widgets.text import Line, Span, clip, plain

MAX_TEXT = 256 * 1024
"""Bytes that are looked at."""
DEEPEST = 12


def is_text(data: bytes) -> bool:
    """Whether the beginning reads as UTF-8 with hardly any control characters."""
    head = data[:4096]
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or not head:
            return False
        text = head[: error.start].decode()
    return sum(ord(c) < 32 and c not in "\n\r\t\x1b" for c in text) * 50 <= len(text)


def parse_json(data: bytes) -> object | None:
    """The object or array that all of the data is; None if it is anything else."""
    if data[:1024].lstrip()[:1] not in (b"{", b"[") or len(data) > MAX_TEXT:
        return None
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value


def text_lines(data: bytes, width: int, height: int, *, tail: bool = False) -> list[Line]:
    """The first lines, or the last, and how many there are besides."""
    rows = (data[-MAX_TEXT:] if tail else data[:MAX_TEXT]).decode(errors="replace").expandtabs(4).splitlines()
    if len(rows) <= height:
        return [(Span(clip(plain(row), width)),) for row in rows]
    shown = rows[len(rows) - height + 1 :] if tail else rows[: height - 1]
    lines: list[Line] = [(Span(clip(plain(row), width)),) for row in shown]
    more: Line = (Span(f"… {len(rows) - len(shown):,} lines {'before' if tail else 'more'}", "muted"),)
    return [more, *lines] if tail else [*lines, more]


def bytes_lines(data: bytes, width: int, height: int) -> list[Line]:
    """A hex dump of the beginning."""
    per = 16 if width >= 72 else 8 if width >= 40 else 4
    return [
        (
            Span(f"{at:06x}  ", "faint"),
            Span(data[at : at + per].hex(" ").ljust(per * 3)),
            Span("".join(chr(b) if 32 <= b < 127 else "·" for b in data[at : at + per]), "muted"),
        )
        for at in range(0, min(len(data), height * per), per)
    ]


def json_lines(value: object, width: int, height: int) -> list[Line]:
    """Indented as deep as fits into ``height`` lines; what lies deeper or behind is counted."""
    lines: list[Line] = []
    for depth in range(DEEPEST, 0, -1):
        for items in (height, 12, 5, 2):
            lines = list(islice(_Folded(width, depth, items).lines(value), height + 1))
            if len(lines) <= height:
                return lines
    return [*lines[: height - 1], (Span("…", "muted"),)]


class _Folded:
    def __init__(self, width: int, depth: int, items: int) -> None:
        self._width = width
        self._depth = depth
        self._items = items

    def lines(self, value: object, head: Line = (), indent: int = 0, end: str = "") -> list[Line]:
        pad = Span("  " * indent)
        room = self._width - 2 * indent - sum(len(span.text) for span in head) - 1
        short = _compact(value, room)
        if short is not None or not isinstance(value, dict | list) or indent >= self._depth:
            return [(pad, *head, short or Span(clip(_summary(value), max(8, room)), "muted"), Span(end, "faint"))]
        left, right = "{}" if isinstance(value, dict) else "[]"
        lines: list[Line] = [(pad, *head, Span(left, "faint"))]
        pairs = list(islice(value.items() if isinstance(value, dict) else enumerate(value), self._items))
        for number, (key, item) in enumerate(pairs):
            name: Line = ()
            if isinstance(value, dict):
                name = (Span(clip(plain(json.dumps(key, ensure_ascii=False)), 40), "accent"), Span(": ", "faint"))
            lines += self.lines(item, name, indent + 1, "," if number < len(value) - 1 else "")
        if len(value) > len(pairs):
            lines.append((pad, Span(f"  … {len(value) - len(pairs):,} more", "muted")))
        return [*lines, (pad, Span(right + end, "faint"))]


def _compact(value: object, width: int) -> Span | None:
    """All of a value on one line, or None if it does not fit."""
    if isinstance(value, dict | list):
        if len(value) > width:
            return None
        text = plain(json.dumps(value, ensure_ascii=False)) if _small(value) else ""
        return Span(text) if text and len(text) <= width else None
    text = plain(json.dumps(value, ensure_ascii=False))
    style = "ok" if isinstance(value, str) else "info"
    return Span(clip(text, max(8, width)), style)


def _small(value: object, depth: int = 3) -> bool:
    """Whether it is worth writing out to see if it fits."""
    if not isinstance(value, dict | list):
        return not isinstance(value, str) or len(value) < 300
    parts = value.values() if isinstance(value, dict) else value
    return len(value) <= 40 and depth > 0 and all(_small(part, depth - 1) for part in parts)


def _summary(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{len(value):,} keys}}"
    return f"[{len(value):,} items]" if isinstance(value, list) else ""
