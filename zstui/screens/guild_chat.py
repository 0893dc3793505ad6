"""The encrypted talk of one guild, with what its system tells in between."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from textual.app import ComposeResult

from zstui.bridge import Bridge
from zstui.engine.commands import ListMessages, SendMessage
from zstui.engine.views import GuildMessageView, GuildView
from zstui.screens.dialog import Keys
from zstui.screens.form import Field, Form, plain_input
from zstui.screens.values import safe
from zstui.screens.widgets.lines import LinesView
from zstui.screens.widgets.text import Line, Span, clip, fit, plain, short_peer, width_of, wrap

MESSAGES = 500
"""The latest that are shown."""
NAME = 12
INDENT = 6 + NAME + 2


class MessagesScreen(Form[None]):
    """Opening it marks the guild's messages read, and so does each that arrives meanwhile."""

    tall = True

    def __init__(self, bridge: Bridge, guild_id: str) -> None:
        super().__init__(bridge)
        self._guild_id = guild_id
        self._messages: list[GuildMessageView] = []
        self._fetched = False
        self._log = LinesView(id="messages")
        guild = self._guild
        self._unread = guild.unread if guild is not None else 0
        self.heading = f"Chat of {safe(guild.name)}" if guild else "Chat"

    @property
    def _guild(self) -> GuildView | None:
        return self.bridge.guilds.get(self._guild_id)

    @property
    def _may_write(self) -> bool:
        guild = self._guild
        return guild is not None and guild.state == "joined" and guild.role != "observer"

    def content(self) -> ComposeResult:
        yield self._log
        if self._may_write:
            yield Field("Say", plain_input(placeholder="a message to all members", limit=1000), id="text")

    def keys(self) -> Keys:
        send = (("Enter", "Send"),) if self._may_write else ()
        return (*send, ("PgUp PgDn", "Scroll"), ("Esc", "Close"))

    def on_mount(self) -> None:
        self._unwatch.append(self.bridge.watch("messages", lambda: self._changed("messages")))
        self._unwatch.append(self.bridge.watch("guilds", lambda: self._changed("guilds")))
        if not self._may_write:
            guild = self._guild
            reads = guild is not None and guild.state == "joined"
            self.say(
                "Observers read along and do not write." if reads else "This guild is over; nothing can be said in it."
            )
        self._fetch()

    def _changed(self, area: str) -> None:
        """More was said here, or more members have what was said."""
        if self._guild_id in self.bridge.changed.get(area, ()):
            self.call_later(self._if_open, self._fetch)

    def _fetch(self) -> None:
        self.reread(partial(self.attempt, ListMessages(guild=self._guild_id), self._show))

    def _show(self, messages: list[GuildMessageView]) -> None:
        self._messages, self._fetched = messages[-MESSAGES:], True
        self._paint()

    def on_lines_view_resized(self) -> None:
        self._paint()

    def _paint(self) -> None:
        if not self._log.width or not self._fetched:
            return
        log = self._log
        at_end = log.scroll_offset.y >= log.max_scroll_y
        me = self.bridge.status.peer_id if self.bridge.status else ""
        log.show(chat_lines(self._messages, me, self._unread, log.width))
        if at_end:
            self.call_after_refresh(log.scroll_end, animate=False)

    def submit(self) -> None:
        if self._may_write and (text := self.text_of("text")):
            self.send(SendMessage(guild=self._guild_id, text=text), self._sent)

    def _sent(self, _: GuildMessageView) -> None:
        self.say("")
        self._unread = 0
        self.query_one("#text", Field).set_text("")
        self._log.scroll_end(animate=False)
        self._fetch()

    def action_page(self, direction: int) -> None:
        self._log.scroll_relative(y=direction * max(1, self._log.size.height - 1), animate=False)


def chat_lines(messages: Sequence[GuildMessageView], me: str, unread: int, width: int) -> list[Line]:
    """Messages in order, with a rule before each day and before the last ``unread`` that others wrote."""
    if not messages:
        return [(Span("Nothing was said yet.", "muted"),)]
    lines: list[Line] = []
    day = ""
    mark = _first_unread(messages, me, unread)
    for number, message in enumerate(messages):
        local = time.localtime(message.sent_at)
        if (today := time.strftime("%a %d %b", local)) != day:
            day = today
            lines.append(_rule(day, "faint", width))
        if number == mark:
            lines.append(_rule(f"{unread} new", "accent", width))
        lines += _message(message, time.strftime("%H:%M ", local), message.sender == me, width)
    return lines


def _first_unread(messages: Sequence[GuildMessageView], me: str, unread: int) -> int:
    """The place of the oldest of the last ``unread`` lines by others; -1 for none."""
    places = [n for n, message in enumerate(messages) if not message.system and message.sender != me]
    return places[-unread] if 0 < unread <= len(places) else -1


def _rule(text: str, style: str, width: int) -> Line:
    return (Span(f"── {text} ".ljust(width, "─"), style),)


def _message(message: GuildMessageView, at: str, mine: bool, width: int) -> list[Line]:
    if message.system:
        rows = wrap(plain(message.text), max(8, width - 8))
        return [(Span(at if n == 0 else " " * 6, "faint"), Span(f"· {row}", "muted")) for n, row in enumerate(rows)]
    name = fit(clip(plain(message.sender_name) or short_peer(message.sender), NAME), NAME)
    rows = wrap(plain(message.text), max(8, width - INDENT))
    lines: list[Line] = [
        (
            Span(at if n == 0 else " " * 6, "faint"),
            Span((name if n == 0 else " " * NAME) + "  ", "accent" if mine else "strong"),
            Span(row),
        )
        for n, row in enumerate(rows)
    ]
    state = delivery(message) if mine else ""
    if state and width_of(lines[-1]) + len(state) + 2 <= width:
        gap = width - width_of(lines[-1]) - len(state)
        lines[-1] = (*lines[-1], Span(" " * gap + state, "faint" if "all" in state else "warn"))
    elif state:
        lines.append((Span(state.rjust(width), "warn"),))
    return lines


def delivery(message: GuildMessageView) -> str:
    """Who is known to have a line of mine; "" where there is nobody else."""
    if not message.recipients:
        return ""
    if message.delivered >= message.recipients:
        return f"all {message.recipients} have it"
    return f"{message.delivered} of {message.recipients} have it"
