"""One payment request while a person decides on it: the snapshot, where it stands, what was typed. It knows no screen."""

from __future__ import annotations

from typing import Literal

from zstui.engine.errors import BadInput
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import ApprovalState, ApprovalView
from zstui.screens.pay_text import changes, payee
from zstui.screens.values import safe

Phase = Literal["review", "changed", "signing", "sent", "paid", "failed", "declined", "expired", "superseded", "gone"]
"""review: may be paid once armed, unless blocked. changed, failed, declined, expired, superseded: only a fresh look leads back to
review, in the last case at the newer bill that includes this one."""
DIGITS = "0123456789."
PHASES: dict[ApprovalState, Phase] = {
    "waiting": "review",
    "paying": "sent",
    "paid": "paid",
    "failed": "failed",
    "declined": "declined",
    "expired": "expired",
    "superseded": "superseded",
}


class Review:
    """``view`` is the snapshot that the person decides on; ``now`` is Unix time in seconds throughout."""

    def __init__(self) -> None:
        self.view: ApprovalView | None = None
        self.phase: Phase = "gone"
        self.typed = ""
        """What was typed of the amount, or of the most that the whole job may be paid."""
        self.allowing = False
        """Asks how much the rest of a running job may be paid without asking."""
        self._why = ""

    @property
    def urgency(self) -> str:
        return "blocked" if self.view is None else self.view.urgency

    @property
    def payee(self) -> str:
        return "" if self.view is None else payee(self.view)

    def load(self, view: ApprovalView | None, now: float) -> None:
        """Take a fresh snapshot and start over."""
        self.view, self.typed, self.allowing, self._why = view, "", False, ""
        if view is None:
            self.phase, self._why = "gone", "It was paid or withdrawn; nothing to decide here."
        else:
            self.enter(view, now)

    def enter(self, view: ApprovalView, now: float) -> None:
        """The phase that a record's own state asks for."""
        self.phase = PHASES[view.state]
        if view.state == "failed":
            self._why = view.why
        if self.phase == "review" and view.expires_at <= now:
            self.phase = "expired"

    def fail(self, why: str) -> None:
        self.phase, self._why = "failed", why

    def expire(self, now: float) -> bool:
        """Whether its time ended just now."""
        if self.phase != "review" or self.view is None or self.view.expires_at > now:
            return False
        self.phase, self.typed, self.allowing = "expired", "", False
        return True

    def recheck(self, current: ApprovalView | None, now: float) -> bool:
        """Compare with the record as it is now; whether the phase changed, as it does with anything that is signed."""
        before = self.phase
        if self.view is None:
            return False
        if current is None:
            if self.phase in ("sent", "paid"):
                self.phase = "paid"
            elif self.phase != "signing":
                self.phase, self._why = "gone", "It was paid or withdrawn elsewhere."
        elif current.state in ("paying", "paid"):
            if self.phase != "signing":
                self.phase = "paid" if current.state == "paid" else "sent"
        elif self.phase in ("review", "changed"):
            if found := changes(self.view, current):
                self.phase, self._why = "changed", found
            elif current.state != "waiting":
                self.enter(current, now)
        elif self.phase == "sent" and current.state == "failed":
            self.fail(safe(current.why, 120))
        if self.phase == before:
            return False
        self.typed, self.allowing = "", False
        return True

    @property
    def can_allow(self) -> bool:
        """Whether it is a slice of a running job that may ask for more."""
        return self.view is not None and self.view.kind == "note" and self.view.job_left_u > 0

    def allow(self, asking: bool) -> None:
        """Begin or end asking how much the whole job may be paid."""
        self.allowing, self.typed = asking, ""

    def job_up_to(self) -> int | None:
        """What was typed as the most for the whole job, µ; None where it is no such amount."""
        if self.view is None:
            return None
        least = self.view.paid_before_u + self.view.amount_u
        try:
            amount = parse_amount(self.typed)
        except BadInput:
            return None
        return amount if least < amount <= self.view.max_cost_u else None

    def type(self, character: str) -> None:
        """Add a character of the amount; "" takes the last one away."""
        self.typed = (self.typed + character)[:20] if character else self.typed[:-1]

    def amount_is_right(self) -> bool:
        try:
            return self.view is not None and parse_amount(self.typed) == self.view.amount_u
        except BadInput:
            return False

    def words(self, *, fits: bool, armed: bool) -> tuple[str, str, str]:
        """Where it stands: one word, its style, and what to do. ``fits``: the window shows all of it."""
        amount = "" if self.view is None else format_amount(self.view.amount_u)
        match self.phase:
            case "review" if self.urgency == "blocked":
                return "BLOCKED", "$text-error", self._blocked()
            case "review" if not fits:
                return "TOO SMALL", "$text-error", "Enlarge the window: it must show everything before you can pay."
            case "review" if not armed:
                return "WAIT", "$text-muted", "Read it first; keys count in a moment."
            case "review" if self.allowing:
                return "ALLOW", "$text-warning", self._allow()
            case "review" if self.urgency == "typed":
                return "TYPE", "$text-warning", f"the amount {amount}, then Enter: [{self.typed}_]"
            case "review":
                return "READY", "$text-success", f"p pays {amount}."
            case "changed":
                return "CHANGED", "$text-error", f"{self._why}. Nothing was paid; u looks again."
            case "signing":
                return "SIGNING", "$text-warning", f"{amount} to {self.payee}…"
            case "sent":
                return "SENT", "$text-warning", f"signed and sent, waiting until {self.payee} acknowledges."
            case "paid":
                return "PAID", "$text-success", f"{amount}, acknowledged by {self.payee}."
            case "failed":
                return "FAILED", "$text-error", f"{self._why} u looks again."
            case "declined":
                return "DECLINED", "$text-warning", "not paid, still owed. u asks again."
            case "superseded":
                return (
                    "SUPERSEDED",
                    "$text-warning",
                    "not paid; a newer bill for this job includes it. u shows that one.",
                )
            case "expired":
                return "EXPIRED", "$text-warning", "not paid, still owed. u asks again."
            case _:
                return "GONE", "$text-muted", self._why

    def _allow(self) -> str:
        """What is typed, and what it does."""
        if self.view is None:
            return ""
        least, most = self.view.paid_before_u + self.view.amount_u, self.view.max_cost_u
        return (
            f"this job up to how much in all, above {format_amount(least)}, at most {format_amount(most)}? [{self.typed}_] "
            f"Enter pays {format_amount(self.view.amount_u)} now, the rest as it is due without asking, within 25 h."
        )

    def _blocked(self) -> str:
        """What stands against paying, and what to do about it."""
        if self.view is not None and not self.view.channel_id:
            return f"This cannot be paid yet: open a channel with {self.payee} first (Esc, 4, o)."
        return "This cannot be paid."
