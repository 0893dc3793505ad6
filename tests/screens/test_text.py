"""Text on a cell grid."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from zstui.engine.money import parse_amount
from zstui.screens.widgets import text as t

ANY = st.text(max_size=80)


@given(ANY, st.integers(0, 60), st.sampled_from(["left", "right"]))
def test_fit_takes_exactly_its_cells(text: str, width: int, align: str) -> None:
    assert cell_len(t.fit(t.plain(text), width, align)) == width


@given(ANY)
def test_plain_has_no_control_or_format_characters_and_one_line(text: str) -> None:
    clean = t.plain(text)
    assert not [c for c in clean if unicodedata.category(c)[0] == "C"]
    assert t.plain(clean) == clean


@given(ANY, st.integers(2, 40))
def test_wrapped_lines_fit_and_keep_every_word(text: str, width: int) -> None:
    clean = t.plain(text)
    lines = t.wrap(clean, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean.split())


@given(st.integers(-(2**53), 2**53), st.integers(8, 12))
def test_amounts_are_exact_or_marked(micro: int, width: int) -> None:
    text = t.amount(micro, width)
    if not text.startswith("~"):
        assert parse_amount(text.lstrip("-")) == abs(micro)
        assert text.startswith("-") == (micro < 0)
    elif "." in text:
        assert len(text) <= width


@pytest.mark.parametrize(
    ("address", "short"),
    [
        ("/ip4/192.168.1.23/udp/4433/quic-v1/p2p/12D3KooWabc", "192.168.1.23:4433"),
        ("/ip6/fe80::1/udp/4433/quic-v1", "[fe80::1]:4433"),
        ("/dns4/example.org/tcp/1", "example.org:1"),
        ("relay", "relay"),
        ("", ""),
    ],
)
def test_short_addresses(address: str, short: str) -> None:
    assert t.short_address(address) == short


def test_keys_and_times() -> None:
    assert t.short_peer("12D3KooW9f3aTq8bVn2LmRwYk2d1") == "9f3a·k2d1"
    assert [t.duration(s) for s in (9, 41 * 60, 3 * 3600 + 600, 86_400 * 10)] == ["9s", "41m", "3h10m", "10d"]
    assert [t.countdown(s) for s in (102, 5, -1)] == ["1:42", "0:05", "0:00"]
    assert t.sparkline((1.0, 1.0, 1.0), 5) == "  ▁▁▁"
    assert t.sparkline((1.0, 9.0), 2) == "▁▇"
    assert t.sparkline((), 3) == "   "


@given(st.lists(st.floats(0, 1e6), max_size=60), st.integers(12, 60), st.integers(2, 8))
def test_plots_stay_in_their_box(values: list[float], width: int, height: int) -> None:
    lines = t.plot(values, width, height, "ms")
    assert len(lines) == (height if values else 0)
    assert all(t.width_of(line) <= width for line in lines)


@given(st.floats(-1, 2), st.integers(1, 40))
def test_bars_are_as_wide_as_asked(share: float, width: int) -> None:
    assert t.width_of(t.bar(share, width)) == width
