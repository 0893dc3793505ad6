"""Guilds."""

from __future__ import annotations

from zstui.engine import commands as c
from zstui.engine import projection, views
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _create_guild(s: Services, command: c.CreateGuild) -> views.GuildView:
    return await s.guilds.create(command.name, command.ttl_s, command.max_members, command.private)


async def _guilds(s: Services, _: c.ListGuilds) -> list[views.GuildView]:
    return projection.guilds(s)


async def _join_guild(s: Services, command: c.JoinGuild) -> views.GuildView:
    return await s.guilds.join(command.guild, command.role)


async def _leave_guild(s: Services, command: c.LeaveGuild) -> views.GuildView:
    return await s.guilds.leave(command.guild)


async def _dissolve_guild(s: Services, command: c.DissolveGuild) -> views.GuildView:
    return await s.guilds.dissolve(command.guild)


async def _invite(s: Services, command: c.InviteToGuild) -> views.InviteView:
    return await s.guilds.invite(command.guild)


async def _kick(s: Services, command: c.KickMember) -> views.GuildView:
    return await s.guilds.kick(command.guild, s.net.resolve(command.peer))


async def _send(s: Services, command: c.SendMessage) -> views.GuildMessageView:
    return await s.guilds.send(command.guild, command.text)


async def _messages(s: Services, command: c.ListMessages) -> list[views.GuildMessageView]:
    return await s.guilds.messages(command.guild)


VERBS: dict[type, Verb] = {
    c.CreateGuild: _create_guild,
    c.ListGuilds: _guilds,
    c.JoinGuild: _join_guild,
    c.LeaveGuild: _leave_guild,
    c.DissolveGuild: _dissolve_guild,
    c.InviteToGuild: _invite,
    c.KickMember: _kick,
    c.SendMessage: _send,
    c.ListMessages: _messages,
}
