"""Circuits between zstui nodes and js-libp2p nodes, through relays of either kind, on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop import prepare
from tests.interop.peers import ForeignPeer
from tests.support.nodes import NodeProcess, eventually

pytestmark = pytest.mark.skipif(not prepare.js(), reason="the js peer is not installed: make test-interop")


def circuits(addresses: list[str]) -> list[str]:
    return [a for a in addresses if "/p2p-circuit" in a]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def ours(stack: contextlib.ExitStack, home: Path, *options: str) -> NodeProcess:
    node = NodeProcess(home, *options, mdns=False)
    stack.callback(node.stop)
    return node


def insist(peer: ForeignPeer, op: str, address: str) -> dict[str, Any]:
    """Ask up to three times: a direct link may just be taking over, on which the js peer does not count."""
    for _ in range(2):
        with contextlib.suppress(AssertionError):
            return peer.ask(op, address=address)
    return peer.ask(op, address=address)


def place_of(node: NodeProcess) -> str:
    return eventually("place", lambda: circuits(node.ask("status")["addresses"]))[0]


def test_js_peers_meet_through_our_relay_and_meet_us_there(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    relay = ours(stack, tmp_path / "relay", "--relay")
    js = stack.enter_context(ForeignPeer([*prepare.js(), "plain"]))
    hidden = stack.enter_context(ForeignPeer([*prepare.js(), "plain", f"{relay.address}/p2p-circuit"]))
    found = eventually("reservation", lambda: circuits(hidden.ask("addresses")["addresses"]))[0]
    assert 0 <= insist(js, "ping", found)["rtt_ms"] < 5000, "js to js"

    node = ours(stack, tmp_path / "node")
    node.ask("connect", relay.address)
    address = place_of(node)
    assert 0 <= insist(js, "ping", address)["rtt_ms"] < 5000, "js to us"
    said = insist(js, "identify", address)
    assert said["peer_id"] == node.peer_id
    assert said["agent"].startswith("zstui/")

    assert node.ask("connect", found)["path"] == "relay"
    view = eventually(
        "us to js", lambda: [p for p in node.ask("peers") if p["peer_id"] == hidden.peer_id and p["rtt_ms"]]
    )
    assert (view[0]["state"], view[0]["path"]) == ("online", "relay")
    assert "relay for 2 peers" in relay.ask("status")["reachability"]


def test_we_meet_and_are_met_through_a_js_relay(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    relay = stack.enter_context(ForeignPeer([*prepare.js(), "plain", "relay"]))
    node = ours(stack, tmp_path / "node")
    other = ours(stack, tmp_path / "other")
    for each in (node, other):
        each.ask("connect", relay.address)
    address = place_of(other)
    js = stack.enter_context(ForeignPeer([*prepare.js(), "plain"]))
    assert 0 <= insist(js, "ping", address)["rtt_ms"] < 5000
    node.ask("connect", address)
    eventually("ours to ours", lambda: [p for p in node.ask("peers") if p["peer_id"] == other.peer_id and p["rtt_ms"]])
