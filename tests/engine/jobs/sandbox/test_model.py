from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import BadInput
from zstui.engine.jobs.sandbox.model import Signature, check_name, format_result, parse_arguments


def one(kind: str, text: str) -> int | float:
    return parse_arguments(Signature((kind,), ()), (text,))[0]


@given(st.integers(-(2**31), 2**32 - 1))
def test_an_i32_may_be_signed_or_unsigned(number: int) -> None:
    assert one("i32", str(number)) == struct.unpack("<i", struct.pack("<I", number & 0xFFFFFFFF))[0]


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_i64_reads_back(number: int) -> None:
    assert one("i64", format_result("i64", number)) == number


@given(st.floats(width=32))
def test_an_f32_reads_back(number: float) -> None:
    read = one("f32", format_result("f32", number))
    assert read == number or (math.isnan(number) and math.isnan(read))


@given(st.floats())
def test_an_f64_reads_back(number: float) -> None:
    read = one("f64", format_result("f64", number))
    assert read == number or (math.isnan(number) and math.isnan(read))


def test_floats_are_written_short() -> None:
    assert format_result("f32", struct.unpack("<f", struct.pack("<f", 0.1))[0]) == "0.1"
    assert format_result("f64", -math.nan) == "nan"


@pytest.mark.parametrize(
    ("kind", "text"),
    [("i32", "4294967296"), ("i32", "-2147483649"), ("i64", str(2**64)), ("i32", "1.5"), ("f64", "x"), ("f32", "1e99")],
)
def test_what_does_not_fit_is_refused(kind: str, text: str) -> None:
    with pytest.raises(BadInput):
        one(kind, text)


def test_the_number_of_arguments_must_match() -> None:
    with pytest.raises(BadInput, match="takes 2 arguments, not 1"):
        parse_arguments(Signature(("i32", "i32"), ()), ("1",))


@pytest.mark.parametrize("name", ["a", "scene/a.json", "ä b/..c", "x" * 255])
def test_plain_relative_names_are_file_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "a\x1bb",
        "a\\b",
        "\u202ea",
        "x" * 256,
        "\ud800",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        check_name(name)
