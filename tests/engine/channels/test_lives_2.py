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


def test_who_forgets_that_its_database_is_old_is_told_so(folder: Path) -> None:
    """Told the peer so, restored the same backup once more without knowing it, and pays."""
    plan: list[Step] = [("backup", 1, 1), ("taint", 1, 1), ("pay", 0, 201), ("restore", 1, 1), ("close", 0, 1)]
    live(folder, [*plan, ("pay", 1, 1)], 2**15)


@pytest.mark.timeout(0)
@lives
@given(plan=plans, seed=st.integers(2**15, 2**16))
def test_any_life_ends_with_both_sides_agreeing(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)
