from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.channels.conftest import clean, impatient
from tests.engine.complaints.rig import Trade, trade

__all__ = ["clean", "impatient"]


@pytest.fixture
async def full(clean: None, tmp_path: Path) -> Trade:
    """A payer, an executor and four witnesses, all running."""
    return await trade(tmp_path)
