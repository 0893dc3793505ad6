"""The lines above and below the table: node status, tabs, notes, keys, guide. Each is one widget that paints itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip

from zstui.bridge import Bridge
from zstui.screens.widgets.styles import LineStyles
from zstui.screens.widgets.text import Line, Span, amount, clip, fit, plain, short_peer, width_of, wrap

_NETWORK = re.compile(r"(\S+) \S+:(\d+) ok\Z")


class Bar(LineStyles, can_focus=False):
    """One or more fixed lines; ``lines_for(width)`` says what is on them."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: list[Line] = []

    def lines_for(self, width: int) -> list[Line]:
        raise NotImplementedError

    @property
    def text(self) -> str:
        return "\n".join("".join(span.text for span in line) for line in self._shown)

    def update(self) -> None:
        """Paint again if something differs."""
        fresh = self.lines_for(self.size.width)
        if fresh != self._shown:
            self._shown = fresh
            self.refresh()

    def on_mount(self) -> None:
        self.update()

    def on_resize(self) -> None:
        self.update()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        return self.strip_of(self._shown[y] if y < len(self._shown) else (), self.size.width)


def waiting(bridge: Bridge) -> int:
    """Payment requests that wait for a person."""
    return sum(view.state == "waiting" for view in bridge.approvals.values())


class HeaderBar(Bar):
    """Who I am, the network, peers, jobs, money, and what waits. The least important leaves first where it is narrow."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(id="header")
        self._bridge = bridge

    def lines_for(self, width: int) -> list[Line]:
        bridge, status = self._bridge, self._bridge.status
        if bridge.lost:
            text = f" NODE LOST: {plain(bridge.lost)}. What you see is old. q quits; start zstui again."
            return [(Span(clip(text, width).ljust(width), "alert"),)]
        if status is None:
            return [(Span(" zs", "strong"), Span(" starting…", "muted"))]
        name = plain(status.name) or "me"
        parts: list[tuple[int, Line]] = [
            (0, (Span("zs ", "accent strong"), Span(clip(name, 16), "strong"))),
            (6, (Span(short_peer(status.peer_id), "muted"),)),
        ]
        if status.demo:
            parts.append((1, (Span("PLAY MONEY", "warn strong"),)))
        if match := _NETWORK.match(plain(status.network)):
            parts.append((5, (Span("LAN ", "muted"), Span(f"{match[1]}:{match[2]} "), Span("ok", "ok"))))
        elif status.network.endswith(" ok"):
            parts.append((5, (Span("LAN ", "muted"), Span(plain(status.network)[:-2]), Span("ok", "ok"))))
        else:
            parts.append((2, (Span(clip(plain(status.network) or "no network", 34), "warn"),)))
        parts.append((3, (Span(_count(status.peers, "peer")),)))
        parts.append((8, (Span(_count(status.guilds, "guild")),)))
        parts.append((4, (Span(_count(status.jobs_running, "job")),)))
        parts.append((2, (Span(amount(status.balance_u), "accent"),)))
        if status.owed_to_me_u:
            parts.append((9, (Span("owed me ", "muted"), Span(amount(status.owed_to_me_u), "ok"))))
        if status.i_owe_u:
            parts.append((9, (Span("I owe ", "muted"), Span(amount(status.i_owe_u), "warn"))))
        if not status.accepting:
            parts.append((1, (Span("DRAINING", "warn strong"),)))
        elif status.executor:
            parts.append((10, (Span("runs jobs", "muted"),)))
        if asking := sum(len(guild.knocks) for guild in bridge.guilds.values()):
            parts.append((1, (Span(_count(asking, "knock"), "warn strong"),)))
        if count := waiting(bridge):
            parts.append((0, (Span(f" ! {count} waiting ", "badge"),)))
        return [_joined(parts, width)]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _joined(parts: list[tuple[int, Line]], width: int) -> Line:
    """The parts in order with bars between them, without the least important that do not fit."""
    kept = list(parts)
    while True:
        line: list[Span] = []
        for number, (_, part) in enumerate(kept):
            if number == 1 and part[0].style == "muted" and len(part) == 1:
                line.append(Span(" "))
            elif number:
                line.append(Span(" │ ", "faint"))
            line.extend(part)
        least = max(priority for priority, _ in kept)
        if width_of(line) <= width or not least:
            return tuple(line)
        last = max(index for index, (priority, _) in enumerate(kept) if priority == least)
        del kept[last]


class TabBar(Bar):
    """The numbered panes; a click opens one. The end of the line says what is special about the view."""

    class Chosen(Message):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, titles: Sequence[str], attention: Callable[[int], bool]) -> None:
        super().__init__(id="tabs")
        self._titles = titles
        self._attention = attention
        self.current = 0
        self.flags: tuple[str, ...] = ()
        self._ends: list[int] = []

    def lines_for(self, width: int) -> list[Line]:
        line: list[Span] = []
        self._ends = []
        gap = " " if width >= 66 else ""
        for index, title in enumerate(self._titles):
            marked = self._attention(index)
            style = "tab" if index == self.current else "warn" if marked else ""
            if style:
                line.append(Span(f" {index + 1} {title}{gap}", style))
            else:
                line += [Span(f" {index + 1}", "key"), Span(f" {title}{gap}", "muted")]
            self._ends.append(width_of(line))
        for flag in self.flags:
            if width_of(line) + len(flag) + 3 <= width:
                line += [Span(" "), Span(f" {flag} ", "flag")]
        return [tuple(line)]

    def on_click(self, event: events.Click) -> None:
        for index, end in enumerate(self._ends):
            if event.x < end:
                self.post_message(self.Chosen(index))
                break


class NoteBar(Bar):
    """One line about the cursor's record or the view: a reason, an error, who must act."""

    def __init__(self) -> None:
        super().__init__(id="note")
        self._note: tuple[str, str] = ("", "")

    def say(self, text: str, style: str = "muted") -> None:
        self._note = (plain(text), style)
        self.update()

    def lines_for(self, width: int) -> list[Line]:
        text, style = self._note
        return [(Span(" " + clip(text, width - 2), style),)] if text else [()]


Hint = tuple[str, str]
"""A key as a person reads it, and what it does."""


class HintBar(Bar):
    """Keys of the pane on one line and keys that work everywhere on the next; "? Help" leads and is never cut off."""

    def __init__(self, pane: Callable[[], list[Hint]], everywhere: Callable[[], list[Hint]]) -> None:
        super().__init__(id="hints")
        self._pane = pane
        self._everywhere = everywhere

    def lines_for(self, width: int) -> list[Line]:
        return [self._line(self._pane(), width), self._line(self._everywhere(), width)]

    def _line(self, hints: list[Hint], width: int) -> Line:
        line: list[Span] = []
        used = 0
        for key, label in hints:
            size = cell_len(key) + (cell_len(label) + 1 if label else 0)
            if used + size > width:
                break
            if line:
                line.append(Span("  "))
            line.append(Span(key, "key"))
            if label:
                line.append(Span(f" {label}", "muted"))
            used += size + 2
        return tuple(line)


class GuideBar(Bar):
    """What to do next, for somebody who sees this for the first time."""

    BORDER: ClassVar[str] = "▌"

    def __init__(self, step: Callable[[], str]) -> None:
        super().__init__(id="guide")
        self._step = step

    def lines_for(self, width: int) -> list[Line]:
        head, tail = f"{self.BORDER} Next  ", "  h hides"
        rows = wrap(plain(self._step()), width - cell_len(head) - cell_len(tail) - 1)
        self.styles.height = min(2, len(rows))
        rows = [*rows, ""][:2]
        room = width - cell_len(head) - cell_len(tail) - 1
        return [
            (Span(head, "accent strong"), Span(fit(rows[0], room), "strong"), Span(tail, "muted")),
            (Span(self.BORDER.ljust(cell_len(head)), "accent strong"), Span(rows[1], "strong")),
        ]
