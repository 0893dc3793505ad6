"""Three machines in a row: the two at the ends cannot reach each other, and learn of each other through what is announced."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import NodeProcess, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="makes network namespaces")


def ip(*args: str) -> bool:
    return subprocess.run(["ip", *args], check=False, capture_output=True).returncode == 0


@pytest.fixture
def line() -> Iterator[tuple[str, str, str]]:
    """Names of three namespaces, with a cable from the first to the second and one from the second to the third."""
    tag = uuid.uuid4().hex[:6]
    names = f"zsl{tag}", f"zsm{tag}", f"zsr{tag}"
    if not all(ip("netns", "add", name) for name in names):
        pytest.skip("this machine makes no network namespaces")
    try:
        for name in names:
            assert ip("-n", name, "link", "set", "lo", "up")
        for number, end in ((1, names[0]), (3, names[2])):
            one, other = f"end{tag}", f"mid{number}{tag}"
            assert ip("link", "add", one, "netns", end, "type", "veth", "peer", "name", other, "netns", names[1])
            assert ip("-n", end, "addr", "add", f"10.7{number}.0.1/24", "dev", one)
            assert ip("-n", names[1], "addr", "add", f"10.7{number}.0.2/24", "dev", other)
            assert ip("-n", end, "link", "set", one, "up")
            assert ip("-n", names[1], "link", "set", other, "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


def heard(node: NodeProcess, peer_id: str) -> dict[str, Any]:
    return next((p for p in node.ask("peers") if p["peer_id"] == peer_id), {})


def test_news_reach_the_other_end_of_a_line(line: tuple[str, str, str], tmp_path: Path) -> None:
    def at_the_right(price: str) -> NodeProcess:
        prices = "--executor", "--price-per-second", price, "--price-per-mib", price
        return NodeProcess(tmp_path / "right", "--lan-only", *prices, namespace=line[2], start=False)

    left = NodeProcess(tmp_path / "left", "--lan-only", namespace=line[0], start=False)
    middle = NodeProcess(tmp_path / "middle", "--lan-only", namespace=line[1], start=False)
    right = at_the_right("0.07")
    try:
        for node in (left, middle, right):
            node.launch()
        for node in (left, middle, right):
            node.start()
        card = eventually("the card of the other end", lambda: heard(left, right.peer_id), 15)
        assert (card["state"], card["name"]) == ("offline", "right")
        assert card["heard_at"]
        assert card["first_seen_at"] == card["last_seen_at"] == 0
        assert card["why"] == "heard of through other peers, never connected"
        assert card["capabilities"]["price_per_second_nano"] == 70_000_000

        guild = right.ask("guild", "create", "far")["guild_id"]
        private = right.ask("guild", "create", "hidden", "--private")["guild_id"]
        listed = eventually("the guild", lambda: [g for g in left.ask("guild", "list") if g["name"] == "far"], 5)
        assert listed[0]["guild_id"] == guild
        assert listed[0]["heard_at"]
        assert "seen, heard from the network" in left.run("guild", "list").stdout
        assert next(g for g in middle.ask("guild", "list") if g["guild_id"] == guild)["heard_at"] is None
        assert private not in [g["guild_id"] for g in left.ask("guild", "list")]
        middle.ask("guild", "join", guild)

        right.stop()
        right = at_the_right("0")
        right.start()
        eventually(
            "the new price", lambda: heard(left, right.peer_id)["capabilities"]["price_per_second_nano"] == 0, 15
        )
        for _ in range(5):
            assert middle.ask("job", "submit", "hello", "--guild", guild, "--wait")["state"] == "done"
        said = eventually("what the middle says of it", lambda: heard(left, right.peer_id)["heard"], 5)
        assert (said["issuers"], said["uncounted"]) == (0, 1), "the left end knows no good work of the middle"
        assert "spoken of by 1 peer that nobody you know vouches for" in left.run("peers").stdout
    finally:
        for node in (left, middle, right):
            node.stop()
