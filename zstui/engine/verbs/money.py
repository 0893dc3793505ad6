"""Channels, approvals and spending policy."""

from __future__ import annotations

import contextlib

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.channels.approvals.model import MAX_DECISIONS, Scope
from zstui.engine.channels.approvals.present import decision_view, rehearsal_view
from zstui.engine.channels.statements.build import build as build_statement
from zstui.engine.errors import BadInput, ChannelError, UnknownGuild, UnknownJob
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _open_channel(s: Services, command: c.OpenChannel) -> views.ChannelView:
    peer = s.net.resolve(command.peer)
    return await s.channels.open(
        peer, command.amount_u, command.theirs_u, command.expires_s, command.witnesses, command.driver
    )


async def _discharge(s: Services, command: c.Discharge) -> views.DischargeView:
    return await s.discharges.propose(s.net.resolve(command.peer), command.amount_u, command.note)


async def _discharges(s: Services, _: c.ListDischarges) -> list[views.DischargeView]:
    return await s.discharges.views()


async def _confirm(s: Services, command: c.ConfirmDischarge) -> views.DischargeView:
    return await s.discharges.confirm(await s.discharges.resolve(command.discharge))


async def _decline(s: Services, command: c.DeclineDischarge) -> views.DischargeView:
    return await s.discharges.decline(await s.discharges.resolve(command.discharge))


async def _statement(s: Services, command: c.Statement) -> views.StatementView:
    channel, peer = None, None
    if command.of:
        try:
            channel = bytes.fromhex(s.channels.resolve(command.of))
        except ChannelError:
            peer = s.net.resolve(command.of)
    owner, now, from_at, to_at = s.identity.peer_id, s.clock.now_us(), command.from_at, command.to_at
    return await s.db.read(
        lambda tx: build_statement(tx, owner, now, channel=channel, peer=peer, from_at=from_at, to_at=to_at)
    )


async def _channels(s: Services, _: c.ListChannels) -> list[views.ChannelView]:
    return s.channels.views()


async def _show_channel(s: Services, command: c.ShowChannel) -> views.ChannelView:
    return s.channels.view(s.channels.resolve(command.channel))


async def _balances(s: Services, command: c.ListBalances) -> views.BalancesView:
    return await s.channels.balances(s.channels.resolve(command.channel), command.points)


async def _close_channel(s: Services, command: c.CloseChannel) -> views.ChannelView:
    return await s.channels.close(s.channels.resolve(command.channel), unilateral=command.unilateral)


async def _ledger(s: Services, _: c.ListLedger) -> list[views.LedgerView]:
    return s.channels.ledger()


async def _set_credit(s: Services, command: c.SetCredit) -> views.LedgerView:
    return await s.channels.set_credit(s.net.resolve(command.peer), command.amount_u)


async def _approvals(s: Services, _: c.ListApprovals) -> list[views.ApprovalView]:
    return s.approvals.views()


async def _pay(s: Services, command: c.PayApproval) -> views.ApprovalView:
    return await s.approvals.pay(
        s.approvals.resolve(command.request), command.amount_u, command.typed, command.job_up_to_u
    )


async def _reject(s: Services, command: c.RejectApproval) -> views.ApprovalView:
    return await s.approvals.reject(s.approvals.resolve(command.request))


async def _reopen(s: Services, command: c.ReopenApproval) -> views.ApprovalView:
    return await s.approvals.reopen(s.approvals.resolve(command.request))


async def _policy(s: Services, _: c.ShowPolicy) -> views.PolicyView:
    return s.approvals.policy()


def _subject(s: Services, scope: Scope, subject: str) -> str:
    match scope:
        case "peer":
            return s.net.resolve(subject)
        case "guild":
            return s.guilds.resolve(subject)
        case "job":
            with contextlib.suppress(UnknownJob):
                return s.jobs.batches.resolve(subject)
            return s.jobs.resolve(subject)
        case _:
            return subject


def _guild_name(s: Services, guild_id: str) -> str:
    try:
        return s.guilds.view(guild_id).name
    except UnknownGuild:
        return ""


async def _set_grant(s: Services, command: c.SetGrant) -> views.PolicyView:
    subject = _subject(s, command.scope, command.subject)
    return await s.approvals.set_grant(
        command.scope,
        subject,
        per_payment_u=command.per_payment_u,
        per_day_u=command.per_day_u,
        total_u=command.total_u,
        expires_s=command.expires_s,
    )


async def _rehearse(s: Services, command: c.RehearsePolicy) -> views.RehearsalView:
    rehearsal = await s.approvals.rehearse(
        command.scope,
        _subject(s, command.scope, command.subject),
        (command.per_payment_u, command.per_day_u, command.total_u),
        command.expires_s,
        command.days,
    )
    return rehearsal_view(rehearsal, s.net.name_of, lambda guild_id: _guild_name(s, guild_id))


async def _decisions(s: Services, command: c.ListDecisions) -> list[views.DecisionView]:
    if not 1 <= command.limit <= MAX_DECISIONS:
        raise BadInput(f"The log shows the latest 1 to {MAX_DECISIONS} decisions.")
    return [decision_view(d, s.net.name_of(d.peer_id)) for d in await s.approvals.decisions(command.limit)]


async def _set_limits(s: Services, command: c.SetLimits) -> views.PolicyView:
    return await s.approvals.set_limits(
        typed_above_u=command.typed_above_u,
        credit_member_u=command.credit_member_u,
        credit_stranger_u=command.credit_stranger_u,
    )


VERBS: dict[type, Verb] = {
    c.OpenChannel: _open_channel,
    c.Discharge: _discharge,
    c.ListDischarges: _discharges,
    c.ConfirmDischarge: _confirm,
    c.DeclineDischarge: _decline,
    c.Statement: _statement,
    c.ListChannels: _channels,
    c.ShowChannel: _show_channel,
    c.ListBalances: _balances,
    c.CloseChannel: _close_channel,
    c.ListLedger: _ledger,
    c.SetCredit: _set_credit,
    c.ListApprovals: _approvals,
    c.PayApproval: _pay,
    c.RejectApproval: _reject,
    c.ReopenApproval: _reopen,
    c.ShowPolicy: _policy,
    c.SetGrant: _set_grant,
    c.SetLimits: _set_limits,
    c.RehearsePolicy: _rehearse,
    c.ListDecisions: _decisions,
}
