"""How much of the time a peer was online, over restarts of the node that watches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.jobs.rig import World, until
from zstui.engine.jobs.presence import REMEMBERED, WINDOW_US, Presence, Seen


class Disk:
    def __init__(self) -> None:
        self.rows: dict[str, Seen] = {}

    def restarted(self, seen: Presence, now: int, later: int) -> Presence:
        """What a node knows that stopped at ``now`` and began again at ``later``."""
        watched, rows, gone = seen.unsaved(now)
        self.rows |= {row.peer: row for row in rows}
        assert not gone
        fresh = Presence(later)
        fresh.restore(watched, self.rows.values())
        return fresh


def test_the_share_is_of_the_time_since_it_was_first_seen() -> None:
    seen = Presence(0)
    assert seen.share("bob", 5) == 1.0
    seen.connected("bob", 100)
    assert seen.share("bob", 200) == 1.0
    seen.disconnected("bob", 200)
    seen.disconnected("bob", 250)
    assert seen.share("bob", 300) == 0.5
    seen.connected("bob", 300)
    seen.connected("bob", 350)
    assert seen.share("bob", 500) == 0.75


def test_time_in_which_this_node_did_not_run_does_not_count() -> None:
    seen, disk = Presence(0), Disk()
    seen.connected("bob", 100)
    seen.disconnected("bob", 200)
    again = disk.restarted(seen, 300, 900)
    assert again.share("bob", 900) == 0.5
    assert again.share("bob", 1100) == 0.25
    again.connected("bob", 1100)
    assert disk.restarted(again, 1300, 0).share("bob", 0) == 0.5


def test_what_is_remembered_is_bounded_and_those_not_seen_for_longest_go() -> None:
    seen = Presence(0)
    for n in range(REMEMBERED + 10):
        seen.connected(f"peer{n}", n)
        seen.disconnected(f"peer{n}", n)
        seen.connected("bob", n)
        seen.disconnected("bob", n)
    _, rows, gone = seen.unsaved(9999)
    assert len(rows) == REMEMBERED
    assert sorted(gone) == sorted(f"peer{n}" for n in range(11))
    assert {"bob", "peer4105"} < {s.peer for s in rows}
    seen.connected("new", 9999)
    assert seen.unsaved(9999)[2] == ["peer11"]


def test_what_is_long_ago_counts_less() -> None:
    seen = Presence(0)
    seen.connected("bob", 0)
    seen.disconnected("bob", 2 * WINDOW_US)
    assert 0.49 < seen.share("bob", 3 * WINDOW_US) < 0.51


@given(st.lists(st.tuples(st.sampled_from(["on", "off", "restart"]), st.integers(0, 100)), max_size=30))
def test_a_restart_forgets_nothing(steps: list[tuple[str, int]]) -> None:
    straight, broken, disk, now, online = Presence(0), Presence(0), Disk(), 0, False
    for what, pause in steps:
        now += pause
        if what == "restart":
            broken = disk.restarted(broken, now, now)
            if online:
                broken.connected("bob", now)
        else:
            online = what == "on"
            for seen in (straight, broken):
                (seen.connected if online else seen.disconnected)("bob", now)
        assert broken.share("bob", now) == straight.share("bob", now)


async def test_a_nodes_restart_forgets_nothing(world: World) -> None:
    alice, bob = await world.pair()
    await alice.run(bob)
    world.hub.remove(bob.id)
    await bob.network.stop()
    await until(lambda: alice.jobs.standing.uptime(bob.id) < 1.0)
    before = alice.jobs.standing.uptime(bob.id)
    await alice.stop()
    await alice.start()
    assert 0 < alice.jobs.standing.uptime(bob.id) <= before
