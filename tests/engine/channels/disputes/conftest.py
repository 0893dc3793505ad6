from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.channels.disputes.court import Court, court


@pytest.fixture
async def full(clean: None, tmp_path: Path) -> Court:
    """Two parties and four possible witnesses, all running."""
    return await court(tmp_path)
