"""What a person is shown of one request. Pure."""

from __future__ import annotations

from zstui.engine.channels.approvals.model import Decision, PeerContext
from zstui.engine.channels.approvals.store import Record
from zstui.engine.clock import US
from zstui.engine.views import ApprovalView, ChannelView


def present(
    record: Record,
    context: PeerContext,
    channel: ChannelView | None,
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
    )
