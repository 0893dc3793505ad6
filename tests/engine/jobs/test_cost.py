from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.jobs.cost import cost

MIB = 1 << 20
WHOLE = st.integers(0, 2**50)


@pytest.mark.parametrize(
    ("per_second", "per_mib", "duration_us", "memory", "cap", "total", "time"),
    [
        (1_000_000, 100_000, 10_000_000, 100 * MIB, 10**9, 20_000, 10_000),
        (10_000_000, 1_000_000, 10_000_000, 50 * MIB, 10**9, 150_000, 100_000),
        (10_000_000, 1_000_000, 200_000_000, 500 * MIB, 1_000_000, 1_000_000, 1_000_000),
        (1, 0, 999_999_999, 0, 10**9, 0, 0),
        (1, 0, 1_000_000_000, 0, 10**9, 1, 1),
        (0, 0, 10**12, 10**12, 10**9, 0, 0),
        (500, 500, 1_000_000, MIB, 10**9, 1, 0),
    ],
)
def test_vectors(per_second: int, per_mib: int, duration_us: int, memory: int, cap: int, total: int, time: int) -> None:
    due = cost(per_second, per_mib, duration_us, memory, cap)
    assert (due.total_u, due.time_u, due.memory_u) == (total, time, total - time)


@given(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)
def test_parts_add_up_and_the_cap_holds(ps: int, pm: int, us: int, mem: int, cap: int) -> None:
    due = cost(ps, pm, us, mem, cap)
    assert due.time_u + due.memory_u == due.total_u <= cap
    assert min(due.time_u, due.memory_u) >= 0


@given(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)
def test_more_use_never_costs_less(ps: int, pm: int, us: int, mem: int, more: int) -> None:
    cap = 2**80
    before = cost(ps, pm, us, mem, cap).total_u
    assert cost(ps, pm, us + more, mem, cap).total_u >= before
    assert cost(ps, pm, us, mem + more, cap).total_u >= before


@given(WHOLE, WHOLE, st.lists(WHOLE, min_size=1, max_size=20))
def test_a_cumulative_counter_never_gathers_rounding(ps: int, mem: int, steps: list[int]) -> None:
    whole = cost(ps, 0, sum(steps), mem, 2**90).total_u
    assert sum(cost(ps, 0, s, mem, 2**90).total_u for s in steps) <= whole


def test_negative_values_are_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        cost(1, 1, -1, 1, 1)
