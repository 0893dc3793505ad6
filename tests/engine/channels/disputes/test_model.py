"""The join of evidence and the verdict on it."""

from __future__ import annotations

import os
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.channels.disputes.ledger import HI, LO, PARTIES, WITNESSES, History, params
from tests.engine.channels.rig import line
from zstui.engine.channels.disputes.messages import Fault, Opening
from zstui.engine.channels.disputes.model import (
    Denial,
    Joined,
    Link,
    check_filing,
    deadline_ms,
    decide,
    facts,
    join,
    join_all,
    penalty_hours,
    verdict_digest,
)
from zstui.engine.channels.messages import Ack, Close, Settle, channel_id, sign_opening
from zstui.engine.channels.panel import check_panel, nominated_by_proposer, panel_size, quorum
from zstui.engine.channels.state import Half, final_of, next_pay
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import seal

FILINGS = int(os.environ.get("ZSTUI_TEST_FILINGS", "2000"))
"""Random one-sided filings; 20,000 take about a minute."""

small = st.binary(min_size=1, max_size=1)
joined = st.builds(
    Joined,
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.frozensets(
        st.builds(
            Link,
            st.integers(0, 1),
            st.sampled_from(("pay", "close")),
            st.integers(0, 3),
            st.integers(0, 9),
            small,
            small,
        ),
        max_size=4,
    ),
    st.frozensets(st.builds(Denial, st.integers(0, 1), st.integers(1, 3), small), max_size=2),
    st.frozensets(st.tuples(st.integers(0, 1), small), max_size=2),
)


@given(joined, joined, joined)
def test_the_join_is_commutative_associative_and_idempotent(a: Joined, b: Joined, c: Joined) -> None:
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    assert join(Joined(), a) == a


@given(st.lists(joined, max_size=5), st.randoms(use_true_random=False))
def test_the_verdict_does_not_depend_on_the_order(parts: list[Joined], chance: Random) -> None:
    p = params((5, 5))
    shuffled = [*parts, *parts[:2]]
    chance.shuffle(shuffled)
    one, two = decide(p, b"c" * 32, join_all(parts)), decide(p, b"c" * 32, join_all(shuffled))
    assert verdict_digest(one) == verdict_digest(two)
    assert one.bal_lo + one.bal_hi == 10
    assert min(one.bal_lo, one.bal_hi, one.cum_lo, one.cum_hi) >= 0


def test_random_one_sided_filings_never_overdraw() -> None:
    """A side hides any of its own payments and shows the best of the other's. With the rule that it is bound by what the
    other's payment acknowledges nobody overdraws, so that the limit in ``decide`` changes nothing; without it many would."""
    without = 0
    for number in range(FILINGS):
        chance = Random(number)
        h = History(chance, 12)
        side = chance.randrange(2)
        docs = h.filing(side, own=chance.randrange(len(h.sent[side])), claim=chance.random() < 0.5)
        said = facts(h.params, h.ch, PARTIES[side].peer_id, docs)
        verdict = decide(h.params, h.ch, said)
        assert (verdict.cum_lo, verdict.cum_hi) == said.cum
        assert min(verdict.bal_lo, verdict.bal_hi) >= 0
        assert verdict.bal_lo + verdict.bal_hi == h.params.dep_lo + h.params.dep_hi
        lo, hi = (max((x.cum for x in said.links if x.side == s), default=0) for s in (0, 1))
        without += lo > h.params.dep_lo + hi or hi > h.params.dep_hi + lo
    assert without > FILINGS // 20


def test_who_hides_the_other_sides_payments_only_loses() -> None:
    """It shows its own latest payment and any of the other's: nobody is below 0, and it gets no more than what is true."""
    for number in range(FILINGS // 4):
        chance = Random(number)
        h = History(chance, 12)
        side = chance.randrange(2)
        docs = h.filing(side, theirs=chance.randrange(h.seen[side] + 1))
        verdict = decide(h.params, h.ch, facts(h.params, h.ch, PARTIES[side].peer_id, docs))
        balances = (verdict.bal_lo, verdict.bal_hi)
        assert min(balances) >= 0
        assert sum(balances) == h.params.dep_lo + h.params.dep_hi
        true = (h.params.dep_lo, h.params.dep_hi)[side] - h.sent[side][-1][0].cum + h.sent[1 - side][-1][0].cum
        assert balances[side] <= true


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_two_honest_filings_decide_on_all_that_was_paid(seed: int) -> None:
    h = History(Random(seed), 20)
    said = join_all(facts(h.params, h.ch, PARTIES[s].peer_id, h.filing(s)) for s in (0, 1))
    verdict = decide(h.params, h.ch, said)
    assert (verdict.cum_lo, verdict.cum_hi) == (h.sent[0][-1][0].cum, h.sent[1][-1][0].cum)
    assert verdict.faults == ()


def test_a_stale_filing_is_overruled_and_proven_by_the_other_side() -> None:
    h = full()
    stale = facts(h.params, h.ch, LO.peer_id, h.filing(0, own=1, theirs=0))
    alone = decide(h.params, h.ch, stale)
    assert alone.cum_lo == h.sent[0][1][0].cum
    both = decide(h.params, h.ch, join(stale, facts(h.params, h.ch, HI.peer_id, h.filing(1))))
    assert both.cum_lo == h.sent[0][-1][0].cum
    assert both.faults == (Fault(0, "STALE_CLAIM"),)


def test_submitting_a_peers_payment_adopts_what_it_acknowledges() -> None:
    """Low hides its own payments behind the other's latest: that one acknowledges them."""
    h = full()
    theirs = h.sent[1][-1][1]
    said = facts(h.params, h.ch, LO.peer_id, (theirs,))
    assert said.cum[0] == h.sent[0][-1][0].cum
    assert facts(h.params, h.ch, HI.peer_id, (theirs,)).cum[0] == 0, "only who submits it is bound"


def full() -> History:
    """Low pays 10, then 20; high has both and pays 5 back; low has that."""
    h = History(Random(0), 0)
    h.params = params((1000, 1000))
    h.ch = channel_id(h.params)
    start = Half.start(h.ch)
    h.sent = ([(start, b"")], [(start, b"")])
    for amount in (10, 20):
        h._pay(0, h.sent[0][-1][0], start, amount)
    h._pay(1, start, h.sent[0][-1][0], 5)
    h.seen = [1, 2]
    return h


def test_a_denied_acknowledgement_must_be_answered() -> None:
    h = full()
    real = seal(HI, Ack(h.ch, 2, 30, h.sent[0][2][0].head))
    false = seal(HI, Ack(h.ch, 2, 30, b"x" * 32))
    base = facts(h.params, h.ch, LO.peer_id, h.filing(0))
    assert decide(h.params, h.ch, join(base, facts(h.params, h.ch, LO.peer_id, (), real))).faults == ()
    lied = join(base, facts(h.params, h.ch, LO.peer_id, (), false))
    assert decide(h.params, h.ch, lied).faults == (Fault(1, "FALSE_ACK"),)


@pytest.mark.parametrize("case", ["third party", "foreign", "overdraft", "kind", "own denial", "submitter"])
def test_bad_evidence_is_refused(case: str) -> None:
    h = full()
    start = Half.start(h.ch)
    by, docs, denied = LO.peer_id, (h.sent[0][1][1],), b""
    match case:
        case "third party":
            docs = (seal(WITNESSES[0], next_pay(h.ch, start, start, (line(1),), 1)),)
        case "foreign":
            docs = (seal(LO, Close(b"o" * 32, 0, 0, b"o" * 32)),)
        case "overdraft":
            docs = (seal(HI, msgspec.structs.replace(next_pay(h.ch, start, start, (line(1),), 1), cum=10**6)),)
        case "kind":
            docs = (seal(HI, Ack(h.ch, 1, 1, b"h" * 32)),)
        case "own denial":
            denied = seal(LO, Ack(h.ch, 1, 1, b"h" * 32))
        case "submitter":
            by = WITNESSES[0].peer_id
    with pytest.raises(ProtocolError):
        facts(h.params, h.ch, by, docs, denied)


def test_equal_settles_end_a_case() -> None:
    h = full()
    settle = Settle(h.ch, final_of(h.sent[0][-1][0], h.sent[1][-1][0]), 10, 20)
    one = facts(h.params, h.ch, LO.peer_id, (seal(LO, settle),))
    assert not one.settled
    assert join(one, facts(h.params, h.ch, HI.peer_id, (seal(HI, settle),))).settled
    other = msgspec.structs.replace(settle, bal_lo=11, bal_hi=19)
    assert not join(one, facts(h.params, h.ch, HI.peer_id, (seal(HI, other),))).settled


def test_a_filing_needs_both_signatures_and_a_panel() -> None:
    p = params()
    ch = channel_id(p)
    good = Opening(p, sign_opening(LO, ch), sign_opening(HI, ch))
    check_filing(ch, good)
    for bad in (
        Opening(p, good.sig_lo, good.sig_lo),
        Opening(msgspec.structs.replace(p, dep_lo=1), good.sig_lo, good.sig_hi),
    ):
        with pytest.raises(ProtocolError):
            check_filing(ch, bad)
    bare = msgspec.structs.replace(p, witnesses=(), m=0)
    ch = channel_id(bare)
    with pytest.raises(ProtocolError):
        check_filing(ch, Opening(bare, sign_opening(LO, ch), sign_opening(HI, ch)))


def test_the_deadline_is_the_median_receipt_plus_the_challenge() -> None:
    p = params()
    day = 86_400_000
    assert deadline_ms(p, [1000, 2000]) is None
    assert deadline_ms(p, [1000, 2000, 3000]) == 2000 + day
    for wrong in (0, 10**12):
        assert 1000 + day <= (deadline_ms(p, [1000, wrong, 2000, 3000]) or 0) <= 3000 + day
    assert deadline_ms(params(n=1), [5000]) == 5000 + day


@pytest.mark.parametrize(
    ("wanted", "there", "n", "m", "mine"),
    [(4, 9, 4, 3, 2), (4, 3, 1, 1, 0), (4, 0, 0, 0, 0), (10, 8, 7, 5, 3), (10, 10, 10, 7, 5), (1, 9, 1, 1, 0)],
)
def test_the_size_of_a_panel(wanted: int, there: int, n: int, m: int, mine: int) -> None:
    assert panel_size(wanted, there) == n
    assert quorum(n) == m
    assert nominated_by_proposer(n) == mine


def test_a_panel_must_be_sorted_distinct_outside_and_of_a_used_size() -> None:
    p = params()
    assert check_panel(p)
    assert check_panel(msgspec.structs.replace(p, witnesses=(), m=0))
    keys = p.witnesses
    for bad in (keys[::-1], (keys[0],) * 4, keys[:3], tuple(sorted((*keys[:3], p.pk_lo)))):
        assert not check_panel(msgspec.structs.replace(p, witnesses=bad))
    assert not check_panel(msgspec.structs.replace(p, m=2))


def test_penalties_double_up_to_a_year() -> None:
    assert [penalty_hours(720, k) for k in range(5)] == [720, 1440, 2880, 5760, 8760]
    assert penalty_hours(24, 10**6) == 8760
