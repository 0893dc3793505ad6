"""Guilds, their members, messages and invites."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View

Role = Literal["creator", "executor", "member", "observer"]
Admission = Literal["open", "knock", "invite"]
"""Who may join: anybody, whoever is let in after asking, or whoever holds an invite."""
GuildStateName = Literal["seen", "knocking", "joined", "left", "expired", "dissolved"]


class GuildMemberView(View, frozen=True, kw_only=True):
    peer_id: str
    role: Role
    name: str = ""
    online: bool = False
    officer: bool = False
    """Named by the creator: may admit, invite, remove members, and takes over while the creator is gone."""
    last_seen_at: int | None = None
    """When this node last heard of it in this guild; None: never."""


class NeedsView(View, frozen=True, kw_only=True):
    """What the guild asks of the card of who joins as executor; 0 and empty ask nothing."""

    memory_mib: int = 0
    cores: int = 0
    tags: tuple[str, ...] = ()


class KnockView(View, frozen=True, kw_only=True):
    """Somebody asks to be let in; an admitting member answers with ``AdmitPeer`` or ``RefusePeer``."""

    guild_id: str
    guild_name: str
    peer_id: str
    name: str
    role: Role
    asked_at: int
    online: bool


class GuildView(View, frozen=True, kw_only=True):
    guild_id: str
    name: str
    creator: str
    creator_name: str = ""
    role: Role | None
    """My role; None while only seen."""
    members: tuple[GuildMemberView, ...]
    """Known members; empty for a guild only seen."""
    member_count: int
    max_members: int
    expires_at: int
    state: GuildStateName
    admission: Admission = "open"
    needs: NeedsView = NeedsView()
    fingerprint: str = ""
    """Short form of the current group key's public fingerprint, e.g. "77ab·90c1"."""
    epoch: int = 0
    jobs: int = 0
    unread: int = 0
    officer: bool = False
    """Whether I am one."""
    knocks: tuple[KnockView, ...] = ()
    """Who waits for my answer."""
    acting: str = ""
    """Peer id of who admits and changes keys now: the creator, or while it is gone an officer; empty: nobody is there."""
    acting_name: str = ""
    settled: bool = True
    """False: two halves of a split network have just met and the common key is still to be made."""
    warning: str = ""
    """What to be wary of, e.g. a creator who showed members different histories."""
    why: str = ""
    """Why it is over for this node."""
    heard_at: int | None = None
    """When its announcement came through other peers; None if its creator or an officer told this node."""

    @property
    def private(self) -> bool:
        return self.admission == "invite"


class GuildMessageView(View, frozen=True, kw_only=True):
    guild_id: str
    sender: str
    sender_name: str
    text: str
    sent_at: int
    system: bool = False
    delivered: int = 0
    """Members known to have it, for a line of mine."""
    recipients: int = 0
    """Other members now, for a line of mine."""


class InviteView(View, frozen=True, kw_only=True):
    invite: str
    """One string that carries guild, addresses and the issuer's key."""
    code: str
    """Short confirmation words that both sides can read aloud."""
    expires_at: int
    invite_id: str = ""
    """What ``RevokeInvite`` takes."""
    uses: int = 1
    qr: tuple[str, ...] = ()
    """The QR code of the string where it was asked for: rows of "1" (dark) and "0", without the quiet zone."""


class IssuedInviteView(View, frozen=True, kw_only=True):
    """An invite as all members see it: without its secret, unless it is mine."""

    guild_id: str
    invite_id: str
    issuer: str
    issuer_name: str
    issued_at: int
    expires_at: int
    uses: int
    used: int
    state: Literal["open", "used up", "revoked", "expired"]
    invite: str = ""
    """The string, if this node made it and it is open."""
    code: str = ""


class InviteDetailView(View, frozen=True, kw_only=True):
    """What an invite string says, read without asking anybody: to compare before joining."""

    guild_id: str
    name: str
    creator: str
    creator_name: str
    """What this node calls the creator; its short id if it never met it."""
    issuer: str
    issuer_name: str
    fingerprint: str
    """Of the creator's key, in groups of four."""
    code: str
    """The words that the inviter sees too: read them to each other."""
    expires_at: int
    expired: bool
    addresses: tuple[str, ...]
    joined: bool
    """Whether this node is in that guild already."""
    qr: tuple[str, ...] = ()
    """As of ``InviteView``, where it was asked for."""
    usable: bool | None = None
    """Whether it lets this node in, as who could told; this and what follows only where that was asked."""
    uses: int | None = None
    uses_left: int | None = None
    members: int | None = None
    max_members: int | None = None
    standing: str = ""
    """The same in one sentence, or why it is not known."""
