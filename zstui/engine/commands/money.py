"""Channels, approvals and spending policy."""

from __future__ import annotations

from typing import Literal

from zstui.engine.commands.base import Command
from zstui.engine.views import (
    ApprovalView,
    BalancesView,
    ChannelView,
    DecisionView,
    DischargeView,
    LedgerView,
    PolicyView,
    RehearsalView,
    StatementView,
)


class OpenChannel(Command[ChannelView], frozen=True, kw_only=True):
    """Returns once both sides have signed."""

    peer: str
    amount_u: int
    theirs_u: int = 0
    expires_s: int = 86_400
    witnesses: int | None = None
    """How many decide a dispute: 1, 4, 7 or 10, 0 for none; None: as many as shared guilds give, up to four."""
    driver: str = "ledger"
    """How it settles: "ledger", or "manual" where debts are paid outside and both sign that they were."""


class Discharge(Command[DischargeView], frozen=True, kw_only=True):
    """Sign that so much of what is owed between a peer and me was paid outside. Counts once the peer has signed, too."""

    peer: str
    amount_u: int
    note: str = ""


class ListDischarges(Command[list[DischargeView]], frozen=True, kw_only=True):
    pass


class ConfirmDischarge(Command[DischargeView], frozen=True, kw_only=True):
    """Sign what a peer says was paid outside: the debt is less by it from now on."""

    discharge: str


class DeclineDischarge(Command[DischargeView], frozen=True, kw_only=True):
    discharge: str


class Statement(Command[StatementView], frozen=True, kw_only=True):
    """What happened in channels and discharges, with the signed evidence."""

    of: str = ""
    """A channel or a peer; "" for all."""
    from_at: int | None = None
    to_at: int | None = None


class ListChannels(Command[list[ChannelView]], frozen=True, kw_only=True):
    pass


class ShowChannel(Command[ChannelView], frozen=True, kw_only=True):
    channel: str


class ListBalances(Command[BalancesView], frozen=True, kw_only=True):
    """How my balance in a channel went, for a plot: evenly spread over its payments."""

    channel: str
    points: int = 120


class CloseChannel(Command[ChannelView], frozen=True, kw_only=True):
    """Cooperative: returns once closed, or with state "closing" if the peer is away."""

    channel: str
    unilateral: bool = False


class ListLedger(Command[list[LedgerView]], frozen=True, kw_only=True):
    pass


class SetCredit(Command[LedgerView], frozen=True, kw_only=True):
    """How much one peer may owe me; also gives credit anew after a dispute that was never resolved."""

    peer: str
    amount_u: int | None
    """None: as much as every member of a shared guild, or every stranger."""


class ListApprovals(Command[list[ApprovalView]], frozen=True, kw_only=True):
    pass


class PayApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Sign one payment. Single use; refused if the request no longer asks for exactly ``amount_u``."""

    request: str
    amount_u: int | None = None
    """The amount that the person saw. A screen always passes it; None (a script that named the request) takes the current."""
    typed: bool = False
    """The person typed the amount, as urgency "typed" asks."""
    job_up_to_u: int | None = None
    """Also let this job's later slices and its receipt be paid without asking, up to so much in all: a grant for this job
    alone, which ends within 25 hours."""


class RejectApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Decline. The item stays in the records as declined and owed."""

    request: str


class ReopenApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Ask again: a declined or expired request, still owed, gets a fresh snapshot and a new time limit."""

    request: str


class ShowPolicy(Command[PolicyView], frozen=True, kw_only=True):
    pass


class SetGrant(Command[PolicyView], frozen=True, kw_only=True):
    """Allow payments without a keypress inside finite limits. All-zero limits take the grant away."""

    scope: Literal["node", "guild", "peer", "job"]
    subject: str = ""
    per_payment_u: int = 0
    per_day_u: int = 0
    total_u: int = 0
    expires_s: int | None = None


class RehearsePolicy(Command[RehearsalView], frozen=True, kw_only=True):
    """What the policy in force, with this one grant set anew, would have done with the payments of the last days. All-zero
    limits: without that grant. Changes nothing."""

    scope: Literal["node", "guild", "peer", "job"]
    subject: str = ""
    per_payment_u: int = 0
    per_day_u: int = 0
    total_u: int = 0
    expires_s: int | None = None
    days: int = 30


class ListDecisions(Command[list[DecisionView]], frozen=True, kw_only=True):
    """Every decision about a payment and the rule behind it, newest first."""

    limit: int = 100


class SetLimits(Command[PolicyView], frozen=True, kw_only=True):
    """None leaves a value as it is."""

    typed_above_u: int | None = None
    credit_member_u: int | None = None
    credit_stranger_u: int | None = None


MoneyCommand = (
    OpenChannel
    | Discharge
    | ListDischarges
    | ConfirmDischarge
    | DeclineDischarge
    | Statement
    | ListChannels
    | ShowChannel
    | ListBalances
    | CloseChannel
    | ListLedger
    | SetCredit
    | ListApprovals
    | PayApproval
    | RejectApproval
    | ReopenApproval
    | ShowPolicy
    | SetGrant
    | SetLimits
    | RehearsePolicy
    | ListDecisions
)
