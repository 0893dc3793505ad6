"""What is asked of a payment before it is signed, and who may say yes. Pure: time and balances come in as arguments.

Three answers, tried in this order:

1. **block** - cannot be paid as things stand: a check of the receipt failed, the amount is not what the cost rule gives, the
   peer is blacklisted, no channel is open with it, or the channel does not hold enough.
2. **auto** - verified, and allowed without a keypress. At least one live grant must cover the payment, and every live grant
   that covers it must have room: a grant for one peer therefore narrows a grant for all, never widens it. A grant limits
   what is paid *automatically*; what a person approves by hand takes nothing from it. Without a grant nothing is automatic.
3. **ask** - a person decides. One key pays, or the amount must be typed: above the limit in the policy, over
   ``TYPED_SHARE`` of what the channel holds, or for the first payment ever to a peer if it is above ``FIRST_FREE_U``. (A
   first payment that small is an ordinary trial, and typing for those would only teach people to type.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import msgspec

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import MICRO, format_amount
from zstui.engine.views import CheckView, Fault, Funds, PaymentKind, Urgency

ASK_US = 120 * US
"""How long a payment stays payable after it was asked for."""
DAY_US = 86_400 * US
FIRST_FREE_U = MICRO
"""Largest first payment to a peer that one key pays."""
TYPED_SHARE = Fraction(1, 4)
"""Share of my channel balance above which the amount must be typed."""
MAX_WAITING = 1_000
"""Requests of one peer that may wait; the oldest beyond are declined, and stay owed."""
MAX_GRANTS = 1_000
MAX_DECISIONS = 10_000
"""Rows kept of the decision log."""

LINE_KINDS: dict[PaymentKind, int] = {"receipt": 1, "note": 2, "refund": 3}
"""``PayLine.kind`` of each. A receipt's and a refund's ``no`` is 0, a note's its own: (agreement, no) is paid once."""
JOB_GRANT_US = 25 * 3_600 * US
"""How long leave to pay one job lasts: longer than any job."""

Scope = Literal["node", "guild", "peer", "job"]
GrantKey = tuple[Scope, str]


class PaymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt or debit note to be paid. Never changes; ``request_id`` is that document's id.

    ``duration_us`` and ``memory_bytes`` are what is billed since the job's start (usage cut to its limits), so that what is
    due in all can be computed again from what is in here.
    """

    request_id: str
    peer_id: PeerId
    job_id: str
    guild_id: str
    module: str
    exit_code: int | None
    fault: Fault
    duration_us: int
    memory_bytes: int
    price_per_second_nano: int
    price_per_mib_nano: int
    amount_u: int
    """To be paid now: due in all, less ``paid_before_u``."""
    max_cost_u: int
    receipt_id: str
    """Id of the receipt or note."""
    agreement_id: str
    checks: tuple[CheckView, ...]
    created_us: int
    kind: PaymentKind = "receipt"
    no: int = 0
    """Number of the note; 0 for a receipt."""
    paid_before_u: int = 0
    """Signed under the same agreement before."""
    submission: str = ""
    """What was submitted: the batch, or the first of several attempts, that the job is part of; "" for the job itself."""

    @property
    def submitted_as(self) -> str:
        """Id that a grant for a job names: it holds for all attempts at it, and for a batch as a whole."""
        return self.submission or self.job_id

    @property
    def verified(self) -> bool:
        """Something was checked and nothing failed."""
        return bool(self.checks) and all(check.ok for check in self.checks)


class PeerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of the node knows about the payee and the guild of one request."""

    peer_name: str
    first_seen_at: int
    guild_name: str
    my_role: str
    peer_role: str
    score: float
    completed: int
    blacklisted: bool
    peer_named: bool = False
    """The name is one that I gave."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to pay without a keypress. All three limits hold at once."""

    scope: Scope
    subject: str
    """Peer, guild, job or batch id; "" for the node."""
    per_payment_u: int
    per_day_u: int
    """Over any 24 hours, not calendar days."""
    total_u: int
    expires_us: int | None
    spent_total_u: int = 0
    """Since the grant was last set."""

    @property
    def key(self) -> GrantKey:
        return (self.scope, self.subject)

    def live(self, now_us: int) -> bool:
        return self.expires_us is None or now_us < self.expires_us

    def covers(self, request: PaymentRequest) -> bool:
        """Whether the payment is in this grant's scope, whatever the amount."""
        return self.subject == scope_subject(self.scope, request)


class Decision(msgspec.Struct, frozen=True):
    action: Literal["block", "auto", "ask"]
    rule: str
    """Stable word for the log."""
    why: str
    """A few words for a person."""
    urgency: Urgency = "ask"


def scope_subject(scope: Scope, request: PaymentRequest) -> str:
    """Which grant of ``scope`` the request falls under."""
    return {"node": "", "guild": request.guild_id, "peer": request.peer_id, "job": request.submitted_as}[scope]


def decide(
    request: PaymentRequest,
    *,
    due_u: int,
    blacklisted: bool,
    channel: Funds | None,
    grants: Sequence[Grant],
    spent_day_u: Mapping[GrantKey, int],
    typed_above_u: int,
    first_payment: bool,
    now_us: int,
) -> Decision:
    """The policy. ``due_u`` is what the cost rule gives less what was paid before, ``spent_day_u`` what each grant paid in the
    last 24 hours."""
    blocked = _blocked(request, due_u, blacklisted, channel)
    if blocked is not None or channel is None:
        rule, why = blocked or ("no_channel", "no open channel with this peer")
        return Decision("block", rule, why, "blocked")
    refusal = grants_refuse(request, grants, spent_day_u, now_us)
    if refusal is None:
        return Decision("auto", "grant", inside(request, grants, now_us))
    rule, why = refusal
    typed = typed_for(request.amount_u, channel, typed_above_u, first_payment)
    if not typed:
        return Decision("ask", rule, why)
    return Decision("ask", rule, f"{why}; {typed}", "typed")


def _blocked(request: PaymentRequest, due_u: int, blacklisted: bool, channel: Funds | None) -> tuple[str, str] | None:
    for check in request.checks:
        if not check.ok:
            return "check", f"{check.name}: {check.detail or 'wrong'}"
    if not request.checks:
        return "check", "nothing was verified"
    amount_u = request.amount_u
    if amount_u != due_u:
        return "cost", f"asks for {format_amount(amount_u)}, the cost rule gives {format_amount(due_u)}"
    if blacklisted:
        return "blacklisted", "this peer is blacklisted"
    if channel is not None and channel.state == "active" and channel.mine_u < amount_u:
        return "balance", f"the channel holds only {format_amount(channel.mine_u)}"
    if channel is None or channel.state != "active":
        return "no_channel", "no open channel with this peer"
    return None


_GRANTED: dict[Scope, str] = {"job": "this job", "peer": "this peer", "guild": "this guild", "node": "all payments"}


def inside(request: PaymentRequest, grants: Sequence[Grant], now_us: int) -> str:
    """Which grants cover a payment, the narrowest first, in words for a person."""
    scopes = {g.scope for g in grants if g.live(now_us) and g.covers(request)}
    names = [name for scope, name in _GRANTED.items() if scope in scopes]
    return f"inside your grant{'s' if len(names) > 1 else ''} for {' and for '.join(names)}"


def grants_refuse(
    request: PaymentRequest, grants: Sequence[Grant], spent_day_u: Mapping[GrantKey, int], now_us: int
) -> tuple[str, str] | None:
    """Rule and words why the payment is not automatic; None if it is."""
    covering = [g for g in grants if g.live(now_us) and g.covers(request)]
    if not covering:
        return "no_grant", "no grant covers it"
    for grant in covering:
        if request.amount_u > grant.per_payment_u:
            return "per_payment", "above your automatic limit"
        if spent_day_u.get(grant.key, 0) + request.amount_u > grant.per_day_u:
            return "per_day", "your automatic limit for 24 hours is used up"
        if grant.spent_total_u + request.amount_u > grant.total_u:
            return "total", "what you allowed this job is used up" if grant.scope == "job" else "your grant is used up"
    return None


def typed_for(amount_u: int, channel: Funds | None, typed_above_u: int, first_payment: bool = False) -> str:
    """Why an amount must be typed, "" if one key is enough."""
    if amount_u > typed_above_u:
        return f"above {format_amount(typed_above_u)}"
    if first_payment and amount_u > FIRST_FREE_U:
        return "first payment to this peer"
    if channel is not None and amount_u > channel.mine_u * TYPED_SHARE:
        return "over a quarter of the channel"
    return ""


def limit_lines(
    request: PaymentRequest,
    context: PeerContext,
    grants: Sequence[Grant],
    spent_day_u: Mapping[GrantKey, int],
    typed_above_u: int,
    now_us: int,
) -> tuple[str, ...]:
    """Every live grant that covers the request with its use, one line each, then the limit for typing."""
    names = {
        "node": "all",
        "guild": context.guild_name,
        "peer": context.peer_name,
        "job": f"job {request.submitted_as[:8]}",
    }
    lines = [
        f"{names[g.scope]}/day {format_amount(spent_day_u.get(g.key, 0))} of {format_amount(g.per_day_u)}"
        f", total {format_amount(g.spent_total_u)} of {format_amount(g.total_u)}"
        f", ask above {format_amount(g.per_payment_u)}"
        for g in grants
        if g.live(now_us) and g.covers(request)
    ]
    return (*(lines or ["no grant: every payment asks"]), f"type the amount above {format_amount(typed_above_u)}")
