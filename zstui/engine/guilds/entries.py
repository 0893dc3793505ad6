"""Log entries as received: verified once, then compared by hash."""

from __future__ import annotations

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.guilds.messages import GuildEntry, GuildLeave
from zstui.engine.guilds.model import Charter, body_digest
from zstui.engine.identity.envelope import open_envelope
from zstui.engine.identity.keys import PeerId, peer_id_of

ABOUT_PEER = frozenset(("join", "leave", "kick", "officer", "demote"))
KEYED = frozenset(("join", "leave", "kick", "demote", "rekey"))
"""Kinds that carry a fresh group key."""
DECISIVE = frozenset(("join", "leave", "kick", "demote"))
"""Kinds that decide who is a member: a key serves only if it was made in knowledge of all of them."""


class SignedEntry(msgspec.Struct, frozen=True):
    """A verified log entry, its signer, its hash and its bytes as received."""

    entry: GuildEntry
    signer: PeerId
    peer: PeerId
    """Whom it is about, or ""."""
    digest: bytes
    raw: bytes

    @property
    def rank(self) -> tuple[int, bytes]:
        """The order in which everybody counts entries that do not know of each other."""
        return self.entry.depth, self.digest


def read_entry(charter: Charter, raw: bytes) -> SignedEntry:
    """Verify the signature and the form of an entry of this guild. Raises ProtocolError.

    Whether its signer was allowed to write it is for the log to say.
    """
    signed = open_envelope(raw)
    entry = signed.decode(GuildEntry)
    if entry.guild != charter.guild_id:
        raise ProtocolError("A log entry of another guild.")
    kind = entry.kind
    keyed = 32 if kind in KEYED else 0
    if len(entry.fingerprint) != keyed or len(entry.grants) != keyed:
        raise ProtocolError("A log entry with a key where none belongs, or without one.")
    if (len(entry.peer) == 32) != (kind in ABOUT_PEER) or len(entry.peer) not in (0, 32):
        raise ProtocolError("A log entry about nobody.")
    misplaced = (
        (kind != "join" and (entry.role or entry.box_key))
        or (kind != "leave" and entry.proof)
        or (kind not in ("invite", "revoke", "join") and entry.token)
        or (kind != "invite" and entry.uses)
        or (kind not in ("invite", "extend") and entry.until_us)
        or (kind not in ("join", "leave", "kick") and entry.last)
    )
    if misplaced or len(set(entry.parents)) != len(entry.parents):
        raise ProtocolError("A log entry with fields that do not belong to it.")
    return SignedEntry(entry, signed.signer, peer_id_of(entry.peer) if entry.peer else "", body_digest(signed), raw)


def left_membership(charter: Charter, signed: SignedEntry) -> bytes:
    """The X25519 key of the membership that a leave gives up, by its owner's own signature. Raises ProtocolError."""
    leave = open_envelope(signed.entry.proof, signed.peer).decode(GuildLeave)
    if leave.guild != charter.guild_id:
        raise ProtocolError("A leave from another guild.")
    return leave.box_key


def two_histories(one: SignedEntry, other: SignedEntry) -> bool:
    """Whether these two entries prove that their signer told two histories: anybody can check it from their bytes."""
    return (
        one.signer == other.signer
        and one.entry.guild == other.entry.guild
        and one.entry.seq == other.entry.seq
        and one.digest != other.digest
    )
