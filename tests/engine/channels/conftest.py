from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.rig import Node
from zstui.engine.channels import links, service
from zstui.engine.net.memory import MemoryHub


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for peers that are away."""
    monkeypatch.setattr(service, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(links, "POLITE_S", 0.02)
    monkeypatch.setattr(links, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two running nodes, linked."""
    hub = MemoryHub()
    a, b = await Node(hub, 1, tmp_path).start(), await Node(hub, 2, tmp_path).start()
    yield a, b
    await a.stop()
    await b.stop()
