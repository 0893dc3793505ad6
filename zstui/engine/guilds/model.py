"""Charters, and the membership log replayed: pure decisions, no clock, no randomness, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from copy import copy
from typing import cast

import msgspec

from zstui.engine.errors import BadInput, GuildFull, NotPermitted, ProtocolError
from zstui.engine.guilds.messages import GuildCharter, GuildEntry
from zstui.engine.identity.envelope import Signed, open_envelope
from zstui.engine.identity.keys import PeerId, peer_id_of
from zstui.engine.identity.text import clean_text
from zstui.engine.views import Role

MIN_TTL_S, MAX_TTL_S = 60, 86_400
MIN_MEMBERS, MAX_MEMBERS = 2, 50
MAX_NAME = 48
MAX_JOINS = 2_000
"""Joins in a guild's whole life."""
MAX_LOG = 5_000
"""Entries in a guild's whole life: every join, each one's end, and key changes."""
MAX_WAITING = 64
"""Entries kept that came before their predecessors."""
CLOCK_SLACK_US = 600 * 1_000_000
"""How far a creator's clock may be ahead of mine."""
JOIN_ROLES: tuple[Role, ...] = ("executor", "member", "observer")
SPEAKERS: tuple[Role, ...] = ("creator", "executor", "member")
"""Roles that may write; observers read."""


def body_digest(signed: Signed) -> bytes:
    """SHA-256 of exactly the bytes that were signed: unlike the envelope's digest no third party can vary it."""
    return hashlib.sha256(b"zs/1|" + signed.kind.encode() + b"|" + signed.body).digest()


class Charter(msgspec.Struct, frozen=True):
    """A verified charter."""

    guild_id: bytes
    creator: PeerId
    name: str
    """Cleaned."""
    ttl_s: int
    max_members: int
    private: bool
    created_us: int
    raw: bytes

    @property
    def expires_us(self) -> int:
        return self.created_us + self.ttl_s * 1_000_000


def check_terms(name: str, ttl_s: int, max_members: int) -> str:
    """The name as it will be used. Raises BadInput with what is wrong with the terms of a new guild."""
    cleaned = clean_text(name, MAX_NAME + 1)
    if not cleaned or len(cleaned) > MAX_NAME:
        raise BadInput(f"A guild's name has 1 to {MAX_NAME} printable characters.")
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise BadInput("A guild lives from 1 minute to 24 hours.")
    if not MIN_MEMBERS <= max_members <= MAX_MEMBERS:
        raise BadInput(f"A guild has room for {MIN_MEMBERS} to {MAX_MEMBERS} members.")
    return cleaned


def read_charter(raw: bytes) -> Charter:
    """Verify a charter. Raises ProtocolError."""
    signed = open_envelope(raw)
    body = signed.decode(GuildCharter)
    if peer_id_of(body.creator) != signed.signer:
        raise ProtocolError("A charter that is not signed by its creator.")
    name = clean_text(body.name, MAX_NAME)
    if not name:
        raise ProtocolError("A charter without a name.")
    return Charter(
        body_digest(signed), signed.signer, name, body.ttl_s, body.max_members, body.private, body.created_us, raw
    )


class Member(msgspec.Struct, frozen=True):
    key: bytes
    """Ed25519."""
    role: Role
    box_key: bytes
    """X25519, fresh for this membership."""
    since: int
    """Log version with which it began."""


class Span(msgspec.Struct, frozen=True):
    """A peer had ``role`` from version ``first`` to ``last`` (None: still)."""

    first: int
    last: int | None
    role: Role


class SignedEntry(msgspec.Struct, frozen=True):
    """A verified log entry, its hash and its bytes as received."""

    entry: GuildEntry
    digest: bytes
    raw: bytes


def read_entry(charter: Charter, raw: bytes) -> SignedEntry:
    """Verify the signature of an entry of this guild. Raises ProtocolError."""
    signed = open_envelope(raw, charter.creator)
    entry = signed.decode(GuildEntry)
    if entry.guild != charter.guild_id:
        raise ProtocolError("A log entry of another guild.")
    return SignedEntry(entry, body_digest(signed), raw)


class Membership:
    """The members after replaying a log up to ``version``. ``apply`` is the only way forward."""

    def __init__(self, charter: Charter) -> None:
        self.charter = charter
        self.head = charter.guild_id
        self.epoch = 0
        self.fingerprint = b""
        self.grants = b""
        """Hash of the sealed copies of the epoch's key."""
        self.epoch_at_us = 0
        self.members: dict[PeerId, Member] = {}
        self.kicked: dict[PeerId, int] = {}
        """When each was removed, microseconds."""
        self.dissolved = False
        self.joins = 0
        self._spans: dict[PeerId, tuple[Span, ...]] = {}
        self._box_keys: set[bytes] = set()
        self._digests: list[bytes] = []

    @property
    def version(self) -> int:
        return len(self._digests)

    def copy(self) -> Membership:
        """An independent membership at the same version."""
        other = copy(self)
        other.members = dict(self.members)
        other.kicked = dict(self.kicked)
        other._spans = dict(self._spans)
        other._box_keys = set(self._box_keys)
        other._digests = list(self._digests)
        return other

    def role(self, peer: PeerId) -> Role | None:
        member = self.members.get(peer)
        return member.role if member is not None else None

    def span_at(self, peer: PeerId, version: int) -> Span | None:
        """The membership that ``peer`` had at a version of the past or now."""
        for span in self._spans.get(peer, ()):
            if span.first <= version and (span.last is None or version < span.last):
                return span
        return None

    def was_member(self, peer: PeerId) -> bool:
        """Whether ``peer`` is or ever was one."""
        return peer in self._spans

    def box_key_used(self, box_key: bytes) -> bool:
        return box_key in self._box_keys

    def check_join(self, peer: PeerId, role: str, box_key: bytes) -> None:
        """Raises NotPermitted or GuildFull if this join cannot be the next entry. Joining again replaces the role."""
        if role not in JOIN_ROLES or peer == self.charter.creator:
            raise NotPermitted(f"Nobody can join {self.charter.name} as {role}.")
        if len(box_key) != 32 or self.box_key_used(box_key):
            raise NotPermitted("This request to join was used before.")
        if peer not in self.members and len(self.members) >= self.charter.max_members:
            raise GuildFull(full_text(self.charter))
        if self.joins >= MAX_JOINS:
            raise NotPermitted(f"{self.charter.name} has seen {MAX_JOINS} joins and admits nobody any more.")

    def apply(self, signed: SignedEntry) -> None:
        """Take the next entry. Raises ProtocolError, and then nothing has changed."""
        entry = signed.entry
        if entry.version != self.version + 1 or entry.previous != self.head or self.version >= MAX_LOG:
            raise ProtocolError("A log entry that does not follow the one before.")
        if self.dissolved:
            raise ProtocolError("A log entry after the guild was dissolved.")
        if entry.epoch != self.epoch + (entry.kind != "dissolve"):
            raise ProtocolError("A log entry with a wrong epoch.")
        peer = self._subject(entry)
        match entry.kind:
            case "join":
                self._join(peer, entry)
            case "leave" | "kick":
                if peer == self.charter.creator or peer not in self.members:
                    raise ProtocolError(f"A {entry.kind} of somebody who cannot.")
                del self.members[peer]
                self._end_span(peer, entry.version)
                if entry.kind == "kick":
                    self.kicked[peer] = entry.at_us
            case "rekey":
                if not self.members:
                    raise ProtocolError("A log that does not begin with its creator.")
            case "dissolve":
                if not self.members:
                    raise ProtocolError("A log that does not begin with its creator.")
                self.dissolved = True
        if entry.kind != "dissolve":
            self.epoch, self.fingerprint, self.grants = entry.epoch, entry.fingerprint, entry.grants
            self.epoch_at_us = entry.at_us
        self.head = signed.digest
        self._digests.append(signed.digest)

    def conflicts(self, signed: SignedEntry) -> bool:
        """Whether this entry is another one than the entry of its version that was applied: the creator signed both."""
        return signed.entry.version <= self.version and self._digests[signed.entry.version - 1] != signed.digest

    def _subject(self, entry: GuildEntry) -> PeerId:
        about_somebody = entry.kind in ("join", "leave", "kick")
        if (len(entry.peer) == 32) != about_somebody or (entry.kind != "join" and (entry.role or entry.box_key)):
            raise ProtocolError("A log entry with fields that do not belong to it.")
        return peer_id_of(entry.peer) if about_somebody else ""

    def _join(self, peer: PeerId, entry: GuildEntry) -> None:
        if entry.version == 1:
            if peer != self.charter.creator or entry.role != "creator" or len(entry.box_key) != 32:
                raise ProtocolError("A log that does not begin with its creator.")
        else:
            if not self.members:
                raise ProtocolError("A log that does not begin with its creator.")
            try:
                self.check_join(peer, entry.role, entry.box_key)
            except (NotPermitted, GuildFull) as error:
                raise ProtocolError(f"A log entry against the charter: {error}") from error
        role = cast(Role, entry.role)
        self._end_span(peer, entry.version)
        self._spans[peer] = (*self._spans.get(peer, ()), Span(entry.version, None, role))
        self.members[peer] = Member(entry.peer, role, entry.box_key, entry.version)
        self.kicked.pop(peer, None)
        self._box_keys.add(entry.box_key)
        self.joins += 1

    def _end_span(self, peer: PeerId, version: int) -> None:
        spans = self._spans.get(peer, ())
        if spans and spans[-1].last is None:
            self._spans[peer] = (*spans[:-1], Span(spans[-1].first, version, spans[-1].role))


def full_text(charter: Charter) -> str:
    return f"{charter.name} is full {charter.max_members}/{charter.max_members}."


def merge(
    membership: Membership, waiting: dict[int, SignedEntry], entries: Iterable[SignedEntry]
) -> tuple[Membership, list[SignedEntry]]:
    """Apply all of ``entries`` and ``waiting`` that connect, in whatever order they come, to a copy.

    Returns the copy and what it applied; the rest stays in ``waiting``, at most ``MAX_WAITING``, those of the nearest
    versions. Raises ProtocolError if the creator signed two different entries for one version, or one against the rules.
    """
    for signed in entries:
        other = waiting.setdefault(signed.entry.version, signed)
        if other.digest != signed.digest or membership.conflicts(signed):
            raise ProtocolError("The guild's creator signed two different histories.")
    after = membership.copy()
    applied: list[SignedEntry] = []
    while (following := waiting.pop(after.version + 1, None)) is not None:
        after.apply(following)
        applied.append(following)
    for version in [v for v in waiting if v <= after.version]:
        if after.conflicts(waiting.pop(version)):
            raise ProtocolError("The guild's creator signed two different histories.")
    for version in sorted(waiting)[MAX_WAITING:]:
        del waiting[version]
    return after, applied
