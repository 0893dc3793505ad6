"""Text, JSON and bytes, cut to the space there is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zstui.screens.previews.content import Json, Problem, Space, Written, draw, kind, recognise
from zstui.screens.previews.written import is_text, json_lines, parse_json, text_lines
from zstui.screens.widgets.text import Line, width_of

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)


def shown(lines: list[Line]) -> str:
    return "\n".join("".join(span.text for span in line) for line in lines)


@given(VALUES)
def test_json_with_room_for_all_of_it_is_the_same_json(value: Any) -> None:
    assert json.loads(shown(json_lines(value, 400, 1000))) == value


@given(VALUES, st.integers(24, 120), st.integers(2, 30))
def test_json_never_takes_more_lines_than_there_are(value: Any, width: int, height: int) -> None:
    assert len(json_lines(value, width, height)) <= height


def test_json_is_folded_to_its_outline() -> None:
    value = {"name": "scene", "points": list(range(500)), "parts": [{"id": n, "tags": ["x"] * 9} for n in range(40)]}
    text = shown(json_lines(value, 60, 12))
    assert '"name": "scene"' in text
    assert "[500 items]" in text or "more" in text
    assert len(text.splitlines()) <= 12
    assert shown(json_lines({"a": [1, 2]}, 60, 12)) == '{"a": [1, 2]}'


def test_hostile_json_is_text() -> None:
    assert parse_json(b"[" * 100_000) is None
    assert parse_json(b"[1" + b"0" * 200_000 + b"]") is None
    assert parse_json(b'"alone"') is None
    assert parse_json(b"{broken") is None


def test_text_is_cleaned_and_counted() -> None:
    data = b"\x1b]0;owned\x07first\n" + b"row\n" * 30
    lines = text_lines(data, 40, 5)
    assert len(lines) == 5
    assert "more" in shown(lines)
    assert not [c for c in shown(lines) if ord(c) < 32 and c != "\n"]
    assert "before" in shown(text_lines(data, 40, 5, tail=True)[:1])
    assert is_text("…".encode() * 2000)
    assert not is_text(bytes(range(256)))


async def test_what_a_result_is_is_told_by_looking_at_it() -> None:
    space = Space(40, 10, 10)
    ppm = b"P6\n2 2\n255\n" + bytes(12)
    for data, name in (
        (b'{"a": 1}', "JSON"),
        (b"words\n", "text"),
        (bytes(range(256)), "bytes"),
        (ppm, "picture 2 x 2"),
    ):
        content = await recognise(data)
        assert kind(content) == name
        assert all(width_of(line) <= 40 for line in draw(content, space, colours=True))
    assert isinstance(await recognise(b"P6\n0 0\n255\n"), Problem)
    assert isinstance(await recognise(b"[1]"), Json)
    assert isinstance(await recognise(b"[1]", live=True), Written)
    shades = draw(await recognise(ppm), space, colours=False)
    assert "NO_COLOR" in shown(shades)
    assert all("#" not in span.style for line in shades for span in line)
