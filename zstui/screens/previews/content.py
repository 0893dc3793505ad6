"""What a result turns out to be, and how it is drawn in a given space."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from zstui.screens.previews.blocks import picture_lines
from zstui.screens.previews.decode import decode, is_picture
from zstui.screens.previews.picture import Picture, PictureError
from zstui.screens.previews.png import SIGNATURE
from zstui.screens.previews.written import bytes_lines, is_text, json_lines, parse_json, text_lines
from zstui.screens.widgets.lines import paragraph
from zstui.screens.widgets.text import Line, Span

MAX_READ = 16 << 20
"""Bytes of a result that are read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is nothing to see, in a sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Json:
    value: object


@dataclass(frozen=True, slots=True)
class Written:
    """Text, or bytes of no known kind. ``live``: it still grows, so its end is what one wants to see."""

    data: bytes
    live: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Ready-made lines."""

    lines: tuple[Line, ...]


Content = Picture | Json | Written | Rows | Problem


async def recognise(data: bytes, *, live: bool = False) -> Content:
    """Find out what ``data`` is by looking at it; decoding happens off the loop."""
    if live and data.startswith(SIGNATURE):
        return Problem("A PNG picture; it shows once it is complete.")
    if is_picture(data):
        try:
            return await decode(data)
        except PictureError as error:
            return Problem(str(error))
    value = None if live else await asyncio.to_thread(parse_json, data)
    return Written(data, live) if value is None else Json(value)


def kind(content: Content) -> str:
    """In one or two words."""
    match content:
        case Picture():
            return f"picture {content.width} x {content.height}"
        case Json():
            return "JSON"
        case Written(data=data) if data:
            return "text" if is_text(data) else "bytes"
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class Space:
    """Cells in a line, lines that are seen at once, and lines that can be scrolled to, which no picture uses."""

    width: int
    height: int
    length: int


def draw(content: Content, space: Space, *, colours: bool) -> list[Line]:
    """What fits into ``space``. Slow for pictures: call it in a thread."""
    width, length = space.width, space.length
    match content:
        case Picture():
            note: list[Line] = [] if colours else [(Span("In shades, because NO_COLOR is set.", "muted"),)]
            return picture_lines(content, width, space.height - len(note), colours=colours) + note
        case Json(value=value):
            return json_lines(value, width, length)
        case Written(data=b"", live=live):
            return [(Span("nothing yet" if live else "It printed nothing.", "muted"),)]
        case Written(data=data, live=live):
            return text_lines(data, width, length, tail=live) if is_text(data) else bytes_lines(data, width, length)
        case Rows(lines=lines):
            return list(lines[:length])
        case Problem(text=text):
            return paragraph(text, "warn", width)[:length]
