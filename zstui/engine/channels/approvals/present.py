"""What a person is shown of requests, decisions and rehearsals. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from zstui.engine.channels.approvals.journal import LoggedDecision, Past
from zstui.engine.channels.approvals.model import Decision, Grant, PeerContext
from zstui.engine.channels.approvals.rehearsal import Rehearsal
from zstui.engine.channels.approvals.store import Record
from zstui.engine.clock import US
from zstui.engine.views import (
    ApprovalView,
    DecisionView,
    Funds,
    GrantView,
    RehearsalView,
    RehearsedPart,
    RehearsedPayment,
)


def present(
    record: Record,
    context: PeerContext,
    channel: Funds | None,
    decision: Decision,
    limits: tuple[str, ...],
    late: bool,
) -> ApprovalView:
    """One request with the channel as it would be paid from now, or as it was when it was signed."""
    request = record.request
    signed = record.state in ("paying", "paid") and record.channel_id != ""
    moved_u = request.amount_u
    if signed:
        channel_id, sequence = record.channel_id, record.sequence
        before_u, peer_before_u = record.before_u, record.peer_before_u
    elif channel is not None:
        channel_id, sequence = channel.channel_id, channel.sequence + 1
        before_u, peer_before_u = channel.mine_u, channel.theirs_u
    else:
        channel_id, sequence, before_u, peer_before_u, moved_u = "", 0, 0, 0, 0
    policy_speaks = record.state == "waiting" or (decision.action == "block" and not signed)
    return ApprovalView(
        request_id=request.request_id,
        peer_id=request.peer_id,
        peer_name=context.peer_name,
        peer_first_seen_at=context.first_seen_at,
        peer_named=context.peer_named,
        job_id=request.job_id,
        guild_id=request.guild_id,
        guild_name=context.guild_name,
        my_role=context.my_role,
        peer_role=context.peer_role,
        score=context.score,
        completed=context.completed,
        module=request.module,
        exit_code=request.exit_code,
        fault=request.fault,
        duration_us=request.duration_us,
        memory_bytes=request.memory_bytes,
        price_per_second_nano=request.price_per_second_nano,
        price_per_mib_nano=request.price_per_mib_nano,
        amount_u=request.amount_u,
        max_cost_u=request.max_cost_u,
        receipt_id=request.receipt_id,
        agreement_id=request.agreement_id,
        checks=request.checks,
        verified=request.verified,
        channel_id=channel_id,
        sequence=sequence,
        before_u=before_u,
        after_u=before_u - moved_u,
        peer_before_u=peer_before_u,
        peer_after_u=peer_before_u + moved_u,
        limits=limits,
        urgency="ask" if signed else decision.urgency,
        why=decision.why if policy_speaks else record.why,
        expires_at=record.expires_us // US,
        state="expired" if late else record.state,
        created_at=request.created_us // US,
        kind=request.kind,
        no=request.no,
        paid_before_u=request.paid_before_u,
        job_left_u=max(0, request.max_cost_u - request.paid_before_u - request.amount_u)
        if request.kind == "note"
        else 0,
    )


def grant_view(grant: Grant, spent_day_u: int) -> GrantView:
    return GrantView(
        scope=grant.scope,
        subject=grant.subject,
        per_payment_u=grant.per_payment_u,
        per_day_u=grant.per_day_u,
        total_u=grant.total_u,
        spent_day_u=spent_day_u,
        spent_total_u=grant.spent_total_u,
        expires_at=None if grant.expires_us is None else grant.expires_us // US,
    )


def decision_view(decision: LoggedDecision, peer_name: str) -> DecisionView:
    request = decision.request
    return DecisionView(
        at=decision.at_us // US,
        request_id=decision.request_id,
        peer_id=decision.peer_id,
        peer_name=peer_name,
        amount_u=decision.amount_u,
        decision=decision.decision,
        rule=decision.rule,
        why=decision.why,
        kind="receipt" if request is None else request.kind,
        job_id="" if request is None else request.job_id,
        guild_id="" if request is None else request.guild_id,
        module="" if request is None else request.module,
    )


def rehearsal_view(r: Rehearsal, peer_name: Callable[[str], str], guild_name: Callable[[str], str]) -> RehearsalView:
    peers = {p.past.request.peer_id for p in r.payments}
    guilds = {p.past.request.guild_id for p in r.payments}

    def part(scope: Literal["peer", "guild"], subject: str, name: str) -> RehearsedPart:
        def test(past: Past) -> bool:
            return subject == (past.request.peer_id if scope == "peer" else past.request.guild_id)

        return RehearsedPart(
            scope=scope,
            subject=subject,
            name=name,
            auto=r.count("auto", test),
            ask=r.count("ask", test),
            block=r.count("block", test),
        )

    return RehearsalView(
        days=r.days,
        payments=len(r.payments),
        amount_u=sum(p.past.request.amount_u for p in r.payments),
        auto=r.count("auto"),
        ask=r.count("ask"),
        block=r.count("block"),
        was_auto=r.truly_automatic(),
        peers=tuple(part("peer", peer, peer_name(peer)) for peer in sorted(peers)),
        guilds=tuple(part("guild", guild, guild_name(guild)) for guild in sorted(guilds)),
        examples=tuple(
            RehearsedPayment(
                at=p.past.request.created_us // US,
                request_id=p.past.request.request_id,
                peer_id=p.past.request.peer_id,
                peer_name=peer_name(p.past.request.peer_id),
                job_id=p.past.request.job_id,
                module=p.past.request.module,
                amount_u=p.past.request.amount_u,
                action=p.action,
                rule=p.rule,
                why=p.why,
                became=p.past.state,
                automatic=p.past.automatic,
            )
            for p in r.examples()
        ),
        grants=tuple(grant_view(grant, spent_u) for grant, spent_u in r.grants),
    )
