"""Pictures as characters: two pixels a cell in their colours, or shades of one colour where there must be none."""

from __future__ import annotations

from zstui.screens.previews.picture import DARK, Picture, fitting, shrink
from zstui.screens.widgets.text import Line, Span

SHADES = " .:-=+*#%@"
"""From dark to light, as on a dark terminal."""


def picture_lines(picture: Picture, width: int, height: int, *, colours: bool) -> list[Line]:
    """The picture in at most ``width`` cells and ``height`` lines, true to its shape: a cell is twice as high as wide."""
    small = shrink(picture, *fitting(picture.width, picture.height, max(1, width), max(1, height) * 2))
    stride = small.width * 3
    rows = [small.rgb[at : at + stride] for at in range(0, small.rows * stride, stride)]
    rows += [DARK * small.width] * (small.height + small.height % 2 - len(rows))
    make = _colours if colours else _shades
    return [make(rows[y], rows[y + 1]) for y in range(0, len(rows), 2)]


def _colours(upper: bytes, lower: bytes) -> Line:
    """Half blocks; neighbours alike become one run. Colours lose two bits, which nobody sees and which makes runs."""
    spans: list[Span] = []
    last, run = "", 0
    for at in range(0, len(upper), 3):
        style = f"#{_hex(upper, at)} on #{_hex(lower, at)}"
        if style != last and run:
            spans.append(Span("▀" * run, last))
            run = 0
        last, run = style, run + 1
    return (*spans, Span("▀" * run, last))


def _hex(row: bytes, at: int) -> str:
    return bytes(value & 0xFC for value in row[at : at + 3]).hex()


def _shades(upper: bytes, lower: bytes) -> Line:
    text = ""
    for at in range(0, len(upper), 3):
        red, green, blue = (upper[at + n] + lower[at + n] for n in range(3))
        light = (red * 299 + green * 587 + blue * 114) // 1000
        text += SHADES[light * len(SHADES) // 511]
    return (Span(text),)
