"""Pane 6: payments that wait for a person. Nothing here pays; Enter opens the window that can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.engine.commands import RejectApproval, ReopenApproval
from zstui.engine.money import format_amount, format_rate
from zstui.engine.views import ApprovalView
from zstui.screens.decisions import DecisionsScreen
from zstui.screens.dialogs import ConfirmScreen, PolicyScreen
from zstui.screens.pane import Pane
from zstui.screens.pay import PayScreen
from zstui.screens.pay_text import kind_of
from zstui.screens.widgets.lines import field, heading, mixed
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import (
    Cell,
    Line,
    Span,
    amount,
    clock_time,
    countdown,
    duration,
    mebibytes,
    now,
    plain,
    seconds,
    short_id,
    short_peer,
)

STATES = {
    "waiting": "accent",
    "paying": "info",
    "paid": "ok",
    "declined": "muted",
    "expired": "warn",
    "failed": "error",
    "superseded": "muted",
}
ORDER = {"waiting": 0, "paying": 1, "failed": 2, "expired": 3, "declined": 4, "paid": 5, "superseded": 6}
SHOWN = ("waiting", "paying", "failed", "expired", "declined")


def due(request: ApprovalView) -> Cell:
    """Time left, or the state."""
    if request.state != "waiting":
        return Span(request.state, STATES[request.state])
    left = request.expires_at - now()
    if left <= 0:
        return Span("expired", "warn")
    return Span(countdown(left), "error strong" if left < 30 else "warn" if left < 120 else "strong")


def _why(request: ApprovalView) -> Cell:
    if request.urgency == "blocked":
        return Span("BLOCKED " + plain(request.why), "error")
    return Span(("type the amount: " if request.urgency == "typed" else "") + plain(request.why))


def _for(request: ApprovalView) -> Cell:
    """The job, and which slice of it while it runs."""
    name = Span(plain(request.module).removesuffix(".wasm"))
    if kind := kind_of(request):
        return (Span(f"{short_id(request.job_id)} ", "muted"), Span(f"{kind} ", "info"), name)
    return (Span(f"job {short_id(request.job_id)} ", "muted"), name)


class ApprovePane(Pane[ApprovalView]):
    TITLE = "Approve"
    RECORD = "Payment"
    AREA = "approvals"
    SORT = "Due"
    ENTER = "Open"
    HELP = (
        "When a job of yours is done, its executor asks for the price in the receipt. The request waits here; Enter shows "
        "all of it, and only there p pays. A long job asks slice by slice while it runs and is held still until it is paid; "
        "in its window A allows the rest of it up to an amount. Nothing is ever paid by itself unless you granted it, and never "
        "after the time. P shows limits and grants, and rehearses a rule on the last month; L shows every decision and its rule."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "reject", "Reject", id="approve.reject", tooltip="Decline this payment; it stays listed as owed"),
        Binding("u", "reopen", "Ask again", id="approve.reopen", tooltip="Ask again for a declined or expired payment"),
        Binding("v", "details", "Details", id="approve.details", tooltip="Everything about this request"),
        Binding(
            "P", "policy", "Policy", id="approve.policy", tooltip="Limits and grants; try a rule on the last month"
        ),
        Binding("L", "decisions", "Decisions", id="approve.decisions", tooltip="Every decision and the rule behind it"),
    ]

    def columns(self) -> Sequence[Column[ApprovalView]]:
        return (
            Column("Due", 8, due, lambda a: (ORDER[a.state], a.expires_at)),
            Column(
                "To",
                9,
                lambda a: Span(plain(a.peer_name) or short_peer(a.peer_id), "strong"),
                lambda a: a.peer_name.casefold(),
                flex=1,
                limit=20,
            ),
            Column(
                "For",
                15,
                _for,
                lambda a: a.module.casefold(),
                flex=2,
                limit=34,
            ),
            Column(
                "Amount",
                8,
                lambda a: Span(amount(a.amount_u), "accent"),
                lambda a: -a.amount_u,
                align="right",
                flex=1,
                limit=11,
            ),
            Column(
                "After", 8, lambda a: amount(a.after_u), lambda a: a.after_u, align="right", flex=1, limit=11, above=70
            ),
            Column(
                "Receipt",
                8,
                lambda a: Span("VERIFIED", "ok") if a.verified else Span("BAD", "error"),
                lambda a: a.verified,
            ),
            Column("Why", 14, _why, flex=4),
        )

    def key(self, record: ApprovalView) -> str:
        return record.request_id

    def records(self) -> Iterable[ApprovalView]:
        return [view for view in self.bridge.approvals.values() if view.state in SHOWN]

    def find(self, key: str) -> ApprovalView | None:
        view = self.bridge.approvals.get(key)
        return view if view is not None and view.state in SHOWN else None

    def words(self, record: ApprovalView) -> str:
        what = f"{record.module} {record.job_id} {record.guild_name} {record.state} {record.why}"
        return f"{record.peer_name} {record.peer_id} {what}"

    def note(self, record: ApprovalView) -> tuple[str, str]:
        if record.urgency == "blocked":
            todo = " 4 then o opens one." if not record.channel_id else ""
            return (f"Cannot be paid: {record.why.rstrip('.')}.{todo}", "error")
        if record.state == "waiting":
            held = (
                " Its job is held still."
                if (job := self.bridge.jobs.get(record.job_id)) is not None and job.paused
                else ""
            )
            return (
                f"{record.peer_name} asks {format_amount(record.amount_u)}: {record.why}.{held} Enter shows all of it.",
                "accent",
            )
        if record.state in ("declined", "expired", "failed"):
            return (f"Not paid, still owed: {record.why}. u asks again.", "warn")
        return ("Signed; waiting for the peer's acknowledgement.", "info") if record.state == "paying" else ("", "")

    def details(self, record: ApprovalView, width: int) -> list[Line]:
        left = record.expires_at - now()
        lines: list[Line] = [
            *field("To", f"{record.peer_name or '-'}  {short_peer(record.peer_id)}", "strong", width),
            mixed("Amount", [Span(format_amount(record.amount_u), "accent strong")]),
            mixed("State", [Span(record.state, STATES[record.state])]),
        ]
        if record.state == "waiting":
            lines += field(
                "Expires", f"in {countdown(left)}" if left > 0 else "now", "warn" if left < 120 else "", width
            )
        lines += field("Why ask", record.why, "error" if record.urgency == "blocked" else "", width)
        lines += self._job(record, width)
        exit_code = (
            "still running"
            if record.kind == "note"
            else "no exit code"
            if record.exit_code is None
            else f"exit {record.exit_code}"
        )
        lines += field("For", f"job {short_id(record.job_id)}  {record.module}, {exit_code}", "", width)
        lines += field("Used", f"{seconds(record.duration_us)}, {mebibytes(record.memory_bytes)}", "", width)
        rates = f"{format_rate(record.price_per_second_nano)} a second, {format_rate(record.price_per_mib_nano)} a MiB"
        lines += field("Price", f"{rates}, at most {format_amount(record.max_cost_u)}", "", width)
        lines += field("Guild", f"{record.guild_name}  you: {record.my_role}, they: {record.peer_role}", "", width)
        lines += field(
            "Score", f"{record.score:.2f} from {record.completed} job{'' if record.completed == 1 else 's'}", "", width
        )
        lines += field("Known", f"for {duration(now() - record.peer_first_seen_at)}", "", width)
        lines += heading("Receipt", width)
        lines.append((Span("VERIFIED", "ok strong") if record.verified else Span("BAD", "error strong"),))
        for check in record.checks:
            mark, style = ("ok  ", "ok") if check.ok else ("BAD ", "error")
            detail = f"  {plain(check.detail)}" if check.detail else ""
            lines.append((Span(mark, style), Span(plain(check.name)), Span(detail, "muted")))
        lines += heading("Channel", width)
        if record.channel_id:
            lines += field(
                "Now", f"me {format_amount(record.before_u)}, they {format_amount(record.peer_before_u)}", "", width
            )
            lines += field(
                "After", f"me {format_amount(record.after_u)}, they {format_amount(record.peer_after_u)}", "", width
            )
            lines += field("Number", str(record.sequence), "", width)
        else:
            lines += field("", "none is open with this peer", "warn", width)
        for limit in record.limits:
            lines += field("Limit", limit, "", width)
        lines += field("Asked", clock_time(record.created_at), "", width)
        return lines

    def _job(self, record: ApprovalView, width: int) -> list[Line]:
        """How the job stands that a slice is of."""
        if not (kind := kind_of(record)):
            return []
        lines = field("Kind", f"{kind}; {format_amount(record.paid_before_u)} paid for this job before", "", width)
        job = self.bridge.jobs.get(record.job_id)
        if job is not None and job.state == "running":
            text = "held still until this is paid" if job.paused else "running"
            lines += field("Job is", text, "warn" if job.paused else "ok", width)
        if job is not None and job.at_risk_u:
            lines += field(
                "At risk", f"{format_amount(job.at_risk_u)} of {record.peer_name}'s work is unpaid", "", width
            )
        if record.job_left_u:
            lines += field("May ask", f"{format_amount(record.job_left_u)} more at most", "", width)
        return lines

    def empty(self) -> list[str]:
        return ["Nothing waiting. Every payment is asked for here unless a grant covers it.", "P  limits and grants"]

    def open(self, record: ApprovalView) -> None:
        self.ask(PayScreen(self.bridge, record.request_id))

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_details(self) -> None:
        if request := self.need("payment"):
            super().open(request)

    def action_reject(self) -> None:
        if not (request := self.need("payment")):
            return
        if request.state != "waiting":
            self.say(f"This payment is {request.state} already.")
            return
        self.ask(
            ConfirmScreen(
                f"Reject {format_amount(request.amount_u)} to {plain(request.peer_name)}?",
                "Nothing is paid. It stays listed as declined and owed; u asks again.",
                "Reject",
            ),
            lambda _: self.execute(
                RejectApproval(request=request.request_id), lambda view: f"Declined; {view.peer_name} is not paid."
            ),
        )

    def action_reopen(self) -> None:
        if not (request := self.need("payment")):
            return
        if request.state in ("waiting", "paying"):
            self.say(f"This payment is {request.state}.")
            return
        self.execute(ReopenApproval(request=request.request_id), lambda _: "It waits again; Enter opens it.")

    def action_policy(self) -> None:
        self.ask(PolicyScreen(self.bridge))

    def action_decisions(self) -> None:
        self.ask(DecisionsScreen(self.bridge))
