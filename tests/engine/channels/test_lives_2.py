"""The other half of the random lives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.channels.lives import MEMORY, live, lives, plans
from tests.engine.channels.world import Step, create_template


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        create_template(Path(name))
        yield Path(name)


FOUND: dict[str, tuple[list[Step], int]] = {
    "told the peer that its database is old, forgot it, and pays": (
        [("backup", 1, 1), ("taint", 1, 1), ("pay", 0, 201), ("restore", 1, 1), ("close", 0, 1), ("pay", 1, 1)],
        2**15,
    ),
    "forgot that the channel was confirmed, and gives it up as void": (
        [
            ("strike", 1, 1859),
            ("restore", 1, 1779),
            ("burst", 0, 1365),
            ("rest", 0, 1641),
            ("rest", 0, 1514),
            ("restore", 1, 436),
            ("backup", 1, 281),
        ],
        1414,
    ),
    "forgot the channel, and denies it while the first payment is under way": (
        [
            ("close", 0, 536),
            ("pay", 0, 1786),
            ("backup", 1, 1838),
            ("rest", 1, 1566),
            ("open", 0, 1061),
            ("pay", 0, 861),
            ("restore", 1, 252),
            ("pay", 0, 907),
        ],
        2333,
    ),
    "lost a channel, which an older one that never opened stands in the way of asking for": (
        [
            ("leave", 1, 1430),
            ("taint", 0, 1443),
            ("restore", 1, 2054),
            ("rest", 0, 1955),
            ("open", 0, 635),
            ("restore", 1, 827),
            ("pay", 1, 1365),
            ("close", 1, 373),
            ("burst", 1, 56),
            ("link", 1, 1285),
            ("pay", 0, 2182),
            ("pay", 1, 1267),
            ("pay", 0, 2084),
            ("rest", 1, 1314),
            ("strike", 0, 1006),
            ("taint", 1, 40),
        ],
        14,
    ),
    "forgot that the channel was confirmed, and its own payment on it": (
        [
            ("restore", 1, 2323),
            ("restore", 1, 2399),
            ("pay", 0, 1986),
            ("pay", 1, 1692),
            ("burst", 0, 784),
            ("link", 0, 39),
            ("link", 1, 965),
            ("restore", 1, 265),
            ("open", 1, 952),
            ("pay", 1, 915),
            ("restore", 1, 596),
            ("cut", 1, 428),
            ("backup", 1, 189),
        ],
        3748,
    ),
}
"""Lives that once ended in a dispute between honest nodes."""


@pytest.mark.parametrize(("plan", "seed"), FOUND.values(), ids=FOUND)
def test_a_life_that_went_wrong_once_goes_well(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)


@pytest.mark.timeout(0)
@lives
@given(plan=plans, seed=st.integers(2**15, 2**16))
def test_any_life_ends_with_both_sides_agreeing(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)
