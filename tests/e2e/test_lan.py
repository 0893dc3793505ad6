"""Two machines on one cable: network namespaces joined by a veth pair, nodes with default settings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import NodeProcess, eventually
from tests.support.packets import Watch

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="makes network namespaces")


def ip(*args: str) -> bool:
    return subprocess.run(["ip", *args], check=False, capture_output=True).returncode == 0


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Names of two namespaces, each also the name of its end of the cable; 10.77.0.1 and 10.77.0.2."""
    tag = uuid.uuid4().hex[:6]
    a, b = f"zsa{tag}", f"zsb{tag}"
    if not (ip("netns", "add", a) and ip("netns", "add", b)):
        pytest.skip("this machine makes no network namespaces")
    try:
        assert ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b)
        for number, host in enumerate((a, b), 1):
            assert ip("-n", host, "addr", "add", f"10.77.0.{number}/24", "dev", host)
            assert ip("-n", host, "link", "set", "lo", "up")
            assert ip("-n", host, "link", "set", host, "up")
            assert ip("-n", host, "route", "add", "default", "dev", host)
        yield a, b
    finally:
        ip("netns", "delete", a)
        ip("netns", "delete", b)


def online(node: NodeProcess) -> bool:
    return [p["state"] for p in node.ask("peers")] == ["online"]


def test_two_machines_find_each_other_work_and_survive_a_pulled_cable(hosts: tuple[str, str], tmp_path: Path) -> None:
    alpha = NodeProcess(tmp_path / "alpha", namespace=hosts[0], start=False)
    beta = NodeProcess(tmp_path / "beta", "--executor", "--max-timeout", "120", namespace=hosts[1], start=False)
    try:
        alpha.start()
        beta.start()
        eventually("discovery", lambda: online(alpha) and online(beta))
        assert alpha.ask("peers")[0]["path"] == "lan"
        guild = alpha.ask("guild", "create", "lab")["guild_id"]
        eventually("guild", lambda: beta.ask("guild", "list"))
        beta.ask("guild", "join", guild, "--role", "executor")
        job = alpha.ask("job", "submit", "hello", "--guild", guild, "--wait")
        assert (job["state"], job["executor"]) == ("done", beta.peer_id)

        endless = ("misbehave", "--arg", "loop", "--timeout", "120")
        running = alpha.ask("job", "submit", *endless, "--guild", guild)["job_id"]
        eventually("a running job", lambda: alpha.ask("job", "show", running)["state"] == "running")

        assert ip("-n", hosts[1], "link", "set", hosts[1], "down")
        cut = time.monotonic()
        eventually("word of the cut", lambda: not online(alpha), 15)
        eventually(
            "word on the job",
            lambda: "beta is unreachable since" in alpha.ask("job", "show", running)["why"],
            15 - (time.monotonic() - cut),
        )
        request = alpha.ask("approve", "list")[0]
        paid = alpha.ask("approve", "pay", request["request_id"])
        assert paid["state"] == "paying", "signed and kept, but nobody has acknowledged it"

        assert ip("-n", hosts[1], "link", "set", hosts[1], "up")
        eventually("reunion", lambda: online(alpha), 30)
        eventually("the job's feed", lambda: alpha.ask("job", "show", running)["why"] == "")
        alpha.ask("job", "cancel", running)
        ended = eventually("its receipt", lambda: (j := alpha.ask("job", "show", running))["receipt_id"] and j)
        theirs = beta.ask("job", "show", running)
        assert ended["state"] == theirs["state"] == "cancelled"
        assert (ended["receipt_id"], ended["cost_u"]) == (theirs["receipt_id"], theirs["cost_u"])
        eventually("payment", lambda: beta.ask("job", "show", job["job_id"])["paid"] == "paid")
        eventually("acknowledgement", lambda: alpha.ask("job", "show", job["job_id"])["paid"] == "paid")
        assert beta.ask("channel", "list")[0]["mine_u"] == job["cost_u"]

        assert ip("-n", hosts[0], "addr", "flush", "dev", hosts[0], "scope", "global")
        assert ip("-n", hosts[0], "addr", "add", "10.77.0.9/24", "dev", hosts[0])
        eventually("the same link from a new address", lambda: "/10.77.0.9/" in beta.ask("peers")[0]["address"])
        assert online(beta)
        assert online(alpha)
    finally:
        alpha.stop()
        beta.stop()


def test_machines_without_ipv4_find_each_other(hosts: tuple[str, str], tmp_path: Path) -> None:
    for number, host in enumerate(hosts, 1):
        assert ip("-n", host, "addr", "flush", "dev", host, "scope", "global")
        assert ip("-n", host, "addr", "add", f"fd77::{number}/64", "dev", host, "nodad")
    alpha = NodeProcess(tmp_path / "alpha", namespace=hosts[0], start=False)
    beta = NodeProcess(tmp_path / "beta", namespace=hosts[1], start=False)
    try:
        alpha.start()
        beta.start()
        eventually("discovery", lambda: online(alpha) and online(beta))
        peer = alpha.ask("peers")[0]
        assert peer["path"] == "lan"
        assert peer["address"].startswith("/ip6/fd77::2/udp/")
    finally:
        alpha.stop()
        beta.stop()


def test_machines_with_no_address_but_link_local_ones_find_each_other(hosts: tuple[str, str], tmp_path: Path) -> None:
    for host in hosts:
        assert ip("-n", host, "addr", "flush", "dev", host, "scope", "global")
    alpha = NodeProcess(tmp_path / "alpha", namespace=hosts[0], start=False)
    beta = NodeProcess(tmp_path / "beta", "--lan-only", namespace=hosts[1], start=False)
    try:
        alpha.start()
        beta.start()
        eventually("discovery", lambda: online(alpha) and online(beta))
        peer = alpha.ask("peers")[0]
        assert peer["path"] == "lan"
        assert peer["address"].startswith(f"/ip6zone/{hosts[0]}/ip6/fe80::")
        assert alpha.ask("guild", "create", "cable")["guild_id"] in str(
            eventually("guild", lambda: beta.ask("guild", "list"))
        )
    finally:
        alpha.stop()
        beta.stop()


def test_a_node_that_stays_on_the_lan_sends_nothing_off_it(hosts: tuple[str, str], tmp_path: Path) -> None:
    """203.0.113.0/24 is for documentation; the namespaces have no way out in any case."""
    far = "203.0.113.9"
    beta = NodeProcess(tmp_path / "beta", "--lan-only", namespace=hosts[1], start=False)
    peers = ("--peer", f"{far}:4433", "--peer", "nowhere.invalid:4433")
    alpha = NodeProcess(tmp_path / "alpha", "--lan-only", *peers, namespace=hosts[0], start=False)
    open_minded = NodeProcess(tmp_path / "open", *peers[:2], namespace=hosts[0], start=False)
    try:
        beta.start()
        watch = Watch(hosts[0], "10.77.0.0/24")
        alpha.start()
        eventually("discovery", lambda: online(alpha) and online(beta))
        assert "stays on it" in alpha.refuses("connect", f"{far}:4433")
        assert "not looked up" in alpha.refuses("connect", "nowhere.invalid:4433")
        alpha.stop()
        assert watch.destinations() == []

        watch = Watch(hosts[0], "10.77.0.0/24")
        open_minded.start()
        time.sleep(1)
        open_minded.stop()
        assert far in watch.destinations()
    finally:
        for node in (alpha, beta, open_minded):
            node.stop()


@pytest.fixture
def bridged() -> Iterator[list[str]]:
    """Names of three namespaces whose cables, named like them, meet in a bridge of a fourth; 10.78.0.1 to 10.78.0.3."""
    tag = uuid.uuid4().hex[:6]
    switch, hosts = f"zsw{tag}", [f"zs{n}{tag}" for n in range(3)]
    made = [name for name in (switch, *hosts) if ip("netns", "add", name)]
    try:
        if len(made) < 4 or not ip("-n", switch, "link", "add", "br0", "type", "bridge"):
            pytest.skip("this machine makes no network namespaces or bridges")
        assert ip("-n", switch, "link", "set", "br0", "up")
        for number, host in enumerate(hosts, 1):
            port = f"p{number}"
            assert ip("link", "add", host, "netns", host, "type", "veth", "peer", "name", port, "netns", switch)
            assert ip("-n", switch, "link", "set", port, "master", "br0", "up")
            assert ip("-n", host, "addr", "add", f"10.78.0.{number}/24", "dev", host)
            assert ip("-n", host, "link", "set", "lo", "up")
            assert ip("-n", host, "link", "set", host, "up")
            assert ip("-n", host, "route", "add", "default", "dev", host)
        yield hosts
    finally:
        for name in made:
            ip("netns", "delete", name)


def chat(node: NodeProcess, guild: str) -> list[str]:
    return [m["text"] for m in node.ask("guild", "messages", guild) if not m["system"]]


def members(node: NodeProcess, guild: str) -> list[str]:
    views = [v for v in node.ask("guild", "list") if v["guild_id"] == guild]
    return sorted(m["name"] for v in views for m in v["members"])


def test_three_machines_form_a_guild_and_one_is_cut_off_and_comes_back(bridged: list[str], tmp_path: Path) -> None:
    nodes = [
        NodeProcess(tmp_path / name, namespace=host, start=False)
        for name, host in zip(("alpha", "beta", "gamma"), bridged, strict=True)
    ]
    alpha, beta, gamma = nodes
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.start()
        guild = alpha.ask("guild", "create", "lab", "--knock")["guild_id"]
        for node in (beta, gamma):
            eventually("guild", lambda node=node: node.ask("guild", "list"))  # type: ignore[misc]
            assert node.ask("guild", "join", guild)["state"] == "knocking"
            alpha.ask("guild", "admit", guild, node.peer_id)
        for node in nodes:
            eventually("guild of three", lambda node=node: len(members(node, guild)) == 3)  # type: ignore[misc]

        assert ip("-n", bridged[2], "link", "set", bridged[2], "down")
        alpha.ask("guild", "send", guild, "while gamma was away")
        gamma.ask("guild", "send", guild, "gamma, alone")
        eventually("message", lambda: chat(beta, guild) == ["while gamma was away"])

        assert ip("-n", bridged[2], "link", "set", bridged[2], "up")
        both = ["gamma, alone", "while gamma was away"]
        for node in nodes:
            eventually("all messages", lambda node=node: sorted(chat(node, guild)) == both, 40)  # type: ignore[misc]
        alpha.ask("guild", "kick", guild, gamma.peer_id)
        eventually("removal", lambda: gamma.ask("guild", "list")[0]["state"] == "left")
    finally:
        for node in nodes:
            node.stop()
