"""Writes membership logs as authorities do, in as many halves of a split network as a test likes."""

from __future__ import annotations

import hashlib
import os

from zstui.engine.guilds.entries import KEYED, SignedEntry, read_entry
from zstui.engine.guilds.epochs import box_key_of, fingerprint_of, grants_hash, new_box_secret, seal_grants
from zstui.engine.guilds.log import MemberLog
from zstui.engine.guilds.membership import Member
from zstui.engine.guilds.messages import Admission, GuildCharter, GuildEntry, GuildLeave, Needs
from zstui.engine.guilds.model import Charter, read_charter
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity

CREATOR = Identity(bytes(31) + b"\x01")
PEERS = [Identity(bytes(30) + bytes([1, i])) for i in range(6)]
IDENTITY_OF = {i.peer_id: i for i in (CREATOR, *PEERS)}


def charter(most: int = 4, name: str = "farm", admission: Admission = "open") -> Charter:
    terms = GuildCharter(CREATOR.public_key, name, 3600, most, admission, Needs(), 1_000_000, bytes(16))
    return read_charter(seal(CREATOR, terms))


class Book:
    """Secrets and group keys of a whole guild, which no single node would have together."""

    def __init__(self) -> None:
        self.secrets: dict[bytes, bytes] = {}
        """X25519 secret by public key."""
        self.keys: dict[bytes, bytes] = {}
        """Group key by the entry that made it."""
        self.grants: dict[bytes, bytes] = {}
        self.granted: dict[bytes, frozenset[str]] = {}
        """Who each key was sealed to."""


class Scribe:
    """One node's log; ``write`` signs in the name of whoever is asked for."""

    def __init__(self, terms: Charter, book: Book, log: MemberLog | None = None) -> None:
        self.charter = terms
        self.book = book
        self.log = log or MemberLog(terms)

    @classmethod
    def founding(cls, most: int = 4) -> Scribe:
        scribe = cls(charter(most), Book())
        scribe.write("join", CREATOR, role="creator")
        return scribe

    def split(self) -> Scribe:
        """Another half that goes on from here by itself."""
        return Scribe(self.charter, self.book, self.log.copy())

    def meet(self, other: Scribe) -> None:
        """Both have all that either had."""
        for one, two in ((self, other), (other, self)):
            for signed in two.log.entries:
                one.log.add(signed)

    def write(
        self, kind: str, who: Identity | None = None, by: Identity = CREATOR, *, add: bool = True, **fields: object
    ) -> SignedEntry:
        log = self.log
        values: dict[str, object] = {"at_us": 1_000_000 + len(log), **fields}
        members = [] if not len(log) else list(log.membership.members.values())
        if who is not None:
            values["peer"] = who.public_key
            members = [m for m in members if m.key != who.public_key or kind == "demote"]
        if kind == "join":
            if "box_key" not in values:
                secret = new_box_secret()
                self.book.secrets[box_key_of(secret)] = secret
                values["box_key"] = box_key_of(secret)
            values.setdefault("role", "member")
            assert who is not None
            members.append(Member(who.public_key, "member", values["box_key"], b""))  # type: ignore[arg-type]
        if kind == "leave" and "proof" not in values and who is not None:
            box_key = log.membership.members[who.peer_id].box_key
            values["proof"] = seal(who, GuildLeave(self.charter.guild_id, box_key))
        key, grants = os.urandom(32), b""
        if kind in KEYED:
            grants = seal_grants(key, members)
            values["fingerprint"] = fingerprint_of(self.charter.guild_id, key)
            values["grants"] = grants_hash(grants)
        seq = 1 + sum(e.signer == by.peer_id for e in log.entries)
        depth = 1 + max((e.entry.depth for e in log.entries if e.digest in log.heads), default=0)
        body = GuildEntry(self.charter.guild_id, seq, depth, tuple(log.heads), kind, **values)  # type: ignore[arg-type]
        signed = read_entry(self.charter, seal(by, body))
        if add:
            log.add(signed)
        if kind in KEYED:
            self.book.keys[signed.digest], self.book.grants[signed.digest] = key, grants
            self.book.granted[signed.digest] = frozenset(
                p for p in IDENTITY_OF if any(m.key == IDENTITY_OF[p].public_key for m in members)
            )
        return signed


def token_of(secret: bytes) -> bytes:
    return hashlib.sha256(b"zs/1|guild-token|" + secret).digest()[:16]
