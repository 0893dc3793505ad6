"""Pictures from strangers: right ones are shown exactly, wrong ones are refused with a sentence, nothing else happens."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.screens.previews.decode import decode
from zstui.screens.previews.picture import MAX_PIXELS, Canvas, Picture, PictureError, Place, fitting, shrink
from zstui.screens.previews.png import ADAM7, CHANNELS, DEPTHS, SIGNATURE, BadPng, to_ppm
from zstui.screens.previews.ppm import decode_ppm

SIDE = st.integers(1, 9)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, kind: int, raw: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b""))
    return SIGNATURE + b"".join(parts)


def filtered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """A row as an encoder writes it, by the definitions of the format."""
    out = bytearray([kind])
    for at, value in enumerate(line):
        a, b = line[at - step] if at >= step else 0, above[at]
        c = above[at - step] if at >= step else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
    return bytes(out)


@given(st.data())
def test_every_filter_gives_the_pixels_back(data: st.DataObject) -> None:
    width, height = data.draw(SIDE), data.draw(SIDE)
    rgb = data.draw(st.binary(min_size=width * height * 3, max_size=width * height * 3))
    lines = [rgb[y * width * 3 : (y + 1) * width * 3] for y in range(height)]
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    above = [bytes(width * 3), *lines]
    raw = b"".join(filtered(k, line, up, 3) for k, line, up in zip(kinds, lines, above, strict=False))
    assert decode_ppm(to_ppm(png(width, height, 8, 2, raw))) == Picture(width, height, rgb, height)


@pytest.mark.parametrize(("kind", "depth"), [(kind, depth) for kind in DEPTHS for depth in DEPTHS[kind]])
def test_every_kind_of_pixel(kind: int, depth: int) -> None:
    """One white or opaque pixel: all bits set, in the first place of its row."""
    size = (depth * CHANNELS[kind] + 7) // 8
    palette = chunk(b"PLTE", bytes(3 * ((1 << min(depth, 8)) - 1)) + b"\xff\xff\xff")
    data = png(1, 1, depth, kind, b"\0" + b"\xff" * size, *([palette] if kind == 3 else []))
    assert decode_ppm(to_ppm(data)).rgb == b"\xff\xff\xff"


def test_small_depths_transparency_and_interlace() -> None:
    two_bits = png(5, 1, 2, 0, bytes([0, 0b00011011, 0b11000000]))
    assert decode_ppm(to_ppm(two_bits)).rgb[::3] == bytes([0, 85, 170, 255, 255])
    assert decode_ppm(to_ppm(png(1, 1, 8, 6, b"\0\xff\0\0\x80"))).rgb == bytes([255, 127, 127])
    clear = (chunk(b"PLTE", b"\1\2\3\4\5\6"), chunk(b"tRNS", b"\0"))
    assert decode_ppm(to_ppm(png(2, 1, 8, 3, b"\0\0\1", *clear))).rgb == b"\xff\xff\xff\4\5\6"
    wide, high = 5, 3
    grey = bytes(range(wide * high))
    raw = b""
    for left, top, across, down in ADAM7:
        for y in range(top, high, down):
            if line := grey[y * wide + left : (y + 1) * wide : across]:
                raw += b"\0" + line
    assert decode_ppm(to_ppm(png(wide, high, 8, 0, raw, interlace=1))).rgb[::3] == grey


@given(st.binary(max_size=200), st.integers(0, 90), st.binary(min_size=1, max_size=4))
def test_a_damaged_png_is_refused_with_a_sentence(noise: bytes, at: int, change: bytes) -> None:
    good = png(3, 3, 8, 2, (b"\4" + b"abcdefghi") * 3)
    for data in (SIGNATURE + noise, good[:at], good[:at] + change + good[at + len(change) :]):
        with contextlib.suppress(BadPng, PictureError):
            decode_ppm(to_ppm(data))


def test_bombs_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(BadPng, match="too large"):
        to_ppm(png(100_000, 100_000, 8, 2, b""))
    with pytest.raises(BadPng, match="cut off"):
        to_ppm(png(2000, 2000, 8, 2, b"\0"))
    deep = png(1, 1, 8, 0, bytes(50 << 20))
    assert len(deep) < 100_000
    assert decode_ppm(to_ppm(deep)).rgb == bytes(3)


async def test_a_png_is_decoded_in_a_process_of_its_own() -> None:
    picture = await decode(png(2, 1, 8, 0, b"\0\x10\x20"))
    assert picture.rgb == bytes([16] * 3 + [32] * 3)
    with pytest.raises(PictureError, match=r"cut off or damaged\."):
        await decode(SIGNATURE + b"nothing")


@given(SIDE, SIDE, st.sampled_from([1, 7, 255, 256, 65_535]), st.booleans(), st.data())
def test_ppm_both_ways_of_writing_mean_the_same(w: int, h: int, most: int, note: bool, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, most), min_size=w * h * 3, max_size=w * h * 3))
    head = "# by hand\n" if note else ""
    text = f"P3\n{head}{w} {h}\n{most}\n{' '.join(map(str, values))}".encode()
    body = b"".join(value.to_bytes(1 if most < 256 else 2, "big") for value in values)
    binary = f"P6 {head}{w}\t{h} {most}\n".encode() + body
    a, b = decode_ppm(text), decode_ppm(binary)
    assert (a.width, a.height, a.rows) == (b.width, b.height, b.rows) == (w, h, h)
    assert all(abs(x - y) <= 1 for x, y in zip(a.rgb, b.rgb, strict=True))
    assert a.rgb == bytes(value * 255 // most for value in values)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_ppm_or_refused(data: bytes) -> None:
    for magic in (b"P6 ", b"P3\n", b"P6\n# at 0 0 of 9 9\n2 2 255\n", b""):
        with contextlib.suppress(PictureError):
            picture = decode_ppm(magic + data)
            assert picture.width * picture.height <= MAX_PIXELS
            assert len(picture.rgb) == picture.rows * picture.width * 3


def test_a_ppm_that_is_still_being_written_shows_its_full_rows() -> None:
    whole = b"P6\n# at 4 6 of 8 9\n2 3\n255\n" + bytes(range(18))
    assert decode_ppm(whole[:-7]) == Picture(2, 3, bytes(range(6)), 1, Place(4, 6, 8, 9))
    for end in range(len(whole) - 18):
        with pytest.raises(PictureError):
            decode_ppm(whole[:end])


@given(SIDE, SIDE, st.integers(1, 60), st.integers(1, 60), st.integers(0, 9), st.data())
def test_a_smaller_picture_keeps_its_shape_and_range(
    width: int, height: int, wide: int, high: int, rows: int, data: st.DataObject
) -> None:
    rows = min(rows, height)
    rgb = data.draw(st.binary(min_size=rows * width * 3, max_size=rows * width * 3))
    size = fitting(width, height, wide, high)
    assert size[0] <= min(wide, width)
    assert size[1] <= min(high, height)
    small = shrink(Picture(width, height, rgb, rows), *size)
    assert len(small.rgb) == small.rows * small.width * 3
    if rgb and small.rgb:
        assert min(rgb) <= min(small.rgb)
        assert max(small.rgb) <= max(rgb)


def test_tiles_make_one_picture_whatever_their_order() -> None:
    whole = bytes(range(48))
    canvas = Canvas()
    for left, top in ((2, 2), (0, 0), (2, 0), (0, 2)):
        rgb = b"".join(whole[(top + y) * 12 + left * 3 :][:6] for y in range(2))
        assert canvas.paste(Picture(2, 2, rgb, 2, Place(left, top, 4, 4)))
    assert not canvas.paste(Picture(2, 2, bytes(12), 2, Place(0, 0, 5, 4)))
    assert not canvas.paste(Picture(2, 2, bytes(12), 2))
    assert canvas.picture() == Picture(4, 4, whole, 4)
