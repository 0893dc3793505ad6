"""What each command does: one short function a verb, over the services. ``execute`` is the only entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from zstui.engine import commands as c
from zstui.engine import projection, views
from zstui.engine.errors import BadInput
from zstui.engine.identity.text import clean_text
from zstui.engine.services import NAME_LIMIT, Services
from zstui.engine.store import meta

R = TypeVar("R")
Verb = Callable[[Services, Any], Awaitable[Any]]


async def execute(s: Services, command: c.Command[R]) -> R:
    """Carry out ``command``. Raises ZsError; BadInput for a struct that is no command."""
    verb = _VERBS.get(type(command))
    if verb is None:
        raise BadInput(f"{type(command).__name__} is not a command.")
    return cast(R, await verb(s, command))


# --- node and peers --------------------------------------------------------------------------------------------------


async def _status(s: Services, _: c.Status) -> views.StatusView:
    return projection.status(s)


async def _peers(s: Services, command: c.ListPeers) -> list[views.PeerView]:
    if command.like:
        return [projection.peer(s, peer) for peer, _ in s.search.like(command.like)]
    return projection.peers(s)


async def _connect(s: Services, command: c.Connect) -> views.PeerView:
    return projection.peer(s, await s.net.connect(command.address))


async def _name(s: Services, command: c.NamePeer) -> views.PeerView:
    peer = s.net.resolve(command.peer)
    await s.net.rename(peer, command.name)
    return projection.peer(s, peer)


async def _set_name(s: Services, command: c.SetName) -> views.StatusView:
    name = clean_text(command.name, NAME_LIMIT)
    if not name:
        raise BadInput("A name needs at least one visible character.")
    await s.db.write(lambda tx: meta.set_name(tx, name))
    s.profile.name, s.profile.chosen = name, True
    s.net.card_changed()
    return projection.status(s)


async def _block(s: Services, command: c.BlockPeer) -> views.RankView:
    if not 1 <= command.hours <= 24 * 365:
        raise BadInput("A peer is blocked for 1 hour to 1 year (8760 hours).")
    peer = s.net.resolve(command.peer)
    view = await s.reputation.block(peer, command.hours)
    await s.net.disconnect(peer, "blocked by you")
    return view


async def _unblock(s: Services, command: c.UnblockPeer) -> views.RankView:
    return await s.reputation.unblock(s.net.resolve(command.peer))


# --- guilds ----------------------------------------------------------------------------------------------------------


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


# --- jobs ------------------------------------------------------------------------------------------------------------


async def _estimate(s: Services, command: c.EstimateJob) -> views.EstimateView:
    return await s.market.estimate(command.spec)


async def _submit(s: Services, command: c.SubmitJob) -> views.JobView:
    return await s.jobs.submit(command.spec, await s.market.choose(command.spec))


async def _wait_job(s: Services, command: c.WaitJob) -> views.JobView:
    return await s.jobs.wait(s.jobs.resolve(command.job))


async def _jobs(s: Services, _: c.ListJobs) -> list[views.JobView]:
    return s.jobs.views()


async def _show_job(s: Services, command: c.ShowJob) -> views.JobView:
    return s.jobs.view(s.jobs.resolve(command.job))


async def _output(s: Services, command: c.GetOutput) -> views.JobOutputView:
    return await s.jobs.output(s.jobs.resolve(command.job))


async def _cancel(s: Services, command: c.CancelJob) -> views.JobView:
    return await s.jobs.cancel(s.jobs.resolve(command.job))


async def _rerun(s: Services, command: c.RerunJob) -> views.JobView:
    return await s.jobs.rerun(s.jobs.resolve(command.job))


async def _receipt(s: Services, command: c.ShowReceipt) -> dict[str, object]:
    return await s.jobs.bundle(command.receipt)


# --- money -----------------------------------------------------------------------------------------------------------


async def _open_channel(s: Services, command: c.OpenChannel) -> views.ChannelView:
    peer = s.net.resolve(command.peer)
    return await s.channels.open(peer, command.amount_u, command.theirs_u, command.expires_s)


async def _channels(s: Services, _: c.ListChannels) -> list[views.ChannelView]:
    return s.channels.views()


async def _show_channel(s: Services, command: c.ShowChannel) -> views.ChannelView:
    return s.channels.view(s.channels.resolve(command.channel))


async def _close_channel(s: Services, command: c.CloseChannel) -> views.ChannelView:
    return await s.channels.close(s.channels.resolve(command.channel), unilateral=command.unilateral)


async def _ledger(s: Services, _: c.ListLedger) -> list[views.LedgerView]:
    return s.channels.ledger()


async def _approvals(s: Services, _: c.ListApprovals) -> list[views.ApprovalView]:
    return s.approvals.views()


async def _pay(s: Services, command: c.PayApproval) -> views.ApprovalView:
    return await s.approvals.pay(s.approvals.resolve(command.request), command.amount_u, command.typed)


async def _reject(s: Services, command: c.RejectApproval) -> views.ApprovalView:
    return await s.approvals.reject(s.approvals.resolve(command.request))


async def _reopen(s: Services, command: c.ReopenApproval) -> views.ApprovalView:
    return await s.approvals.reopen(s.approvals.resolve(command.request))


async def _policy(s: Services, _: c.ShowPolicy) -> views.PolicyView:
    return s.approvals.policy()


async def _set_grant(s: Services, command: c.SetGrant) -> views.PolicyView:
    subject = command.subject
    if command.scope == "peer":
        subject = s.net.resolve(subject)
    elif command.scope == "guild":
        subject = s.guilds.resolve(subject)
    elif command.scope == "job":
        subject = s.jobs.resolve(subject)
    return await s.approvals.set_grant(
        command.scope,
        subject,
        per_payment_u=command.per_payment_u,
        per_day_u=command.per_day_u,
        total_u=command.total_u,
        expires_s=command.expires_s,
    )


async def _set_limits(s: Services, command: c.SetLimits) -> views.PolicyView:
    return await s.approvals.set_limits(
        typed_above_u=command.typed_above_u,
        credit_member_u=command.credit_member_u,
        credit_stranger_u=command.credit_stranger_u,
    )


async def _rank(s: Services, command: c.Rank) -> list[views.RankView]:
    return s.reputation.rank(command.category)


_VERBS: dict[type, Verb] = {
    c.Status: _status,
    c.ListPeers: _peers,
    c.Connect: _connect,
    c.NamePeer: _name,
    c.SetName: _set_name,
    c.BlockPeer: _block,
    c.UnblockPeer: _unblock,
    c.CreateGuild: _create_guild,
    c.ListGuilds: _guilds,
    c.JoinGuild: _join_guild,
    c.LeaveGuild: _leave_guild,
    c.DissolveGuild: _dissolve_guild,
    c.InviteToGuild: _invite,
    c.KickMember: _kick,
    c.SendMessage: _send,
    c.ListMessages: _messages,
    c.EstimateJob: _estimate,
    c.SubmitJob: _submit,
    c.WaitJob: _wait_job,
    c.ListJobs: _jobs,
    c.ShowJob: _show_job,
    c.GetOutput: _output,
    c.CancelJob: _cancel,
    c.RerunJob: _rerun,
    c.ShowReceipt: _receipt,
    c.OpenChannel: _open_channel,
    c.ListChannels: _channels,
    c.ShowChannel: _show_channel,
    c.CloseChannel: _close_channel,
    c.ListLedger: _ledger,
    c.ListApprovals: _approvals,
    c.PayApproval: _pay,
    c.RejectApproval: _reject,
    c.ReopenApproval: _reopen,
    c.ShowPolicy: _policy,
    c.SetGrant: _set_grant,
    c.SetLimits: _set_limits,
    c.Rank: _rank,
}
