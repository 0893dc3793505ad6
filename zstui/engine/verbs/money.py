"""Channels, approvals and spending policy."""

from __future__ import annotations

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _open_channel(s: Services, command: c.OpenChannel) -> views.ChannelView:
    peer = s.net.resolve(command.peer)
    return await s.channels.open(peer, command.amount_u, command.theirs_u, command.expires_s, command.witnesses)


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


VERBS: dict[type, Verb] = {
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
}
