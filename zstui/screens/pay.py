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
from zstui.engine.errors import ZsError
from zstui.engine.money import format_amount
from zstui.engine.views import ApprovalView
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.pay_review import DIGITS, Review
from zstui.screens.pay_text import HELP, fields, kind_of
from zstui.screens.values import safe_lines
from zstui.screens.widgets.text import countdown


class PayScreen(Guarded[bool]):
    """Shows the request ``request_id`` as it was when the window opened; dismissed with whether anything was signed."""

    CSS_PATH: ClassVar[Any] = ["dialog.tcss", "pay.tcss"]
    GUARDED = frozenset({"pay", "allow", "reject", "look"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help", id="pay.help"),
        Binding("p", "pay", "Pay", id="pay.pay"),
        Binding("A", "allow", "Allow the job", id="pay.allow"),
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
        self.review = Review()
        self.page: Literal["request", "raw", "help"] = "request"
        self._request_id = request_id
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
        if self.review.allowing:
            return (("Enter", "Pay and allow the job"), ("Esc", "Only this slice"), ("n", "Next"), ("y", "Copy"))
        after: Keys = (("Esc", "Later"), ("n", "Next"), ("v", "Raw receipt"), ("y", "Copy"))
        match self.review.phase:
            case "review":
                pay = ("Enter", "Pay") if self.review.urgency == "typed" else ("p", "Pay")
                payable = self.review.urgency != "blocked" and self.fits
                allow: Keys = (("A", "Allow the job"),) if self.review.can_allow else ()
                decide: Keys = (pay, *allow, ("r", "Reject")) if payable else (("r", "Reject"),)
                return (("?", "Help"), *decide, *after)
            case "changed" | "failed" | "declined" | "expired" | "superseded":
                word = "Ask again" if self.review.phase in ("declined", "expired") else "Look again"
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
        self.review.load(view or self.bridge.approvals.get(request_id), time.time())
        self._raw = self._note = ""
        self.page = "request"
        self.remove_class("-tight")
        self.disarm()
        self._show()

    def _show(self) -> None:
        self._show_title()
        request, page = self.query_one(Rows), self.query_one("#page", Static)
        request.display = self.page == "request"
        page.display = not request.display
        page.update(Content(HELP if self.page == "help" else self._raw))
        request.show(() if self.review.view is None else fields(self.review.view))
        warning = self.query_one("#warning", Static)
        warning.display = request.display and self.review.phase == "review" and self.review.urgency != "blocked"
        warning.update(
            Content.styled(
                f"A signed payment cannot be undone. Only {self.review.payee} can send it back.", "$text-warning"
            )
        )
        self._show_state()
        self.show_keys()
        frame = self.query_one("#frame")
        frame.set_class(
            self.review.phase in ("failed", "changed", "gone") or self.review.urgency == "blocked", "-blocked"
        )
        frame.set_class(self.review.phase == "paid", "-done")
        self.refresh_bindings()
        self.call_after_refresh(self._after_layout)

    def _show_title(self) -> None:
        view = self.review.view
        if view is None:
            self.retitle("PAY: this request is gone")
            return
        waiting = self._waiting()
        place = (
            f"request {waiting.index(view.request_id) + 1} of {len(waiting)}   " if view.request_id in waiting else ""
        )
        rest = view.expires_at - time.time()
        if kind := kind_of(view):
            place = f"{kind}   {place}"
        end = f"expires in {countdown(rest)}" if self.review.phase == "review" else self.review.phase.upper()
        self.retitle(f"PAY {format_amount(view.amount_u)} to {self.review.payee}?   {place}{end}")

    def _show_state(self) -> None:
        """The line between the request and the keys, outside what may scroll."""
        if self.page == "request":
            word, style, text = self.review.words(fits=self.fits, armed=self.armed)
            note = f"   {self._note}" if self._note else ""
            self.show_message(Content.assemble((word, f"bold {style}"), f"  {text}{note}"))
        else:
            self.say(self._note)

    @property
    def fits(self) -> bool:
        """Whether the window shows the whole request at once; not before it is laid out."""
        body = self.query_one("#body")
        return body.max_scroll_y == 0 and body.max_scroll_x == 0 and body.size.height > 0

    # --- time, changes, size -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.review.expire(time.time()):
            self.disarm()
            self._show()
        elif self.review.phase == "review":
            self._show_title()

    def recheck(self) -> None:
        """Compare what is shown with the record as it is now; a difference in what is signed disarms."""
        view = self.review.view
        if view is None:
            return
        if self.review.recheck(self.bridge.approvals.get(view.request_id), time.time()):
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
        if action in ("pay", "allow") and not self._may_pay():
            return None
        if action == "reject" and (self.review.phase != "review" or self.page != "request"):
            return None
        if action == "look" and self.review.phase not in ("changed", "failed", "declined", "expired", "superseded"):
            return None
        return super().check_action(action, parameters)

    def _may_pay(self) -> bool:
        return (
            self.armed
            and self.review.view is not None
            and self.review.phase == "review"
            and self.page == "request"
            and self.review.view.urgency != "blocked"
            and self.review.view.expires_at > time.time()
            and self.is_current
            and self.fits
        )

    def on_key(self, event: events.Key) -> None:
        if (
            not self.armed
            or event.time < self._arm_at
            or not (self.review.urgency == "typed" or self.review.allowing)
            or self.review.phase != "review"
            or self.page != "request"
        ):
            return
        if event.key == "enter":
            event.stop()
            self._pay_typed()
        elif event.key == "backspace" or (event.character and event.character in DIGITS):
            event.stop()
            self._note = ""
            self.review.type("" if event.key == "backspace" else event.character or "")
            self._show_state()

    def _pay_typed(self) -> None:
        if not self.review.typed or self.review.view is None:
            return
        if self.review.allowing:
            self._pay_and_allow()
        elif self.review.amount_is_right():
            self._pay(typed=True)
        else:
            self._note = "That is not the amount."
            self._show_state()

    def _pay_and_allow(self) -> None:
        if (up_to := self.review.job_up_to()) is not None:
            self._pay(typed=True, job_up_to_u=up_to)
        else:
            self._note = "That is not such an amount."
            self._show_state()

    def action_allow(self) -> None:
        """Ask how much the rest of this job may be paid; the amount has to be typed."""
        if self.review.can_allow and not self.review.allowing:
            self._ask_to_allow(True)

    def _ask_to_allow(self, asking: bool) -> None:
        self.review.allow(asking)
        self._note = ""
        self.disarm()
        self._show()

    def action_pay(self) -> None:
        if self.review.allowing:
            self._note = "Type the amount, or Esc for this slice alone."
            self._show_state()
        elif self.review.urgency == "ask":
            self._pay(typed=False)
        else:
            self._note = "Type the amount."
            self._show_state()

    def _pay(self, typed: bool, job_up_to_u: int | None = None) -> None:
        self.recheck()
        if self.review.view is None or self.busy or not self._may_pay():
            return
        self.review.phase, self._signed = "signing", True
        self._show()
        amount, name = format_amount(self.review.view.amount_u), self.review.payee

        def done(view: ApprovalView) -> None:
            self.review.enter(view, time.time())
            if self.review.phase == "review":
                self.review.fail("The node did not pay.")
            self._show()

        def failed(error: ZsError) -> None:
            self._signed = False
            self.review.fail(str(error))
            self._show()

        self.execute(
            PayApproval(
                request=self.review.view.request_id,
                amount_u=self.review.view.amount_u,
                typed=typed,
                job_up_to_u=job_up_to_u,
            ),
            done,
            failed,
            closed=f"Payment of {amount} to {name} signed.",
        )

    def action_reject(self) -> None:
        if self.review.view is None:
            return

        def done(_: ApprovalView) -> None:
            self.review.phase = "declined"
            self.disarm()
            self._show()

        self.execute(RejectApproval(request=self.review.view.request_id), done, self._fail)

    def action_look(self) -> None:
        """After a change or failure: the record as it is now. A declined or expired one is asked for anew."""
        if self.review.view is None:
            return
        current = self.bridge.approvals.get(self.review.view.request_id)
        if current is not None and current.state == "waiting" and current.expires_at > time.time():
            self._load(self.review.view.request_id)
            return
        if self.review.phase == "superseded":
            self._load(self._newer(self.review.view))
            return

        def done(view: ApprovalView) -> None:
            self._load(view.request_id, view)

        self.execute(ReopenApproval(request=self.review.view.request_id), done, self._fail)

    def _newer(self, view: ApprovalView) -> str:
        """The bill that waits for the same job in its place; the same where none does any more."""
        waiting = (v for v in self.bridge.approvals.values() if v.job_id == view.job_id and v.state == "waiting")
        return next((v.request_id for v in waiting), view.request_id)

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
        elif self.review.view is not None:

            def done(receipt: dict[str, object]) -> None:
                self._raw = safe_lines(json.dumps(receipt, indent=2, ensure_ascii=True))
                self._turn("raw")

            self.execute(ShowReceipt(receipt=self.review.view.receipt_id), done, self._fail)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._raw if self.page == "raw" else self.query_one(Rows).text)
        self._note = "Copied the text above, if the terminal allows it."
        self._show_state()

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    def action_cancel(self) -> None:
        if self.review.allowing:
            self._ask_to_allow(False)
        elif self.page == "request":
            self.dismiss(self._signed)
        else:
            self._turn("request")
