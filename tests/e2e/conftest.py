from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nodes import NodeProcess

Start = Callable[..., NodeProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start nodes by name, each with a home of its own; all are ended afterwards."""
    nodes: list[NodeProcess] = []

    def make(name: str, *options: str, mdns: bool = True) -> NodeProcess:
        node = NodeProcess(tmp_path / name, *options, mdns=mdns, start=False)
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.stop()
