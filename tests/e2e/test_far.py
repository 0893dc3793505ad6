"""Nodes without mDNS, each configured with only the one before: what the hash table makes possible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import NodeProcess, eventually


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    nodes: list[NodeProcess] = []
    try:
        for name, options in (("alpha", ()), ("beta", ()), ("gamma", ()), ("delta", ("--executor",))):
            peer = ("--peer", nodes[-1].address) if nodes else ()
            nodes.append(NodeProcess(tmp_path / name, *options, *peer, mdns=False))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def test_peers_executors_and_guilds_are_found_without_having_met(chain: list[NodeProcess]) -> None:
    alpha, *_, gamma, delta = chain
    eventually("the whole network", lambda: alpha.ask("status")["dht_contacts"] >= 3)

    found = eventually("an executor", lambda: alpha.ask("discover"))
    assert [(p["peer_id"], p["capabilities"]["executor"]) for p in found] == [(delta.peer_id, True)]

    guild = gamma.ask("guild", "create", "far")["guild_id"]
    eventually("joining", lambda: alpha.run("guild", "join", guild).returncode == 0)
    assert [m["peer_id"] for m in alpha.ask("guild", "list")[0]["members"]] == [gamma.peer_id, alpha.peer_id]

    private = gamma.ask("guild", "create", "hidden", "--private")["guild_id"]
    assert "No guild" in alpha.refuses("guild", "join", private) or "no guild" in alpha.refuses(
        "guild", "join", private
    )

    assert alpha.ask("connect", delta.peer_id)["state"] == "online"
    detail = alpha.ask("peer", "show", delta.peer_id)
    assert detail["table"] == "contact"
    assert detail["dialed"] is not None
    assert detail["peer"]["address"] in detail["addresses"]
    table = alpha.ask("network")["dht"]
    assert table["contacts"] == sum(bucket["contacts"] for bucket in table["buckets"]) >= 3
    assert table["lookups"] >= 1
