from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zstui.engine.bus import Bus
from zstui.engine.clock import US, ManualClock
from zstui.engine.errors import BadInput
from zstui.engine.events import Event, Notice, OutcomeRecorded, ReputationChanged, TrustEvent
from zstui.engine.reputation.score import DAY_US
from zstui.engine.reputation.service import Outcome, ReputationService
from zstui.engine.reputation.store import MAX_CATEGORIES, SCHEMA
from zstui.engine.store.database import Database

Build = Callable[[], Awaitable[ReputationService]]


class Rig:
    """One database and clock, and as many lives of the service on them as a test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.bus = Bus()
        self.events = self.bus.subscribe(Event)
        self.numbers = 0

    async def start(self) -> ReputationService:
        self.db = await Database.open(self.path, SCHEMA)
        self.service = ReputationService(self.db, self.bus, self.clock, name_of=lambda peer: f"name of {peer}")
        await self.service.start()
        return self.service

    async def restart(self) -> ReputationService:
        await self.stop()
        return await self.start()

    async def stop(self) -> None:
        await self.service.stop()
        await self.db.close()

    async def outcome(
        self, peer: str, success: bool, *, seconds: int = 30, category: str = "blur", units: int = 1
    ) -> str:
        self.numbers += 1
        receipt = f"{self.numbers:064x}"
        await self.service.record(
            Outcome(receipt, peer, category, success, seconds * US, units * US, self.clock.now_us())
        )
        return receipt

    async def outcomes(self, peer: str, good: int, bad: int, **more: int) -> None:
        for i in range(good + bad):
            await self.outcome(peer, i < good, **more)  # type: ignore[arg-type]

    async def wait(self, seconds: float) -> None:
        """Let time pass, and the sweep finish what it began."""
        await asyncio.sleep(0.02)
        await self.clock.advance(seconds)
        await asyncio.sleep(0.02)

    def told(self) -> list[Event]:
        return list(self.events._queue)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "z.db")
    await rig.start()
    yield rig
    await rig.stop()


async def test_a_recorded_outcome_shows_in_the_view_with_its_receipt(rig: Rig) -> None:
    receipts = [await rig.outcome("a", True) for _ in range(5)]
    view = rig.service.view("a")
    assert (view.rank, view.completed, view.failed) == (1, 5, 0)
    assert view.score == pytest.approx(0.7)
    assert view.success_part + view.speed_part + view.cost_part + view.longevity_part == pytest.approx(view.score)
    assert view.receipts == tuple(receipts)
    assert view.trend == pytest.approx((0.5, 0.5, 0.5, 0.5, 0.7))
    assert (view.avg_duration_us, view.avg_cost_u, view.name) == (30 * US, US, "name of a")
    assert rig.service.completed("a") == 5


async def test_the_same_receipt_counts_once(rig: Rig) -> None:
    outcome = Outcome("r1", "a", "blur", True, US, US, rig.clock.now_us())
    await rig.service.record(outcome)
    await asyncio.gather(*(rig.service.record(outcome) for _ in range(10)))
    assert rig.service.completed("a") == 1
    await rig.restart()
    await rig.service.record(outcome)
    assert rig.service.completed("a") == 1
    assert [e for e in rig.told() if isinstance(e, OutcomeRecorded)] == [OutcomeRecorded("a", True, 0.5)]


async def test_four_outcomes_are_not_ranked_and_stand_below_those_that_are(rig: Rig) -> None:
    await rig.outcomes("new", 4, 0)
    await rig.outcomes("old", 5, 0)
    assert [(v.peer_id, v.rank) for v in rig.service.rank()] == [("old", 1), ("new", None)]
    assert rig.service.score("new") == 0.5
    assert rig.service.score("stranger") == 0.5
    assert rig.service.top(9) == ["old"]


async def test_decay_halves_in_a_week_but_not_for_a_peer_hardly_known(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    await rig.outcomes("new", 4, 0)
    await rig.clock.advance(7 * 86_400)
    assert rig.service.score("a") == pytest.approx(0.35)
    assert rig.service.score("new") == 0.5


async def test_a_clock_set_back_revives_no_score_even_after_a_restart(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    await rig.wait(7 * 86_400)
    await rig.wait(60)
    rig.clock._now -= 8 * DAY_US
    assert rig.service.score("a") == pytest.approx(0.35, rel=1e-3)
    await rig.restart()
    assert rig.service.score("a") == pytest.approx(0.35, rel=1e-3)


async def test_an_outcome_alone_keeps_the_highest_time(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    rig.clock._now += 7 * DAY_US
    await rig.outcome("b", True)
    rig.clock._now -= 7 * DAY_US
    await rig.restart()
    assert rig.service.score("a") == pytest.approx(0.35, rel=1e-3)


async def test_five_failures_blacklist_for_a_day_and_the_sweep_ends_it(rig: Rig) -> None:
    await rig.outcomes("bad", 0, 5)
    now_s = rig.clock.now_us() // US
    assert rig.service.blocked_until("bad") == now_s + 86_400
    view = rig.service.view("bad")
    assert view.rank is None
    assert "below 0.3" in view.blacklist_reason
    assert TrustEvent("bad", "blacklisted") in rig.told()
    assert any(isinstance(e, Notice) and "name of bad" in e.text for e in rig.told())
    assert rig.service.top(5) == []
    await rig.wait(86_400 - 1)
    assert rig.service.blocked_until("bad") is not None
    assert rig.service.blocked() == 1
    await rig.wait(1)
    assert rig.service.blocked_until("bad") is None
    assert rig.service.top(5) == ["bad"]
    await rig.wait(60)
    assert rig.told().count(TrustEvent("bad", "blacklist_expired")) == 1
    assert await rig.db.read(lambda tx: tx.execute("SELECT count(*) FROM reputation_block").fetchone()[0]) == 0


async def test_a_fast_failing_farmer_is_blacklisted_although_its_score_is_high(rig: Rig) -> None:
    for i in range(60):
        await rig.outcome("farmer", i == 0, seconds=0, units=0)
        await rig.clock.advance(6 * 86_400)
        if rig.service.blocked_until("farmer"):
            await rig.service.unblock("farmer")
    view = rig.service.view("farmer")
    assert view.success_part + view.speed_part + view.cost_part + view.longevity_part > 0.45
    await rig.outcome("farmer", False)
    assert rig.service.blocked_until("farmer") is not None
    assert "recent" in rig.service.view("farmer").blacklist_reason


async def test_block_and_unblock_by_hand(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    view = await rig.service.block("a", 3)
    assert view.blacklisted_until == rig.clock.now_us() // US + 3 * 3600
    assert (view.rank, view.blacklist_reason) == (None, "blocked by you")
    assert [v.peer_id for v in rig.service.rank()] == ["a"]
    view = await rig.service.unblock("a")
    assert (view.rank, view.blacklisted_until) == (1, None)
    assert await rig.service.unblock("a") == view
    kinds = [e.kind for e in rig.told() if isinstance(e, TrustEvent)]
    assert kinds == ["blacklisted", "blacklist_removed"]


async def test_a_peer_never_dealt_with_can_be_blocked(rig: Rig) -> None:
    await rig.service.block("stranger", 1)
    assert rig.service.blocked_until("stranger") is not None
    assert [v.peer_id for v in rig.service.rank()] == ["stranger"]
    assert rig.service.rank("blur") == []


async def test_a_block_within_a_guild_is_none_elsewhere(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    await rig.service.block_within("g1", "a", 24, "it did not return what it owed")
    end = rig.clock.now_us() // US + 24 * 3600
    await rig.service.block_within("g1", "a", 2, "never shortened")
    await rig.restart()
    assert rig.service.blocked_until("a", "g1") == end
    assert rig.service.blocked_until("a") is rig.service.blocked_until("a", "g2") is None
    (block,) = rig.service.view("a").guild_blocks
    assert (block.guild_id, block.until) == ("g1", end)
    assert rig.service.top(1) == ["a"], "its rank is that of all guilds"
    await rig.service.block("a", 100)
    assert rig.service.blocked_until("a", "g1") == end + 76 * 3600, "the longer of both"
    await rig.service.unblock("a")
    assert rig.service.blocked_until("a", "g1") is None
    await rig.service.block_within("g1", "stranger", 1, "x")
    assert "stranger" in [v.peer_id for v in rig.service.rank()]
    await rig.wait(3600)
    assert rig.service.blocked_until("stranger", "g1") is None


@pytest.mark.parametrize("hours", [0, -1, 24 * 365 + 1])
async def test_senseless_block_times_are_refused(rig: Rig, hours: int) -> None:
    with pytest.raises(BadInput, match="hours"):
        await rig.service.block("a", hours)


async def test_negative_figures_are_refused(rig: Rig) -> None:
    for duration, cost in ((-1, 0), (0, -1)):
        with pytest.raises(BadInput):
            await rig.service.record(Outcome("r", "a", "", True, duration, cost, 0))
    assert rig.service.rank() == []


async def test_absurd_figures_stay_finite(rig: Rig) -> None:
    for i in range(5):
        await rig.service.record(Outcome(f"r{i}", "a", "x\x1b[31m" * 99, True, 2**90, 2**90, 2**90))
    view = rig.service.view("a")
    assert 0.5 < view.score < 0.6
    assert view.last_seen_at == rig.clock.now_us() // US
    assert "\x1b" not in "".join(rig.service._tallies["a"])


async def test_a_manual_block_longer_than_a_day_is_not_shortened_by_a_failure(rig: Rig) -> None:
    await rig.outcomes("bad", 0, 4)
    long = (await rig.service.block("bad", 100)).blacklisted_until
    await rig.outcome("bad", False)
    assert rig.service.blocked_until("bad") == long
    await rig.restart()
    assert rig.service.blocked_until("bad") == long


async def test_categories_are_ranked_apart_and_blended(rig: Rig) -> None:
    for _ in range(5):
        await rig.outcome("a", True, category="blur")
        await rig.outcome("b", True, category="hash")
    await rig.outcome("a", False, category="hash")
    assert [v.peer_id for v in rig.service.rank("hash")] == ["b", "a"]
    assert [v.peer_id for v in rig.service.rank("blur")] == ["a"]
    assert rig.service.rank("none") == []
    assert rig.service.score("a", "hash") < rig.service.score("a") < rig.service.score("a", "blur")
    assert rig.service.view("a").completed == 5
    hashed = rig.service.rank("hash")[1]
    assert (hashed.completed, hashed.failed) == (0, 1)


async def test_categories_of_one_peer_are_bounded(rig: Rig) -> None:
    for i in range(MAX_CATEGORIES + 10):
        await rig.outcome("a", True, category=f"c{i}")
    assert rig.service.completed("a") == MAX_CATEGORIES + 10
    assert len(rig.service._tallies["a"]) == MAX_CATEGORIES + 1


async def test_a_restart_gives_the_same(rig: Rig) -> None:
    await rig.outcomes("a", 20, 5)
    await rig.outcomes("b", 6, 0, seconds=10)
    await rig.outcomes("c", 0, 5)
    await rig.outcomes("d", 2, 0)
    await rig.service.block("e", 5)
    before = rig.service.rank(), rig.service.rank("blur"), rig.service.top(3)
    await rig.restart()
    assert (rig.service.rank(), rig.service.rank("blur"), rig.service.top(3)) == before
    assert [v.peer_id for v in before[0]][:2] == ["b", "a"]
    assert len(before[0]) == 5


async def test_rows_are_bounded_and_the_ranked_come_first(rig: Rig) -> None:
    await rig.outcomes("a", 5, 0)
    for i in range(8):
        await rig.outcome(f"n{i}", True)
    assert next(v.peer_id for v in rig.service.rank(limit=3)) == "a"
    assert len(rig.service.rank(limit=3)) == 3


async def test_a_cancelled_recorder_leaves_memory_and_tables_alike(rig: Rig) -> None:
    task = asyncio.create_task(rig.outcome("a", True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    in_memory = rig.service.completed("a")
    await rig.restart()
    assert rig.service.completed("a") == in_memory == 1


async def test_every_change_is_told_after_it_is_done(rig: Rig) -> None:
    await rig.outcome("a", True)
    assert [type(e) for e in rig.told()] == [OutcomeRecorded, ReputationChanged]


steps = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["good", "bad", "block", "unblock", "wait", "restart"]),
        st.integers(0, 90),
    ),
    max_size=50,
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_index_equals_the_order_recomputed_whatever_happened(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    async def run() -> None:
        rig = Rig(tmp_path_factory.mktemp("rank") / "z.db")
        await rig.start()
        try:
            for peer, step, number in steps:
                match step:
                    case "block":
                        await rig.service.block(peer, number + 1)
                    case "unblock":
                        await rig.service.unblock(peer)
                    case "wait":
                        rig.clock._now += number * 3600 * US
                    case "restart":
                        await rig.restart()
                    case _:
                        for _ in range(3):
                            await rig.outcome(peer, step == "good", seconds=number)
                check(rig.service)
        finally:
            await rig.stop()

    def check(service: ReputationService) -> None:
        eligible = [
            p
            for p in "abcd"
            if service.view(p).completed + service.view(p).failed >= 5 and service.blocked_until(p) is None
        ]
        ranked = service.top(10)
        assert sorted(ranked) == sorted(eligible)
        scores = [service.score(p) for p in ranked]
        assert all(0 <= s <= 1 for s in scores)
        assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))
        assert [service.view(p).rank for p in ranked] == list(range(1, len(ranked) + 1))

    asyncio.run(run())
