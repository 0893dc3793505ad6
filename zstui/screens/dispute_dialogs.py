"""Windows about a disputed channel: what can be done and what it costs, filing, evidence, verdict, and others' cases.

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
from zstui.engine.commands import DisputeChannel, ListDisputes, ShowDispute, SubmitEvidence
from zstui.engine.money import format_amount
from zstui.engine.views import ChoiceView, DisputeView, VerdictView
from zstui.screens.channel_dialogs import CloseChannelScreen
from zstui.screens.dialog import Dialog, Guarded, Keys, Rows
from zstui.screens.form import Field, FieldError, Form, plain_input
from zstui.screens.record_dialogs import ReadScreen
from zstui.screens.values import safe
from zstui.screens.widgets.text import clip, countdown, now, short_id, until

KEYS: dict[str, str] = {"agree": "t", "file": "d", "unilateral": "a", "evidence": "s", "wait": "-"}
"""What opens the window of each choice; "-": there is nothing to press."""
WITNESS = {
    "silent": ("has not taken the case yet", "$text-warning"),
    "heard": ("has taken the case", ""),
    "ready": ("is ready to sign", ""),
    "signed": ("has signed a verdict", "$text-success"),
}
STYLES = {"none": "$text-success", "decided": "$text-success", "settled": "$text-success", "deciding": "$text-warning"}


def cost_of(choice: ChoiceView) -> str:
    """ "you get 84.250, costs 0.500"."""
    return f"you get {format_amount(choice.mine_u)}, costs {_price(choice)}"


def _price(choice: ChoiceView) -> str:
    if choice.cost_u < 0:
        return f"nothing: {format_amount(-choice.cost_u)} more than your own record"
    return format_amount(choice.cost_u) if choice.cost_u else "nothing"


def when(at: int | None) -> str:
    """A time with what is left until it: "14:05, in 42:10"."""
    if at is None:
        return "no time is set"
    left = at - now()
    return f"{until(at)}, in {countdown(left)}" if left > 0 else f"{until(at)}, over"


def acts(view: DisputeView) -> str:
    """Who must act, and by when."""
    if not view.must_act:
        return "nobody"
    who = view.must_act[:1].upper() + view.must_act[1:]
    return f"{who}: by {when(view.act_by)}" if view.act_by else who


class DisputeScreen(Dialog[None]):
    """One channel's dispute, or what one would mean: who must act by when, what each choice costs, what the witnesses say."""

    tall = True
    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "choose('agree')", "Close together", id="dispute.together"),
        Binding("d", "choose('file')", "Dispute", id="dispute.file"),
        Binding("a", "choose('unilateral')", "Close alone", id="dispute.alone"),
        Binding("s", "choose('evidence')", "Show evidence", id="dispute.evidence"),
        Binding("v", "verdict", "Verdict", id="dispute.verdict"),
        Binding("down,j", "line(1)", "Down", show=False),
        Binding("up,k", "line(-1)", "Up", show=False),
    ]

    def __init__(self, bridge: Bridge, channel_id: str) -> None:
        super().__init__(bridge)
        self._channel_id = channel_id
        self._view = bridge.disputes.get(channel_id)
        self.heading = f"Dispute about channel {short_id(channel_id)}"

    def content(self) -> ComposeResult:
        yield Rows(label_width=11, id="standing")
        yield Static("What you can do", classes="section", id="choices-head", markup=False)
        yield Rows(label_width=4, id="choices")
        yield Static("Witnesses", classes="section", id="witnesses-head", markup=False)
        yield Rows(label_width=4, id="witnesses")

    def keys(self) -> Keys:
        offered: list[tuple[str, str]] = []
        words = {"agree": "Close together", "file": "Dispute", "unilateral": "Close alone", "evidence": "Show evidence"}
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
        self.reread(partial(self.attempt, ShowDispute(channel=self._channel_id), self._take))

    def _take(self, view: DisputeView) -> None:
        self._view = view
        self._show()

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        disputed = view.state not in ("none",)
        with_whom = safe(view.peer_name, 24)
        self.retitle(
            f"DISPUTE with {with_whom}: {view.state}" if disputed else f"What a dispute with {with_whom} would mean"
        )
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
            self.app.push_screen(CloseChannelScreen(self.bridge, self._channel_id))
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
    if view.state not in ("none", "decided", "settled", "unresolved"):
        yield "Must act", Content.styled(safe(acts(view), 200), "bold $text-warning")
        if view.deadline_at is not None:
            yield "Deadline", f"{when(view.deadline_at)}"
    yield "Now", safe(view.text, 600)
    if view.mine_u is not None and view.theirs_u is not None:
        name = safe(view.peer_name, 20)
        yield "My record", f"{format_amount(view.mine_u)} for me, {format_amount(view.theirs_u)} for {name}"
    if view.case_id:
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


class FileDisputeScreen(Form[DisputeView | None]):
    """The irreversible one: a word must be typed. ``choice`` is "file" (witnesses decide) or "unilateral" (nobody does).
    Dismissed with the dispute, or None."""

    danger = True

    def __init__(self, bridge: Bridge, view: DisputeView, choice: ChoiceView) -> None:
        super().__init__(bridge)
        self._view, self._choice = view, choice
        self.word = "dispute" if choice.key == "file" else "alone"
        name = safe(view.peer_name, 24)
        self.heading = (
            f"DISPUTE with {name} before witnesses" if choice.key == "file" else f"CLOSE ALONE, without {name}"
        )

    def content(self) -> ComposeResult:
        choice = self._choice
        yield Rows(
            (
                ("Channel", short_id(self._view.channel_id)),
                ("You get", f"{format_amount(choice.mine_u)} by your own record"),
                ("It costs", f"{_price(choice)} by your own record; what is decided may differ"),
            )
        )
        yield Static(Content(safe(choice.text, 600)), classes="gap", markup=False)
        name = safe(self._view.peer_name, 24)
        yield Static(
            f"If {name} is online and willing, closing together is cheaper for both: Esc, then t.",
            classes="note",
            markup=False,
        )
        yield Field("Type", plain_input(), id="word", unit=f"the word {self.word}, then Enter")

    def keys(self) -> Keys:
        start = "Start the dispute" if self._choice.key == "file" else "Close alone"
        return (("Enter", start), ("Esc", "Back, keep the channel"))

    def submit(self) -> None:
        if self.text_of("word").lower() != self.word:
            raise FieldError("word", f"Type the word {self.word}, or Esc to keep the channel.")
        self.send(DisputeChannel(channel=self._view.channel_id), self.dismiss)


class EvidenceScreen(Guarded[DisputeView | None]):
    """Shows the witnesses what this node holds. Dismissed with the dispute, or None."""

    GUARDED = frozenset({"submit"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "submit", "Show it", id="evidence.submit")]

    def __init__(self, bridge: Bridge, view: DisputeView, choice: ChoiceView) -> None:
        super().__init__(bridge)
        self._view, self._choice = view, choice
        self.heading = f"EVIDENCE against {safe(view.peer_name, 24)}"

    def content(self) -> ComposeResult:
        yield Rows(
            (
                ("Shown", f"{self._view.evidence_mine} submissions of yours, {self._view.evidence_theirs} of theirs"),
                ("You get", f"{format_amount(self._choice.mine_u)} at best"),
                ("It costs", "nothing"),
                ("By", when(self._view.deadline_at)),
            )
        )
        yield Static(
            Content(
                f"{safe(self._choice.text, 400)} What the witnesses have is shown once more and completed; nothing is taken "
                "back. Documents from elsewhere: zstui channel evidence CHANNEL FILE."
            ),
            classes="gap",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("s", "Show the witnesses what I hold"), ("Esc", "Back"))

    def action_submit(self) -> None:
        self.say("Asking the witnesses…")
        self.execute(SubmitEvidence(channel=self._view.channel_id), self.dismiss)


class VerdictScreen(ReadScreen):
    """What was decided, or would be on what was shown; it decides nothing itself."""

    def __init__(self, bridge: Bridge, dispute: DisputeView, verdict: VerdictView) -> None:
        kind = "VERDICT" if verdict.final else "NOT DECIDED YET: what would be decided"
        super().__init__(
            bridge, f"{kind}, channel {short_id(dispute.channel_id)}", "\n".join(_verdict(dispute, verdict))
        )


def _verdict(dispute: DisputeView, verdict: VerdictView) -> Iterator[str]:
    yield f"{verdict.signatures} of {len(dispute.witnesses)} witnesses signed this; {verdict.needed} decide."
    yield ""
    yield verdict.text
    yield ""
    if verdict.mine_u is not None and verdict.theirs_u is not None:
        yield f"You get        {format_amount(verdict.mine_u)}"
        yield f"The peer gets  {format_amount(verdict.theirs_u)}"
        if dispute.mine_u is not None:
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
        cases.add_options([Option(_case(v), v.channel_id) for v in views])
        if not views:
            cases.add_option(Option("none", disabled=True))
        elif at is not None:
            cases.highlighted = min(at, len(views) - 1)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.app.push_screen(DisputeScreen(self.bridge, event.option_id))


def _case(view: DisputeView) -> str:
    name = clip(safe(view.peer_name, 20), 20)
    role = "witness" if view.role == "witness" else "mine"
    return f"{short_id(view.channel_id)}  {role:8} {name:20} {view.state:11} {safe(acts(view), 120)}"
