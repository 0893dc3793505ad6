"""Announcements through gossipsub nodes of other libp2p implementations, both ways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop import prepare
from tests.interop.peers import ForeignPeer
from tests.support.nodes import NodeProcess, eventually
from zstui.engine.guilds.messages import Announce, encode
from zstui.engine.identity.card import read_card
from zstui.engine.pubsub.announcements import topic_name

OPTIONS = {"js": ("gossip", "plain")}
"""No hash table in between, through which our two would find each other."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes that hear of each other through others only."""
    place = tmp_path_factory.mktemp("gossip")
    both = tuple(NodeProcess(place / name, "--executor", mdns=False) for name in ("one", "two"))
    yield both[0], both[1]
    for node in both:
        node.stop()


@pytest.fixture(params=["js", "go", "py"])
def foreign(request: pytest.FixtureRequest) -> Iterator[ForeignPeer]:
    command = getattr(prepare, request.param)()
    if not command:
        pytest.skip(f"the {request.param} peer is not installed: make test-interop")
    with ForeignPeer([*command, *OPTIONS.get(request.param, ())]) as peer:
        yield peer


def topic(node: NodeProcess, subject: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in node.ask("status")["topics"] if t["subject"] == subject)
    return found


def test_words_go_through_a_foreign_peer_and_back(nodes: tuple[NodeProcess, NodeProcess], foreign: ForeignPeer) -> None:
    one, two = nodes
    cards, guilds = (topic_name(one.home.parent.name, subject) for subject in ("cards", "guilds"))
    for name in (cards, guilds):
        foreign.ask("subscribe", topic=name)
    for node in nodes:
        node.ask("connect", foreign.address)

    def card() -> bytes:
        messages = foreign.ask("heard", topic=cards)["messages"]
        return next((bytes.fromhex(m["data"]) for m in messages if m["from"] == one.peer_id), b"")

    assert read_card(eventually("our card at the foreign peer", card), one.peer_id).executor
    ours = {node.peer_id for node in nodes}
    eventually("places in its mesh", lambda: ours <= set(foreign.ask("heard", topic=cards)["mesh"]))
    time.sleep(2)  # two heartbeats: of the go peer only the subscribers can be asked for, not the mesh

    one.ask("work", "off")

    def closed() -> bool:
        return any(
            p["peer_id"] == one.peer_id and p["state"] == "offline" and p["heard_at"] and p["capabilities"]["closed"]
            for p in two.ask("peers")
        )

    eventually("a change of our card, passed on by the foreign peer", closed)
    before = [topic(node, "guilds")["authors"] for node in nodes]

    def said() -> bool:
        """Said again, for a message published while a mesh is being made may miss who is new in it."""
        foreign.ask("publish", topic=guilds, data=encode(Announce(())).hex())
        time.sleep(0.5)
        return [topic(node, "guilds")["authors"] for node in nodes] == [n + 1 for n in before]

    eventually("its word", said, 10)
    one.ask("work", "on")
