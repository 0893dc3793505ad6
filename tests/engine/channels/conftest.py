from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.rig import Node, running
from zstui.engine.channels import links, service
from zstui.engine.net.memory import MemoryHub


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for peers that are away."""
    monkeypatch.setattr(service, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(links, "POLITE_S", 0.02)
    monkeypatch.setattr(links, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture
async def clean() -> AsyncIterator[None]:
    """Stop every node that the test started."""
    yield
    for node in tuple(running):
        await node.stop()


@pytest.fixture
async def pair(clean: None, tmp_path: Path) -> tuple[Node, Node]:
    """Two running nodes, linked."""
    hub = MemoryHub()
    return await Node(hub, 1, tmp_path).start(), await Node(hub, 2, tmp_path).start()
