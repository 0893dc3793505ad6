"""Turns a PNG on standard input into a PPM on standard output, in a process of its own with limits of its own.

A stranger's PNG can ask for any amount of memory and time, so nothing else runs where it is decoded. This file is the whole
program: it uses the standard library only and imports nothing of zstui. PNG is ISO/IEC 15948.
"""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Iterator
from itertools import accumulate

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_INPUT = 16 << 20
MAX_PIXELS = 1 << 22
MEMORY = 512 << 20
CPU_S = 10
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type: grey, colours, palette, grey with alpha, colours with alpha."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top, and distance across and down of the pixels of each pass."""


class BadPng(ValueError):
    """Says in one sentence why it cannot be shown."""


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk up to the end chunk."""
    if not data.startswith(SIGNATURE):
        raise BadPng("This is not a PNG picture.")
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        end = at + 8 + length
        if end + 4 > len(data) or struct.unpack_from(">I", data, end)[0] != zlib.crc32(name + content):
            break
        if name == b"IEND":
            return
        yield name, content
        at = end + 4
    raise BadPng("The picture is cut off or damaged.")


class Png:
    """The parts of a PNG, checked: ``depth`` bits of ``channels`` values a pixel, and how they become colours."""

    def __init__(self, data: bytes) -> None:
        parts = list(chunks(data))
        if not parts or parts[0][0] != b"IHDR" or len(parts[0][1]) != 13:
            raise BadPng("The picture has no header.")
        self.width, self.height, self.depth, self.kind, packing, filtering, interlace = struct.unpack(
            ">IIBBBBB", parts[0][1]
        )
        if self.depth not in DEPTHS.get(self.kind, ()) or packing or filtering or interlace > 1:
            raise BadPng("The picture is of a kind that PNG does not have.")
        if not 0 < self.width * self.height <= MAX_PIXELS:
            raise BadPng(f"The picture is too large to show here ({self.width} x {self.height}).")
        self.interlaced = bool(interlace)
        self.channels = CHANNELS[self.kind]
        named = dict(parts)
        self.palette = named.get(b"PLTE", b"")
        self.clear = named.get(b"tRNS", b"")
        if self.kind == 3 and (not self.palette or len(self.palette) % 3):
            raise BadPng("The picture has no palette.")
        self.packed = b"".join(content for name, content in parts if name == b"IDAT")

    def passes(self) -> list[tuple[int, int, int, int]]:
        return list(ADAM7) if self.interlaced else [(0, 0, 1, 1)]

    def size_of(self, left: int, top: int, across: int, down: int) -> tuple[int, int]:
        """Pixels of one pass: across and down."""
        return -((left - self.width) // across), -((top - self.height) // down)

    def row_bytes(self, width: int) -> int:
        bits: int = width * self.depth * self.channels
        return (bits + 7) // 8

    def unpacked(self) -> bytes:
        """The filtered rows of all passes: exactly as many bytes as the header promises."""
        sizes = [self.size_of(*step) for step in self.passes()]
        total = sum((self.row_bytes(w) + 1) * h for w, h in sizes if w > 0 and h > 0)
        try:
            raw = zlib.decompressobj().decompress(self.packed, total)
        except zlib.error as error:
            raise BadPng("The picture is damaged.") from error
        if len(raw) != total:
            raise BadPng("The picture is cut off.")
        return raw


def unfilter(kind: int, line: bytearray, above: bytes, step: int) -> None:
    """Undo one row's filter in place; ``step`` is the distance in bytes to the same value of the pixel before."""
    if kind == 1:
        for first in range(step):
            line[first::step] = bytes(value & 255 for value in accumulate(line[first::step]))
    elif kind == 2:
        line[:] = bytes((a + b) & 255 for a, b in zip(line, above, strict=True))
    elif kind == 3:
        for at, value in enumerate(line):
            left = line[at - step] if at >= step else 0
            line[at] = (value + (left + above[at]) // 2) & 255
    elif kind == 4:
        for at, value in enumerate(line):
            left, corner = (line[at - step], above[at - step]) if at >= step else (0, 0)
            up = above[at]
            guess = left + up - corner
            by_left, by_up, by_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
            near = left if by_left <= by_up and by_left <= by_corner else up if by_up <= by_corner else corner
            line[at] = (value + near) & 255
    elif kind:
        raise BadPng("The picture is damaged.")


def rows(png: Png) -> Iterator[tuple[int, int, int, bytes]]:
    """Left, distance between its pixels, vertical place, and values of 8 bits, of every row of every pass."""
    raw, at = png.unpacked(), 0
    step = max(1, png.depth * png.channels // 8)
    for left, top, across, down in png.passes():
        width, height = png.size_of(left, top, across, down)
        if width < 1 or height < 1:
            continue
        size = png.row_bytes(width)
        above = bytes(size)
        for row in range(height):
            line = bytearray(raw[at + 1 : at + 1 + size])
            unfilter(raw[at], line, above, step)
            above, at = bytes(line), at + 1 + size
            yield left, across, top + row * down, values(png, above, width)


def values(png: Png, line: bytes, width: int) -> bytes:
    """One value a byte: palette indexes as they are, light from 0 to 255."""
    if png.depth == 8:
        return line
    if png.depth == 16:
        return line[::2]
    most = (1 << png.depth) - 1
    per, scale = 8 // png.depth, 1 if png.kind == 3 else 255 // most
    return bytes((line[n // per] >> (8 - png.depth * (n % per + 1)) & most) * scale for n in range(width))


def coloured(png: Png, line: bytes) -> bytes:
    """Values as red, green and blue; what is transparent is laid on white."""
    if png.kind == 2:
        return line
    if png.kind == 0:
        return bytes(value for grey in line for value in (grey, grey, grey))
    if png.kind == 3:
        table = [over_white(png.palette[n * 3 : n * 3 + 3], alpha(png, n)) for n in range(len(png.palette) // 3)]
        if line and max(line) >= len(table):
            raise BadPng("The picture uses a colour that its palette does not have.")
        return b"".join([table[index] for index in line])
    if png.kind == 4:
        return b"".join(over_white(line[at : at + 1] * 3, line[at + 1]) for at in range(0, len(line), 2))
    return b"".join(over_white(line[at : at + 3], line[at + 3]) for at in range(0, len(line), 4))


def alpha(png: Png, index: int) -> int:
    return png.clear[index] if index < len(png.clear) else 255


def over_white(rgb: bytes, opacity: int) -> bytes:
    return rgb if opacity == 255 else bytes(255 + (value - 255) * opacity // 255 for value in rgb)


def to_ppm(data: bytes) -> bytes:
    """Raises BadPng."""
    png = Png(data)
    out = bytearray(png.width * png.height * 3)
    for left, across, y, line in rows(png):
        rgb, start, end = coloured(png, line), y * png.width * 3, (y + 1) * png.width * 3
        for channel in range(3):
            out[start + left * 3 + channel : end : across * 3] = rgb[channel::3]
    return b"P6\n%d %d\n255\n" % (png.width, png.height) + out


def main() -> int:
    """Exit status 0 with a PPM, or 1 with the reason on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        result, status = to_ppm(sys.stdin.buffer.read(MAX_INPUT)), 0
    except BadPng as error:
        result, status = str(error).encode(), 1
    sys.stdout.buffer.write(result)
    return status


if __name__ == "__main__":
    sys.exit(main())
