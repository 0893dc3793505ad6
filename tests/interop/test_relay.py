"""Circuits between zstui nodes and those of js-libp2p and go-libp2p, through relays of each kind, on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop import prepare
from tests.interop.peers import ForeignPeer
from tests.support.nodes import NodeProcess, eventually

KINDS = ["js", "go"]


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


def foreign(stack: contextlib.ExitStack, kind: str, role: str = "") -> ForeignPeer:
    """``role``: "relay", or the address of the relay where it takes a place."""
    command = getattr(prepare, kind)()
    if not command:
        pytest.skip(f"the {kind} peer is not installed: make test-interop")
    if kind == "js":
        command.append("plain")
        role = f"{role}/p2p-circuit" if role.startswith("/") else role
    return stack.enter_context(ForeignPeer([*command, *([role] if role else [])]))


def circuit_to(hidden: ForeignPeer, kind: str) -> str:
    if kind == "go":
        return circuits(hidden.addresses)[0]
    return eventually("reservation", lambda: circuits(hidden.ask("addresses")["addresses"]))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_peers_meet_through_our_relay_and_meet_us_there(
    stack: contextlib.ExitStack, tmp_path: Path, kind: str
) -> None:
    relay = ours(stack, tmp_path / "relay", "--relay")
    other = foreign(stack, kind)
    hidden = foreign(stack, kind, relay.address)
    found = circuit_to(hidden, kind)
    assert 0 <= insist(other, "ping", found)["rtt_ms"] < 5000, "theirs to theirs"

    node = ours(stack, tmp_path / "node")
    node.ask("connect", relay.address)
    address = place_of(node)
    assert 0 <= insist(other, "ping", address)["rtt_ms"] < 5000, "theirs to us"
    said = insist(other, "identify", address)
    assert said["agent"].startswith("zstui/")

    assert node.ask("connect", found)["path"] == "relay"
    view = eventually(
        "us to theirs", lambda: [p for p in node.ask("peers") if p["peer_id"] == hidden.peer_id and p["rtt_ms"]]
    )
    assert view[0]["state"] == "online"
    assert "relay for 2 peers" in relay.ask("status")["reachability"]


@pytest.mark.parametrize("kind", KINDS)
def test_we_meet_and_are_met_through_a_foreign_relay(stack: contextlib.ExitStack, tmp_path: Path, kind: str) -> None:
    relay = foreign(stack, kind, "relay")
    node = ours(stack, tmp_path / "node")
    other = ours(stack, tmp_path / "other")
    for each in (node, other):
        each.ask("connect", relay.address)
    address = place_of(other)
    theirs = foreign(stack, kind)
    assert 0 <= insist(theirs, "ping", address)["rtt_ms"] < 5000
    node.ask("connect", address)
    eventually("ours to ours", lambda: [p for p in node.ask("peers") if p["peer_id"] == other.peer_id and p["rtt_ms"]])
