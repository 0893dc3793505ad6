"""Who is in a guild, with what role, and which key serves: what a log comes to at one point."""

from __future__ import annotations

import msgspec

from zstui.engine.errors import GuildFull, NotPermitted
from zstui.engine.guilds.entries import SignedEntry
from zstui.engine.guilds.model import JOIN_ROLES, Charter, full_text
from zstui.engine.guilds.roles import MAY, Action, Standing, standing
from zstui.engine.identity.keys import PeerId
from zstui.engine.views import Role

MAX_JOINS = 2_000
"""Joins in a guild's whole life."""


class Member(msgspec.Struct, frozen=True):
    key: bytes
    """Ed25519."""
    role: Role
    box_key: bytes
    """X25519, fresh for this membership."""
    since: bytes
    """The entry that admitted it."""


class Token(msgspec.Struct, frozen=True):
    """An invite as the log knows it: the hash of its secret, and how often it can still be used."""

    issuer: PeerId
    uses: int
    used: int
    until_us: int
    issued_us: int
    revoked: bool

    @property
    def left(self) -> int:
        return 0 if self.revoked else max(0, self.uses - self.used)


class Membership(msgspec.Struct, frozen=True):
    """What a set of entries comes to."""

    charter: Charter
    members: dict[PeerId, Member]
    officers: tuple[PeerId, ...]
    """In the order in which they take over from an absent creator: the longest appointed first."""
    kicked: dict[PeerId, int]
    """When each was removed who is not in again, microseconds."""
    tokens: dict[bytes, Token]
    joins: int
    expires_us: int
    dissolved: bool
    key: SignedEntry | None
    """The entry whose group key serves; None: unsettled."""
    liars: frozenset[PeerId]
    """Signers of two histories."""

    @property
    def epoch(self) -> int:
        """Grows with every change of the key."""
        return self.key.entry.depth if self.key is not None else 0

    @property
    def authorities(self) -> tuple[PeerId, ...]:
        """The creator, then the officers in their order."""
        return (self.charter.creator, *self.officers)

    def role(self, peer: PeerId) -> Role | None:
        member = self.members.get(peer)
        return member.role if member is not None else None

    def standing(self, peer: PeerId) -> Standing:
        return standing(self.role(peer), peer in self.officers)

    def may(self, peer: PeerId, action: Action) -> bool:
        return self.standing(peer) in MAY[action]

    def check_join(self, peer: PeerId, role: str) -> None:
        """Raises NotPermitted or GuildFull if this peer cannot be admitted. Joining again replaces the role."""
        if role not in JOIN_ROLES or peer == self.charter.creator:
            raise NotPermitted(f"Nobody can join {self.charter.name} as {role}.")
        if peer not in self.members and len(self.members) >= self.charter.max_members:
            raise GuildFull(full_text(self.charter, len(self.members)))
        if self.joins >= MAX_JOINS:
            raise NotPermitted(f"{self.charter.name} has seen {MAX_JOINS} joins and admits nobody any more.")


def can_kick(membership: Membership, by: PeerId, peer: PeerId) -> bool:
    """Nobody removes the creator, and only the creator removes an officer."""
    creator = membership.charter.creator
    return peer not in (creator, by) and (by == creator or peer not in membership.officers)


def can_be_officer(membership: Membership, peer: PeerId) -> bool:
    return membership.role(peer) in ("member", "executor") and peer not in membership.officers
