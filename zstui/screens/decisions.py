"""The log of decisions about payments: each with the rule that made it."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from zstui.bridge import Bridge
from zstui.engine.commands import ListDecisions
from zstui.engine.money import format_amount
from zstui.engine.views import DecisionView
from zstui.screens.dialog import Dialog, Keys
from zstui.screens.form import plain_input
from zstui.screens.widgets.lines import LinesView
from zstui.screens.widgets.text import Line, Span, fit, plain, short_id, until, wrap

LIMIT = 500
DECISIONS = {
    "auto": ("paid by rule", "ok"),
    "grant": ("granted", "ok"),
    "pay": ("paid by you", "ok"),
    "paid": ("paid", "ok"),
    "ask": ("asked you", "info"),
    "reopen": ("asked again", "info"),
    "block": ("blocked", "error"),
    "failed": ("failed", "error"),
    "decline": ("declined", "warn"),
    "expire": ("expired", "warn"),
    "superseded": ("in a newer", "muted"),
}
KINDS = {"receipt": "", "note": " (slice)", "refund": " (refund)"}
INDENT = 13


class DecisionsScreen(Dialog[None]):
    """Newest first; typing shows only what contains it."""

    tall = True
    heading = "Decisions about payments, and the rule behind each"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "line(-1)", "Up", show=False, id="decisions.up"),
        Binding("down", "line(1)", "Down", show=False, id="decisions.down"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._decisions: list[DecisionView] | None = None
        self.view = LinesView(id="decisions")

    def content(self) -> ComposeResult:
        yield plain_input(placeholder="type to search: a peer, a rule, a job", id="search")
        yield self.view

    def keys(self) -> Keys:
        return (("↑↓ PgUp PgDn", "Scroll"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self.reread(partial(self.attempt, ListDecisions(limit=LIMIT), self._take))

    def _take(self, decisions: list[DecisionView]) -> None:
        self._decisions = decisions
        self._show()

    def on_lines_view_resized(self) -> None:
        self._show()

    def on_input_changed(self) -> None:
        self._show()

    def _show(self) -> None:
        if self._decisions is None:
            return
        needle = self.query_one(Input).value.strip().casefold()
        lines: list[Line] = []
        for decision in self._decisions:
            if needle in _words(decision):
                lines += _lines(decision, self.view.width)
        self.view.show(lines or [(Span("Nothing here." if needle else "Nothing was asked for yet.", "muted"),)])

    def action_line(self, by: int) -> None:
        self.view.scroll_relative(y=by, animate=False)

    def action_page(self, direction: int) -> None:
        self.view.scroll_relative(y=direction * max(1, self.view.size.height - 1), animate=False)


def _words(d: DecisionView) -> str:
    word = DECISIONS.get(d.decision, (d.decision, ""))[0]
    return f"{word} {d.decision} {d.rule} {d.why} {d.peer_name} {d.module} {d.job_id} {d.kind}".casefold()


def _lines(d: DecisionView, width: int) -> list[Line]:
    word, style = DECISIONS.get(d.decision, (d.decision, ""))
    what = f"{format_amount(d.amount_u)} to {plain(d.peer_name)[:20] or '?'}"
    if d.job_id:
        what += f" for {plain(d.module)[:20]} {short_id(d.job_id)}{KINDS[d.kind]}"
    first: Line = (
        Span(fit(until(d.at), INDENT), "muted"),
        Span(fit(word, INDENT), style),
        Span(fit(what, max(10, width - 2 * INDENT)).rstrip()),
    )
    rows = wrap(plain(f"{d.why} ({d.rule})"), max(10, width - 2 * INDENT))
    return [first, *((Span(" " * 2 * INDENT), Span(row, "muted")) for row in rows)]
