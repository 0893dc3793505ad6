"""Guilds."""

from __future__ import annotations

import asyncio
import contextlib
import re

from zstui.engine import commands as c
from zstui.engine import projection, views
from zstui.engine.errors import UnknownGuild
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb

_WHOLE_ID = re.compile("[0-9a-f]{64}")
_TOLD_TRIES, _TOLD_EVERY_S = 40, 0.1
"""A member that was just met tells of its guild within moments."""


async def _create_guild(s: Services, command: c.CreateGuild) -> views.GuildView:
    needs = views.NeedsView(memory_mib=command.need_memory_mib, cores=command.need_cores, tags=command.need_tags)
    return await s.guilds.create(command.name, command.ttl_s, command.max_members, command.admission, needs)


async def _guilds(s: Services, _: c.ListGuilds) -> list[views.GuildView]:
    return projection.guilds(s)


async def _join_guild(s: Services, command: c.JoinGuild) -> views.GuildView:
    await _look_for(s, command.guild)
    return await s.guilds.join(command.guild, command.role)


async def _look_for(s: Services, guild: str) -> None:
    """An open guild that this node has not heard of can be found by its whole id."""
    if not _WHOLE_ID.fullmatch(guild):
        return
    with contextlib.suppress(UnknownGuild):
        s.guilds.resolve(guild)
        return
    if await s.rendezvous.reach_guild(guild):
        for _ in range(_TOLD_TRIES):
            with contextlib.suppress(UnknownGuild):
                s.guilds.resolve(guild)
                return
            await asyncio.sleep(_TOLD_EVERY_S)


async def _leave_guild(s: Services, command: c.LeaveGuild) -> views.GuildView:
    return await s.guilds.leave(command.guild)


async def _dissolve_guild(s: Services, command: c.DissolveGuild) -> views.GuildView:
    return await s.guilds.office.dissolve(command.guild)


async def _extend_guild(s: Services, command: c.ExtendGuild) -> views.GuildView:
    return await s.guilds.office.extend(command.guild, command.by_s)


async def _name_officer(s: Services, command: c.NameOfficer) -> views.GuildView:
    return await s.guilds.office.name_officer(command.guild, s.net.resolve(command.peer), command.remove)


async def _invite(s: Services, command: c.InviteToGuild) -> views.InviteView:
    return await s.guilds.office.invite(command.guild, command.uses, command.ttl_s, command.qr)


async def _invites(s: Services, command: c.ListInvites) -> list[views.IssuedInviteView]:
    return await s.guilds.office.invites(command.guild)


async def _revoke(s: Services, command: c.RevokeInvite) -> list[views.IssuedInviteView]:
    return await s.guilds.office.revoke(command.guild, command.invite)


async def _inspect(s: Services, command: c.ShowInvite) -> views.InviteDetailView:
    return await s.guilds.inspect(command.invite, command.qr, command.ask)


async def _knocks(s: Services, command: c.ListKnocks) -> list[views.KnockView]:
    return s.guilds.office.knocks(command.guild)


async def _admit(s: Services, command: c.AdmitPeer) -> views.GuildView:
    return await s.guilds.office.answer(command.guild, _knocker(s, command.guild, command.peer), admit=True)


async def _refuse(s: Services, command: c.RefusePeer) -> views.GuildView:
    return await s.guilds.office.answer(command.guild, _knocker(s, command.guild, command.peer), admit=False)


def _knocker(s: Services, guild: str, peer: str) -> str:
    """Whoever waits there by that name or id, else any peer known by it."""
    return s.guilds.office.knocker(guild, peer) or s.net.resolve(peer)


async def _kick(s: Services, command: c.KickMember) -> views.GuildView:
    return await s.guilds.office.kick(command.guild, s.net.resolve(command.peer))


async def _send(s: Services, command: c.SendMessage) -> views.GuildMessageView:
    return await s.guilds.send(command.guild, command.text)


async def _messages(s: Services, command: c.ListMessages) -> list[views.GuildMessageView]:
    return await s.guilds.messages(command.guild, command.peek)


VERBS: dict[type, Verb] = {
    c.CreateGuild: _create_guild,
    c.ListGuilds: _guilds,
    c.JoinGuild: _join_guild,
    c.LeaveGuild: _leave_guild,
    c.DissolveGuild: _dissolve_guild,
    c.ExtendGuild: _extend_guild,
    c.NameOfficer: _name_officer,
    c.InviteToGuild: _invite,
    c.ListInvites: _invites,
    c.RevokeInvite: _revoke,
    c.ShowInvite: _inspect,
    c.ListKnocks: _knocks,
    c.AdmitPeer: _admit,
    c.RefusePeer: _refuse,
    c.KickMember: _kick,
    c.SendMessage: _send,
    c.ListMessages: _messages,
}
