"""The searchable help: what each pane is, and every key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from zstui.screens.keys import Action
from zstui.screens.widgets.lines import LinesView, heading, paragraph
from zstui.screens.widgets.text import Line, Span, fit

TOPICS = (
    (
        "The whole way",
        "Join or create a guild (2). Open a channel with a member (4). Submit a job (3, n). Watch it run. When it is done, "
        "its price waits for you (a, Enter): check it and press p to pay. The peer's score follows (5).",
    ),
    (
        "Money",
        "Amounts are units with up to six decimals. In a demo it is play money. A payment is a newer signed balance of a "
        "channel; only the peer can send it back. A long job asks for its price slice by slice and is held still while one "
        "is unpaid.",
    ),
    (
        "Screen",
        "The first line shows this node: name and key, network, peers, jobs, the money in your channels, and what waits. "
        "Space freezes the list so that you can read it; the node goes on.",
    ),
)


class HelpScreen(ModalScreen[None]):
    """``panes`` are (title, explanation); the group ``first`` comes first. Typing searches."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Back", id="help.close"),
        Binding("f1", "close", "Back", show=False, id="help.close_f1"),
        Binding("up", "scroll(-1)", "Up", show=False, id="help.up"),
        Binding("down", "scroll(1)", "Down", show=False, id="help.down"),
        Binding("pageup", "scroll(-10)", "Page up", show=False, id="help.page_up"),
        Binding("pagedown", "scroll(10)", "Page down", show=False, id="help.page_down"),
    ]

    def __init__(self, panes: Sequence[tuple[str, str]], actions: Sequence[Action], first: str) -> None:
        super().__init__()
        self._panes = sorted(panes, key=lambda pane: pane[0] != first)
        self._actions = actions
        self.view = LinesView()

    def compose(self) -> ComposeResult:
        with Vertical(id="frame") as frame:
            frame.border_title = Content(" Help ")
            yield Input(placeholder="type to search keys and words", compact=True, id="search")
            yield self.view
            yield Static(Content("Esc Back   ↑↓ PgUp PgDn Scroll"), id="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_lines_view_resized(self) -> None:
        self._update()

    def on_input_changed(self) -> None:
        self._update()

    def on_input_submitted(self) -> None:
        self.dismiss(None)

    def _update(self) -> None:
        needle = self.query_one(Input).value.strip()
        self.view.show(self._lines(needle.casefold(), needle, self.view.width), top=True)

    def _lines(self, needle: str, exact: str, width: int) -> list[Line]:
        lines: list[Line] = []

        def found(*texts: str) -> bool:
            return not needle or any(needle in text.casefold() for text in texts)

        groups = [title for title, _ in self._panes] + ["Everywhere", "List"]
        for index, (title, text) in enumerate([*self._panes, ("Everywhere", ""), ("List", "")]):
            group = groups[index]
            rows = [
                a
                for a in self._actions
                if a.group == group and (found(a.title, a.text, a.id) or exact in a.keys.split(" "))
            ]
            about = bool(text) and found(title, text)
            if not rows and not about:
                continue
            lines += heading(title, width)
            if about:
                lines += paragraph(text, "muted", width)
            for action in rows:
                lines += _row(action, width)
        for title, text in TOPICS:
            if found(title, text):
                lines += [*heading(title, width), *paragraph(text, "", width)]
        return lines[1:] if lines else [(Span(f"Nothing about {exact!r}.", "muted"),)]

    def action_scroll(self, step: int) -> None:
        self.view.scroll_relative(y=step, animate=False)

    def action_close(self) -> None:
        self.dismiss(None)


def _row(action: Action, width: int) -> list[Line]:
    keys, title = fit(action.keys, 12), fit(action.title, 11)
    if width < 60:
        return [(Span(keys, "key"), Span(action.text if action.text else action.title))]
    text = "" if action.text == action.title else action.text
    name = f"  {action.id}" if width >= 90 else ""
    return [
        (Span(keys, "key"), Span(title), Span(fit(text, max(0, width - 23 - len(name))), "muted"), Span(name, "faint"))
    ]
