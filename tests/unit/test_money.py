from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import BadInput
from zstui.engine.money import MAX_AMOUNT_U, format_amount, format_rate, parse_amount, parse_rate


@given(st.integers(0, MAX_AMOUNT_U))
def test_amounts_survive_text(micro: int) -> None:
    assert parse_amount(format_amount(micro)) == micro


@given(st.integers(0, 10**15))
def test_rates_survive_text(nano: int) -> None:
    assert parse_rate(format_rate(nano)) == nano


@pytest.mark.parametrize(
    ("text", "micro"), [("1.25", 1_250_000), ("0.000001", 1), ("12", 12_000_000), (" 3.5 ", 3_500_000), ("0", 0)]
)
def test_parse(text: str, micro: int) -> None:
    assert parse_amount(text) == micro


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", "1,5", ".5", "5.", "1.0000001", "nan", "inf", "٣", "1 2", "99999999999", "0x10"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(BadInput):
        parse_amount(text)


def test_shown_exactly() -> None:
    assert format_amount(12_500_000) == "12.500"
    assert format_amount(1) == "0.000001"
    assert format_amount(-84_250_000) == "-84.250"
