from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.reputation.score import (
    DAY_US,
    HALF_LIFE_US,
    MIN_TASKS,
    Tally,
    blacklist_reason,
    order_key,
    parts,
    raw,
    score,
    sigmoid,
    wilson_upper,
)

T0 = 1_700_000_000_000_000
UNIT = 1_000_000
SECOND = 1_000_000

outcomes = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 2**62),
        st.integers(0, 2**62),
        st.integers(T0, T0 + 400 * DAY_US),
    ),
    max_size=40,
)


def tally_of(*rows: tuple[bool, int, int, int]) -> Tally:
    tally = Tally()
    for row in rows:
        tally = tally.add(*row)
    return tally


def test_at_both_baselines_on_the_first_day_it_is_seven_tenths() -> None:
    tally = tally_of(*[(True, 30 * SECOND, UNIT, T0)] * 5)
    assert raw(tally) == pytest.approx(0.5 + 0.1 + 0.1)
    assert parts(tally).longevity == 0.0


def test_vector_with_all_four_parts() -> None:
    # 8 of 10 succeed; the successes average 20 s and 2 units; ten days between first and last.
    rows = [(True, 20 * SECOND, 2 * UNIT, T0)] * 8 + [(False, 999 * SECOND, 99 * UNIT, T0 + 10 * DAY_US)] * 2
    four = parts(tally_of(*rows))
    assert four.success == pytest.approx(0.4)
    assert four.speed == pytest.approx(0.2 / (1 + math.exp(-1.0)))  # ratio 1.5
    assert four.cost == pytest.approx(0.2 / (1 + math.exp(1.0)))  # ratio 0.5
    assert four.longevity == pytest.approx(0.1 * math.tanh(1 / 3))
    assert four.total == pytest.approx(0.632151, abs=1e-6)


def test_without_a_success_both_ratios_are_zero() -> None:
    tally = tally_of(*[(False, 1, 1, T0)] * 5)
    assert sigmoid(0) == pytest.approx(0.119203, abs=1e-6)
    assert raw(tally) == pytest.approx(0.4 * sigmoid(0))


def test_work_for_nothing_has_the_whole_cost_part_and_no_time_counts_as_a_microsecond() -> None:
    four = parts(tally_of(*[(True, 0, 0, T0)] * 5))
    assert four.cost == 0.2
    assert four.speed == pytest.approx(0.2)


def test_fewer_than_five_tasks_say_nothing_however_old() -> None:
    tally = tally_of(*[(False, 1, 1, T0)] * 4)
    assert score(tally, T0 + 1000 * DAY_US) == 0.5
    assert blacklist_reason(tally) == ""
    assert blacklist_reason(tally.add(False, 1, 1, T0)) != ""


def test_decay_halves_each_week_since_the_last_outcome_and_runs_on_reading_only() -> None:
    tally = tally_of(*[(True, 30 * SECOND, UNIT, T0)] * 5)
    assert score(tally, T0 + HALF_LIFE_US) == pytest.approx(raw(tally) / 2)
    assert score(tally, T0 + 3 * HALF_LIFE_US) == pytest.approx(raw(tally) / 8)
    assert score(tally, T0 - DAY_US) == raw(tally)
    assert score(tally, T0 + 10**6 * DAY_US) == 0.0


def test_longevity_is_frozen_at_the_last_outcome() -> None:
    tally = tally_of(*[(True, 30 * SECOND, UNIT, T0)] * 5, (True, 30 * SECOND, UNIT, T0 + 30 * DAY_US))
    assert parts(tally).longevity == pytest.approx(0.1 * math.tanh(1))


def test_a_late_outcome_moves_neither_the_last_time_back_nor_the_first_forward() -> None:
    tally = tally_of((True, 1, 1, T0), (True, 1, 1, T0 - DAY_US), (True, 1, 1, T0 - 2 * DAY_US))
    assert (tally.first_us, tally.updated_us) == (T0 - 2 * DAY_US, T0)


def test_a_few_outcomes_in_a_category_weigh_against_five_overall() -> None:
    overall = tally_of(*[(True, 30 * SECOND, UNIT, T0)] * 5)
    bad = tally_of(*[(False, 1, 1, T0)] * 3)
    assert raw(overall, bad) == pytest.approx((3 * raw(bad) + 5 * raw(overall)) / 8)
    assert raw(overall, Tally()) == raw(overall)


def test_wilson_upper_vectors() -> None:
    assert wilson_upper(0, 0) == 1.0
    assert wilson_upper(0, 5) == pytest.approx(1.645**2 / (5 + 1.645**2))
    assert wilson_upper(5, 5) == pytest.approx(0.7307, abs=1e-4)
    assert wilson_upper(7, 0) == pytest.approx(1.0)


def test_a_fast_cheap_old_peer_that_nearly_always_fails_is_vetoed() -> None:
    rows = [(i == 0, 1, 0, T0 + i * DAY_US * 4) for i in range(100)]
    tally = tally_of(*rows)
    assert raw(tally) == pytest.approx(0.505, abs=1e-3)
    assert "recent" in blacklist_reason(tally)


def test_one_failure_in_ten_is_no_reason() -> None:
    assert blacklist_reason(tally_of(*[(i % 10 != 0, 30 * SECOND, UNIT, T0) for i in range(40)])) == ""


@given(outcomes, st.integers(0, 2**62))
def test_score_is_finite_and_between_zero_and_one(rows: list[tuple[bool, int, int, int]], now_us: int) -> None:
    tally = tally_of(*rows)
    for value in (score(tally, now_us), raw(tally), wilson_upper(tally.good, tally.bad)):
        assert math.isfinite(value)
        assert 0.0 <= value <= 1.0
    if rows:
        assert raw(tally) > 0.0
        assert parts(tally).total == pytest.approx(raw(tally))


@given(outcomes, outcomes, st.integers(0, 200 * DAY_US))
def test_the_order_key_says_at_any_time_what_the_decayed_scores_say(
    a: list[tuple[bool, int, int, int]], b: list[tuple[bool, int, int, int]], later_us: int
) -> None:
    one, two = tally_of(*a), tally_of(*b)
    if min(one.tasks, two.tasks) < MIN_TASKS:
        return
    now_us = max(one.updated_us, two.updated_us) + later_us
    difference = order_key(one) - order_key(two)
    if abs(difference) > 1e-9:
        assert (difference > 0) == (score(one, now_us) > score(two, now_us))
    assert math.log2(score(one, now_us)) == pytest.approx(order_key(one) - now_us / HALF_LIFE_US, abs=1e-6)
