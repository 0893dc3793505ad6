"""Channels, what is owed, payments that wait, and spending policy."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.jobs import CheckView, Fault

ChannelStateName = Literal["opening", "active", "closing", "closed", "disputed"]


class Funds(View, frozen=True, kw_only=True):
    """What a payment needs to know of its channel."""

    channel_id: str
    peer_id: str
    state: ChannelStateName
    mine_u: int
    theirs_u: int
    sequence: int
    """My half's sequence number."""
    expires_at: int


class ChannelView(Funds, frozen=True, kw_only=True):
    peer_name: str = ""
    reason: str = ""
    """Why it is closed or disputed: "cooperative", "void", ..."""
    epoch: int
    deposit_mine_u: int
    deposit_theirs_u: int
    sequence_theirs: int = 0
    at_risk_u: int = 0
    """Work I did for this peer that is not paid yet, plus payments of mine it has not acknowledged."""
    at_risk_theirs_u: int = 0
    """Work this peer did for me that I have not paid yet: its risk, as far as I know."""
    reserved_u: int = 0
    """Of my side, promised to jobs that run there or are not paid yet: no other job can be promised it."""
    unacknowledged: int = 0
    action: str = ""
    """Who must act, by when; "" if nobody."""
    witnesses: int = 0
    """How many were named at the opening to decide a dispute; 0: nobody decides one."""
    witnesses_needed: int = 0
    """How many equal verdicts of theirs decide."""
    driver: str = "ledger"
    """How what it comes to owe is settled."""


class BalancePoint(View, frozen=True, kw_only=True):
    at: int
    mine_u: int


class BalancesView(View, frozen=True, kw_only=True):
    """How my balance in one channel went."""

    channel_id: str
    payments: int
    """Made in it by both sides; ``points`` may be fewer."""
    mine_u: int
    """Now."""
    points: tuple[BalancePoint, ...]
    """Oldest first; the first is the deposit at the opening. Times are the payers' own."""


class DischargeView(View, frozen=True, kw_only=True):
    """A debt, or a part of one, that was paid outside as one side says, or both have signed."""

    discharge_id: str
    peer_id: str
    peer_name: str = ""
    amount_u: int
    owed_to_me: bool
    """The peer owed it to me."""
    note: str
    state: Literal["proposed", "waiting", "signed", "declined"]
    """proposed: I signed, the peer has not. waiting: the peer signed and a person here decides."""
    action: str = ""
    created_at: int
    decided_at: int | None


class LedgerView(View, frozen=True, kw_only=True):
    """Pairwise clearing balance with one peer over all closed channels."""

    peer_id: str
    peer_name: str = ""
    owed_to_me_u: int
    i_owe_u: int
    credit_limit_u: int


Urgency = Literal["ask", "typed", "blocked"]
ApprovalState = Literal["waiting", "paying", "paid", "declined", "expired", "failed", "superseded"]
"""superseded: a newer bill for the same job includes it."""
PaymentKind = Literal["receipt", "note", "refund"]
"""receipt: what is left to pay of a finished job. note: a slice of a running one. refund: back to who paid too much."""


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
    kind: PaymentKind = "receipt"
    no: int = 0
    """Number of the debit note; 0 for a receipt."""
    paid_before_u: int = 0
    """Paid for this job before."""
    job_left_u: int = 0
    """The most that this job can still ask for after this payment: "pay this job up to its limit" allows this much."""

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
            self.kind,
            self.no,
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


class DecisionView(View, frozen=True, kw_only=True):
    """One decision about a payment and the rule behind it."""

    at: int
    request_id: str
    peer_id: str
    peer_name: str
    amount_u: int
    decision: str
    """block, ask, auto, grant, pay, failed, decline, expire, reopen, superseded or paid."""
    rule: str
    """A stable word."""
    why: str
    """The rule in a few words for a person."""
    kind: PaymentKind = "receipt"
    job_id: str = ""
    guild_id: str = ""
    module: str = ""


RehearsedAction = Literal["auto", "ask", "block"]


class RehearsedCount(View, frozen=True, kw_only=True):
    number: int = 0
    amount_u: int = 0


class RehearsedPart(View, frozen=True, kw_only=True):
    """The payments asked for by one peer or in one guild."""

    scope: Literal["peer", "guild"]
    subject: str
    name: str
    auto: RehearsedCount
    ask: RehearsedCount
    block: RehearsedCount


class RehearsedPayment(View, frozen=True, kw_only=True):
    """One past payment and what the rehearsed policy would have done with it."""

    at: int
    request_id: str
    peer_id: str
    peer_name: str
    job_id: str
    module: str
    amount_u: int
    action: RehearsedAction
    rule: str
    why: str
    became: ApprovalState
    """What became of it in truth."""
    automatic: bool
    """It was paid without a keypress in truth."""


class RehearsalView(View, frozen=True, kw_only=True):
    """What a spending policy would have done with the payments of the last days."""

    days: int
    payments: int
    amount_u: int
    auto: RehearsedCount
    ask: RehearsedCount
    block: RehearsedCount
    was_auto: RehearsedCount
    """What was paid without a keypress in truth, to compare."""
    peers: tuple[RehearsedPart, ...]
    guilds: tuple[RehearsedPart, ...]
    examples: tuple[RehearsedPayment, ...]
    """The first few of each action, oldest first."""
    grants: tuple[GrantView, ...]
    """The policy that was rehearsed, with what it would have spent."""
