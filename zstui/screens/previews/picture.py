"""A picture in memory, made smaller to be looked at, and put together from tiles. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS = 1 << 22
"""Largest picture that is decoded: 2048 x 2048."""
DARK = b"\x1c\x22\x29"
"""What is shown where no pixel has arrived yet."""
SAMPLES = 4
"""Rows that are looked at for one row of a smaller picture, at most."""


class PictureError(Exception):
    """The data is no picture that can be shown; says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile belongs in the whole picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """``rgb`` holds three bytes a pixel for ``rows`` of the ``height`` rows, from the top; the others have not arrived."""

    width: int
    height: int
    rgb: bytes
    rows: int
    place: Place | None = None


def check_size(width: int, height: int) -> None:
    """Raises PictureError for an empty picture and for one that is too large to be decoded here."""
    if width < 1 or height < 1:
        raise PictureError("The picture has no pixels.")
    if width * height > MAX_PIXELS:
        raise PictureError(f"The picture is too large to show here ({width} x {height}).")


def fitting(width: int, height: int, most_wide: int, most_high: int) -> tuple[int, int]:
    """The largest size with the same shape inside the bounds, never above the size itself."""
    scale = min(1.0, most_wide / width, most_high / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(picture: Picture, width: int, height: int) -> Picture:
    """The picture in ``width`` x ``height`` pixels, each the mean of what it covers; neither above the picture's own."""
    if (width, height) == (picture.width, picture.height):
        return picture
    stride = picture.width * 3
    columns = [(x * picture.width // width * 3, (x + 1) * picture.width // width * 3) for x in range(width)]
    rows = height * picture.rows // picture.height
    out = bytearray()
    for y in range(rows):
        first, last = y * picture.height // height, (y + 1) * picture.height // height
        step = -(-(last - first) // SAMPLES)
        lines = [picture.rgb[row * stride : (row + 1) * stride] for row in range(first, last, step)]
        for start, end in columns:
            count = (end - start) // 3 * len(lines)
            for channel in range(start, start + 3):
                out.append(sum(sum(line[channel:end:3]) for line in lines) // count)
    return Picture(width, height, bytes(out), rows)


class Canvas:
    """A whole picture that fills in tile by tile. Tiles that do not agree on its size are left out."""

    def __init__(self) -> None:
        self.width = self.height = 0
        self._rgb = bytearray()

    def paste(self, tile: Picture) -> bool:
        """Put the rows of a tile that are there in their place; whether it belongs here."""
        place = tile.place
        if place is None:
            return False
        if not self._rgb:
            self.width, self.height = place.width, place.height
            self._rgb = bytearray(DARK * (self.width * self.height))
        inside = place.left + tile.width <= self.width and place.top + tile.height <= self.height
        if not inside or (place.width, place.height) != (self.width, self.height):
            return False
        for row in range(tile.rows):
            at = ((place.top + row) * self.width + place.left) * 3
            self._rgb[at : at + tile.width * 3] = tile.rgb[row * tile.width * 3 : (row + 1) * tile.width * 3]
        return True

    def picture(self) -> Picture | None:
        """As it is now; None before the first tile."""
        return Picture(self.width, self.height, bytes(self._rgb), self.height) if self._rgb else None
