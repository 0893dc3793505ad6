"""Untrusted text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.identity.text import clean_text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain name", "plain name"),
        ("\x1b[2Jwiped", "[2Jwiped"),
        ("two\nlines\tand tabs", "two lines and tabs"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("  padded  ", "padded"),
        ("[b]kept[/b]", "[b]kept[/b]"),
        ("naïve 東京 🙂", "naïve 東京 🙂"),
        ("\ud800lone", "lone"),
    ],
)
def test_known_texts(text: str, clean: str) -> None:
    assert clean_text(text, 40) == clean


def test_limit() -> None:
    assert clean_text("abcdef", 3) == "abc"
    assert clean_text("\x00" * 1000 + "late", 10) == ""


@given(st.text(alphabet=st.characters(), max_size=200), st.integers(0, 50))
def test_nothing_harmful_is_left(text: str, limit: int) -> None:
    clean = clean_text(text, limit)
    assert len(clean) <= limit
    assert not any(unicodedata.category(c)[0] == "C" for c in clean)
    assert clean_text(clean, limit) == clean
