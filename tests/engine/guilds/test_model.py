"""Charters, epochs, invites and the small tables, without a network."""

from __future__ import annotations

import base64
import contextlib
import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.guilds.scribe import CREATOR, IDENTITY_OF, PEERS, charter
from tests.engine.guilds.test_log import MOVES, play, sealed_to
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.guilds import invites
from zstui.engine.guilds import seen as seen_module
from zstui.engine.guilds.chat import in_written_order
from zstui.engine.guilds.epochs import (
    KEEP_OLD,
    OLD_GRACE_US,
    EpochAhead,
    EpochPast,
    EpochRing,
    open_grant,
    seal_grants,
)
from zstui.engine.guilds.limits import MAX_BUCKETS, Limits
from zstui.engine.guilds.membership import Member
from zstui.engine.guilds.messages import MAX_ANNOUNCED, GuildCharter, Needs, decode_reply, decode_request
from zstui.engine.guilds.model import Charter, check_needs, lacking, read_charter
from zstui.engine.guilds.seen import MAX_SEEN, Seen, SeenTable
from zstui.engine.guilds.store import MessageRow
from zstui.engine.guilds.window import LineWindow
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, public_key_of
from zstui.qr import half_blocks

# --- charters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 49, "", "\x1b\x07", "\u202e\u200b"])
def test_charters_with_names_that_cannot_be_shown(name: str) -> None:
    with pytest.raises(ProtocolError):
        charter(name=name)


def test_control_characters_never_get_past_the_charter() -> None:
    assert charter(name="a\x1b]0;owned\x07\u202eb\n").name == "a]0;ownedb"


@pytest.mark.parametrize(("ttl", "most"), [(59, 2), (86_401, 2), (60, 1), (60, 51)])
def test_charters_with_impossible_terms(ttl: int, most: int) -> None:
    terms = GuildCharter(CREATOR.public_key, "farm", ttl, most, "open", Needs(), 1, bytes(16))
    with pytest.raises(ProtocolError):
        read_charter(seal(CREATOR, terms))


def test_a_charter_needs_its_creators_signature() -> None:
    terms = GuildCharter(PEERS[0].public_key, "farm", 60, 2, "open", Needs(), 1, bytes(16))
    with pytest.raises(ProtocolError, match="not signed by its creator"):
        read_charter(seal(CREATOR, terms))
    raw = bytearray(charter().raw)
    raw[-1] ^= 1
    with pytest.raises(ProtocolError):
        read_charter(bytes(raw))


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_old_keys_serve_for_a_minute_and_are_bounded() -> None:
    ring = EpochRing(bytes(32))
    with pytest.raises(ProtocolError):
        ring.seal(bytes(32), b"x", b"")
    ring.advance(b"1" * 32, 1, os.urandom(32), 0)
    first = ring.seal(bytes(32), b"first", b"")
    for _ in range(2):
        ring.advance(b"2" * 32, 2, bytes(32), 0)
    second = ring.seal(bytes(32), b"second", b"")
    assert ring.open(bytes(32), first, b"", OLD_GRACE_US - 1) == b"first"
    with pytest.raises(EpochPast):
        ring.open(bytes(32), first, b"", OLD_GRACE_US)
    other = EpochRing(bytes(32))
    with pytest.raises(EpochAhead):
        other.open(bytes(32), second, b"", 0)
    for epoch in range(3, 3 + KEEP_OLD):
        ring.advance(epoch.to_bytes(32, "little"), epoch, os.urandom(32), 0)
    assert len(ring._keys) == KEEP_OLD + 1
    with pytest.raises(EpochPast):
        ring.open(bytes(32), first, b"", 0)
    ring.prune(2**60)
    assert len(ring._keys) == 1, "nothing of past epochs is left to steal"
    ring.wipe()
    assert not ring._keys
    with pytest.raises(ProtocolError):
        ring.open(bytes(32), second, b"", 0)


@settings(max_examples=25, deadline=None)
@given(MOVES)
def test_nobody_outside_an_epoch_ever_opens_it(moves: list[tuple[int, int, int, int]]) -> None:
    """With every secret a peer ever had, and every sealed copy of every key that ever went over any wire."""
    halves = play(moves)
    book, guild_id = halves[0].book, halves[0].charter.guild_id
    joins = {e.entry.box_key: e.peer for scribe in halves for e in scribe.log.entries if e.entry.kind == "join"}
    for name, key in book.keys.items():
        ring = EpochRing(guild_id)
        ring.advance(name, 1, key, 0)
        sealed = ring.seal(CREATOR.public_key, b"secret", b"")
        for peer, identity in IDENTITY_OF.items():
            mine = EpochRing(guild_id)
            for box_key, secret in book.secrets.items():
                for other, grants in book.grants.items():
                    if joins.get(box_key) == peer and sealed_to(grants, identity, secret):
                        mine.advance(other, 1, open_grant(grants, identity.public_key, secret) or b"", 0)
            if peer in book.granted[name]:
                assert mine.open(CREATOR.public_key, sealed, b"", 1) == b"secret"
            else:
                with pytest.raises(ProtocolError):
                    mine.open(CREATOR.public_key, sealed, b"", 1)


@pytest.mark.parametrize("box_key", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_a_key_that_cannot_be_sealed_to(box_key: bytes) -> None:
    with pytest.raises(ProtocolError):
        seal_grants(bytes(32), [Member(CREATOR.public_key, "member", box_key, b"")])


@given(st.binary(max_size=200))
def test_junk_instead_of_traffic_grants_and_frames(junk: bytes) -> None:
    ring = EpochRing(bytes(32))
    ring.advance(bytes(32), 1, bytes(32), 0)
    for action in (
        lambda: ring.open(bytes(32), junk, b"", 0),
        lambda: decode_request(junk),
        lambda: decode_reply(junk),
        lambda: read_charter(junk),
    ):
        with pytest.raises(ProtocolError):
            action()
    with contextlib.suppress(ProtocolError):
        assert open_grant(junk, bytes(32), bytes(range(32))) is None


# --- invites ---------------------------------------------------------------------------------------------------------


ADDRESSES = (
    "/ip4/10.0.0.1/udp/4433/quic-v1",
    "/ip6/fe80::1/udp/65535/quic-v1",
    "/dns4/a.example/udp/1/quic-v1",
    "/ip4/10.0.0.2/udp/1/quic-v1",
)


def made(name: str = "farm", issuer: Identity = CREATOR, addresses: tuple[str, ...] = ()) -> invites.Invite:
    return invites.make_invite(charter(name=name), issuer.peer_id, addresses, 1_800_000_000_999_999)


@pytest.mark.parametrize("issuer", [CREATOR, PEERS[0]])
def test_an_invite_survives_spaces_and_upper_case(issuer: Identity) -> None:
    invite = made("Büro 7", issuer, (f"{ADDRESSES[0]}/p2p/{issuer.peer_id}", *ADDRESSES[1:]))
    text = invites.text_of(invite)
    parsed = invites.parse_invite(f" {text[:40]} \n{text[40:].upper()}\t")
    assert parsed == invite
    assert invites.looks_like_invite(text)
    assert parsed.addresses == ADDRESSES[:3]
    assert (parsed.guild_id, parsed.creator) == (charter(name="Büro 7").guild_id, CREATOR.peer_id)
    assert parsed.code == invite.code
    assert len(parsed.code.split("-")) == 3


@given(st.integers(4, 500), st.sampled_from("abcdefgh2345"))
def test_a_changed_invite_is_refused(place: int, letter: str) -> None:
    text = invites.text_of(made())
    place = min(place, len(text) - 2)
    if text[place] != letter:
        with pytest.raises(BadInput):
            invites.parse_invite(text[:place] + letter + text[place + 1 :])


def test_an_invite_with_another_name_or_key_has_another_code() -> None:
    invite = made()
    codes = {invite.code}
    for change in ({"name": "arm"}, {"creator": PEERS[0].peer_id}, {"secret": bytes(12)}, {"guild_id": bytes(32)}):
        codes.add(msgspec.structs.replace(invite, **change).code)
    assert len(codes) == 5


@given(st.binary(max_size=200))
def test_junk_as_an_invite(junk: bytes) -> None:
    for packed in (junk, bytes([0]) + junk):
        text = invites.PREFIX + base64.b32encode(packed + invites._checksum(packed)).decode().rstrip("=").lower()
        with contextlib.suppress(BadInput):
            invite = invites.parse_invite(text)
            assert invites.parse_invite(invites.text_of(invite)) == invite


@pytest.mark.parametrize("text", ["zsg2" + "a" * 5000, "zsg1" + "a" * 100, "zsg2", "hello"])
def test_what_is_no_invite(text: str) -> None:
    with pytest.raises(BadInput):
        invites.parse_invite(text)


@pytest.mark.parametrize("name", ["farm", "ü" * 24])
def test_the_code_fits_a_terminal_of_80_by_24(name: str) -> None:
    matrix = invites.qr_of(made(name, PEERS[0] if name == "farm" else CREATOR, ADDRESSES))
    assert len(matrix) <= 45
    lines = half_blocks(matrix)
    assert len(lines) <= 24
    assert {len(line) for line in lines} == {len(matrix) + 4}
    assert len(half_blocks(invites.qr_of(made("farm", CREATOR, ADDRESSES[:1])))) <= 22


# --- capabilities ----------------------------------------------------------------------------------------------------


def test_what_a_card_lacks_is_said() -> None:
    card = Card("north", True, 4, 512, 30, 0, 0, ("GPU", "eu"), 0)
    assert lacking(Needs(512, 4, ("gpu",)), card) == ""
    assert "need 1024 MiB" in lacking(Needs(1024, 0, ()), card)
    assert "need 8 cores, and the card says 4" in lacking(Needs(0, 8, ()), card)
    assert "the tag asia" in lacking(Needs(0, 0, ("eu", "asia")), card)
    assert check_needs(1, 2, ["a", "a"]) == Needs(1, 2, ("a",))
    for wrong in ((-1, 0, []), (0, -1, []), (0, 0, ["x" * 33]), (0, 0, [""]), (0, 0, list("abcde"))):
        with pytest.raises(BadInput):
            check_needs(*wrong)


# --- tables ----------------------------------------------------------------------------------------------------------


def seen_guild(by: Identity, number: int) -> Seen:
    terms = GuildCharter(by.public_key, f"g{number}", 3600, 50, "open", Needs(), 0, number.to_bytes(16, "big"))
    raw = seal(by, terms)
    guild = Charter(terms.nonce * 2, by.peer_id, terms.name, 3600, 50, "open", Needs(), 0, raw)
    return Seen(guild, 1, guild.expires_us, (by.peer_id,))


@pytest.mark.parametrize("flooders", [30, 10_000])
def test_ten_thousand_fake_guilds_push_out_only_each_other(flooders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a few peers that announce all they can, or by as many peers as guilds; honest ones before, between and after."""
    monkeypatch.setattr(seen_module, "MAX_SEEN", 48)
    known, linked = Identity.generate(), [Identity.generate() for _ in range(8)]
    standing = {known.peer_id: 2, **{i.peer_id: 1 for i in linked}}
    table = SeenTable(lambda peer: standing.get(peer, 0 if flooders > 100 else 1))
    names = [f"x{n}" for n in range(flooders)]
    honest = [seen_guild(by, 20_000 + n) for n, by in enumerate([known, *linked])]
    for seen in honest[:3]:
        table.put(seen)
    fake = seen_guild(CREATOR, 0)
    for number in range(10_000):
        guild_id = number.to_bytes(32, "big")
        terms = msgspec.structs.replace(fake.charter, guild_id=guild_id, name=f"f{number}", raw=guild_id)
        table.put(msgspec.structs.replace(fake, charter=terms, via=(names[number % flooders],)))
        if number == 5000:
            for seen in honest[3:]:
                table.put(seen)
    assert len(table) == 48
    listed = [seen.charter.name for seen in table.all()]
    assert {seen.charter.name for seen in honest} <= set(listed)
    assert listed[0] == honest[0].charter.name, "whom I know comes first"


def test_the_table_of_guilds_seen_is_bounded_in_total() -> None:
    table = SeenTable()
    identities = [Identity.generate() for _ in range(MAX_SEEN // MAX_ANNOUNCED + 3)]
    for number in range(MAX_SEEN + 60):
        table.put(seen_guild(identities[number % len(identities)], number))
    assert len(table) == len(table._by_raw) == MAX_SEEN
    assert max(table._brought.values()) <= MAX_ANNOUNCED
    first = table.all()[0]
    assert table.put(first) == []
    assert len(table.expire(3600 * 1_000_000)) == MAX_SEEN
    assert not table._brought
    assert not table._by_raw


def test_limits_refill_and_stay_bounded() -> None:
    limits = Limits()
    assert [limits.allow("p", "join", 0) for _ in range(61)] == [True] * 60 + [False]
    assert not limits.allow("p", "join", 999_999)
    assert limits.allow("p", "join", 1_100_000)
    assert not limits.allow("p", "announce", 0, 257)
    for number in range(MAX_BUCKETS + 10):
        limits.allow(str(number), "chat", 0)
    assert len(limits._buckets) == MAX_BUCKETS


@given(st.permutations(range(1, 12)), st.integers(0, 11))
def test_lines_are_taken_once_in_any_order(order: list[int], missing: int) -> None:
    window = LineWindow()
    for counter in order:
        if counter != missing:
            assert window.take(b"a", counter)
            assert not window.take(b"a", counter)
    assert window.floor(b"a") == (missing - 1 if missing else 11)
    window.settle_all(b"a")
    assert window.floor(b"a") == (10 if missing == 11 else 11)
    assert not window.take(b"a", max(1, missing) if missing != 11 else 10)


def test_huge_counters_do_not_fill_memory() -> None:
    window = LineWindow()
    for counter in range(10, 10 + 3 * 3000, 3):
        window.take(b"a", counter)
    assert sum(map(len, window._above.values())) <= 1024


def test_ids_bind_exactly_what_was_signed() -> None:
    assert public_key_of(charter().creator) == CREATOR.public_key
    assert charter().guild_id != charter(most=5).guild_id


@given(st.permutations(range(1, 9)), st.permutations(range(1, 5)))
def test_nobodys_lines_are_shown_out_of_their_order(first: list[int], second: list[int]) -> None:
    rows = [MessageRow(n, "a", "", 0, counter, b"a") for n, counter in enumerate(first)]
    for counter in second:
        rows.insert(counter, MessageRow(50 + counter, "b", "", 0, counter, b"b"))
    rows.insert(3, MessageRow(99, "a", "system", 0, None, None))
    ordered = in_written_order(rows)
    for member, count in ((b"a", 8), (b"b", 4)):
        assert [r.counter for r in ordered if r.member == member] == list(range(1, count + 1))
    assert ordered[3].system
    assert [r.member for r in ordered] == [r.member for r in rows]
