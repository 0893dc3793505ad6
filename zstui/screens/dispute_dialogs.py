"""Windows about disputes: what can be done and what it costs, the verdict, and others' cases.

Closing together (``t``) and a dispute (a typed word) never share a key, a title or a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import ListDisputes, ShowDispute
from zstui.engine.money import format_amount
from zstui.engine.views import DisputeView, VerdictView
from zstui.screens.channel_dialogs import CloseChannelScreen
from zstui.screens.dialog import Dialog, Keys, Rows
from zstui.screens.dispute_forms import EvidenceScreen, FileDisputeScreen
from zstui.screens.dispute_text import STYLES, WITNESS, about, acts, cost_of, when
from zstui.screens.pay import PayScreen
from zstui.screens.record_dialogs import ReadScreen
from zstui.screens.values import safe
from zstui.screens.widgets.text import clip, short_id, until

KEYS: dict[str, str] = {
    "agree": "t",
    "file": "d",
    "unilateral": "a",
    "evidence": "s",
    "refund": "p",
    "wait": "-",
    "refuse": "-",
}
"""What opens the window of each choice; "-": there is nothing to press."""


class DisputeScreen(Dialog[None]):
    """One channel's dispute, or what one would mean: who must act by when, what each choice costs, what the witnesses say."""

    tall = True
    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "choose('agree')", "Close together", id="dispute.together"),
        Binding("d", "choose('file')", "Dispute", id="dispute.file"),
        Binding("a", "choose('unilateral')", "Close alone", id="dispute.alone"),
        Binding("s", "choose('evidence')", "Show evidence", id="dispute.evidence"),
        Binding("p", "choose('refund')", "Refund", id="dispute.refund"),
        Binding("v", "verdict", "Verdict", id="dispute.verdict"),
        Binding("down,j", "line(1)", "Down", show=False),
        Binding("up,k", "line(-1)", "Up", show=False),
    ]

    def __init__(self, bridge: Bridge, key: str) -> None:
        """``key``: the channel whose balances are disputed, or the case about an output."""
        super().__init__(bridge)
        self._key = key
        self._view = bridge.disputes.get(key)
        self.heading = f"Dispute {short_id(key)}"

    def content(self) -> ComposeResult:
        yield Rows(label_width=11, id="standing")
        yield Static("What you can do", classes="section", id="choices-head", markup=False)
        yield Rows(label_width=4, id="choices")
        yield Static("Witnesses", classes="section", id="witnesses-head", markup=False)
        yield Rows(label_width=4, id="witnesses")

    def keys(self) -> Keys:
        offered: list[tuple[str, str]] = []
        words = {
            "agree": "Close together",
            "file": "Dispute",
            "unilateral": "Close alone",
            "evidence": "Show evidence",
            "refund": "Refund",
        }
        for choice in self._view.choices if self._view is not None else ():
            if choice.key in words:
                offered.append((KEYS[choice.key], words[choice.key] + "…"))
        if self._view is not None and self._view.verdict is not None:
            offered.append(("v", "Verdict"))
        return (*offered, ("↑↓", "Scroll"), ("Esc", "Back, change nothing"))

    def on_mount(self) -> None:
        self.follow("disputes", self._changed)
        self.follow("channels", self._changed)
        self.set_interval(1.0, self._show)
        self._changed()

    def _changed(self) -> None:
        self.reread(partial(self.attempt, ShowDispute(channel=self._key), self._take))

    def _take(self, view: DisputeView) -> None:
        self._view = view
        self._show()

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        disputed = view.state not in ("none",)
        with_whom = safe(view.peer_name, 24)
        what = f"output of {safe(view.module, 20)}, run by " if view.kind == "output" else ""
        runner = safe(view.peer_name, 20) if not view.job_id or view.filed_by_me or view.role == "witness" else "you"
        title = f"DISPUTE about the {what}{runner}: {view.state}" if what else f"DISPUTE with {with_whom}: {view.state}"
        self.retitle(title if disputed else f"What a dispute with {with_whom} would mean")
        self.query_one("#standing", Rows).show(_standing(view))
        choices, witnesses = list(_choices(view)), list(_witnesses(view))
        self.query_one("#choices", Rows).show(choices)
        self.query_one("#choices-head").display = bool(choices)
        self.query_one("#witnesses", Rows).show(witnesses)
        self.query_one("#witnesses-head").display = bool(witnesses)
        self.show_keys()

    def action_choose(self, key: str) -> None:
        view = self._view
        choice = None if view is None else next((c for c in view.choices if c.key == key), None)
        if view is None or choice is None:
            self.say("That cannot be done now.")
        elif key == "agree":
            self.app.push_screen(CloseChannelScreen(self.bridge, self._key))
        elif key == "refund":
            self.app.push_screen(PayScreen(self.bridge, view.request_id))
        elif key == "evidence":
            self.app.push_screen(EvidenceScreen(self.bridge, view, choice), self._done)
        else:
            self.app.push_screen(FileDisputeScreen(self.bridge, view, choice), self._done)

    def _done(self, view: DisputeView | None) -> None:
        if view is not None:
            self._take(view)

    def action_verdict(self) -> None:
        if self._view is not None and self._view.verdict is not None:
            self.app.push_screen(VerdictScreen(self.bridge, self._view, self._view.verdict))

    def action_line(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)


def _standing(view: DisputeView) -> Iterator[tuple[str, str | Content]]:
    yield "State", Content.styled(view.state, f"bold {STYLES.get(view.state, '$text-error')}")
    if view.role == "witness":
        yield "You are", f"a witness; {safe(view.filed_by_name, 24)} filed it against {safe(view.peer_name, 24)}"
    if view.reason and view.state != "settled":
        yield "Why", safe(view.reason, 200)
    if view.filed_by:
        yield "Filed by", ("you" if view.filed_by_me else safe(view.filed_by_name, 24)) + f", {until(view.filed_at)}"
    if view.must_act and view.state != "none":
        yield "Must act", Content.styled(safe(acts(view), 200), "bold $text-warning")
        if view.deadline_at is not None:
            yield "Deadline", f"{when(view.deadline_at)}"
    yield "Now", safe(view.text, 600)
    if view.mine_u is not None and view.theirs_u is not None:
        name = safe(view.peer_name, 20)
        yield "My record", f"{format_amount(view.mine_u)} for me, {format_amount(view.theirs_u)} for {name}"
    if view.kind == "output":
        yield "At stake", f"{format_amount(view.refund_u)}, what was paid for job {short_id(view.job_id)}"
    elif view.case_id:
        whose = "filer" if view.role == "witness" else "you"
        yield "Evidence", f"{view.evidence_mine} from {whose}, {view.evidence_theirs} from {safe(view.peer_name, 20)}"
    if view.verdict is not None and view.verdict.final:
        yield "Verdict", Content.styled(safe(view.verdict.text, 400), "bold")
    for fraud in view.frauds:
        yield "Fault", Content.styled(f"{safe(fraud.culprit_name, 24)}: {safe(fraud.words, 200)}", "$text-error")


def _choices(view: DisputeView) -> Iterator[tuple[str, str | Content]]:
    for choice in view.choices:
        key = KEYS[choice.key]
        yield f" {key}", Content.assemble((safe(choice.title, 60), "bold"), f": {cost_of(choice)}")
        yield "", safe(choice.text, 400)


def _witnesses(view: DisputeView) -> Iterator[tuple[str, str | Content]]:
    for witness in view.witnesses:
        word, style = WITNESS[witness.state]
        agreed = "" if witness.agrees is None else ", as decided" if witness.agrees else ", NOT as decided"
        since = f" ({until(witness.heard_at)})" if witness.state == "heard" and witness.heard_at else ""
        yield "", Content.assemble(f"{safe(witness.name, 24)} ", (f"{word}{since}{agreed}", style))
    if view.witnesses:
        count = len(view.witnesses)
        yield "", f"{view.needed} equal verdicts of {count} decide." if count > 1 else "Its verdict decides."


class VerdictScreen(ReadScreen):
    """What was decided, or would be on what was shown; it decides nothing itself."""

    def __init__(self, bridge: Bridge, dispute: DisputeView, verdict: VerdictView) -> None:
        kind = "VERDICT" if verdict.final else "NOT DECIDED YET: what would be decided"
        super().__init__(bridge, f"{kind}, {about(dispute)}", "\n".join(_verdict(dispute, verdict)))


def _verdict(dispute: DisputeView, verdict: VerdictView) -> Iterator[str]:
    yield f"{verdict.signatures} of {len(dispute.witnesses)} witnesses signed this; {verdict.needed} decide."
    yield ""
    yield verdict.text
    yield ""
    if verdict.mine_u is not None and verdict.theirs_u is not None:
        yield f"You get        {format_amount(verdict.mine_u)}"
        yield f"The peer gets  {format_amount(verdict.theirs_u)}"
        if dispute.mine_u is not None and verdict.kind == "balance":
            differs = format_amount(abs(verdict.mine_u - dispute.mine_u))
            yield f"Your record    {format_amount(dispute.mine_u)}, a difference of {differs}"
    yield ""
    for witness in dispute.witnesses:
        yield f"{clip(witness.name or witness.peer_id, 24)}: {WITNESS[witness.state][0]}"
    for fraud in dispute.frauds:
        proof = "proven by two signed documents" if fraud.proven else "found by the verdict"
        yield f"{clip(fraud.culprit_name, 24)}: {fraud.words} ({proof}; penalty until {until(fraud.until)})"


class CasesScreen(Dialog[None]):
    """Disputed channels of mine, and cases of others that this node witnesses. Enter opens one."""

    tall = True
    heading = "Disputes: mine, and those I am a witness of"

    def content(self) -> ComposeResult:
        yield OptionList(id="cases", markup=False, compact=True)
        yield Static(
            "A witness need not do anything: this node takes evidence and signs its verdict by itself.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("↑↓", "Choose"), ("Enter", "Open"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self.follow("disputes", self._read)
        self._read()

    def _read(self) -> None:
        self.reread(partial(self.attempt, ListDisputes(), self._list))

    def _list(self, views: list[DisputeView]) -> None:
        cases = self.query_one("#cases", OptionList)
        at = cases.highlighted
        cases.clear_options()
        cases.add_options([Option(_case(v), v.key) for v in views])
        if not views:
            cases.add_option(Option("no dispute of yours, and none to witness", disabled=True))
        else:
            cases.highlighted = min(at or 0, len(views) - 1)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.app.push_screen(DisputeScreen(self.bridge, event.option_id))


def _case(view: DisputeView) -> str:
    name = clip(safe(view.peer_name, 16), 16)
    role = "witness" if view.role == "witness" else "mine"
    return f"{clip(about(view), 22):22} {role:8} {name:16} {view.state:11} {safe(acts(view), 120)}"
