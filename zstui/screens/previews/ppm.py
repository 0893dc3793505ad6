"""Reads the portable pixmap formats P6 (binary) and P3 (text) of Netpbm, also while they are still being written.

A comment "# at X Y of WIDTH HEIGHT" in the header says that the picture is a tile of a larger one.
"""

from __future__ import annotations

import re

from zstui.screens.previews.picture import Picture, PictureError, Place, check_size

MAX_HEADER = 4096
_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
_PLACE = re.compile(rb"#\s*at (\d{1,6}) (\d{1,6}) of (\d{1,6}) (\d{1,6})\s*\n")
_HEADER = ("width", "height", "largest value")


def is_ppm(data: bytes) -> bool:
    return data[:2] in (b"P3", b"P6") and data[2:3].isspace()


def decode_ppm(data: bytes) -> Picture:
    """The picture, with those rows that are there in full. Raises PictureError."""
    if not is_ppm(data):
        raise PictureError("This is not a PPM picture.")
    numbers: list[int] = []
    at = 2
    for name in _HEADER:
        match = _TOKEN.match(data, at, MAX_HEADER)
        if match is None or not match[1].isdigit() or len(match[1]) > 6:
            raise PictureError(f"The picture's {name} cannot be read.")
        numbers.append(int(match[1]))
        at = match.end()
    if not data[at : at + 1].isspace():
        raise PictureError("The picture's header is not complete.")
    width, height, most = numbers
    check_size(width, height)
    if not 1 <= most <= 65_535:
        raise PictureError("The picture's largest value is not between 1 and 65535.")
    place = _place(data[:at], width, height)
    body = (
        _binary(data[at + 1 :], most, width * height * 3)
        if data[1:2] == b"6"
        else _text(data[at:], most, width * height)
    )
    rows = min(height, len(body) // (width * 3))
    return Picture(width, height, body[: rows * width * 3], rows, place)


def _place(header: bytes, width: int, height: int) -> Place | None:
    match = _PLACE.search(header)
    if match is None:
        return None
    place = Place(*(int(number) for number in match.groups()))
    check_size(place.width, place.height)
    return place if place.left + width <= place.width and place.top + height <= place.height else None


def _binary(body: bytes, most: int, count: int) -> bytes:
    if most == 255:
        return body[:count]
    values = body[: count * 2 : 2] if most > 255 else body[:count]
    if most == 65_535:
        return values
    if most > 255:
        wide = body[: count * 2]
        return bytes(
            min(255, (high << 8 | low) * 255 // most) for high, low in zip(wide[::2], wide[1::2], strict=False)
        )
    return values.translate(bytes(min(255, value * 255 // most) for value in range(256)))


def _text(body: bytes, most: int, pixels: int) -> bytes:
    out = bytearray()
    for word in re.sub(rb"#[^\n]*", b"", body).split(maxsplit=pixels * 3)[: pixels * 3]:
        if not word.isdigit() or len(word) > 5:
            raise PictureError("The picture holds something that is not a number.")
        out.append(min(255, int(word) * 255 // most))
    return bytes(out)
