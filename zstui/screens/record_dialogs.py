"""Windows that show one record whole: a job, its output, a peer, a rank."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Log, OptionList, Static
from textual.widgets.option_list import Option

from zstui.bridge import Bridge, WatchedArea
from zstui.engine.commands import GetOutput, NamePeer, ShowReceipt
from zstui.engine.money import format_amount
from zstui.engine.views import JobOutputView, PeerView, RankView
from zstui.screens.dialog import Dialog, Fields, Keys, Rows
from zstui.screens.form import Field, Form, plain_input
from zstui.screens.receipt_text import receipt_text
from zstui.screens.values import named, safe, safe_lines
from zstui.screens.widgets.text import bar, duration, short_id, sparkline, until

TAIL_LINES = 2000
TAIL_BYTES = 256 * 1024
REFRESH = 1.0
"""Seconds between two readings of a growing output."""


class ReadScreen(Dialog[None]):
    """Read-only text of any length."""

    tall = True
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", id="text.copy"),
        Binding("down,j", "line(1)", "Down", show=False),
        Binding("up,k", "line(-1)", "Up", show=False),
    ]

    def __init__(self, bridge: Bridge, heading: str, text: str = "") -> None:
        super().__init__(bridge)
        self.heading = heading
        self._text = safe_lines(text)
        self.copied = ""
        """What is copied instead of the text."""

    def content(self) -> ComposeResult:
        yield Static(Content(self._text), id="text", markup=False)

    def show(self, text: str) -> None:
        self._text = safe_lines(text)
        self.query_one("#text", Static).update(Content(self._text))

    def keys(self) -> Keys:
        return (("↑↓ PgUp PgDn", "Scroll"), ("y", "Copy"), ("Esc", "Close"))

    def action_line(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.copied or self._text)
        self.say("Copied, if the terminal allows it.", "done")


class ReceiptScreen(ReadScreen):
    """A signed receipt with all that belongs to it, as ``zstui receipt verify`` takes it."""

    def __init__(self, bridge: Bridge, receipt_id: str) -> None:
        super().__init__(bridge, f"Receipt {short_id(receipt_id)}")
        self._receipt_id = receipt_id

    def on_mount(self) -> None:
        self.reread(partial(self.attempt, ShowReceipt(receipt=self._receipt_id), self._loaded))

    def _loaded(self, document: dict[str, object]) -> None:
        self.show(receipt_text(document))
        self.copied = json.dumps(document, indent=2, ensure_ascii=True)


class RecordDialog(Dialog[None]):
    """Fields of one record, kept current, and its receipt."""

    area: ClassVar[WatchedArea]
    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy id", id="record.copy")]

    def __init__(self, bridge: Bridge, key: str) -> None:
        super().__init__(bridge)
        self.key = key

    def fields(self) -> Fields | None:
        """What is known now; None once the record is gone."""
        raise NotImplementedError

    def content(self) -> ComposeResult:
        yield Rows(label_width=12, id="fields")

    def on_mount(self) -> None:
        self.follow(self.area, self.reload)
        self.reload()

    def reload(self) -> None:
        fields = self.fields()
        if fields is None:
            self.say("This is gone; what you see is the last that was known.")
        else:
            self.query_one("#fields", Rows).show(fields)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.key)
        self.say(f"Copied, if the terminal allows it: {safe(self.key, 80)}", "done")

    def show_receipt(self, receipt: str) -> None:
        self.app.push_screen(ReceiptScreen(self.bridge, receipt))


class OutputScreen(Dialog[None]):
    """Live tail of a job's output and the file that keeps all of it."""

    tall = True
    AUTO_FOCUS = "Log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "switch", "Errors", id="output.errors"),
        Binding("y", "copy", "Copy path", id="output.copy"),
    ]

    def __init__(self, bridge: Bridge, job_id: str) -> None:
        super().__init__(bridge)
        self._job_id = job_id
        self._view: JobOutputView | None = None
        self._errors = False
        self._shown = ""
        self._read_at = 0.0
        self._due = False
        job = bridge.jobs.get(job_id)
        self.heading = f"Output of job {short_id(job_id)}" + (f"  {safe(job.module)}" if job else "")

    def content(self) -> ComposeResult:
        yield Static("", id="where", markup=False)
        yield Log(id="log", max_lines=TAIL_LINES)

    def keys(self) -> Keys:
        other = "Standard output" if self._errors else "Standard error"
        return (("↑↓ PgUp PgDn", "Scroll"), ("e", other), ("y", "Copy path"), ("Esc", "Close"))

    def on_mount(self) -> None:
        self.follow("output", self._changed)
        self.follow("jobs", self._changed)
        self._read()

    def _changed(self) -> None:
        """Read again, at most every ``REFRESH`` seconds."""
        if self._due or (self._view is not None and self._view.complete):
            return
        self._due = True
        self.set_timer(max(0.0, self._read_at + REFRESH - time.monotonic()) or 0.001, self._read)

    def _read(self) -> None:
        self._due, self._read_at = False, time.monotonic()
        self.reread(partial(self.attempt, GetOutput(job=self._job_id), self._show))

    def _show(self, view: JobOutputView) -> None:
        self._view = view
        data = view.stderr if self._errors else view.stdout
        stream = "standard error" if self._errors else "standard output"
        state = "complete" if view.complete else "still running"
        kept = f"kept in {safe(view.path, 200)}" if view.path else "not kept in a file yet"
        self.query_one("#where", Static).update(Content(f"{stream}, {len(data):,} bytes, {state}; {kept}"))
        tail = data[-TAIL_BYTES:]
        text = safe_lines(tail.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
        if len(data) > len(tail):
            text = "… earlier output is in the file only\n" + text
        log = self.query_one(Log)
        if text.startswith(self._shown) and self._shown:
            log.write(text[len(self._shown) :])
        else:
            log.clear()
            log.write(text or ("nothing" if view.complete else "nothing yet"))
            self.call_after_refresh(log.scroll_end, animate=False)
        self._shown = text

    def action_switch(self) -> None:
        self._errors, self._shown = not self._errors, ""
        self.show_keys()
        if self._view is not None:
            self._show(self._view)

    def action_copy(self) -> None:
        if self._view is not None and self._view.path:
            self.app.copy_to_clipboard(self._view.path)
            self.say(f"Copied, if the terminal allows it: {safe(self._view.path, 200)}", "done")

    def action_page(self, direction: int) -> None:
        log = self.query_one(Log)
        log.scroll_relative(y=direction * max(1, log.size.height - 1), animate=False)


class NamePeerScreen(Form[PeerView | None]):
    """A name of my own for a peer; empty takes it back."""

    heading = "Name this peer"

    def __init__(self, bridge: Bridge, peer_id: str) -> None:
        super().__init__(bridge)
        self._peer_id = peer_id

    def content(self) -> ComposeResult:
        yield Field("Name", plain_input(limit=40), id="name")
        yield Static(
            "Only you see this name; it is tied to the peer's key, so nobody else can take it. Empty takes it back.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Name it"), ("Esc", "Back"))

    def on_mount(self) -> None:
        peer = self.bridge.peers.get(self._peer_id)
        self.query_one("#name", Field).set_text(safe(peer.name) if peer and peer.name else "")

    def submit(self) -> None:
        self.send(NamePeer(peer=self._peer_id, name=self.text_of("name")), self.dismiss)


class RankDetailScreen(RecordDialog):
    """The four factors of a score, and the receipts behind it."""

    area = "ranks"
    AUTO_FOCUS = "OptionList"

    def __init__(self, bridge: Bridge, peer_id: str) -> None:
        super().__init__(bridge, peer_id)
        rank = self._rank()
        self.heading = f"Score of {named(rank.name, peer_id)}" if rank else "Score"

    def _rank(self) -> RankView | None:
        return next((r for r in self.bridge.ranks if r.peer_id == self.key), None)

    def keys(self) -> Keys:
        return (("↑↓", "Choose"), ("Enter", "Show the receipt"), ("y", "Copy peer id"), ("Esc", "Close"))

    def content(self) -> ComposeResult:
        yield from super().content()
        rank = self._rank()
        receipts = rank.receipts if rank else ()
        yield Static("Receipts behind it, latest jobs", classes="section", markup=False)
        if receipts:
            yield OptionList(
                *(Option(safe(r, 64), r) for r in dict.fromkeys(receipts)), id="receipts", markup=False, compact=True
            )
        else:
            yield Static("none yet", markup=False)

    def fields(self) -> Fields | None:
        rank = self._rank()
        return None if rank is None else rank_fields(rank)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self.show_receipt(event.option_id)


def rank_fields(rank: RankView) -> Fields:
    """The score, its four weighted parts, and the counts they come from."""

    def part(value: float, most: float, text: str) -> Content:
        gauge = "".join(span.text for span in bar(value / most if most else 0.0, 20))
        return Content.assemble((gauge, "$primary"), f"  {value:.2f} of {most:.2f}  {text}")

    place = f"place {rank.rank}" if rank.rank is not None else "not ranked: fewer than five jobs, or blocked"
    fields: list[tuple[str, str | Content]] = [
        ("Score", Content.assemble((f"{rank.score:.2f}", "bold"), f"  {place}; halves in 7 days without jobs")),
        ("Success", part(rank.success_part, 0.5, f"{rank.completed} done, {rank.failed} failed")),
        ("Speed", part(rank.speed_part, 0.2, f"{rank.avg_duration_us / 1e6:.1f} s on average")),
        ("Cost", part(rank.cost_part, 0.2, f"{format_amount(rank.avg_cost_u)} on average")),
        ("Longevity", part(rank.longevity_part, 0.1, f"known for {duration(time.time() - rank.first_seen_at)}")),
        ("Trend", sparkline(rank.trend, 24).strip() or "-"),
    ]
    if rank.blacklisted_until is not None:
        text = f"until {until(rank.blacklisted_until)}: {safe(rank.blacklist_reason, 200)}"
        fields.append(("Blocked", Content.styled(text, "bold $text-error")))
    return fields
