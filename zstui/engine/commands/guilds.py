"""Guilds."""

from __future__ import annotations

from zstui.engine.commands.base import Command
from zstui.engine.views import GuildMessageView, GuildView, InviteView, Role


class CreateGuild(Command[GuildView], frozen=True, kw_only=True):
    name: str
    ttl_s: int = 3600
    max_members: int = 50
    private: bool = False


class ListGuilds(Command[list[GuildView]], frozen=True, kw_only=True):
    pass


class JoinGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    """Guild id (or prefix, or name of one seen) or an invite string."""
    role: Role = "member"


class LeaveGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str


class DissolveGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str


class InviteToGuild(Command[InviteView], frozen=True, kw_only=True):
    guild: str


class KickMember(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str


class SendMessage(Command[GuildMessageView], frozen=True, kw_only=True):
    guild: str
    text: str


class ListMessages(Command[list[GuildMessageView]], frozen=True, kw_only=True):
    guild: str


GuildsCommand = (
    CreateGuild
    | ListGuilds
    | JoinGuild
    | LeaveGuild
    | DissolveGuild
    | InviteToGuild
    | KickMember
    | SendMessage
    | ListMessages
)
