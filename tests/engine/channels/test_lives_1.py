"""Half of the random lives; the other half runs beside it."""

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


@pytest.mark.timeout(0)
@lives
@given(plan=plans, seed=st.integers(0, 2**15))
def test_any_life_ends_with_both_sides_agreeing(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)
