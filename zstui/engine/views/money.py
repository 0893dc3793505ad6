"""Channels, what is owed, payments that wait, and spending policy."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.jobs import CheckView, Fault

ChannelStateName = Literal["opening", "active", "closing", "closed", "disputed"]


class ChannelView(View, frozen=True, kw_only=True):
    channel_id: str
    peer_id: str
    peer_name: str = ""
    state: ChannelStateName
    reason: str = ""
    """Why it is closed or disputed: "cooperative", "void", ..."""
    epoch: int
    mine_u: int
    theirs_u: int
    deposit_mine_u: int
    deposit_theirs_u: int
    sequence: int
    """My half's sequence number."""
    sequence_theirs: int = 0
    expires_at: int
    at_risk_u: int = 0
    """Work I did for this peer that is not paid yet, plus payments of mine it has not acknowledged."""
    unacknowledged: int = 0
    action: str = ""
    """Who must act, by when; "" if nobody."""
    witnesses: int = 0
    """How many were named at the opening to decide a dispute; 0: nobody decides one."""
    witnesses_needed: int = 0
    """How many equal verdicts of theirs decide."""


class LedgerView(View, frozen=True, kw_only=True):
    """Pairwise clearing balance with one peer over all closed channels."""

    peer_id: str
    peer_name: str = ""
    owed_to_me_u: int
    i_owe_u: int
    credit_limit_u: int


Urgency = Literal["ask", "typed", "blocked"]
ApprovalState = Literal["waiting", "paying", "paid", "declined", "expired", "failed"]


class ApprovalView(View, frozen=True, kw_only=True):
    """One payment that waits for a person. Everything the Pay window shows is in here, frozen at one moment."""

    request_id: str
    peer_id: str
    peer_name: str
    peer_first_seen_at: int
    peer_named: bool = False
    """The name is one that I gave, not the peer's own."""
    job_id: str
    guild_id: str
    guild_name: str
    my_role: str
    peer_role: str
    score: float
    completed: int
    module: str
    exit_code: int | None
    fault: Fault
    duration_us: int
    memory_bytes: int
    price_per_second_nano: int
    price_per_mib_nano: int
    amount_u: int
    max_cost_u: int
    receipt_id: str
    agreement_id: str
    checks: tuple[CheckView, ...]
    verified: bool
    """All checks passed."""
    channel_id: str
    """"" if no channel is open with this peer."""
    sequence: int
    """Sequence number that the payment will carry."""
    before_u: int
    after_u: int
    peer_before_u: int
    peer_after_u: int
    limits: tuple[str, ...]
    """Grants in force and how much of each is used, one line each."""
    urgency: Urgency
    """ask: one key pays. typed: the amount must be typed. blocked: cannot be paid."""
    why: str
    expires_at: int
    state: ApprovalState
    created_at: int = 0

    def signed_fields(self) -> tuple[object, ...]:
        """What a payment commits to. A change in any of these disarms an open Pay window."""
        return (
            self.peer_id,
            self.job_id,
            self.amount_u,
            self.receipt_id,
            self.agreement_id,
            self.channel_id,
            self.sequence,
            self.urgency,
            self.verified,
        )


class GrantView(View, frozen=True, kw_only=True):
    scope: Literal["node", "guild", "peer", "job"]
    subject: str
    """Peer, guild or job id; "" for the node."""
    per_payment_u: int
    per_day_u: int
    total_u: int
    spent_day_u: int
    spent_total_u: int
    expires_at: int | None


class PolicyView(View, frozen=True, kw_only=True):
    grants: tuple[GrantView, ...]
    typed_above_u: int
    """Payments above this ask for the amount to be typed."""
    credit_member_u: int
    credit_stranger_u: int
