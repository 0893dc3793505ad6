"""The membership log: any order of delivery, split networks, and signers who cheat."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.guilds.scribe import CREATOR, IDENTITY_OF, PEERS, Book, Scribe, charter
from zstui.engine.errors import ProtocolError
from zstui.engine.guilds.entries import SignedEntry, read_entry, two_histories
from zstui.engine.guilds.epochs import open_grant
from zstui.engine.guilds.evaluation import Evaluation
from zstui.engine.guilds.log import MAX_OFFICERS, MAX_WAITING, MemberLog, MissingParents, merge
from zstui.engine.guilds.membership import Membership
from zstui.engine.guilds.roles import MAY
from zstui.engine.identity.keys import Identity

A, B, C, D, E, F = PEERS
AUTHORITIES = (CREATOR, A, B)
TOKENS = (b"t" * 16, b"u" * 16)
MOVES = st.lists(
    st.tuples(
        st.integers(0, 2),  # half
        st.integers(0, 10),  # what
        st.integers(0, 2),  # signed by
        st.integers(0, 5),  # about
    ),
    max_size=22,
)


def play(moves: list[tuple[int, int, int, int]]) -> list[Scribe]:
    """Three halves that write, honestly or not, and meet now and then. What a log refuses is left out."""
    halves = [Scribe.founding(most=5)]
    halves += [halves[0].split(), halves[0].split()]
    halves[0].write("join", A)
    halves[0].write("officer", A)
    halves[1].meet(halves[0])
    for half, what, by, about in moves:
        scribe, signer, peer = halves[half], AUTHORITIES[by], PEERS[about]
        with contextlib.suppress(ProtocolError, KeyError):
            match what:
                case 0 | 1 | 2:
                    token = TOKENS[about % 2] if what == 2 else b""
                    role = ("executor", "member", "observer")[about % 3]
                    scribe.write("join", peer, signer, role=role, token=token)
                case 3:
                    scribe.write("kick", peer, signer)
                case 4:
                    scribe.write("leave", peer, signer)
                case 5:
                    scribe.write("officer", AUTHORITIES[1 + about % 2], CREATOR)
                case 6:
                    scribe.write("demote", AUTHORITIES[1 + about % 2], CREATOR)
                case 7:
                    scribe.write("rekey", None, signer)
                case 8:
                    scribe.write("extend", None, CREATOR, until_us=3_700_000_000 + about * 1_000_000)
                case 9 if about % 2:
                    scribe.write("invite", None, signer, token=TOKENS[about % 2], uses=2, until_us=9)
                case 9:
                    scribe.write("revoke", None, signer, token=TOKENS[1])
                case _:
                    scribe.meet(halves[about % 3])
    return halves


def evaluated(log: MemberLog) -> Membership:
    """From all entries at once."""
    return Evaluation(log.charter, log.entries, log._past, (1 << len(log)) - 1).result()


@settings(max_examples=120, deadline=None)
@given(MOVES, st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_order_of_delivery_gives_the_same_members(
    moves: list[tuple[int, int, int, int]], shuffler: random.Random, size: int
) -> None:
    halves = play(moves)
    everything = {e.digest: e for scribe in halves for e in scribe.log.entries}
    for scribe in halves[1:]:
        halves[0].meet(scribe)
    expected = halves[0].log.membership
    assert expected == evaluated(halves[0].log), "one step at a time comes to the same as all at once"
    for _ in range(2):
        shuffled = list(everything.values()) * 2
        shuffler.shuffle(shuffled)
        log, waiting = MemberLog(halves[0].charter), dict[bytes, SignedEntry]()
        for i in range(0, len(shuffled), size):
            log, _ = merge(log, waiting, shuffled[i : i + size])
        assert not waiting
        assert (log.membership, set(log.heads), len(log)) == (expected, set(halves[0].log.heads), len(everything))
        assert {(x.signer, x.entry.seq) for x, _ in log.proofs} == {
            (x.signer, x.entry.seq) for x, _ in halves[0].log.proofs
        } or len(log.proofs) == len(halves[0].log.proofs)


@settings(max_examples=60, deadline=None)
@given(MOVES)
def test_the_key_in_force_is_known_to_members_alone(moves: list[tuple[int, int, int, int]]) -> None:
    """In every half and after every meeting, whoever is no member holds no way to the key that serves."""
    halves = play(moves)
    halves[1].meet(halves[2])
    halves[0].meet(halves[1])
    for scribe in halves:
        membership, book = scribe.log.membership, scribe.book
        if membership.key is None:
            continue
        grants = book.grants[membership.key.digest]
        assert book.granted[membership.key.digest] <= set(membership.members)
        for peer, identity in IDENTITY_OF.items():
            held = [
                open_grant(grants, identity.public_key, secret)
                for box_key, secret in book.secrets.items()
                if any(j.peer == peer for j in scribe.log.begun(box_key)) and sealed_to(grants, identity, secret)
            ]
            assert bool(held) == (peer in book.granted[membership.key.digest])
            assert all(key == book.keys[membership.key.digest] for key in held)


def sealed_to(grants: bytes, identity: Identity, secret: bytes) -> bool:
    try:
        return open_grant(grants, identity.public_key, secret) is not None
    except ProtocolError:
        return False


@settings(max_examples=60, deadline=None)
@given(MOVES)
def test_one_rekey_settles_any_merge(moves: list[tuple[int, int, int, int]]) -> None:
    halves = play(moves)
    for scribe in halves[1:]:
        halves[0].meet(scribe)
    scribe = halves[0]
    if scribe.log.membership.key is None and len(scribe.log.heads) <= 8 and not scribe.log.membership.liars:
        scribe.write("rekey")
        settled = scribe.log.membership
        assert settled.key is not None
        assert scribe.book.granted[settled.key.digest] == set(settled.members)


def order(scribe: Scribe) -> list[str]:
    return list(scribe.log.membership.authorities)


def officered() -> Scribe:
    scribe = Scribe.founding()
    scribe.write("join", A)
    scribe.write("officer", A)
    return scribe


def test_a_removal_wins_over_an_admission_of_the_other_half() -> None:
    one = officered()
    one.write("join", B)
    two = one.split()
    one.write("kick", B)
    two.write("join", B, A, role="executor")
    one.meet(two)
    for scribe in (one, two):
        assert B.peer_id not in scribe.log.membership.members
        assert B.peer_id in scribe.log.membership.kicked
        assert scribe.log.membership.key is None, "what the other half's key was sealed to is known to who is out"
    two.write("rekey", None, A)
    assert two.log.membership.key is not None


def test_both_halves_admit_and_all_stay() -> None:
    one = Scribe.founding(most=3)
    one.write("join", A)
    one.write("officer", A)
    two = one.split()
    one.write("join", B)
    two.write("join", C, A)
    one.meet(two)
    assert set(one.log.membership.members) == {x.peer_id for x in (CREATOR, A, B, C)}
    with pytest.raises(ProtocolError, match=r"full 4/3"):
        one.write("join", D)


def test_two_rekeys_at_once_leave_one_key() -> None:
    one = officered()
    two = one.split()
    first, second = one.write("rekey"), two.write("rekey", None, A)
    one.meet(two)
    assert one.log.membership == two.log.membership
    assert one.log.membership.key == max(first, second, key=lambda e: e.rank)


def test_a_demoted_officer_cannot_date_back() -> None:
    one = officered()
    one.write("join", B)
    old = one.split()
    one.write("demote", A)
    with pytest.raises(ProtocolError, match="somebody who may not"):
        one.write("join", C, A)
    old.write("join", C, A)
    old.write("kick", B, A)
    old.write("invite", None, A, token=TOKENS[0], uses=9, until_us=9)
    one.meet(old)
    membership = one.log.membership
    assert set(membership.members) == {x.peer_id for x in (CREATOR, A, B)}
    assert not membership.officers
    assert membership.tokens[TOKENS[0]].left == 0
    assert membership.key is None
    one.write("rekey")
    assert one.log.membership.key is not None


def test_what_an_officer_wrote_before_its_demotion_stays() -> None:
    one = officered()
    one.write("join", B, A)
    one.write("demote", A)
    assert B.peer_id in one.log.membership.members
    one.write("officer", A)
    one.write("join", C, A)
    assert C.peer_id in one.log.membership.members


def test_an_officer_who_signs_twice_under_one_number_admits_nobody_any_more() -> None:
    one = officered()
    two = one.split()
    one.write("join", B, A)
    two.write("join", C, A)
    one.meet(two)
    assert set(one.log.membership.members) == {CREATOR.peer_id, A.peer_id}
    assert one.log.membership.liars == {A.peer_id}
    assert two_histories(*one.log.proofs[0])
    one.write("kick", A)
    assert one.log.membership.key is not None


def test_a_creator_with_two_histories_is_proven_by_any_two_members_who_compare() -> None:
    one = officered()
    two = one.split()
    one.write("join", B)
    two.write("join", C)
    assert not one.log.proofs
    one.meet(two)
    assert [two_histories(*pair) for pair in one.log.proofs] == [True]
    assert one.log.membership == two.log.membership
    assert not two_histories(one.log.entries[0], one.log.entries[1])


def test_officers_take_over_in_the_order_of_their_appointment() -> None:
    one = officered()
    one.write("join", B)
    one.write("officer", B)
    assert order(one) == [CREATOR.peer_id, A.peer_id, B.peer_id]
    one.write("demote", A)
    one.write("officer", A)
    assert order(one) == [CREATOR.peer_id, B.peer_id, A.peer_id]
    one.write("join", B, role="observer")
    assert order(one) == [CREATOR.peer_id, A.peer_id]


def test_an_invite_is_good_for_its_uses() -> None:
    one = officered()
    one.write("invite", None, A, token=TOKENS[0], uses=1, until_us=9)
    one.write("join", B, token=TOKENS[0])
    with pytest.raises(ProtocolError, match="used up"):
        one.write("join", C, token=TOKENS[0])
    one.write("invite", None, A, token=TOKENS[1], uses=5, until_us=9)
    one.write("revoke", token=TOKENS[1])
    with pytest.raises(ProtocolError, match="revoked"):
        one.write("join", C, token=TOKENS[1])


KINDS: dict[str, Callable[[Scribe, Identity], SignedEntry]] = {
    "admit": lambda s, by: s.write("join", F, by, add=False),
    "record a leave": lambda s, by: s.write("leave", E, by, add=False),
    "kick": lambda s, by: s.write("kick", E, by, add=False),
    "rekey": lambda s, by: s.write("rekey", None, by, add=False),
    "invite": lambda s, by: s.write("invite", None, by, token=TOKENS[0], uses=1, until_us=9, add=False),
    "revoke": lambda s, by: s.write("revoke", None, by, token=TOKENS[1], add=False),
    "appoint": lambda s, by: s.write("officer", E, by, add=False),
    "demote": lambda s, by: s.write("demote", A, by, add=False),
    "extend": lambda s, by: s.write("extend", None, by, until_us=3_700_000_000, add=False),
    "dissolve": lambda s, by: s.write("dissolve", None, by, add=False),
}


@pytest.mark.parametrize("action", KINDS)
@pytest.mark.parametrize("who", ["creator", "officer", "executor", "member", "observer", "stranger"])
def test_the_table_of_roles_holds_for_every_entry(action: str, who: str) -> None:
    scribe = Scribe.founding(most=50)
    for peer, role in ((A, "member"), (B, "executor"), (C, "member"), (D, "observer"), (E, "member")):
        scribe.write("join", peer, role=role)
    scribe.write("officer", A)
    scribe.write("invite", None, A, token=TOKENS[1], uses=5, until_us=9)
    by = {"creator": CREATOR, "officer": A, "executor": B, "member": C, "observer": D, "stranger": F}[who]
    entry = KINDS[action](scribe, by)
    if who in MAY[action]:  # type: ignore[index]
        scribe.log.add(entry)
        assert entry.digest in scribe.log
    else:
        with pytest.raises(ProtocolError, match="may not"):
            scribe.log.add(entry)


def test_a_forged_or_misplaced_entry_changes_nothing() -> None:
    scribe = officered()
    scribe.write("join", B)
    before, length = scribe.log.membership, len(scribe.log)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: scribe.write("kick", CREATOR, A),
        lambda: scribe.write("kick", A, A),
        lambda: scribe.write("kick", F),
        lambda: scribe.write("join", CREATOR, A),
        lambda: scribe.write("join", C, role="creator"),
        lambda: scribe.write("join", C, box_key=before.members[B.peer_id].box_key),
        lambda: scribe.write("join", C, token=b"x" * 16),
        lambda: scribe.write("leave", B, proof=b"junk"),
        lambda: scribe.write("leave", B, proof=scribe.log.entries[0].raw),
        lambda: scribe.write("officer", A),
        lambda: scribe.write("demote", B),
        lambda: scribe.write("extend", until_us=5),
        lambda: scribe.write("extend", until_us=2**50),
        lambda: scribe.write("rekey", box_key=bytes(32)),
        lambda: scribe.write("dissolve", uses=3),
        lambda: Scribe(scribe.charter, Book()).write("rekey"),
        lambda: Scribe(scribe.charter, Book()).write("join", CREATOR, A, role="creator"),
        lambda: read_entry(charter(name="other"), scribe.log.entries[0].raw),
    )
    for attempt in attempts:
        with pytest.raises(ProtocolError):
            attempt()
    assert (scribe.log.membership, len(scribe.log)) == (before, length)
    scribe.write("dissolve")
    with pytest.raises(ProtocolError, match="after the guild was dissolved"):
        scribe.write("rekey")


def test_a_leave_needs_the_signature_of_who_leaves() -> None:
    scribe = officered()
    scribe.write("join", B)
    old = scribe.write("leave", B)
    scribe.write("join", B)
    with pytest.raises(ProtocolError, match="against the rules"):
        scribe.write("leave", A, A)  # who leaves does not make the key of those who stay
    with pytest.raises(ProtocolError, match="against the rules"):
        scribe.write("leave", B, A, proof=old.entry.proof)
    assert B.peer_id in scribe.log.membership.members


def test_entries_that_wait_are_bounded() -> None:
    scribe = officered()
    ahead = scribe.split()
    for _ in range(MAX_WAITING + 20):
        ahead.write("rekey")
    late = ahead.log.entries[len(scribe.log) + 1 :]
    with pytest.raises(MissingParents):
        scribe.log.add(late[0])
    waiting: dict[bytes, SignedEntry] = {}
    log, added = merge(scribe.log, waiting, late)
    assert (len(waiting), added) == (MAX_WAITING, [])
    log, added = merge(log, waiting, ahead.log.entries)
    assert len(log) == len(ahead.log)


def test_officers_are_few() -> None:
    scribe = Scribe.founding(most=50)
    for peer in PEERS:
        scribe.write("join", peer)
    for peer in PEERS[:MAX_OFFICERS]:
        scribe.write("officer", peer)
    with pytest.raises(ProtocolError):
        scribe.write("officer", PEERS[MAX_OFFICERS])


def test_what_another_log_lacks_is_told_from_a_few_hashes() -> None:
    one = officered()
    two = one.split()
    for _ in range(40):
        one.write("rekey")
    two.write("join", B, A)
    missing = one.log.lacking(two.log.have(24))
    assert len(missing) <= 41
    for signed in missing:
        two.log.add(signed)
    assert [s.entry.kind for s in two.log.lacking(one.log.have(24))] == ["join"]
    assert one.log.lacking(one.log.have(24)) == []
