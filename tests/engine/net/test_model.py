"""Pure decisions: which connection is kept, backing off, path badges, the table of peers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import BadInput, UnknownPeer
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity
from zstui.engine.net.interfaces import advertised, list_interfaces
from zstui.engine.net.limits import IDLE_LINK_S, MAX_HEARD, MAX_IDLE_LINKS
from zstui.engine.net.model import BACKOFF_MAX_S, Interface, backoff_s, keeps_new, path_to, source, superfluous
from zstui.engine.net.peers import PeerBook, short_id

LAN = (
    Interface("eth0", "192.168.1.4", 24),
    Interface("eth0", "2001:db8::4", 64),
    Interface("lo", "127.0.0.1", 8),
)
CABLE = Interface("eth1", "fe80::4", 64)


# --- simultaneous dials ----------------------------------------------------------------------------------------------


def test_of_simultaneous_dials_both_sides_keep_that_of_the_smaller_id() -> None:
    """Each side has completed its own dial when the other's comes in."""
    assert not keeps_new("a", "b", new_dialed=False, old_dialed=True, old_age_s=0)
    assert keeps_new("b", "a", new_dialed=False, old_dialed=True, old_age_s=0)


def test_a_dial_that_completes_after_the_other_came_in_is_dropped() -> None:
    """The peer has not seen it complete yet, so both sides keep the one that came in."""
    for me, peer in (("a", "b"), ("b", "a")):
        assert not keeps_new(me, peer, new_dialed=True, old_dialed=False, old_age_s=0)
        assert not keeps_new(me, peer, new_dialed=True, old_dialed=True, old_age_s=99)


def test_a_peer_that_lost_its_connection_gets_a_new_one() -> None:
    assert keeps_new("a", "b", new_dialed=False, old_dialed=False, old_age_s=0.1)
    assert keeps_new("a", "b", new_dialed=False, old_dialed=True, old_age_s=60)
    assert not keeps_new("a", "b", new_dialed=False, old_dialed=True, old_age_s=1)


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_and_is_bounded(attempts: int, unit: float) -> None:
    assert 0 <= backoff_s(attempts, unit) <= BACKOFF_MAX_S * 1.5
    if 0 < attempts < 6:
        assert backoff_s(attempts + 1, unit) == pytest.approx(2 * backoff_s(attempts, unit))


def test_backoff_is_jittered() -> None:
    assert backoff_s(3, 0.9) > backoff_s(3, 0.1) > 0


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "badge", "why"),
    [
        ("127.0.0.1", "lan", "this machine"),
        ("127.9.9.9", "lan", "this machine"),
        ("192.168.1.4", "lan", "this machine"),
        ("192.168.1.77", "lan", "same network as eth0 (192.168.1.0/24)"),
        ("192.168.2.77", "direct", "another network"),
        ("169.254.10.1", "lan", "link-local"),
        ("fe80::1", "lan", "link-local"),
        ("2001:db8::99", "lan", "same network as eth0"),
        ("2001:db8:1::99", "direct", "another network"),
        ("8.8.8.8", "direct", "another network"),
    ],
)
def test_path_badges(remote: str, badge: str, why: str) -> None:
    kind, reason = path_to(remote, LAN)
    assert kind == badge
    assert why in reason


@pytest.mark.parametrize(
    ("listen", "interfaces", "versions", "addresses"),
    [
        ("0.0.0.0", LAN, {4, 6}, ["192.168.1.4", "2001:db8::4"]),
        ("::", LAN, {4, 6}, ["192.168.1.4", "2001:db8::4"]),
        ("0.0.0.0", LAN, {4}, ["192.168.1.4"]),
        ("0.0.0.0", LAN, {6}, ["2001:db8::4"]),
        ("0.0.0.0", LAN[2:], {4}, ["127.0.0.1"]),
        ("127.0.0.1", LAN, {4}, ["127.0.0.1"]),
        ("10.9.9.9", LAN, {4}, ["10.9.9.9"]),
        ("0.0.0.0", (*LAN, CABLE), {4, 6}, ["192.168.1.4", "2001:db8::4", "fe80::4"]),
        ("0.0.0.0", (), {4, 6}, []),
        ("0.0.0.0", LAN, set(), []),
    ],
)
def test_what_is_advertised(
    listen: str, interfaces: tuple[Interface, ...], versions: set[int], addresses: list[str]
) -> None:
    assert [i.ip for i in advertised(listen, interfaces, frozenset(versions))] == addresses


def test_a_network_of_ipv6_addresses_counts_as_one_source() -> None:
    assert source("192.168.1.4") == "192.168.1.4"
    assert source("2001:db8::4") == source("2001:db8::5:0:0:7") != source("2001:db8:0:1::4")


def test_this_machine_has_a_loopback_interface() -> None:
    found = list_interfaces()
    assert any(i.ip == "127.0.0.1" and i.is_loopback for i in found)
    assert [i.is_loopback for i in found] == sorted(i.is_loopback for i in found)


# --- the table of peers ----------------------------------------------------------------------------------------------


def book_of(*identities: Identity, limit: int = 100) -> PeerBook:
    book = PeerBook(limit, lambda peer: False)
    for now, identity in enumerate(identities):
        book.add(identity.peer_id, now)
    return book


def with_card(book: PeerBook, identity: Identity, name: str) -> None:
    record = book.get(identity.peer_id)
    assert record is not None
    record.card = seal(identity, Card(name, False, 1, 1, 1, 1, 1, (), 1))


def test_names_come_from_me_then_the_card_then_the_id() -> None:
    peer = Identity.generate()
    book = book_of(peer)
    assert book.name_of(peer.peer_id) == short_id(peer.peer_id) == peer.peer_id[8:16]
    with_card(book, peer, "zephyr")
    assert book.name_of(peer.peer_id) == "zephyr"
    record = book.get(peer.peer_id)
    assert record is not None
    record.name = "mine"
    assert book.name_of(peer.peer_id) == "mine"


def test_resolve() -> None:
    a, b = Identity.generate(), Identity.generate()
    book = book_of(a, b)
    with_card(book, a, "zephyr")
    assert book.resolve(a.peer_id) == a.peer_id
    assert book.resolve("Zephyr") == a.peer_id
    assert book.resolve(short_id(b.peer_id)) == b.peer_id
    assert book.resolve(b.peer_id[:20]) == b.peer_id
    stranger = Identity.generate().peer_id
    assert book.resolve(stranger) == stranger


@pytest.mark.parametrize("text", ["", "abc", "nobody", "12D3", "12D3KooW", "\x00"])
def test_resolve_refuses_what_is_unknown_or_ambiguous(text: str) -> None:
    with pytest.raises(UnknownPeer):
        book_of(Identity(bytes(32)), Identity(bytes(31) + b"\1")).resolve(text)


def test_two_peers_of_one_name_are_told_apart() -> None:
    a, b = Identity.generate(), Identity.generate()
    book = book_of(a, b)
    with_card(book, a, "twin")
    with_card(book, b, "twin")
    with pytest.raises(UnknownPeer, match="could be any of 2 peers") as raised:
        book.resolve("twin")
    assert short_id(a.peer_id) in str(raised.value)


def test_a_name_of_mine_wins_over_the_same_name_on_a_card() -> None:
    a, b = Identity.generate(), Identity.generate()
    book = book_of(a, b)
    with_card(book, a, "bank")
    record = book.get(b.peer_id)
    assert record is not None
    record.name = "bank"
    assert book.resolve("bank") == b.peer_id


def test_my_names_are_clean_and_unique() -> None:
    a, b = Identity.generate(), Identity.generate()
    book = book_of(a, b)
    record = book.get(a.peer_id)
    assert record is not None
    record.name = "One"
    assert book.check_name(a.peer_id, "One") == "One"
    assert book.check_name(b.peer_id, "") == ""
    assert book.check_name(b.peer_id, "\x1b[1mTwo") == "[1mTwo"
    with pytest.raises(BadInput, match="already your name"):
        book.check_name(b.peer_id, "one")
    with pytest.raises(BadInput, match="visible"):
        book.check_name(b.peer_id, "\u202e")


def test_the_table_forgets_the_least_recently_seen_stranger() -> None:
    peers = [Identity.generate().peer_id for _ in range(6)]
    pinned, named = peers[0], peers[1]
    book = PeerBook(4, lambda peer: peer == pinned)
    forgotten = list(itertools.chain(*(book.add(p, now)[1] for now, p in enumerate(peers[:4]))))
    assert forgotten == []
    record = book.get(named)
    assert record is not None
    record.name = "friend"
    assert book.add(peers[4], 10)[1] == [peers[2]]
    assert book.add(peers[5], 11)[1] == [peers[3]]
    assert {r.peer_id for r in book} == {pinned, named, peers[4], peers[5]}


def test_peers_heard_of_take_the_place_of_nobody_met() -> None:
    peers = [Identity.generate().peer_id for _ in range(MAX_HEARD + 3)]
    book = PeerBook(MAX_HEARD + 1, lambda peer: False)
    for now, peer in enumerate(peers[:2]):
        book.add(peer, now)[0].address = "/ip4/192.0.2.1/udp/1/quic-v1"
    forgotten = [book.hear(peer, now) for now, peer in enumerate(peers[2:], 10)]
    assert forgotten == [[]] * (MAX_HEARD - 1) + [peers[2:3], peers[3:4]], "the longest not heard of gives way"
    assert all(book.get(peer) is not None for peer in peers[:2])
    assert book.add(Identity.generate().peer_id, 99)[1] == [peers[4]], "who proves its key comes before hearsay"
    full = PeerBook(1, lambda peer: False)
    full.add(peers[0], 0)[0].address = "/ip4/192.0.2.1/udp/1/quic-v1"
    assert full.hear(peers[1], 1) == []
    assert full.get(peers[1]) is None


def test_hearsay_makes_no_name_of_a_peer_that_was_met_ambiguous() -> None:
    met, heard = Identity.generate(), Identity.generate()
    book = book_of(met)
    record = book.get(met.peer_id)
    assert record is not None
    record.address = "/ip4/192.0.2.1/udp/1/quic-v1"
    book.hear(heard.peer_id, 5)
    for identity in (met, heard):
        with_card(book, identity, "bank")
    assert book.resolve("bank") == met.peer_id
    assert book.resolve(short_id(heard.peer_id)) == heard.peer_id


def test_a_known_peer_is_not_added_twice() -> None:
    identity = Identity.generate()
    book = book_of(identity)
    record, _ = book.add(identity.peer_id, 99)
    assert record.first_seen_us == 0
    assert len(book) == 1


def test_links_made_in_passing_are_closed_when_idle_and_some_stay() -> None:
    used = {f"p{n}": float(n) for n in range(MAX_IDLE_LINKS + 5)}
    assert superfluous(used, IDLE_LINK_S - 0.1) == []
    assert superfluous(used, IDLE_LINK_S + 2) == ["p0", "p1", "p2"]
    assert superfluous(used, 1e6) == ["p0", "p1", "p2", "p3", "p4"]
    assert superfluous(dict(list(used.items())[:MAX_IDLE_LINKS]), 1e6) == []
