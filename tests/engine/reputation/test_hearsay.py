"""What others say: whose word counts, how much, and that made-up peers gain nothing by being many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.reputation import hearsay
from zstui.engine.reputation.hearsay import KEPT_US, MAX_ISSUERS, About, Hearsay, my_testimony, read_testimony
from zstui.engine.reputation.score import Tally

IDS = [Identity(number.to_bytes(32, "big")) for number in range(1, 40)]
ME, GOOD, FAIR, WORKER, STRANGER, *OTHERS = IDS


def said(issuer: Identity, *about: tuple[Identity, int, int]) -> bytes:
    return seal(
        issuer, hearsay.Testimony(tuple(About(who.public_key, done, failed, 1, 2) for who, done, failed in about))
    )


class World:
    def __init__(self) -> None:
        self.first: dict[PeerId, float] = {}
        self.revision = 0
        self.hearsay = Hearsay(ME.peer_id, lambda: self.first, lambda: self.revision)

    def know(self, peer: Identity, weight: float) -> None:
        self.first[peer.peer_id] = weight
        self.revision += 1

    def hear(self, issuer: Identity, *about: tuple[Identity, int, int], now_us: int = 0) -> set[PeerId]:
        return self.hearsay.take(issuer.peer_id, said(issuer, *about), now_us)


def test_a_testimony_is_of_peers_with_enough_jobs_and_reads_as_it_was_signed() -> None:
    enough = Tally(tasks=6, successes=5, first_us=10, updated_us=20)
    raw = my_testimony(ME, [(GOOD.peer_id, enough), (FAIR.peer_id, Tally(tasks=4, successes=4))])
    assert raw is not None
    assert read_testimony(raw, ME.peer_id) == {GOOD.peer_id: About(GOOD.public_key, 5, 1, 10, 20)}
    assert my_testimony(ME, [(FAIR.peer_id, Tally(tasks=4))]) is None


@pytest.mark.parametrize(
    "raw",
    [
        said(GOOD, (GOOD, 5, 0)),
        said(GOOD, (WORKER, 4, 0)),
        said(GOOD, (WORKER, 5, 0), (WORKER, 0, 5)),
        said(FAIR, (WORKER, 5, 0)),
        seal(GOOD, hearsay.Testimony((About(WORKER.public_key, 5, 0, 9, 3),))),
        b"garbage",
    ],
)
def test_what_no_honest_peer_says_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_testimony(raw, GOOD.peer_id)


def test_only_the_word_of_those_whom_good_work_leads_to_counts() -> None:
    world = World()
    assert world.hear(GOOD, (WORKER, 9, 1)) == {WORKER.peer_id}
    view = world.hearsay.of(WORKER.peer_id)
    assert view is not None
    assert (view.issuers, view.uncounted, view.standing) == (0, 1, 0.5), "nobody that I know"
    world.know(GOOD, 10)
    view = world.hearsay.of(WORKER.peer_id)
    assert view is not None
    assert (view.issuers, view.done, view.failed) == (1, 9, 1)
    assert view.standing == pytest.approx(0.5 + 0.4 / 3), "one issuer is one job, of three"
    world.hear(GOOD, (FAIR, 10, 0), (WORKER, 9, 1))
    world.hear(FAIR, (STRANGER, 0, 20))
    view = world.hearsay.of(STRANGER.peer_id)
    assert view is not None
    assert view.issuers == 1, "vouched for by one that I know"
    assert 0.3 < view.standing < 0.5
    world.hear(GOOD, (WORKER, 9, 1))
    view = world.hearsay.of(STRANGER.peer_id)
    assert view is not None
    assert view.issuers == 0, "a word taken back"
    assert world.hearsay.of(ME.peer_id) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(5, 10**9))
def test_a_ring_of_made_up_peers_weighs_no_more_than_what_an_honest_one_gives_it(size: int, jobs: int) -> None:
    world = World()
    world.know(GOOD, 10)
    ring = OTHERS[:size]
    world.hear(GOOD, (ring[0], 5, 0), (FAIR, 95, 0))
    world.hear(FAIR, (GOOD, 5, 0))
    for number, member in enumerate(ring):
        world.hear(member, (ring[(number + 1) % size], jobs, 0), (STRANGER, jobs, 0))
    trust = world.hearsay.trust()
    assert sum(trust.values()) <= 1 + 1e-9
    assert sum(trust.get(member.peer_id, 0.0) for member in ring) <= 0.06
    view = world.hearsay.of(STRANGER.peer_id)
    assert view is not None
    assert view.standing < 0.53, "praised a billion times"


def test_a_ring_of_500_sybils_can_neither_praise_nor_slander() -> None:
    world = World()
    world.know(GOOD, 10)
    world.hear(GOOD, (FAIR, 20, 0), (WORKER, 20, 0))
    ring = [Identity((10_000 + number).to_bytes(32, "big")) for number in range(500)]
    for number, member in enumerate(ring):
        world.hear(member, (ring[(number + 1) % 500], 99, 0), (STRANGER, 10**6, 0), (WORKER, 0, 10**6))
    assert sum(world.hearsay.trust().get(member.peer_id, 0.0) for member in ring) == 0.0
    praised, slandered = world.hearsay.of(STRANGER.peer_id), world.hearsay.of(WORKER.peer_id)
    assert praised is not None
    assert (praised.issuers, praised.uncounted, praised.standing) == (0, 500, 0.5)
    assert slandered is not None
    assert (slandered.issuers, slandered.done, slandered.failed) == (1, 20, 0)
    assert slandered.standing > 0.5


def test_the_table_is_bounded_and_forgets() -> None:
    world = World()
    world.know(GOOD, 5)
    world.hear(GOOD, (WORKER, 5, 0))
    world.hearsay.trust()
    for number in range(MAX_ISSUERS + 5):
        issuer = Identity((1000 + number).to_bytes(32, "big"))
        world.hear(issuer, (STRANGER, 5, 0))
        world.hearsay.trust()
    assert len(world.hearsay) == MAX_ISSUERS
    assert world.hearsay.of(WORKER.peer_id) is not None, "whom I trust is not pushed out by strangers"
    assert WORKER.peer_id in world.hear(FAIR, (STRANGER, 6, 0), now_us=KEPT_US + 1)
    assert len(world.hearsay) == 1
