"""Windows that start something in a dispute: filing, showing evidence, disputing an output."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import DisputeChannel, DisputeOutput, SubmitEvidence
from zstui.engine.errors import BadInput
from zstui.engine.evidence_file import documents_in
from zstui.engine.money import format_amount
from zstui.engine.views import ChoiceView, DisputeView, JobView
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.dispute_text import price, when
from zstui.screens.form import Field, FieldError, Form, plain_input
from zstui.screens.values import safe
from zstui.screens.widgets.text import short_id


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
                ("It costs", f"{price(choice)} by your own record; what is decided may differ"),
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


class EvidenceScreen(Form[DisputeView | None]):
    """Shows the witnesses what this node holds, or documents from a file. Dismissed with the dispute, or None."""

    def __init__(self, bridge: Bridge, view: DisputeView, choice: ChoiceView) -> None:
        super().__init__(bridge)
        self._view, self._choice = view, choice
        self.heading = f"EVIDENCE against {safe(view.peer_name, 24)}"

    def content(self) -> ComposeResult:
        yield Rows(
            (
                ("Shown", f"{self._view.evidence_mine} from you, {self._view.evidence_theirs} from the other side"),
                ("You get", f"{format_amount(self._choice.mine_u)} at best"),
                ("It costs", "nothing"),
                ("By", when(self._view.deadline_at)),
            )
        )
        yield Static(
            Content(
                f"{safe(self._choice.text, 400)} What the witnesses have is shown once more and completed; nothing is taken back."
            ),
            classes="gap",
            markup=False,
        )
        yield Field("File", plain_input(placeholder="none: what this node holds"), id="file")
        yield Static("A file adds documents from elsewhere, such as a proof of fraud.", classes="note", markup=False)

    def keys(self) -> Keys:
        return (("Enter", "Show it to the witnesses"), ("Esc", "Back"))

    def submit(self) -> None:
        documents: tuple[bytes, ...] = ()
        if path := self.text_of("file"):
            try:
                documents = documents_in(Path(path).expanduser())
            except BadInput as error:
                raise FieldError("file", str(error)) from error
        self.send(SubmitEvidence(channel=self._view.channel_id, documents=documents), self.dismiss)


class DisputeOutputScreen(Guarded[DisputeView | None]):
    """Says what disputing the output of a job of mine means, and does it. Dismissed with the dispute, or None."""

    GUARDED = frozenset({"submit"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("d", "submit", "Dispute the output", id="output.submit")]

    def __init__(self, bridge: Bridge, job: JobView) -> None:
        super().__init__(bridge)
        self._job = job
        self.heading = f"DISPUTE the output of {safe(job.module, 24)}"

    def content(self) -> ComposeResult:
        job = self._job
        name = safe(job.executor_name, 24)
        yield Rows(
            (
                ("Job", f"{short_id(job.job_id)}, run by {name}"),
                ("Paid", format_amount(job.paid_u)),
                ("It costs", "nothing; the channel stays in use"),
            )
        )
        yield Static(
            Content(
                "The witnesses of the channel on which it was paid run the job again. If enough of them get the same other "
                f"result, {name} is to return what it cost within 24 hours, or gets no more jobs of this guild from you and the "
                "witnesses for a day and longer. If they get the same result, nothing changes."
            ),
            classes="gap",
            markup=False,
        )
        yield Static(
            "The witnesses get its module and its input, and see what you paid. It cannot be taken back.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("d", "Dispute the output"), ("Esc", "Back"))

    def action_submit(self) -> None:
        self.say("Telling the witnesses…")
        self.execute(DisputeOutput(job=self._job.job_id), self.dismiss)
