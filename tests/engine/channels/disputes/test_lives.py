"""Random lives of a disputed channel, its witnesses included."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.channels.disputes.lives import SCHEMA, Step, live, lives, plans
from tests.engine.channels.lives import MEMORY
from tests.engine.channels.world import create_template


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        create_template(Path(name), SCHEMA)
        yield Path(name)


@pytest.mark.timeout(0)
@lives
@given(plan=plans, seed=st.integers(0, 2**15))
def test_any_dispute_ends_alike_for_both_sides(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)
