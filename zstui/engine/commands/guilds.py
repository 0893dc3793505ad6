"""Guilds."""

from __future__ import annotations

from zstui.engine.commands.base import Command
from zstui.engine.views import (
    Admission,
    GuildMessageView,
    GuildView,
    InviteDetailView,
    InviteView,
    IssuedInviteView,
    KnockView,
    Role,
)


class CreateGuild(Command[GuildView], frozen=True, kw_only=True):
    name: str
    ttl_s: int = 3600
    max_members: int = 50
    admission: Admission = "open"
    need_memory_mib: int = 0
    """This and the next two are asked of who joins as executor."""
    need_cores: int = 0
    need_tags: tuple[str, ...] = ()


class ListGuilds(Command[list[GuildView]], frozen=True, kw_only=True):
    pass


class JoinGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    """Guild id (or prefix, or name of one seen) or an invite string."""
    role: Role = "member"


class LeaveGuild(Command[GuildView], frozen=True, kw_only=True):
    """Also takes back a knock."""

    guild: str


class DissolveGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str


class ExtendGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    by_s: int


class NameOfficer(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str
    remove: bool = False


class InviteToGuild(Command[InviteView], frozen=True, kw_only=True):
    guild: str
    uses: int = 1
    ttl_s: int = 3600
    qr: bool = False


class ListInvites(Command[list[IssuedInviteView]], frozen=True, kw_only=True):
    guild: str


class RevokeInvite(Command[list[IssuedInviteView]], frozen=True, kw_only=True):
    guild: str
    invite: str
    """Its id, a prefix of it, or the invite string."""


class ShowInvite(Command[InviteDetailView], frozen=True, kw_only=True):
    invite: str
    qr: bool = False
    ask: bool = False
    """Also ask whoever could let this node in how the invite stands; that connects to its addresses."""


class ListKnocks(Command[list[KnockView]], frozen=True, kw_only=True):
    guild: str = ""
    """Empty: of all guilds where I may answer."""


class AdmitPeer(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str


class RefusePeer(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str


class KickMember(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str


class SendMessage(Command[GuildMessageView], frozen=True, kw_only=True):
    guild: str
    text: str


class ListMessages(Command[list[GuildMessageView]], frozen=True, kw_only=True):
    guild: str
    peek: bool = False
    """Leave what is unread unread."""


GuildsCommand = (
    CreateGuild
    | ListGuilds
    | JoinGuild
    | LeaveGuild
    | DissolveGuild
    | ExtendGuild
    | NameOfficer
    | InviteToGuild
    | ListInvites
    | RevokeInvite
    | ShowInvite
    | ListKnocks
    | AdmitPeer
    | RefusePeer
    | KickMember
    | SendMessage
    | ListMessages
)
