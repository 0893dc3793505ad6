"""Two LANs behind NATs with a relay between: work and pay through it, then reach each other directly where the NATs allow it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nat import TwoLans
from tests.support.nodes import NodeProcess, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="makes network namespaces")


@pytest.fixture
def lans() -> Iterator[TwoLans]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(TwoLans())
        except OSError as error:
            pytest.skip(f"this machine makes no NATs: {error}")
        yield made


def peer(node: NodeProcess, other: NodeProcess) -> dict[str, Any]:
    return next((p for p in node.ask("peers") if p["peer_id"] == other.peer_id), {})


def test_lans_behind_nats_work_through_a_relay_and_then_directly(lans: TwoLans, tmp_path: Path) -> None:
    relay = NodeProcess(tmp_path / "relay", "--relay", namespace=lans.relay, start=False)
    alpha = NodeProcess(tmp_path / "alpha", namespace=lans.alpha, start=False)
    beta = NodeProcess(tmp_path / "beta", "--executor", namespace=lans.beta, start=False)
    fresh, other = ("--listen", "0.0.0.0:5544"), ("--listen", "0.0.0.0:5566")
    nodes = (relay, alpha, beta)
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.start()
        address = f"/ip4/8.92.0.9/udp/4433/quic-v1/p2p/{relay.peer_id}"
        for node in (alpha, beta):
            node.ask("connect", address)
        eventually("places", lambda: all("/p2p-circuit/" in str(n.ask("status")["addresses"]) for n in (alpha, beta)))

        guild = alpha.ask("guild", "create", "far", "--private")["guild_id"]
        invite = alpha.ask("guild", "invite", guild)["invite"]
        joined = beta.ask("guild", "join", invite, "--role", "executor")
        assert joined["state"] == "joined", joined
        assert peer(beta, alpha)["path"] == "relay"
        job = alpha.ask("job", "submit", "hello", "--guild", guild, "--wait")
        assert (job["state"], job["executor"]) == ("done", beta.peer_id)
        alpha.ask("approve", "pay", alpha.ask("approve", "list")[0]["request_id"])
        eventually("payment", lambda: beta.ask("job", "show", job["job_id"])["paid"] == "paid")
        detail = alpha.ask("peer", "show", beta.peer_id)
        assert (detail["relay"], detail["dialed"]) == (relay.peer_id, False)
        ways = beta.ask("peer", "show", alpha.peer_id)["routes"]
        assert [(w["via"], w["chosen"], w["samples"]) for w in ways] == [(relay.peer_id, True, 1)]
        assert ways[0]["why"] == "the only way known; learned from one dial"
        network = beta.ask("network")
        assert [(r["peer_id"], r["place"]) for r in network["relays"]] == [(relay.peer_id, True)]
        assert relay.ask("network")["relays_for"] == 2
        assert "not reached by any peer" in alpha.ask("status")["reachability"]
        assert "let no direct path through" in alpha.refuses("connect", beta.peer_id)

        lans.spoil(5, 50)
        eventually("a slow path", lambda: (peer(alpha, beta)["rtt_ms"] or 0) >= 200)
        assert alpha.ask("job", "submit", "hello", "--guild", guild, "--wait")["state"] == "done"
        lans.spoil(0, 0)
        lans.set_nats("port-restricted", "port-restricted")
        for node in (alpha, beta):
            node.stop()
        # From a new port, for the NATs go on with the mappings that they have.
        alpha = NodeProcess(tmp_path / "alpha", *fresh, namespace=lans.alpha)
        beta = NodeProcess(tmp_path / "beta", "--executor", *fresh, namespace=lans.beta)
        nodes = (relay, alpha, beta)
        eventually("direct", lambda: peer(alpha, beta).get("path") == peer(beta, alpha).get("path") == "direct", 30)
        assert alpha.ask("job", "submit", "hello", "--guild", guild, "--wait")["state"] == "done"

        lans.set_nats("full-cone", "symmetric")
        for node in (alpha, beta):
            node.stop()
        alpha = NodeProcess(tmp_path / "alpha", *other, namespace=lans.alpha, start=False)
        beta = NodeProcess(tmp_path / "beta", "--executor", *other, namespace=lans.beta, start=False)
        nodes = (relay, alpha, beta)
        for node in (alpha, beta):
            node.launch()
        for node in (alpha, beta):
            node.start()
        eventually("direct", lambda: peer(alpha, beta).get("path") == peer(beta, alpha).get("path") == "direct", 30)
        assert "/ip4/8.92.0.1/udp/5566/" in peer(beta, alpha)["address"], "a full cone is reached from anywhere"
        eventually("word of it", lambda: "seen by" in alpha.ask("status")["reachability"], 30)
    finally:
        for node in nodes:
            node.stop()
