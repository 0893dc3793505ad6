"""What the payment window says about one request."""

from __future__ import annotations

from textual.content import Content

from zstui.engine.money import format_amount, format_rate
from zstui.engine.views import ApprovalView
from zstui.screens.dialog import Fields
from zstui.screens.values import ago, exact_mebibytes, exact_seconds, long_key, safe
from zstui.screens.widgets.text import short_id

_FIELD_NAMES = (
    "payee",
    "job",
    "amount",
    "receipt",
    "agreement",
    "channel",
    "sequence",
    "urgency",
    "verified",
    "kind",
    "note",
)
FAULTS = {"payer": "the program's fault", "executor": "the executor's fault"}
HELP = """\
A peer ran a job for you and asks to be paid. Nothing is paid until you press p, or type the amount where that is asked.

p  Pay: sign this payment. Works 0.6 s after the window has come to rest, once.
r  Reject: decline. The request stays listed as declined and owed.
Esc  Later: close. The request keeps waiting until its time is over; then it counts as not paid.
n  Next: go to the next waiting request.
A  Allow the job: for a slice of a running job, also let its later slices and its receipt be paid without asking, up to what you
   type, and for at most 25 hours. Nothing else is allowed by it.
v  Raw receipt: the signed receipt as anyone can verify it offline.
y  Copy: this text to the clipboard.
u  Look again: after a change, or to ask again for a declined or expired request.

A slice is the part of a long job that was done since its last bill. The job is held still while one is unpaid; unpaid work is the
executor's risk, and it goes no further than both agreed.

VERIFIED: signatures, job, module and amount were checked against the agreement you signed.
CHANGED: something a payment commits to is different from what is shown. Nothing was paid; look again.
"""


def _short(value: object) -> str:
    """A signed field's value for one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return safe(text, 12) if text else "none"


def payee(v: ApprovalView, width: int = 24) -> str:
    return safe(v.peer_name, width)


def fields(v: ApprovalView) -> Fields:
    """The lines of a request."""
    name, me = payee(v), "you: " + safe(v.my_role, 12)
    outcome = "still running" if v.kind == "note" else "no exit code" if v.exit_code is None else f"exit {v.exit_code}"
    fault = f"  {FAULTS[v.fault]}" if v.fault in FAULTS else ""
    length, memory = exact_seconds(v.duration_us), exact_mebibytes(v.memory_bytes)
    capped = " (at the cap)" if v.amount_u + v.paid_before_u == v.max_cost_u else ""
    known = "named by you, " if v.peer_named else ""
    before = f" - {format_amount(v.paid_before_u)} paid before" if v.paid_before_u and v.kind != "refund" else ""
    price = (
        f"{length} x {format_rate(v.price_per_second_nano)} + {memory} x {format_rate(v.price_per_mib_nano)}{before} "
        f"= {format_amount(v.amount_u)}{capped}   cap {format_amount(v.max_cost_u)}"
    )
    if v.kind == "refund":
        price = f"{format_amount(v.max_cost_u)} was paid to you and is not due; {format_amount(v.amount_u)} goes back"
    channel = (
        f"{short_id(v.channel_id)}  now {format_amount(v.before_u)}  after {format_amount(v.after_u)}  "
        f"(peer {format_amount(v.peer_before_u)} -> {format_amount(v.peer_after_u)})"
        if v.channel_id
        else "none open with this peer"
    )
    guild = (
        f"{safe(v.guild_name, 24)}  {me}  {name}: {safe(v.peer_role, 12)}  score {v.score:.2f} of {v.completed} "
        + ("job" if v.completed == 1 else "jobs")
    )
    why = "Blocked" if v.urgency == "blocked" else "Why ask"
    to = f"  {long_key(v.peer_id)}  ({known}first seen {ago(v.peer_first_seen_at)})"
    ran = f"{outcome}  ran {length}  used {memory}{fault}"
    if v.kind == "refund" and not v.duration_us:
        ran = "its output is wrong, as its witnesses found"
    return (
        ("To", Content.assemble((name, "bold"), to)),
        ("Guild", guild),
        ("For", f"job {short_id(v.job_id)}  {safe(v.module, 32)}  {ran}"),
        *_slice(v, name),
        ("Price", price),
        ("Receipt", _checks(v)),
        ("Channel", channel),
        ("Limits", "   ".join(safe(line, 60) for line in v.limits) or "no grants: every payment asks"),
        (why, Content.styled(safe(v.why, 200), "bold $text-error" if v.urgency == "blocked" else "")),
    )


def _slice(v: ApprovalView, name: str) -> Fields:
    """What a bill of a running job is part of, and who carries it until it is paid."""
    if v.kind != "note":
        return ()
    text = (
        f"no. {v.no}: what was done since the last bill, {name}'s risk until you pay; the job is held still meanwhile"
    )
    return (("Slice", text),)


def kind_of(v: ApprovalView) -> str:
    """ "slice 3" of a running job, "refund", or "" for a receipt."""
    return f"slice {v.no}" if v.kind == "note" else "refund" if v.kind == "refund" else ""


def _checks(v: ApprovalView) -> Content:
    """VERIFIED and what was checked, or what failed and why."""
    good = [f"{safe(c.name, 24)}" for c in v.checks if c.ok]
    bad = [f"{safe(c.name, 24)} {safe(c.detail, 40) if c.detail else 'failed'}" for c in v.checks if not c.ok]
    passed = f"{', '.join(good)} ok" if good else ""
    if v.verified and not bad:
        return Content.assemble(("VERIFIED", "bold $text-success"), f"  {passed} (seq {v.sequence})")
    text = "; ".join((*bad, passed) if passed else bad) or "not checked"
    return Content.assemble(("NOT VERIFIED", "bold $text-error"), f"  {text}")


def changes(old: ApprovalView, new: ApprovalView) -> str:
    """What a payment commits to and is different now: "12.500 -> 13.000", or "sequence 43 -> 44"; "" if nothing."""
    pairs = zip(_FIELD_NAMES, old.signed_fields(), new.signed_fields(), strict=True)
    found = [f"{name} {_short(a)} -> {_short(b)}" for name, a, b in pairs if a != b and name != "amount"]
    if old.amount_u != new.amount_u:
        found.insert(0, f"{format_amount(old.amount_u)} -> {format_amount(new.amount_u)}")
    return ", ".join(found)
