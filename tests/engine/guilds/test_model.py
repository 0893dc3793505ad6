"""The membership log, the epochs and the small tables, without a network."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.guilds import invites
from zstui.engine.guilds.epochs import (
    KEEP_OLD,
    OLD_GRACE_US,
    EpochAhead,
    EpochPast,
    EpochRing,
    box_key_of,
    fingerprint_of,
    grants_hash,
    new_box_secret,
    open_grant,
    seal_grants,
)
from zstui.engine.guilds.limits import MAX_BUCKETS, Limits
from zstui.engine.guilds.messages import (
    MAX_ANNOUNCED,
    EntryKind,
    GuildCharter,
    GuildEntry,
    decode_reply,
    decode_request,
)
from zstui.engine.guilds.model import (
    MAX_WAITING,
    Charter,
    Member,
    Membership,
    SignedEntry,
    merge,
    read_charter,
    read_entry,
)
from zstui.engine.guilds.seen import MAX_SEEN, Seen, SeenTable
from zstui.engine.guilds.window import LineWindow
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, public_key_of

CREATOR = Identity(bytes(31) + b"\x01")
PEERS = [Identity(bytes(30) + bytes([1, i])) for i in range(6)]
KEY_OF = {i.peer_id: i for i in (CREATOR, *PEERS)}


def charter(most: int = 4, name: str = "farm") -> Charter:
    terms = GuildCharter(CREATOR.public_key, name, 3600, most, False, 1_000_000, bytes(16))
    return read_charter(seal(CREATOR, terms))


class Author:
    """Writes a log as its creator does, keeping every member's secret and every epoch's traffic."""

    def __init__(self, most: int = 4) -> None:
        self.charter = charter(most)
        self.log = Membership(self.charter)
        self.entries: list[SignedEntry] = []
        self.grants: list[bytes] = []
        self.secrets: dict[bytes, bytes] = {}
        self.keys: dict[int, bytes] = {}
        self.members_in: dict[int, set[str]] = {}
        self.append("join", CREATOR, "creator")

    def append(self, kind: EntryKind, who: Identity | None = None, role: str = "") -> SignedEntry:
        box_key = b""
        key = who.public_key if who is not None else b""
        members = [m for m in self.log.members.values() if m.key != key]
        if kind == "join":
            secret = new_box_secret()
            box_key = box_key_of(secret)
            self.secrets[box_key] = secret
            members.append(Member(key, "member", box_key, self.log.version + 1))
        epoch, group_key = self.log.epoch + 1, os.urandom(32)
        grants = seal_grants(group_key, members)
        entry = GuildEntry(
            self.charter.guild_id,
            self.log.version + 1,
            self.log.head,
            kind,
            key,
            role,
            box_key,
            epoch,
            fingerprint_of(self.charter.guild_id, epoch, group_key),
            grants_hash(grants),
            1_000_000 + self.log.version,
        )
        signed = self.sign(entry)
        self.log.apply(signed)
        self.entries.append(signed)
        self.grants.append(grants)
        self.keys[epoch] = group_key
        self.members_in[epoch] = set(self.log.members)
        return signed

    def sign(self, entry: GuildEntry, by: Identity = CREATOR) -> SignedEntry:
        return read_entry(self.charter, seal(by, entry))


def written(moves: list[tuple[int, int]]) -> Author:
    """A valid log that follows the drawn moves: (what, who)."""
    author = Author(most=4)
    for what, who in moves:
        peer = PEERS[who]
        is_member = peer.peer_id in author.log.members
        if what <= 1 and (is_member or len(author.log.members) < 4):
            author.append("join", peer, ("executor", "member", "observer")[who % 3])
        elif what == 2 and is_member:
            author.append("leave", peer)
        elif what == 3 and is_member:
            author.append("kick", peer)
        elif what == 4:
            author.append("rekey")
    return author


MOVES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=14)


@settings(max_examples=40, deadline=None)
@given(MOVES, st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_of_delivery_gives_the_same_members(moves: list[tuple[int, int]], random: object, size: int) -> None:
    author = written(moves)
    shuffled = author.entries * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    membership, waiting = Membership(author.charter), dict[int, SignedEntry]()
    for i in range(0, len(shuffled), size):
        membership, _ = merge(membership, waiting, shuffled[i : i + size])
    assert not waiting
    assert membership.members == author.log.members
    assert (membership.head, membership.epoch, membership.kicked) == (
        author.log.head,
        author.log.epoch,
        author.log.kicked,
    )
    for peer in PEERS:
        for version in range(1, membership.version + 1):
            assert membership.span_at(peer.peer_id, version) == author.log.span_at(peer.peer_id, version)


@settings(max_examples=40, deadline=None)
@given(MOVES)
def test_nobody_opens_an_epoch_outside_of_which_it_is(moves: list[tuple[int, int]]) -> None:
    author = written(moves)
    for number, entry in enumerate(author.entries):
        epoch = entry.entry.epoch
        ring = EpochRing(author.charter.guild_id)
        ring.advance(epoch, author.keys[epoch], 0)
        sealed = ring.seal(CREATOR.public_key, b"secret", b"")
        for identity in KEY_OF.values():
            # Everything that ever was sealed to any X25519 key this peer ever had in the guild.
            secrets = [
                author.secrets[e.entry.box_key]
                for e in author.entries
                if e.entry.kind == "join" and e.entry.peer == identity.public_key
            ]
            opened = False
            for secret in secrets:
                for grants in author.grants:
                    try:
                        key = open_grant(grants, identity.public_key, secret)
                    except ProtocolError:
                        continue
                    if key is None:
                        continue
                    mine = EpochRing(author.charter.guild_id)
                    mine.advance(epoch, key, 0)
                    try:
                        opened |= mine.open(CREATOR.public_key, sealed, b"", 0) == b"secret"
                    except ProtocolError:
                        continue
            assert opened == (identity.peer_id in author.members_in[epoch]), (number, identity.peer_id)


def test_a_forged_or_misplaced_entry_changes_nothing() -> None:
    author = Author()
    author.append("join", PEERS[0], "member")
    good = author.append("join", PEERS[1], "member").entry
    before = Membership(author.charter)
    for signed in author.entries[:2]:
        before.apply(signed)

    def changed(**fields: object) -> GuildEntry:
        values = {f: getattr(good, f) for f in good.__struct_fields__} | fields
        return GuildEntry(**values)

    with pytest.raises(ProtocolError, match="signed by another peer"):
        author.sign(good, by=PEERS[0])
    with pytest.raises(ProtocolError, match="another guild"):
        author.sign(changed(guild=bytes(32)))
    used = before.members[PEERS[0].peer_id].box_key
    wrong: list[dict[str, object]] = [
        {"version": 4},
        {"previous": bytes(32)},
        {"epoch": 2},
        {"epoch": 4},
        {"role": "creator"},
        {"role": "king"},
        {"box_key": used},
        {"box_key": b""},
        {"peer": CREATOR.public_key},
        {"peer": b""},
        {"kind": "leave"},
        {"kind": "leave", "role": "", "box_key": b""},
        {"kind": "kick", "role": "", "box_key": b"", "peer": CREATOR.public_key},
        {"kind": "rekey"},
        {"kind": "dissolve", "role": "", "box_key": b"", "peer": b""},
    ]
    for fields in wrong:
        copy = before.copy()
        with pytest.raises(ProtocolError):
            copy.apply(author.sign(changed(**fields)))
        assert (copy.version, copy.members, copy.head) == (2, before.members, before.head), fields
    before.apply(author.sign(good))
    assert PEERS[1].peer_id in before.members


def test_nothing_follows_a_dissolution_and_a_log_begins_with_its_creator() -> None:
    author = Author()
    log = author.log
    end = GuildEntry(
        author.charter.guild_id, 2, log.head, "dissolve", b"", "", b"", 1, log.fingerprint, log.grants, 2_000_000
    )
    ended = author.sign(end)
    log.apply(ended)
    assert log.dissolved
    after = GuildEntry(
        author.charter.guild_id, 3, ended.digest, "rekey", b"", "", b"", 2, bytes(32), bytes(32), 2_000_000
    )
    with pytest.raises(ProtocolError, match="dissolved"):
        log.apply(author.sign(after))
    for kind in ("rekey", "dissolve"):
        first = GuildEntry(
            author.charter.guild_id,
            1,
            author.charter.guild_id,
            kind,
            b"",
            "",
            b"",
            int(kind == "rekey") or 1,
            bytes(32),
            bytes(32),
            1,
        )
        with pytest.raises(ProtocolError):
            Membership(author.charter).apply(author.sign(first))


def test_the_creator_cannot_tell_two_histories() -> None:
    one, two = Author(), Author()
    two.entries[:] = one.entries[:]
    two.log = one.log.copy()
    a = one.append("join", PEERS[0], "member")
    b = two.append("join", PEERS[1], "member")
    membership, _ = merge(Membership(one.charter), {}, one.entries)
    with pytest.raises(ProtocolError, match="two different histories"):
        merge(membership, {}, [b])
    with pytest.raises(ProtocolError, match="two different histories"):
        merge(Membership(one.charter), {}, [one.entries[0], a, b])


def test_entries_that_wait_are_bounded() -> None:
    author = Author()
    for _ in range(MAX_WAITING + 20):
        author.append("rekey")
    waiting: dict[int, SignedEntry] = {}
    membership, applied = merge(Membership(author.charter), waiting, author.entries[1:])
    assert (membership.version, applied, len(waiting)) == (0, [], MAX_WAITING)
    membership, _ = merge(membership, waiting, author.entries[:1])
    assert membership.version == MAX_WAITING + 1


def test_a_full_guild_cannot_be_overfilled_by_its_creator() -> None:
    author = Author(most=2)
    author.append("join", PEERS[0], "member")
    with pytest.raises(ProtocolError, match="full 2/2"):
        author.append("join", PEERS[1], "member")


@pytest.mark.parametrize("name", ["x" * 49, "", "\x1b\x07", "\u202e\u200b"])
def test_charters_with_names_that_cannot_be_shown(name: str) -> None:
    with pytest.raises(ProtocolError):
        charter(name=name)


def test_control_characters_never_get_past_the_charter() -> None:
    assert charter(name="a\x1b]0;owned\x07\u202eb\n").name == "a]0;ownedb"


@pytest.mark.parametrize(("ttl", "most"), [(59, 2), (86_401, 2), (60, 1), (60, 51)])
def test_charters_with_impossible_terms(ttl: int, most: int) -> None:
    terms = GuildCharter(CREATOR.public_key, "farm", ttl, most, False, 1, bytes(16))
    with pytest.raises(ProtocolError):
        read_charter(seal(CREATOR, terms))


def test_a_charter_needs_its_creators_signature() -> None:
    terms = GuildCharter(PEERS[0].public_key, "farm", 60, 2, False, 1, bytes(16))
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
    ring.advance(1, os.urandom(32), 0)
    first = ring.seal(bytes(32), b"first", b"")
    ring.advance(2, os.urandom(32), 0)
    ring.advance(2, os.urandom(32), 0)
    second = ring.seal(bytes(32), b"second", b"")
    assert ring.open(bytes(32), first, b"", OLD_GRACE_US - 1) == b"first"
    with pytest.raises(EpochPast):
        ring.open(bytes(32), first, b"", OLD_GRACE_US)
    other = EpochRing(bytes(32))
    with pytest.raises(EpochAhead):
        other.open(bytes(32), second, b"", 0)
    for epoch in range(3, 3 + KEEP_OLD):
        ring.advance(epoch, os.urandom(32), 0)
    assert len(ring._old) == KEEP_OLD
    with pytest.raises(EpochPast):
        ring.open(bytes(32), first, b"", 0)
    ring.wipe()
    assert not ring._old
    with pytest.raises(ProtocolError):
        ring.open(bytes(32), second, b"", 0)


@pytest.mark.parametrize("box_key", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_a_key_that_cannot_be_sealed_to(box_key: bytes) -> None:
    with pytest.raises(ProtocolError):
        seal_grants(bytes(32), [Member(CREATOR.public_key, "member", box_key, 1)])


@given(st.binary(max_size=200))
def test_junk_instead_of_traffic_grants_and_frames(junk: bytes) -> None:
    ring = EpochRing(bytes(32))
    ring.advance(1, bytes(32), 0)
    for action in (
        lambda: ring.open(bytes(32), junk, b"", 0),
        lambda: decode_request(junk),
        lambda: decode_reply(junk),
        lambda: read_charter(junk),
        lambda: invites.read_invite(junk),
    ):
        with pytest.raises(ProtocolError):
            action()
    with contextlib.suppress(ProtocolError):
        assert open_grant(junk, bytes(32), bytes(range(32))) is None


# --- invites ---------------------------------------------------------------------------------------------------------


def test_an_invite_survives_spaces_and_upper_case() -> None:
    made = invites.make_invite(
        CREATOR, charter(), (f"/ip4/10.0.0.1/udp/4433/quic-v1/p2p/{CREATOR.peer_id}",) * 6, bytes(16), 1, 2
    )
    text = invites.text_of(made)
    parsed = invites.parse_invite(f" {text[:40]} \n{text[40:].upper()}\t")
    assert parsed == made
    assert parsed.addresses == ("/ip4/10.0.0.1/udp/4433/quic-v1",) * 4
    assert parsed.charter.guild_id == charter().guild_id
    assert parsed.code == made.code
    assert len(parsed.code.split("-")) == 3


@given(st.integers(4, 500), st.sampled_from("abcdefgh2345"))
def test_a_changed_invite_is_refused(place: int, letter: str) -> None:
    text = invites.text_of(invites.make_invite(CREATOR, charter(), (), bytes(16), 1, 2))
    place = min(place, len(text) - 2)
    if text[place] != letter:
        with pytest.raises(BadInput):
            invites.parse_invite(text[:place] + letter + text[place + 1 :])


def test_an_invite_to_a_charter_of_another() -> None:
    stolen = charter()
    with pytest.raises(ProtocolError):
        invites.read_invite(invites.make_invite(PEERS[0], stolen, (), bytes(16), 1, 2).raw)
    with pytest.raises(BadInput):
        invites.parse_invite("zsg1" + "a" * 5000)


# --- tables ----------------------------------------------------------------------------------------------------------


def seen_guild(by: Identity, number: int) -> Seen:
    terms = GuildCharter(by.public_key, f"g{number}", 3600, 50, False, 0, number.to_bytes(16, "big"))
    raw = seal(by, terms)
    return Seen(Charter(terms.nonce * 2, by.peer_id, terms.name, 3600, 50, False, 0, raw), 1)


def test_the_table_of_guilds_seen_is_bounded_in_total() -> None:
    table = SeenTable()
    identities = [Identity.generate() for _ in range(MAX_SEEN // MAX_ANNOUNCED + 3)]
    for number in range(MAX_SEEN + 60):
        table.put(seen_guild(identities[number % len(identities)], number))
    assert len(table) == MAX_SEEN
    assert len(table._by_raw) == MAX_SEEN
    assert {s.charter.name for s in table.all()} == {f"g{n}" for n in range(60, MAX_SEEN + 60)}
    assert len(table.expire(3600 * 1_000_000)) == MAX_SEEN
    assert not table._by_creator
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
            assert window.take(("a", 1), counter)
            assert not window.take(("a", 1), counter)
    assert window.floor(("a", 1)) == (missing - 1 if missing else 11)
    window.settle_author("a")
    assert window.floor(("a", 1)) == (10 if missing == 11 else 11)
    assert not window.take(("a", 1), max(1, missing) if missing != 11 else 10)


def test_huge_counters_do_not_fill_memory() -> None:
    window = LineWindow()
    for counter in range(10, 10 + 3 * 3000, 3):
        window.take(("a", 1), counter)
    assert sum(map(len, window._above.values())) <= 1024


def test_ids_bind_exactly_what_was_signed() -> None:
    assert public_key_of(charter().creator) == CREATOR.public_key
    assert charter().guild_id != charter(most=5).guild_id
