"""Every target on arbitrary bytes and on damaged examples; ``python -m tests.fuzz`` goes on where this ends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.check import check, check_memory
from tests.fuzz.targets import TARGETS

EXAMPLES = 25


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """An example with a few bytes changed, put in, left out or repeated."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        new = draw(st.one_of(st.binary(max_size=4), st.just(bytes(data[at:end]) * 2)))
        data[at : min(end, at + draw(st.integers(0, 8)))] = new
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_taken_or_refused_as_it_says(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        check_memory(target, seed)

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=200), damaged(target.seeds)))
    def run(data: bytes) -> None:
        check(target, data)

    run()


WITHIN = {"guild entry", "manifest", "receipt", "debit note", "note reply", "testimony", "complaint", "noise proof"}
"""Their examples get past the signature and the form, and are refused for what they say."""


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in WITHIN])
def test_it_takes_at_least_one_of_its_examples(name: str) -> None:
    """Else a fuzzer would see little but the first check."""
    target = TARGETS[name]
    assert any(check(target, seed) for seed in target.seeds)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x91", b"["])
def test_a_large_input_of_one_kind_costs_little(name: str, filler: bytes) -> None:
    """Nested arrays, endless lengths, and the like, as large as a frame may be."""
    check_memory(TARGETS[name], filler * 65_536)
