"""Pane 4: payment channels: who holds how much, what is at risk, who must act by when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.engine.views import ChannelView
from zstui.screens.channel_details import STATES, History, channel_details, reason, share
from zstui.screens.channel_dialogs import CloseChannelScreen, OpenChannelScreen, at_risk
from zstui.screens.dispute_dialogs import CasesScreen, DisputeScreen
from zstui.screens.dispute_text import about, acts, output_disputes
from zstui.screens.keeping import StatementScreen, backup_notice
from zstui.screens.ledger import LedgerScreen
from zstui.screens.pane import Pane
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
    short_id,
    short_peer,
    until,
)

ORDER = {"disputed": 0, "closing": 1, "opening": 2, "active": 3, "closed": 4}


def _expires(channel: ChannelView) -> Cell:
    left = channel.expires_at - now()
    if channel.state == "closed":
        return Span("-", "faint")
    return Span(duration(left), "warn" if left < 1800 else "") if left > 0 else Span("expired", "error")


def _risk(micro: int) -> Cell:
    return Span(amount(micro), "warn") if micro else Span("-", "faint")


class ChannelsPane(Pane[ChannelView]):
    TITLE = "Channels"
    RECORD = "Channel"
    AREA = "channels"
    ALSO = ("disputes",)
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
            tooltip="What a dispute would mean, or how it stands",
        ),
        Binding(
            "L",
            "ledger",
            "Ledger",
            id="channels.ledger",
            tooltip="What closed channels left owed; debts paid outside",
        ),
        Binding("w", "cases", "Cases", id="channels.cases", tooltip="All disputes: mine, and those I am a witness of"),
        Binding("e", "export", "Statement", id="channels.statement", tooltip="Write a statement of account to a file"),
    ]

    def on_mount(self) -> None:
        self._history = History(self.bridge, self.run_worker, self._seen)

    def _seen(self) -> None:
        self.post_message(self.Note())

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
            Column("Risk", 8, lambda c: _risk(c.at_risk_u), lambda c: -c.at_risk_u, align="right", flex=1, limit=11),
            Column("Their risk", 10, lambda c: _risk(c.at_risk_theirs_u), align="right", above=95),
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
        for dispute in output_disputes(self.bridge, record.channel_id):
            if dispute.must_act:
                return (f"{plain(about(dispute)).capitalize()}: {acts(dispute)} (w).", "warn")
        peer = self.bridge.peers.get(record.peer_id)
        if record.state == "active" and peer is not None and peer.state != "online":
            return (f"{record.peer_name} is {peer.state}: payments are kept and sent when it is back.", "warn")
        left = record.expires_at - now()
        if record.state == "active" and left < 1800:
            return (f"Expires in {duration(left)}: close it together before {until(record.expires_at)} (c).", "warn")
        if record.at_risk_u or record.at_risk_theirs_u:
            return (f"At risk: {at_risk(record)}.", "warn")
        if record.state == "closed" and record.reason:
            return (f"Closed: {reason(record)}.", "muted")
        return (backup_notice(self.bridge.status), "warn")

    def details(self, record: ChannelView, width: int) -> list[Line]:
        return channel_details(record, self.bridge, self._history, width)

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

    def _told(self, channel: ChannelView) -> None:
        self.say(f"The channel with {channel.peer_name} is {channel.state}.")

    def _open_one(self) -> ChannelView | None:
        channel = self.need("channel")
        if channel is not None and channel.state == "closed":
            self.say(f"Channel {short_id(channel.channel_id)} is closed already.")
            return None
        return channel

    def action_dispute(self) -> None:
        if channel := self.need("channel"):
            self.ask(DisputeScreen(self.bridge, channel.channel_id))

    def action_ledger(self) -> None:
        self.ask(LedgerScreen(self.bridge))

    def action_cases(self) -> None:
        self.ask(CasesScreen(self.bridge))

    def action_export(self) -> None:
        self.ask(StatementScreen(self.bridge, self.table.record), lambda path: self.say(f"Written: {path}"))
