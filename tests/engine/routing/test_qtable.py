from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.routing.qtable import Estimate, QTable

TIMES = st.floats(0, 1e9)
NAMES = st.sampled_from("abcdefgh")


def test_an_estimate_moves_by_the_rate_towards_what_was_observed() -> None:
    table = QTable(rate=0.5)
    assert table.expected("d", "y") == 0
    assert table.update("d", "y", q=3, s=1, t=6) == Estimate(10, 1, 0)
    assert table.update("d", "y", q=0, s=2, t=2).q == 7
    assert table.expected("d", "z") == 0
    assert table.expected("e", "y") == 0


@given(st.lists(TIMES, min_size=1, max_size=30), st.floats(0.01, 1))
def test_an_estimate_lies_within_what_was_observed(times: list[float], rate: float) -> None:
    table = QTable(rate=rate)
    for s in times:
        table.update("d", "y", q=0, s=s)
    rounding = max(times) * 1e-9
    assert min(times) - rounding <= table.expected("d", "y") <= max(times) + rounding


@given(st.lists(st.tuples(NAMES, NAMES, TIMES, st.integers(-100, 1000)), max_size=60))
def test_it_stays_within_its_bounds_and_keeps_the_latest(events: list[tuple[str, str, float, int]]) -> None:
    table = QTable(max_destinations=3, max_neighbours=2, half_life=100)
    for destination, neighbour, s, at in events:
        table.update(destination, neighbour, q=0, s=s, at=at)
        assert table.get(destination, neighbour) is not None
        assert len({d for d, _, _ in table.items()}) <= 3
        assert all(sum(d == e for e, _, _ in table.items()) <= 2 for d, _, _ in table.items())
        assert len(table) == len(list(table.items()))


@given(st.dictionaries(NAMES, TIMES, min_size=1))
def test_the_best_way_is_the_one_with_the_least_time(times: dict[str, float]) -> None:
    table = QTable()
    for neighbour, s in times.items():
        table.update("d", neighbour, q=0, s=s)
    best = table.best_via("d", times)
    assert best is not None
    assert times[best] == min(times.values()) == table.remaining("d", times)
    assert table.best_via("d", [*times, "never tried"]) in ("never tried", best)
    assert table.expected("d", "never tried") == 0
    assert table.best_via("d", []) is None
    assert table.remaining("d", []) == 0


def test_what_was_slow_long_ago_is_tried_again() -> None:
    table = QTable(half_life=100)
    table.update("d", "slow", q=0, s=80, at=0)
    table.update("d", "fast", q=0, s=30, at=300)
    assert table.best_via("d", ["slow", "fast"], now=0) == "fast"
    assert table.expected("d", "slow", now=200) == 20
    assert table.best_via("d", ["slow", "fast"], now=300) == "slow"
    table.update("d", "slow", q=0, s=80, at=300)
    assert table.best_via("d", ["slow", "fast"], now=300) == "fast"


@given(st.lists(st.tuples(NAMES, NAMES), max_size=30), NAMES)
def test_a_neighbour_that_is_gone_leaves_nothing(pairs: list[tuple[str, str]], gone: str) -> None:
    table = QTable()
    for destination, neighbour in pairs:
        table.update(destination, neighbour, q=1, s=1)
    table.forget(gone)
    assert {(d, n) for d, n, _ in table.items()} == {(d, n) for d, n in pairs if n != gone}


def test_nonsense_is_refused() -> None:
    for wrong in ({"rate": 0}, {"rate": 1.5}, {"half_life": -1}, {"max_neighbours": 0}, {"max_destinations": 0}):
        with pytest.raises(ValueError):
            QTable(**wrong)
