from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.rig import Node
from zstui.engine.net.memory import MemoryHub


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two running nodes, linked."""
    hub = MemoryHub()
    a, b = await Node(hub, 1, tmp_path).start(), await Node(hub, 2, tmp_path).start()
    yield a, b
    await a.stop()
    await b.stop()
