"""What the fake engine answers to commands about money."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from tests.support import money_samples, samples
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import ApprovalError, UnknownChannel, UnknownJob, UnknownPeer, ZsError

if TYPE_CHECKING:
    from tests.support.fake_engine import FakeEngine

V = TypeVar("V", bound=v.View)


def find(table: dict[str, V], text: str, error: type[ZsError]) -> V:
    found = [view for key, view in table.items() if key.startswith(text) or getattr(view, "name", None) == text]
    if len(found) != 1:
        raise error(f"There is no {text[:20]!r} here.")
    return found[0]


def answer(engine: FakeEngine, command: c.Command[Any]) -> object:
    """What a node would say to a command about money."""
    now = int(time.time())
    match command:
        case c.OpenChannel():
            peer = find(engine.peers, command.peer, UnknownPeer)
            return engine.put(samples.opened_channel(peer, command, len(engine.channels)))
        case c.ListChannels():
            return list(engine.channels.values())
        case c.ShowChannel(channel=text):
            return find(engine.channels, text, UnknownChannel)
        case c.CloseChannel(channel=text, unilateral=unilateral):
            channel = find(engine.channels, text, UnknownChannel)
            if unilateral:
                return engine.put(msgspec.structs.replace(channel, state="disputed", reason="unilateral"))
            return engine.put(msgspec.structs.replace(channel, state="closed", reason="cooperative"))
        case c.ListBalances(channel=text):
            return money_samples.balances(find(engine.channels, text, UnknownChannel))
        case c.ListDisputes():
            return list(engine.disputes.values())
        case c.ShowDispute(channel=text) if text in engine.disputes:
            return engine.disputes[text]
        case c.ShowDispute(channel=text):
            channel = find(engine.channels, text, UnknownChannel)
            return engine.disputes.get(channel.channel_id) or money_samples.no_dispute(channel)
        case c.DisputeOutput(job=text):
            filed = money_samples.complaint(find(engine.jobs, text, UnknownJob), "filed")
            engine.push(v.DisputeUpdated(view=filed))
            return filed
        case c.DisputeChannel(channel=text):
            return _dispute(engine, find(engine.channels, text, UnknownChannel))
        case c.SubmitEvidence(channel=text):
            return find(engine.disputes, text, UnknownChannel)
        case c.ShowVerdict(channel=text):
            return find(engine.disputes, text, UnknownChannel).verdict
        case c.ListFrauds():
            return [fraud for view in engine.disputes.values() for fraud in view.frauds]
        case c.ListLedger():
            return money_samples.ledger(list(engine.peers.values()))
        case c.SetCredit(peer=text, amount_u=limit):
            peer = find(engine.peers, text, UnknownPeer)
            return v.LedgerView(
                peer_id=peer.peer_id,
                peer_name=peer.name,
                owed_to_me_u=0,
                i_owe_u=0,
                credit_limit_u=10**8 if limit is None else limit,
            )
        case c.Discharge(peer=text, amount_u=amount_u, note=note):
            peer = find(engine.peers, text, UnknownPeer)
            view = money_samples.discharge(
                note,
                peer_id=peer.peer_id,
                peer_name=peer.name,
                amount_u=amount_u,
                note=note,
                state="proposed",
                owed_to_me=False,
            )
            engine.discharges[view.discharge_id] = view
            return view
        case c.ListDischarges():
            return list(engine.discharges.values())
        case c.ConfirmDischarge(discharge=text):
            return _discharge(engine, text, "signed")
        case c.DeclineDischarge(discharge=text):
            return _discharge(engine, text, "declined")
        case c.Statement():
            return money_samples.statement(engine.status.peer_id, command)
        case c.ListDecisions():
            return money_samples.decisions()
        case c.RehearsePolicy():
            return money_samples.rehearsal(command)
        case c.Backup():
            return money_samples.backup(engine.status, command)
        case c.ListApprovals():
            return list(engine.approvals.values())
        case c.PayApproval(request=text, amount_u=amount_u, typed=typed):
            request = find(engine.approvals, text, ApprovalError)
            if request.urgency == "blocked" or (request.urgency == "typed" and not typed):
                raise ApprovalError("This payment is blocked.")
            if amount_u is not None and amount_u != request.amount_u:
                raise ApprovalError("The amount has changed; look at it again.")
            return engine.put(msgspec.structs.replace(request, state="paid"))
        case c.RejectApproval(request=text):
            return engine.put(msgspec.structs.replace(find(engine.approvals, text, ApprovalError), state="declined"))
        case c.ReopenApproval(request=text):
            request = find(engine.approvals, text, ApprovalError)
            return engine.put(msgspec.structs.replace(request, state="waiting", expires_at=now + 600))
        case c.ShowPolicy():
            return engine.policy
        case c.SetGrant():
            grant = v.GrantView(
                scope=command.scope,
                subject=command.subject,
                per_payment_u=command.per_payment_u,
                per_day_u=command.per_day_u,
                total_u=command.total_u,
                spent_day_u=0,
                spent_total_u=0,
                expires_at=None if command.expires_s is None else now + command.expires_s,
            )
            kept = tuple(g for g in engine.policy.grants if (g.scope, g.subject) != (grant.scope, grant.subject))
            fresh_grants = (*kept, grant) if grant.per_day_u or grant.total_u or grant.per_payment_u else kept
            engine.policy = msgspec.structs.replace(engine.policy, grants=fresh_grants)
            return engine.policy
        case c.SetLimits():
            given = {f: x for f in command.__struct_fields__ if (x := getattr(command, f)) is not None}
            engine.policy = msgspec.structs.replace(engine.policy, **given)
            return engine.policy
        case _:
            raise NotImplementedError(type(command).__name__)


def _dispute(engine: FakeEngine, channel: v.ChannelView) -> v.DisputeView:
    """As a node does when a person disputes."""
    engine.put(msgspec.structs.replace(channel, state="disputed", reason="unilateral"))
    view = money_samples.filed(channel, by_me=True)
    engine.push(v.DisputeUpdated(view=view))
    return view


def _discharge(engine: FakeEngine, text: str, state: Literal["signed", "declined"]) -> v.DischargeView:
    view = find(engine.discharges, text, ZsError)
    engine.discharges[view.discharge_id] = done = msgspec.structs.replace(view, state=state, action="")
    return done
