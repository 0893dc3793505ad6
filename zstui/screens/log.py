"""Pane 7: what the node did, newest last, and the timeline of whatever one line is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from zstui.bridge import Bridge, WatchedArea
from zstui.engine.views import LogLine
from zstui.screens.pane import Pane
from zstui.screens.widgets.lines import field, heading
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import PEER_PREFIX, Line, Span, clip, clock_time, plain, short_id, short_peer, wrap

LEVELS = ("debug", "info", "warning", "error")
STYLES = {"debug": "faint", "info": "muted", "warning": "warn", "error": "error"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A log line, or with wrapping one row of it; ``number`` counts lines since the start."""

    number: int
    row: int
    line: LogLine
    text: str


def log_line(line: LogLine, width: int) -> Line:
    """One entry of a log tail."""
    head = f"{clock_time(line.at_us / 1e6)} "
    area = f"{plain(line.area)[:10]:<10} "
    style = STYLES[line.level] if line.level in ("warning", "error") else ""
    return (Span(head, "muted"), Span(area, "info"), Span(clip(plain(line.text), width - len(head) - len(area)), style))


class LogPane(Pane[Entry]):
    TITLE = "Log"
    RECORD = "Timeline"
    AREA = "log"
    SORT = "Time"
    FOLLOW = True
    ENTER = "Timeline"
    HELP = (
        "What the node did and what peers did to it. The cursor follows the end while it is on the last line (G goes "
        "there). Enter shows everything that happened to the job, channel or peer of a line, in order."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "wrap", "Wrap", id="log.wrap", tooltip="Show long lines on several rows"),
        Binding("l", "level", "Level", id="log.level", tooltip="Show from debug, info, warning or error up"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self.wrapped = False
        self.level = 1
        self._next = 0
        """Number of the first line that is not in the table yet."""

    def columns(self) -> Sequence[Column[Entry]]:
        return (
            Column(
                "Time",
                8,
                lambda e: Span(clock_time(e.line.at_us / 1e6) if e.row == 0 else "", "muted"),
                lambda e: (e.number, e.row),
            ),
            Column("Level", 7, lambda e: Span(e.line.level if e.row == 0 else "", STYLES[e.line.level])),
            Column("Area", 10, lambda e: Span(plain(e.line.area) if e.row == 0 else "", "info")),
            Column(
                "Text",
                20,
                lambda e: Span(e.text, STYLES[e.line.level] if e.line.level in ("warning", "error") else ""),
                flex=1,
            ),
            Column("About", 9, lambda e: Span(self._about(e.line) if e.row == 0 else "", "muted"), above=90),
        )

    def key(self, record: Entry) -> str:
        return f"{record.number}.{record.row}"

    def records(self) -> Iterable[Entry]:
        return self._entries(self.bridge.log_dropped)

    def _entries(self, start: int) -> Iterable[Entry]:
        """Rows of the lines from number ``start`` on that are of the level."""
        log, dropped = self.bridge.log, self.bridge.log_dropped
        width = self._text_width() if self.wrapped else 0
        for number in range(max(start, dropped), dropped + len(log)):
            line = log[number - dropped]
            if LEVELS.index(line.level) < self.level:
                continue
            text = plain(line.text)
            rows = wrap(text, width) if width > 10 else [text]
            for row, part in enumerate(rows):
                yield Entry(number, row, line, part)
        self._next = dropped + len(log)

    def _changed(self, area: WatchedArea) -> None:
        if not self.display or self.frozen or self.table.descending:
            super()._changed(area)
            return
        needle = self.filter.casefold()
        fresh = [e for e in self._entries(self._next) if not needle or needle in self.words(e).casefold()]
        gone = []
        for index in range(len(self.table)):
            key = self.table.key_at(index)
            if int(key.partition(".")[0]) >= self.bridge.log_dropped:
                break
            gone.append(key)
        self.table.change(fresh, gone)
        self.post_message(self.Note())

    def _text_width(self) -> int:
        return next((width for column, width in self.table.widths if column.title == "Text"), 0)

    @property
    def total(self) -> int:
        return len(self.bridge.log)

    def find(self, key: str) -> Entry | None:
        return None

    def on_resize(self, event: events.Resize) -> None:
        if self.wrapped and self.display:
            self.call_after_refresh(self.reload)

    def words(self, record: Entry) -> str:
        line = record.line
        return f"{line.level} {line.area} {line.text} {line.subject}"

    def note(self, record: Entry) -> tuple[str, str]:
        dropped = f" The oldest {self.bridge.log_dropped} lines were dropped." if self.bridge.log_dropped else ""
        return (
            f"From level {LEVELS[self.level]} up, long lines {'wrapped' if self.wrapped else 'cut'}.{dropped}",
            "muted",
        )

    def details(self, record: Entry, width: int) -> list[Line]:
        line = record.line
        lines: list[Line] = [
            *field("At", clock_time(line.at_us / 1e6), "", width),
            *field("Level", line.level, STYLES[line.level], width),
            *field("Area", line.area, "", width),
            *field("Text", line.text, "", width),
        ]
        for number, row in enumerate(line.detail.splitlines()):
            lines += field("" if number else "Trace", row, "muted", width)
        if not line.subject:
            return lines
        lines += field("About", line.subject, "muted", width)
        lines += heading("Timeline of " + self._about(line), width)
        for entry in self.bridge.log:
            if entry.subject == line.subject and LEVELS.index(entry.level) >= min(1, self.level):
                style = STYLES[entry.level] if entry.level in ("warning", "error") else ""
                lines += field(clock_time(entry.at_us / 1e6), entry.text, style, width)
        return lines

    def copied(self, record: Entry) -> str:
        line = record.line
        return f"{clock_time(line.at_us / 1e6)} {line.level} {plain(line.area)} {plain(line.text)} {plain(line.subject)}".rstrip()

    def _about(self, line: LogLine) -> str:
        """Short form of what the line is about: a peer's name, or the start of an id."""
        peer = self.bridge.peers.get(line.subject)
        if peer is not None:
            return plain(peer.name) or short_peer(peer.peer_id)
        return short_peer(line.subject) if line.subject.startswith(PEER_PREFIX) else short_id(line.subject)

    def empty(self) -> list[str]:
        return [
            "Quiet: nothing to report" + (f" from {LEVELS[self.level]} up (l changes that)." if self.level else ".")
        ]

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_wrap(self) -> None:
        self.wrapped = not self.wrapped
        self.reload()

    def action_level(self) -> None:
        self.level = (self.level + 1) % len(LEVELS)
        self.reload()
