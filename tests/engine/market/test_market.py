"""Who gets a job, why others do not, and what it would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from zstui.engine.bus import Bus
from zstui.engine.clock import US
from zstui.engine.commands import JobSpec
from zstui.engine.config import Settings
from zstui.engine.errors import InvalidModule, NoExecutor, NotPermitted
from zstui.engine.identity.card import Card
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.speed import REFERENCE_GAS_PER_S, proven_speed
from zstui.engine.market.selection import ALIKE, Candidate, max_cost, prices, rank
from zstui.engine.market.service import Market
from zstui.engine.routing.model import Learned
from zstui.engine.search.model import Fit
from zstui.engine.search.service import PeerSearch
from zstui.engine.views import CapabilitiesView, HeardView, Role

MODULE = b"\0asm\1\0\0\0"
OFFER = CapabilitiesView(
    executor=True, cores=4, memory_mib=128, timeout_s=30, price_per_second_nano=10_000_000, price_per_mib_nano=100_000
)
SPEC = JobSpec(module="x", guild="g")


def candidate(name: str, **changes: object) -> Candidate:
    made = Candidate(
        peer_id=name, name=name, role="executor", online=True, offer=OFFER, score=0.5, completed=0, blocked=False
    )
    return replace(made, **changes)


def names(*candidates: Candidate, spec: JobSpec = SPEC) -> list[tuple[str, str]]:
    return [(v.name, v.refusal) for v in rank(spec, candidates)]


def test_score_comes_first_then_price_then_experience() -> None:
    cheap = replace(OFFER, price_per_second_nano=1)
    order = names(
        candidate("b"),
        candidate("known", completed=9),
        candidate("cheap", offer=cheap),
        candidate("good", score=0.9, offer=replace(OFFER, price_per_second_nano=10**9)),
        candidate("a"),
    )
    assert order == [("good", ""), ("cheap", ""), ("known", ""), ("a", ""), ("b", "")]
    assert [v.rank for v in rank(SPEC, [candidate("a"), candidate("b")])] == [1, 2]


def test_of_equals_the_one_that_is_expected_to_be_done_first_comes_first_and_says_why() -> None:
    def soon(seconds: float, waiting: int = 0) -> Learned:
        return Learned(round(seconds * US), round(seconds * US), 41, waiting)

    ranked = rank(
        SPEC,
        [
            candidate("busy", score=0.92, soon=soon(150, 12)),
            candidate("quick", score=0.91, soon=soon(1.2, 3)),
            candidate("better", score=0.96, soon=soon(9)),
            candidate("cheaper", score=0.94, soon=soon(8), offer=replace(OFFER, price_per_second_nano=1)),
        ],
    )
    assert [c.name for c in ranked] == ["better", "cheaper", "quick", "busy"]
    assert ranked[2].why == "expected 1.2 s there: 3 jobs wait, learned from 41 bids and results"
    assert ranked[3].why.startswith("expected 2 min there: 12 jobs wait")
    once = candidate("once", soon=Learned(US, US, 1, 1))
    assert rank(SPEC, [once])[0].why == "expected 1.0 s there: 1 job waits, learned from one result"
    untried = rank(SPEC, [candidate("tried", soon=soon(2), completed=9), candidate("new")])
    assert [c.name for c in untried] == ["new", "tried"], "what was never tried is tried once"


def test_who_is_ill_spoken_of_comes_after_its_equals_until_my_own_jobs_tell() -> None:
    ill = HeardView(standing=0.2, issuers=2, uncounted=0, done=1, failed=19)
    well = HeardView(standing=0.9, issuers=1, uncounted=3, done=12, failed=0)
    cheap = replace(OFFER, price_per_second_nano=1)
    ranked = rank(
        SPEC,
        [
            candidate("ill", heard=ill, offer=cheap),
            candidate("well", heard=well),
            candidate("bad", score=0.3),
            candidate("proven", heard=ill, completed=5, offer=cheap),
        ],
    )
    assert [c.name for c in ranked] == ["proven", "well", "ill", "bad"]
    assert ranked[1].why == "by hearsay 12 of 12 jobs done, says a peer"
    assert ranked[2].why == "by hearsay 1 of 20 jobs done, say 2 peers"
    unknown = HeardView(standing=0.5, issuers=0, uncounted=9, done=0, failed=0)
    assert rank(SPEC, [candidate("a", heard=unknown)])[0].why == ""


@pytest.mark.parametrize(
    ("change", "spec", "why"),
    [
        ({"blocked": True}, {}, "blocked"),
        ({"online": False}, {}, "offline"),
        (
            {"offer": replace(OFFER, closed="outside its hours, opens at 22:00")},
            {},
            "outside its hours, opens at 22:00",
        ),
        ({"score": 0.5}, {"min_reputation": 600}, "reputation too low: 0.50, the job asks for 0.60"),
        (
            {"completed": 3, "failed": 1},
            {"max_failure_rate": 200},
            "fails too often: 1 of 4 jobs, the job allows 20%",
        ),
        ({"uptime": 0.5}, {"min_uptime": 900}, "too often offline: here 50% of the time, the job asks for 90%"),
        ({"offer": None}, {}, "has not told yet what it offers"),
        ({"role": "observer"}, {}, "does not run jobs for others"),
        ({"role": "member", "offer": replace(OFFER, executor=False)}, {}, "does not run jobs for others"),
        ({}, {"memory_mib": 256}, "too little memory: offers 128 MiB, the job asks for 256 MiB"),
        ({}, {"timeout_s": 60}, "too little time: offers 30 s, the job asks for 60 s"),
        ({}, {"price_per_second_nano": 1_000_000}, "price too low: asks 0.010 per second, the job offers 0.001"),
        ({}, {"price_per_mib_nano": 10_000}, "price too low: asks 0.0001 per MiB, the job offers 0.00001"),
    ],
)
def test_each_refusal_has_its_sentence(change: dict[str, object], spec: dict[str, object], why: str) -> None:
    able = candidate(
        "able", offer=replace(OFFER, memory_mib=999, timeout_s=999, price_per_second_nano=0, price_per_mib_nano=0)
    )
    able = replace(able, score=0.9)
    best = candidate("best", **({"score": 1.0} | change))
    assert names(best, able, spec=replace(SPEC, **spec)) == [("able", ""), ("best", why)]


def test_a_member_whose_card_says_executor_is_one() -> None:
    assert names(candidate("m", role="member"), candidate("c", role="creator")) == [("c", ""), ("m", "")]


def test_the_executors_own_price_is_paid_up_to_the_offer() -> None:
    assert prices(SPEC, OFFER) == (10_000_000, 100_000)
    assert prices(replace(SPEC, price_per_second_nano=10**9, price_per_mib_nano=5), OFFER) == (10_000_000, 5)
    assert max_cost(SPEC, *prices(SPEC, OFFER)) == 312_800
    assert max_cost(replace(SPEC, max_price_u=7), *prices(SPEC, OFFER)) == 7


@given(
    st.lists(
        st.builds(
            candidate,
            st.text("abcdef", min_size=1, max_size=4),
            score=st.floats(0, 1),
            online=st.booleans(),
            blocked=st.booleans(),
            completed=st.integers(0, 99),
            offer=st.none() | st.just(OFFER),
        ),
        unique_by=lambda c: c.peer_id,
    )
)
def test_the_order_does_not_depend_on_the_order_asked(candidates: list[Candidate]) -> None:
    ranked = rank(SPEC, candidates)
    assert ranked == rank(SPEC, candidates[::-1])
    able = [not v.refusal for v in ranked]
    assert able == sorted(able, reverse=True)
    scores = [math.floor(v.score * ALIKE) for v in ranked if not v.refusal]
    assert scores == sorted(scores, reverse=True)


class Around:
    """Guild, network, reputation and jobs as the market sees them."""

    peer_id = "me"

    def __init__(self) -> None:
        self.roles: dict[PeerId, Role] = {"me": "creator", "bob": "executor", "carol": "member", "dave": "member"}
        self.cards = {
            p: Card(p, p != "dave", 1, 128, 30, price, 100_000, (), 1)
            for p, price in (("me", 0), ("bob", 10_000_000), ("carol", 5_000_000), ("dave", 0))
        }
        self.online = {"bob", "carol", "dave"}
        self.scores: dict[PeerId, float] = {}
        self.blocked: set[PeerId] = set()
        self.known: dict[str, tuple[int, int]] = {}
        self.gas: int | None = None
        self.speeds: dict[PeerId, float] = {}

    def resolve(self, text: str) -> str:
        return text

    def members(self, guild_id: str) -> Mapping[PeerId, Role]:
        return self.roles

    def require(self, guild_id: str, peer: PeerId, *roles: Role) -> None:
        if self.roles[peer] not in roles:
            raise NotPermitted("Not with your role.")

    def score(self, peer: PeerId) -> float:
        return self.scores.get(peer, 0.5)

    def typical_gas(self, module_cid: str) -> int | None:
        return self.gas

    def speed(self, peer: PeerId) -> float | None:
        return self.speeds.get(peer)

    def failed(self, peer: PeerId) -> int:
        return 0

    def completed(self, peer: PeerId) -> int:
        return 0

    def blocked_until(self, peer: PeerId, guild_id: str = "") -> int | None:
        return 1 if peer in self.blocked else None

    def connected(self) -> frozenset[PeerId]:
        return frozenset(self.online)

    def name_of(self, peer: PeerId) -> str:
        return peer

    def card_of(self, peer: PeerId) -> Card | None:
        return self.cards.get(peer)

    def typical(self, module_cid: str) -> tuple[int, int] | None:
        return self.known.get(module_cid)


@pytest.fixture
def around() -> Around:
    return Around()


@pytest.fixture
def market(around: Around, tmp_path: Path) -> Market:
    (tmp_path / "tool.wasm").write_bytes(MODULE)
    settings = Settings(home=tmp_path, price_per_second_nano=1_000_000_000, price_per_mib_nano=0)
    return Market(jobs=around, guilds=around, reputation=around, net=around, settings=settings)


async def test_the_best_other_executor_is_chosen_never_myself(market: Market, around: Around) -> None:
    assert await market.choose(SPEC) == "carol", "the cheaper of two equal ones"
    around.scores["bob"] = 0.9
    assert await market.choose(SPEC) == "bob"
    assert {c.peer_id for c in market.candidates(SPEC)} == {"bob", "carol"}


async def test_nobody_is_explained_peer_by_peer(market: Market, around: Around) -> None:
    around.online.discard("bob")
    around.blocked.add("carol")
    assert await market.choose(SPEC) == "", "bob may come back: the job waits"
    assert await market.choose(replace(SPEC, executor="bob")) == "bob"
    with pytest.raises(NoExecutor) as caught:
        await market.choose(replace(SPEC, queue_s=0))
    assert str(caught.value) == "No executor can take the job: carol: blocked; bob: offline."
    around.roles = {"me": "creator", "dave": "member"}
    with pytest.raises(NoExecutor, match="Nobody else in the guild"):
        await market.choose(SPEC)
    around.roles["me"] = "observer"
    with pytest.raises(NotPermitted):
        await market.choose(SPEC)


async def test_an_estimate_is_for_the_executor_that_would_get_it(
    market: Market, around: Around, tmp_path: Path
) -> None:
    spec = JobSpec(module=str(tmp_path / "tool.wasm"), guild="g")
    view = await market.estimate(spec)
    assert (view.max_cost_u, view.typical_cost_u, view.typical_duration_us) == (162_800, None, None)
    around.known[cid_of(MODULE)] = (2_000_000, 1 << 20)
    view = await market.estimate(replace(spec, executor="bob"))
    assert (view.max_cost_u, view.typical_cost_u, view.typical_duration_us) == (312_800, 20_100, 2_000_000)
    assert {c.expected_us for c in view.candidates} == {view.here_us} == {None}
    around.gas, around.speeds = 3 * REFERENCE_GAS_PER_S, {"bob": 1.5}
    view = await market.estimate(spec)
    expected = {c.name: (c.speed, c.speed_tested, c.expected_us, c.expected_cost_u) for c in view.candidates}
    assert expected == {"bob": (1.5, True, 2_000_000, 20_100), "carol": (None, False, None, None)}
    market._own_speed = lambda: 0.5
    assert (await market.estimate(spec)).here_us == 6_000_000
    around.online.clear()
    view = await market.estimate(replace(spec, max_price_u=10**9))
    assert view.max_cost_u == 30_000_000, "nobody could: my own prices"
    with pytest.raises(InvalidModule):
        await market.estimate(JobSpec(module="/no/such", guild="g"))


def test_speed_comes_only_from_confirmed_runs_that_are_long_enough() -> None:
    fast = Job(
        job_id="a", mine=True, guild_id="g", submitter="me", executor="bob", module="m", module_cid="c", state="done",
        gas=REFERENCE_GAS_PER_S, gas_exact=True, duration_us=500_000, attestations=("carol",),
    )  # fmt: skip
    assert proven_speed([fast], "bob") == 2.0
    assert proven_speed([fast], "carol") is None
    for doubt in ({"attestations": ()}, {"gas": 1000}, {"gas_exact": False}, {"state": "failed"}, {"mine": False}):
        assert proven_speed([replace(fast, **doubt)], "bob") is None
    assert proven_speed([fast, replace(fast, duration_us=1_000_000), fast], "bob") == 2.0


async def test_what_a_job_wants_is_searched_for_on_cards_in_the_guild_and_beyond(
    around: Around, tmp_path: Path
) -> None:
    (tmp_path / "raytrace.wasm").write_bytes(MODULE)
    cid = cid_of(MODULE)
    around.cards["carol"] = replace(around.cards["carol"], price_per_second_nano=10_000_000)
    around.cards["bob"] = replace(around.cards["bob"], tags=("gpu", "raytrace"), region="Berlin", cores=8)
    around.cards["kepler"] = replace(around.cards["bob"], name="kepler", modules=(cid,))
    around.cards["idle"] = replace(around.cards["kepler"], name="idle", executor=False)
    around.cards["rogue"] = replace(around.cards["kepler"], name="rogue")
    around.blocked = {"rogue"}
    search = PeerSearch(Bus(), known=lambda: list(around.cards), card_of=around.card_of)
    await search.start()
    market = Market(
        jobs=around, guilds=around, reputation=around, net=around, settings=Settings(home=tmp_path), search=search
    )
    spec = JobSpec(module=str(tmp_path / "raytrace.wasm"), guild="g")
    around.scores = {"bob": 0.4, "carol": 0.9}
    best, other = (await market.estimate(spec)).candidates
    assert (best.peer_id, best.match) == ("carol", "")
    assert other.match == "offers raytrace", "the name of the module says something, too, but decides nothing"

    wanting = replace(spec, wants="GPU, 8 cores")
    estimate = await market.estimate(wanting)
    assert [(c.peer_id, c.match) for c in estimate.candidates] == [
        ("bob", "offers gpu, 8 cores, raytrace"),
        ("carol", ""),
    ]
    assert await market.choose(wanting) == "bob"
    assert [(s.peer_id, s.match) for s in estimate.elsewhere] == [
        ("kepler", "offers gpu, 8 cores, raytrace; caches this module")
    ]
    around.cards["carol"] = replace(around.cards["carol"], modules=(cid,))
    around.scores = {}
    assert (await market.estimate(spec)).candidates[0].match == "caches this module", "of equals"
    await search.stop()


def test_a_card_that_is_only_near_says_so() -> None:
    near = candidate("near", fit=Fit((), 0.6))
    assert [(v.name, v.match) for v in rank(SPEC, [candidate("a"), near])] == [
        ("near", "offers something near"),
        ("a", ""),
    ]
