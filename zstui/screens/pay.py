"""The window that asks a person for one payment. It never opens by itself, and nothing but its own keys can sign."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar, Literal

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.dom import DOMNode
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import PayApproval, RejectApproval, ReopenApproval, ShowReceipt
from zstui.engine.errors import BadInput, ZsError
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import ApprovalView
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.pay_text import HELP, changes, fields, payee
from zstui.screens.values import safe, safe_lines
from zstui.screens.widgets.text import countdown

Phase = Literal["review", "changed", "signing", "sent", "paid", "failed", "declined", "expired", "gone"]
"""review: may be paid once armed, unless blocked. changed, failed, declined, expired: only a fresh look leads back to review."""


class PayScreen(Guarded[bool]):
    """Shows the request ``request_id`` as it was when the window opened; dismissed with whether anything was signed."""

    CSS_PATH: ClassVar[Any] = ["dialog.tcss", "pay.tcss"]
    GUARDED = frozenset({"pay", "reject", "look"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help", id="pay.help"),
        Binding("p", "pay", "Pay", id="pay.pay"),
        Binding("r", "reject", "Reject", id="pay.reject"),
        Binding("n", "next", "Next", id="pay.next"),
        Binding("v", "raw", "Raw receipt", id="pay.raw"),
        Binding("y", "copy", "Copy", id="pay.copy"),
        Binding("u,o", "look", "Look again", id="pay.look"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, bridge: Bridge, request_id: str) -> None:
        super().__init__(bridge)
        self.view: ApprovalView | None = None
        """The snapshot that the person decides on."""
        self.phase: Phase = "review"
        self.page: Literal["request", "raw", "help"] = "request"
        self.typed = ""
        """What was typed of the amount."""
        self._request_id = request_id
        self._why = ""
        self._raw = ""
        self._signed = False
        self._note = ""

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, Any]]:
        """Without the app: its priority bindings (quit, palette) would otherwise come before this window's keys."""
        return [entry for entry in super()._binding_chain if entry[0] is not self.app]

    # --- what is shown ------------------------------------------------------------------------------------------------

    def content(self) -> ComposeResult:
        yield Rows(id="request")
        yield Static("", id="page", markup=False)
        yield Static("", id="warning", classes="gap", markup=False)

    def keys(self) -> Keys:
        if self.page != "request":
            return (("Esc", "Back to the payment"), ("y", "Copy"), ("↑↓", "Scroll"))
        after: Keys = (("Esc", "Later"), ("n", "Next"), ("v", "Raw receipt"), ("y", "Copy"))
        match self.phase:
            case "review":
                pay = ("Enter", "Pay") if self._urgency == "typed" else ("p", "Pay")
                payable = self._urgency != "blocked" and self.fits
                decide = (pay, ("r", "Reject")) if payable else (("r", "Reject"),)
                return (("?", "Help"), *decide, *after)
            case "changed" | "failed" | "declined" | "expired":
                word = "Look again" if self.phase in ("changed", "failed") else "Ask again"
                return (("?", "Help"), ("u", word), *after)
            case _:
                return (("?", "Help"), ("Esc", "Close"), *after[1:])

    def on_mount(self) -> None:
        self.follow("approvals", self.recheck)
        self.set_interval(0.5, self._tick)
        self._load(self._request_id)

    def _load(self, request_id: str, view: ApprovalView | None = None) -> None:
        """Take a fresh snapshot and start over."""
        self._request_id = request_id
        self.view = view or self.bridge.approvals.get(request_id)
        self.typed = self._why = self._raw = self._note = ""
        self.page = "request"
        self.remove_class("-tight")
        if self.view is None:
            self.phase, self._why = "gone", "It was paid or withdrawn; nothing to decide here."
        else:
            self._enter(self.view)
        self.disarm()
        self._show()

    def _enter(self, view: ApprovalView) -> None:
        """The phase that a record's own state asks for."""
        phases: dict[str, Phase] = {"waiting": "review", "paying": "sent", "paid": "paid", "failed": "failed"}
        self.phase = phases.get(view.state) or ("declined" if view.state == "declined" else "expired")
        if view.state == "failed":
            self._why = view.why
        if self.phase == "review" and view.expires_at <= time.time():
            self.phase = "expired"

    @property
    def _urgency(self) -> str:
        return "blocked" if self.view is None else self.view.urgency

    def _peer(self) -> str:
        return "" if self.view is None else payee(self.view)

    def _show(self) -> None:
        self._show_title()
        request, page = self.query_one(Rows), self.query_one("#page", Static)
        request.display = self.page == "request"
        page.display = not request.display
        page.update(Content(HELP if self.page == "help" else self._raw))
        request.show(() if self.view is None else fields(self.view))
        warning = self.query_one("#warning", Static)
        warning.display = request.display and self.phase == "review" and self._urgency != "blocked"
        warning.update(
            Content.styled(f"A signed payment cannot be undone. Only {self._peer()} can send it back.", "$text-warning")
        )
        self._show_state()
        self.show_keys()
        frame = self.query_one("#frame")
        frame.set_class(self.phase in ("failed", "changed", "gone") or self._urgency == "blocked", "-blocked")
        frame.set_class(self.phase == "paid", "-done")
        self.refresh_bindings()
        self.call_after_refresh(self._after_layout)

    def _show_title(self) -> None:
        view = self.view
        if view is None:
            self.retitle("PAY: this request is gone")
            return
        waiting = self._waiting()
        place = (
            f"request {waiting.index(view.request_id) + 1} of {len(waiting)}   " if view.request_id in waiting else ""
        )
        rest = view.expires_at - time.time()
        end = f"expires in {countdown(rest)}" if self.phase == "review" else self.phase.upper()
        self.retitle(f"PAY {format_amount(view.amount_u)} to {self._peer()}?   {place}{end}")

    def _show_state(self) -> None:
        """The line between the request and the keys, outside what may scroll."""
        if self.page == "request":
            word, style, text = self._state_words()
            note = f"   {self._note}" if self._note else ""
            self.show_message(Content.assemble((word, f"bold {style}"), f"  {text}{note}"))
        else:
            self.say(self._note)

    def _state_words(self) -> tuple[str, str, str]:
        amount = "" if self.view is None else format_amount(self.view.amount_u)
        match self.phase:
            case "review" if self._urgency == "blocked":
                return "BLOCKED", "$text-error", self._blocked()
            case "review" if not self.fits:
                return "TOO SMALL", "$text-error", "Enlarge the window: it must show everything before you can pay."
            case "review" if not self.armed:
                return "WAIT", "$text-muted", "Read it first; keys count in a moment."
            case "review" if self._urgency == "typed":
                return "TYPE", "$text-warning", f"the amount {amount}, then Enter: [{self.typed}_]"
            case "review":
                return "READY", "$text-success", f"p pays {amount}."
            case "changed":
                return "CHANGED", "$text-error", f"{self._why}. Nothing was paid; u looks again."
            case "signing":
                return "SIGNING", "$text-warning", f"{amount} to {self._peer()}…"
            case "sent":
                return "SENT", "$text-warning", f"signed and sent, waiting until {self._peer()} acknowledges."
            case "paid":
                return "PAID", "$text-success", f"{amount}, acknowledged by {self._peer()}."
            case "failed":
                return "FAILED", "$text-error", f"{self._why} u looks again."
            case "declined":
                return "DECLINED", "$text-warning", "not paid, still owed. u asks again."
            case "expired":
                return "EXPIRED", "$text-warning", "not paid, still owed. u asks again."
            case _:
                return "GONE", "$text-muted", self._why

    def _blocked(self) -> str:
        """What stands against paying, and what to do about it."""
        if self.view is not None and not self.view.channel_id:
            return f"This cannot be paid yet: open a channel with {self._peer()} first (Esc, 4, o)."
        return "This cannot be paid."

    @property
    def fits(self) -> bool:
        """Whether the window shows the whole request at once; not before it is laid out."""
        body = self.query_one("#body")
        return body.max_scroll_y == 0 and body.max_scroll_x == 0 and body.size.height > 0

    # --- time, changes, size -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.phase == "review" and self.view is not None and self.view.expires_at <= time.time():
            self.phase, self.typed = "expired", ""
            self.disarm()
            self._show()
        elif self.phase == "review":
            self._show_title()

    def recheck(self) -> None:
        """Compare what is shown with the record as it is now; a difference in what is signed disarms."""
        view = self.view
        if view is None:
            return
        current = self.bridge.approvals.get(view.request_id)
        before = self.phase
        if current is None:
            if self.phase in ("sent", "paid"):
                self.phase = "paid"
            elif self.phase != "signing":
                self.phase, self._why = "gone", "It was paid or withdrawn elsewhere."
        elif current.state in ("paying", "paid"):
            if self.phase != "signing":
                self.phase = "paid" if current.state == "paid" else "sent"
        elif self.phase in ("review", "changed"):
            found = changes(view, current)
            if found:
                self.phase, self._why = "changed", found
            elif current.state != "waiting":
                self._enter(current)
        elif self.phase == "sent" and current.state == "failed":
            self.phase, self._why = "failed", safe(current.why, 120)
        if self.phase != before:
            self.typed = ""
            self.disarm()
            self._show()
        else:
            self._show_title()

    def on_resize(self) -> None:
        self.remove_class("-tight")
        self.disarm()
        self.call_after_refresh(self._show)

    def _after_layout(self) -> None:
        if self.is_attached:
            self.bound_body()
            self.call_after_refresh(self._after_bounding)

    def _after_bounding(self) -> None:
        """With blank lines if there is room, without if not."""
        if not self.fits and not self.has_class("-tight"):
            self.add_class("-tight")
            self.call_after_refresh(self._after_layout)
        self._show_state()
        self.show_keys()

    def on_armed(self) -> None:
        self._after_bounding()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("pay", "type") and not self._may_pay():
            return None
        if action == "reject" and (self.phase != "review" or self.page != "request"):
            return None
        if action == "look" and self.phase not in ("changed", "failed", "declined", "expired"):
            return None
        return super().check_action(action, parameters)

    def _may_pay(self) -> bool:
        return (
            self.armed
            and self.view is not None
            and self.phase == "review"
            and self.page == "request"
            and self.view.urgency != "blocked"
            and self.view.expires_at > time.time()
            and self.is_current
            and self.fits
        )

    def on_key(self, event: events.Key) -> None:
        if (
            not self.armed
            or event.time < self._arm_at
            or self._urgency != "typed"
            or self.phase != "review"
            or self.page != "request"
        ):
            return
        if event.key == "enter":
            event.stop()
            self._pay_typed()
        elif event.key == "backspace" or (event.character and event.character in "0123456789."):
            event.stop()
            self._note = ""
            self.typed = self.typed[:-1] if event.key == "backspace" else (self.typed + (event.character or ""))[:20]
            self._show_state()

    def _pay_typed(self) -> None:
        if not self.typed or self.view is None:
            return
        try:
            right = parse_amount(self.typed) == self.view.amount_u
        except BadInput:
            right = False
        if right:
            self._pay(typed=True)
        else:
            self._note = "That is not the amount."
            self._show_state()

    def action_pay(self) -> None:
        if self._urgency == "ask":
            self._pay(typed=False)
        else:
            self._note = "Type the amount."
            self._show_state()

    def _pay(self, typed: bool) -> None:
        self.recheck()
        if self.view is None or self.busy or not self._may_pay():
            return
        self.phase, self._signed = "signing", True
        self._show()
        amount, name = format_amount(self.view.amount_u), self._peer()

        def done(view: ApprovalView) -> None:
            self._enter(view)
            if self.phase == "review":
                self.phase, self._why = "failed", "The node did not pay."
            self._show()

        def failed(error: ZsError) -> None:
            self.phase, self._why, self._signed = "failed", str(error), False
            self._show()

        self.execute(
            PayApproval(request=self.view.request_id, amount_u=self.view.amount_u, typed=typed),
            done,
            failed,
            closed=f"Payment of {amount} to {name} signed.",
        )

    def action_reject(self) -> None:
        if self.view is None:
            return

        def done(_: ApprovalView) -> None:
            self.phase = "declined"
            self.disarm()
            self._show()

        self.execute(RejectApproval(request=self.view.request_id), done, self._fail)

    def action_look(self) -> None:
        """After a change or failure: the record as it is now. A declined or expired one is asked for anew."""
        if self.view is None:
            return
        current = self.bridge.approvals.get(self.view.request_id)
        if current is not None and current.state == "waiting" and current.expires_at > time.time():
            self._load(self.view.request_id)
            return

        def done(view: ApprovalView) -> None:
            self._load(view.request_id, view)

        self.execute(ReopenApproval(request=self.view.request_id), done, self._fail)

    def _fail(self, error: ZsError) -> None:
        self._note = str(error)
        self._show_state()

    def _waiting(self) -> list[str]:
        waiting = (v for v in self.bridge.approvals.values() if v.state == "waiting")
        return [v.request_id for v in sorted(waiting, key=lambda v: (v.expires_at, v.request_id))]

    def action_next(self) -> None:
        waiting = self._waiting()
        if self.busy or not [key for key in waiting if key != self._request_id]:
            self._note = "No other request waits."
            self._show_state()
            return
        at = waiting.index(self._request_id) if self._request_id in waiting else -1
        self._load(waiting[(at + 1) % len(waiting)])

    # --- other pages ---------------------------------------------------------------------------------------------------

    def _turn(self, page: Literal["request", "raw", "help"]) -> None:
        self.page, self._note = page, ""
        self.remove_class("-tight")
        self.query_one("#body").scroll_home(animate=False)
        self.disarm()
        self._show()

    def action_help(self) -> None:
        self._turn("request" if self.page == "help" else "help")

    def action_raw(self) -> None:
        if self.page == "raw":
            self._turn("request")
        elif self.view is not None:

            def done(receipt: dict[str, object]) -> None:
                self._raw = safe_lines(json.dumps(receipt, indent=2, ensure_ascii=True))
                self._turn("raw")

            self.execute(ShowReceipt(receipt=self.view.receipt_id), done, self._fail)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._raw if self.page == "raw" else self.query_one(Rows).text)
        self._note = "Copied the text above, if the terminal allows it."
        self._show_state()

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    def action_cancel(self) -> None:
        if self.page == "request":
            self.dismiss(self._signed)
        else:
            self._turn("request")
