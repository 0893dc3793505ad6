"""Pane 4: payment channels: who holds how much, what is at risk, who must act by when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.bridge import Bridge
from zstui.engine.money import MICRO, format_amount
from zstui.engine.views import ChannelView
from zstui.screens.dialogs import CloseChannelScreen, ForceCloseScreen, LedgerScreen, OpenChannelScreen
from zstui.screens.pane import Pane
from zstui.screens.widgets.lines import field, heading, mixed
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import (
    Cell,
    Line,
    Span,
    amount,
    bar,
    duration,
    now,
    plain,
    plot,
    short_id,
    short_peer,
    until,
)

STATES = {"opening": "info", "active": "ok", "closing": "warn", "closed": "muted", "disputed": "error"}
ORDER = {"disputed": 0, "closing": 1, "opening": 2, "active": 3, "closed": 4}
REASONS = {
    "cooperative": "both sides signed the final balance",
    "void": "it never came to be open",
    "verdict": "the witnesses decided",
    "case": "the peer brought it before the witnesses",
}
HISTORY = 120
"""Balances kept for the plot of one channel."""


def share(channel: ChannelView) -> float:
    """My part of what is in the channel."""
    total = channel.mine_u + channel.theirs_u
    return channel.mine_u / total if total else 0.0


def _expires(channel: ChannelView) -> Cell:
    left = channel.expires_at - now()
    if channel.state == "closed":
        return Span("-", "faint")
    return Span(duration(left), "warn" if left < 1800 else "") if left > 0 else Span("expired", "error")


def _reason(channel: ChannelView) -> str:
    """Why it is closed or disputed, in words."""
    return REASONS.get(channel.reason, channel.reason)


def _risk(channel: ChannelView) -> Cell:
    return Span(amount(channel.at_risk_u), "warn") if channel.at_risk_u else Span("-", "faint")


class ChannelsPane(Pane[ChannelView]):
    TITLE = "Channels"
    RECORD = "Channel"
    AREA = "channels"
    SORT = "State"
    HELP = (
        "A channel is a signed balance between you and one peer. Both put in a deposit; each payment is a newer signed "
        "balance with a higher number. Closing settles the last one. A dispute freezes it; without agreement its "
        "witnesses decide after 24 h, or where it has none each side keeps its own record."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "new", "Open", id="channels.open", tooltip="Open a payment channel with a peer"),
        Binding("c", "close", "Close", id="channels.close", tooltip="Close this channel together with the peer"),
        Binding(
            "D",
            "dispute",
            "Dispute",
            id="channels.dispute",
            tooltip="Freeze it; without agreement its witnesses decide after 24 h, or my own record",
        ),
        Binding(
            "L", "ledger", "Ledger", id="channels.ledger", tooltip="What is owed with each peer over closed channels"
        ),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._history: dict[str, deque[float]] = {}

    def on_mount(self) -> None:
        self._unwatch.append(self.bridge.watch("channels", self._remember))
        self._remember()

    def _remember(self) -> None:
        """Keep the balance of channels that changed."""
        for key in self.bridge.changed.get("channels", self.bridge.channels.keys()):
            channel = self.bridge.channels.get(key)
            if channel is None:
                self._history.pop(key, None)
                continue
            history = self._history.setdefault(key, deque(maxlen=HISTORY))
            value = channel.mine_u / MICRO
            if not history or history[-1] != value:
                history.append(value)

    def columns(self) -> Sequence[Column[ChannelView]]:
        return (
            Column(
                "Peer",
                8,
                lambda c: Span(plain(c.peer_name) or short_peer(c.peer_id), "strong"),
                lambda c: c.peer_name.casefold(),
                flex=2,
                limit=24,
            ),
            Column(
                "State", 8, lambda c: Span(c.state, STATES[c.state]), lambda c: (ORDER[c.state], c.peer_name.casefold())
            ),
            Column("Mine", 8, lambda c: amount(c.mine_u), lambda c: -c.mine_u, align="right", flex=1, limit=11),
            Column(
                "Balance",
                12,
                lambda c: bar(share(c), 12, "▓", "░") if c.state != "closed" else Span("settled", "muted"),
                lambda c: -share(c),
            ),
            Column("Theirs", 8, lambda c: amount(c.theirs_u), lambda c: -c.theirs_u, flex=1, limit=11, above=70),
            Column("Risk", 8, _risk, lambda c: -c.at_risk_u, align="right", flex=1, limit=11),
            Column("Seq", 4, lambda c: str(c.sequence), lambda c: -c.sequence, align="right", above=70),
            Column("Expires", 7, _expires, lambda c: c.expires_at, align="right"),
            Column("Chan", 4, lambda c: Span(short_id(c.channel_id), "muted"), above=70),
        )

    def key(self, record: ChannelView) -> str:
        return record.channel_id

    def records(self) -> Iterable[ChannelView]:
        return self.bridge.channels.values()

    def find(self, key: str) -> ChannelView | None:
        return self.bridge.channels.get(key)

    def words(self, record: ChannelView) -> str:
        return f"{record.peer_name} {record.peer_id} {record.channel_id} {record.state} {record.reason}"

    def note(self, record: ChannelView) -> tuple[str, str]:
        if record.action:
            return (record.action, "error" if record.state == "disputed" else "warn")
        peer = self.bridge.peers.get(record.peer_id)
        if record.state == "active" and peer is not None and peer.state != "online":
            return (f"{record.peer_name} is {peer.state}: payments are kept and sent when it is back.", "warn")
        left = record.expires_at - now()
        if record.state == "active" and left < 1800:
            return (f"Expires in {duration(left)}: close it together before {until(record.expires_at)} (c).", "warn")
        if record.at_risk_u:
            return (f"At risk: {format_amount(record.at_risk_u)} of work or payments not settled yet.", "warn")
        return (f"Closed: {_reason(record)}.", "muted") if record.state == "closed" and record.reason else ("", "")

    def details(self, record: ChannelView, width: int) -> list[Line]:
        peer = self.bridge.peers.get(record.peer_id)
        left = record.expires_at - now()
        lines: list[Line] = [
            *field("Peer", f"{record.peer_name or '-'}  {short_peer(record.peer_id)}", "strong", width),
            mixed("State", [Span(record.state, STATES[record.state]), Span(f"  {plain(_reason(record))}", "muted")]),
        ]
        if record.action:
            lines += field("Who acts", record.action, "error" if record.state == "disputed" else "warn", width)
        if peer is not None:
            lines += field("Peer is", peer.state, "ok" if peer.state == "online" else "warn", width)
        lines += field(
            "Expires",
            f"{until(record.expires_at)}, in {duration(left)}" if left > 0 else f"{until(record.expires_at)}, over",
            "",
            width,
        )
        lines += heading("Balance", width)
        lines.append((*bar(share(record), max(10, width - 1), "▓", "░"),))
        lines += field(
            "Mine", f"{format_amount(record.mine_u)}  (put in {format_amount(record.deposit_mine_u)})", "", width
        )
        lines += field(
            "Theirs", f"{format_amount(record.theirs_u)}  (put in {format_amount(record.deposit_theirs_u)})", "", width
        )
        lines += field("At risk", format_amount(record.at_risk_u), "warn" if record.at_risk_u else "", width)
        lines += field(
            "Sequence", f"mine {record.sequence}, theirs {record.sequence_theirs}, epoch {record.epoch}", "", width
        )
        if record.unacknowledged:
            lines += field(
                "Open",
                f"{record.unacknowledged} payment{'' if record.unacknowledged == 1 else 's'} not acknowledged",
                "warn",
                width,
            )
        lines += field("Id", record.channel_id, "", width)
        history = self._history.get(record.channel_id, ())
        if len(history) > 1:
            lines += heading("My balance, payment by payment", width)
            lines += plot(tuple(history), width, 6, "")
        return lines

    def empty(self) -> list[str]:
        return ["No channel: nothing can be paid yet.", "o  open one with a peer"]

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        at = self.table.record
        again = at.peer_id if at is not None and at.state == "closed" else None
        self.ask(OpenChannelScreen(self.bridge, again), self._opened)

    def _opened(self, channel: ChannelView) -> None:
        self.select(channel.channel_id)
        self.say(f"The channel with {channel.peer_name} is {channel.state}.")

    def action_close(self) -> None:
        if channel := self._open_one():
            self.ask(CloseChannelScreen(self.bridge, channel.channel_id), self._told)

    def action_dispute(self) -> None:
        if channel := self._open_one():
            self.ask(ForceCloseScreen(self.bridge, channel), self._told)

    def _told(self, channel: ChannelView) -> None:
        self.say(f"The channel with {channel.peer_name} is {channel.state}.")

    def _open_one(self) -> ChannelView | None:
        channel = self.need("channel")
        if channel is not None and channel.state == "closed":
            self.say(f"Channel {short_id(channel.channel_id)} is closed already.")
            return None
        return channel

    def action_ledger(self) -> None:
        self.ask(LedgerScreen(self.bridge))
