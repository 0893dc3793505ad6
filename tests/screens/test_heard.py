"""What came through other peers is shown as such."""

from __future__ import annotations

import time

import msgspec
import pytest

from tests.support import samples
from zstui import columns, tables
from zstui.engine import views as v
from zstui.screens.guild_details import guild_details
from zstui.screens.network import network_lines
from zstui.screens.peer_details import _standing, hearsay
from zstui.screens.widgets.text import Line


def text(lines: list[Line]) -> str:
    return " ".join(" ".join(span.text for span in line).strip() for line in lines)


def heard(issuers: int, uncounted: int) -> v.HeardView:
    return v.HeardView(standing=0.5, issuers=issuers, uncounted=uncounted, done=12 * issuers, failed=issuers)


@pytest.mark.parametrize(
    ("view", "words", "row"),
    [
        (heard(2, 1), "2 peers say: 24 jobs done, 2 failed", "by hearsay of 2 peers: 24 jobs done, 2 failed"),
        (heard(1, 0), "1 peer says: 12 jobs done, 1 failed", "by hearsay of 1 peer: 12 jobs done, 1 failed"),
        (
            heard(0, 1),
            "no good work that you know leads to the 1 peer that says something",
            "spoken of by 1 peer that nobody you know vouches for",
        ),
    ],
)
def test_hearsay_in_words(view: v.HeardView, words: str, row: str) -> None:
    assert words in hearsay(view)
    assert row == tables.hearsay(view)


def test_a_peer_only_heard_of_was_never_seen() -> None:
    peer = samples.peer(samples.WEST, "west", state="offline", path=None, address="", first_seen_at=0, last_seen_at=0)
    peer = msgspec.structs.replace(peer, heard_at=int(time.time()) - 5, heard=heard(1, 0))
    shown = text(_standing(peer, 60))
    assert "heard from the network 5s ago, signed by the peer" in shown
    assert "first" not in shown
    assert "12 jobs done" in shown


def test_a_guild_heard_of_says_so() -> None:
    seen = next(g for g in samples.guilds() if g.state == "seen")
    assert "heard from the network" not in text(guild_details(seen, (), 60))
    far = msgspec.structs.replace(seen, heard_at=int(time.time()) - 60)
    assert "heard from the network" in text(guild_details(far, (), 60))
    assert "seen, heard from the network" in columns.table(("",) * 6, [tables._guild(far)])


def test_the_network_window_tells_what_goes_round() -> None:
    topic = v.TopicView(subject="cards", topic="/zstui/cards", peers=5, mesh=4, authors=31)
    status = msgspec.structs.replace(samples.status(), topics=(topic,))
    assert "31 peers heard; 4 of 5 connected pass on all of it" in text(network_lines(status, None, 80))
    assert "announced by 31 peers; 4 of 5 connected ones in the mesh" in tables._status(status)
