"""zstui nodes and nodes of other libp2p implementations, over QUIC on loopback. ``make test-interop`` installs what they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop import prepare
from tests.interop.peers import ForeignPeer
from tests.support.nodes import NodeProcess, eventually
from zstui.engine.dht.rendezvous import EXECUTORS

AGENTS = {"js": "js-libp2p/", "py": "py-libp2p/", "go": "zstui-interop@"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("interop") / "ours", mdns=False)
    yield node
    node.stop()


@pytest.fixture(params=["js", "py", "go"])
def peer(request: pytest.FixtureRequest) -> Iterator[tuple[str, ForeignPeer]]:
    command = getattr(prepare, request.param)()
    if not command:
        pytest.skip(f"the {request.param} peer is not installed: make test-interop")
    with ForeignPeer(command) as foreign:
        yield request.param, foreign


def seen(node: NodeProcess, peer_id: str) -> dict[str, Any] | None:
    return next((p for p in node.ask("peers") if p["peer_id"] == peer_id and p["state"] == "online"), None)


def test_a_foreign_peer_dials_us(node: NodeProcess, peer: tuple[str, ForeignPeer]) -> None:
    _, foreign = peer
    assert 0 < foreign.ask("ping", address=node.address)["rtt_ms"] < 5000
    said = foreign.ask("identify", address=node.address)
    assert said["peer_id"] == node.peer_id
    assert said["agent"].startswith("zstui/")
    assert {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/zerostate/job/1.0.0"} <= set(
        said["protocols"]
    )
    assert node.address.removesuffix(f"/p2p/{node.peer_id}") in [
        a.removesuffix(f"/p2p/{node.peer_id}") for a in said["listen"]
    ]


def test_we_dial_a_foreign_peer(node: NodeProcess, peer: tuple[str, ForeignPeer]) -> None:
    name, foreign = peer
    node.ask("connect", foreign.address)
    eventually("connection", lambda: node.peer_id in foreign.ask("connections")["peers"])
    view = eventually("agent", lambda: (v := seen(node, foreign.peer_id)) and v["agent"] and v["rtt_ms"] and v)
    assert view["agent"].startswith(AGENTS[name])
    assert view["rtt_ms"] < 5000
    known = foreign.ask("known", peer_id=node.peer_id)
    assert "/zerostate/guild/1.0.0" in known["protocols"]


def test_links_outlive_the_time_after_which_idle_ones_end(node: NodeProcess) -> None:
    installed = [command for name in AGENTS if (command := getattr(prepare, name)())]
    if not installed:
        pytest.skip("no foreign peer is installed: make test-interop")
    with contextlib.ExitStack() as stack:
        foreign = [stack.enter_context(ForeignPeer(command)) for command in installed]
        for peer in foreign:
            peer.ask("ping", address=node.address)

        def pinged() -> bool:
            views = [seen(node, peer.peer_id) for peer in foreign]
            return all(view is not None and len(view["rtt_history_ms"]) >= 4 for view in views)

        eventually("keep-alive", pinged, 30)
        assert all(node.peer_id in peer.ask("connections")["peers"] for peer in foreign)


def test_a_wrong_identity_is_refused(node: NodeProcess, peer: tuple[str, ForeignPeer], tmp_path: Path) -> None:
    _, foreign = peer
    impostor = foreign.address.replace(foreign.peer_id, node.peer_id)
    assert node.run("connect", impostor).returncode == 1
    other = f"{foreign.address.rpartition('/')[0]}/12D3KooWHCGbPuScVaVhHqF3MpFujT9Pav3jVJJWZYdmhT3cBSn7"
    assert "Expected" in node.refuses("connect", other)


@pytest.fixture
def js() -> Iterator[ForeignPeer]:
    if not prepare.js():
        pytest.skip("the js peer is not installed: make test-interop")
    with ForeignPeer(prepare.js()) as foreign:
        yield foreign


def test_the_hash_table_is_one_with_js(node: NodeProcess, js: ForeignPeer, tmp_path: Path) -> None:
    """Peers and providers found through each other: two of our nodes that only js knows, and js nodes that only we know."""
    other = NodeProcess(tmp_path / "other", "--executor", mdns=False)
    try:
        with ForeignPeer(prepare.js()) as second:
            for ours in (node, other):
                ours.ask("connect", js.address)
            node.ask("connect", second.address)
            eventually("the table", lambda: node.ask("status")["dht_contacts"] >= 2)

            assert node.ask("connect", other.peer_id)["state"] == "online", "js told where the other is"
            assert any("/udp/" in a for a in second.ask("find_peer", peer_id=js.peer_id)["addresses"]), "we told js"

            found = eventually("our executor", lambda: js.ask("find_providers", multihash=EXECUTORS.hex())["peers"])
            assert found == [other.peer_id]
            assert [p["peer_id"] for p in eventually("through js", lambda: node.ask("discover"))] == [other.peer_id]
    finally:
        other.stop()
