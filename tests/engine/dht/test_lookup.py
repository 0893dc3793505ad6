from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.dht import simulate
from tests.engine.dht.test_table import peers
from zstui.engine.dht.lookup import ALPHA, MAX_HEARD, Lookup
from zstui.engine.dht.table import K, peer_key
from zstui.engine.identity.keys import PeerId

EVERYBODY = peers(400, seed=7)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    known=st.integers(5, 60),
    dead=st.floats(0, 0.4),
    target=st.integers(0, 2**256 - 1),
)
def test_a_look_up_ends_asks_nobody_twice_and_knows_its_closest(
    seed: int, known: int, dead: float, target: int
) -> None:
    """Against an arbitrary graph: everybody knows a few random others, some never answer, answers come in any order."""
    chance = random.Random(seed)
    knows = {p: chance.sample(EVERYBODY, known) for p in EVERYBODY}
    gone = {p for p in EVERYBODY if chance.random() < dead}
    lookup = Lookup(target, chance.sample(EVERYBODY, 5))
    asked: list[PeerId] = []
    under_way: list[PeerId] = []
    while not lookup.done:
        new = lookup.next()
        under_way += new
        asked += new
        assert 0 < len(under_way) <= ALPHA
        peer = under_way.pop(chance.randrange(len(under_way)))
        if peer in gone:
            lookup.failed(peer)
        else:
            lookup.answered(peer, sorted(knows[peer], key=lambda p: peer_key(p) ^ target)[:K])
    assert len(asked) == len(set(asked)) == lookup.asked
    closest = lookup.closest()
    assert closest == sorted(closest, key=lambda p: peer_key(p) ^ target)
    assert not gone & set(closest)
    heard = [p for p in EVERYBODY if lookup.has_heard_of(p) and not (p in gone and p in asked)]
    assert closest == sorted(heard, key=lambda p: peer_key(p) ^ target)[: len(closest)]
    assert len(closest) == min(K, len(heard))


def test_what_was_not_asked_for_is_not_taken_in() -> None:
    lookup = Lookup(1, EVERYBODY[:3])
    lookup.answered(EVERYBODY[0], EVERYBODY[10:20])
    assert not lookup.has_heard_of(EVERYBODY[10])
    first = lookup.next()
    lookup.answered(first[0], EVERYBODY)
    assert sum(lookup.has_heard_of(p) for p in EVERYBODY) <= 3 + K
    lookup.answered(first[0], EVERYBODY[100:])
    assert sum(lookup.has_heard_of(p) for p in EVERYBODY) <= 3 + K


def test_endless_answers_end() -> None:
    target, chance = 5, random.Random(3)
    lookup = Lookup(target, EVERYBODY[:3])
    made = 0
    while not lookup.done:
        for peer in lookup.next():
            new = [peers(1, seed=chance.randrange(1 << 60))[0] for _ in range(K)]
            made += K
            lookup.answered(peer, new)
    assert sum(1 for _ in lookup._path_of) <= MAX_HEARD
    assert made < 20_000


def test_one_liar_leads_only_its_own_path_astray() -> None:
    """It answers with made-up peers near the target that answer nothing."""
    target = 0
    honest = sorted(EVERYBODY, key=lambda p: peer_key(p) ^ target)
    liar = EVERYBODY[0]
    fakes = sorted(peers(3_000, seed=9), key=lambda p: peer_key(p) ^ target)[:K]
    lookup = Lookup(target, [liar, *honest[-8:]])
    while not lookup.done:
        for peer in lookup.next():
            if peer in fakes:
                lookup.failed(peer)
            else:
                lookup.answered(peer, fakes if peer == liar else honest[:K])
    assert lookup.closest()[:10] == [p for p in honest if p != liar][:10]


def test_a_small_network_finds_everybody_even_when_every_fifth_is_gone() -> None:
    found = simulate(nodes=300, lookups=150, seed=4)
    assert found["lookup_success"] == 1.0
    assert float(str(found["success_at_20_percent_churn"])) >= 0.98
