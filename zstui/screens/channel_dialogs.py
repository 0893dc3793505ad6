"""Windows about payment channels: open one, close one together. What is done against a peer is in ``dispute_dialogs``."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import CloseChannel, OpenChannel
from zstui.engine.errors import BadInput
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import ChannelView
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, parse_duration, safe
from zstui.screens.widgets.text import short_id, until

WITNESSES = (("", "up to 4"), ("0", "none"), ("1", "1"), ("4", "4"), ("7", "7"))
DRIVERS = (("ledger", "ledger"), ("manual", "manual: settled outside, both sign"))
LIVE = ("opening", "active", "closing", "disputed")


def _positive(text: str) -> int:
    amount = parse_amount(text)
    if amount == 0:
        raise BadInput("Give an amount above zero, such as 100.")
    return amount


class OpenChannelScreen(Form[ChannelView | None]):
    """Dismissed with the new channel, or None."""

    heading = "Open a payment channel"

    def __init__(self, bridge: Bridge, peer_id: str | None = None) -> None:
        super().__init__(bridge)
        self._peer_id = peer_id
        live = {c.peer_id: c for c in bridge.channels.values() if c.state in LIVE}
        online = [p for p in bridge.peers.values() if p.state == "online" or p.peer_id == peer_id]
        online.sort(key=lambda p: (p.peer_id in live, p.name))
        self._options = [
            (p.peer_id, named(p.name, p.peer_id) + ("  has one already" if p.peer_id in live else "")) for p in online
        ]

    def on_mount(self) -> None:
        if self._peer_id is not None and any(peer == self._peer_id for peer, _ in self._options):
            self.query_one("#mine Input").focus()

    def content(self) -> ComposeResult:
        yield Field("With", Choice(self._options, self._peer_id, id="peer-choice", spin=True), id="peer")
        yield Field("My deposit", plain_input(placeholder="such as 100"), id="mine", unit="the most that I can pay")
        yield Field("Theirs", plain_input("0"), id="theirs", unit="the most that they can pay me")
        yield Field("Lasts", plain_input("24h"), id="expires", unit="then it closes by itself")
        yield Field("Witnesses", Choice(WITNESSES, id="witnesses-choice"), id="witnesses")
        yield Field("Settles by", Choice(DRIVERS, id="driver-choice"), id="driver")
        yield Static(
            "A deposit is a promise, not a transfer: it bounds what you can come to owe this peer. Each payment over the channel "
            "is signed by its payer. When it closes, both sign what is owed and it is kept in the ledger between you. Witnesses, "
            "members of a guild of both, decide a dispute; without them each side books its own record.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Open"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    def submit(self) -> None:
        peer = self.query_one("#peer-choice", Choice).value
        if not peer:
            raise FieldError("peer", "Nobody is online; connect to a peer first.")
        command = OpenChannel(
            peer=peer,
            amount_u=self.read("mine", _positive),
            theirs_u=self.read("theirs", parse_amount),
            expires_s=self.read("expires", parse_duration),
            witnesses=None if (wanted := self.query_one("#witnesses-choice", Choice).value) == "" else int(wanted),
            driver=self.query_one("#driver-choice", Choice).value,
        )
        self.send(command, self.dismiss)


def at_risk(channel: ChannelView) -> str:
    """What is at stake on both sides: work that is not paid, payments that are not acknowledged."""
    return f"{format_amount(channel.at_risk_u)} mine, {format_amount(channel.at_risk_theirs_u)} theirs (not paid yet)"


def _balances(channel: ChannelView) -> list[tuple[str, str | Content]]:
    fields: list[tuple[str, str | Content]] = [
        ("Channel", f"{short_id(channel.channel_id)}  {channel.state}  until {until(channel.expires_at)}"),
        ("Mine", f"{format_amount(channel.mine_u)} left of my deposit {format_amount(channel.deposit_mine_u)}"),
        ("Theirs", f"{format_amount(channel.theirs_u)}, deposit {format_amount(channel.deposit_theirs_u)}"),
    ]
    if channel.at_risk_u or channel.at_risk_theirs_u:
        fields.append(("At risk", Content.styled(at_risk(channel), "$text-warning")))
    if channel.action:
        fields.append(("Now", safe(channel.action, 200)))
    return fields


def _net(channel: ChannelView, name: str) -> str:
    """Who owes whom when this state becomes final."""
    owed = channel.deposit_mine_u - channel.mine_u
    if owed == 0:
        return "Nobody will owe anything."
    net = f"You will owe {name} {format_amount(owed)}." if owed > 0 else f"{name} will owe you {format_amount(-owed)}."
    return f"{net} It enters the ledger between you as owed; nothing is paid out."


class CloseChannelScreen(Guarded[ChannelView | None]):
    """Closing with the peer's signature; nothing here can dispute. Dismissed with the channel, or None."""

    GUARDED = frozenset({"close"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "close", "Close together", id="close.together")]

    def __init__(self, bridge: Bridge, channel_id: str) -> None:
        super().__init__(bridge)
        self._channel = bridge.channels.get(channel_id)
        self._payee: str = safe(self._channel.peer_name, 24) if self._channel else ""
        self.heading = f"Close TOGETHER with {self._payee}" if self._channel else "Close a channel"

    def content(self) -> ComposeResult:
        channel, name = self._channel, self._payee
        if channel is None:
            yield Static("This channel is gone.", markup=False)
            return
        yield Rows(
            (
                *_balances(channel),
                ("It costs", "nothing: both sides sign the balances above"),
                ("By", f"at once while {name} is online; else it waits as closing, until {until(channel.expires_at)}"),
            )
        )
        yield Static(
            f"No more payments over this channel; another can be opened. {_net(channel, name)}",
            classes="gap",
            markup=False,
        )
        yield Static(f"If {name} never answers, that is another window: Esc, then D.", classes="note", markup=False)

    def keys(self) -> Keys:
        if self._channel is None:
            return (("Esc", "Back"),)
        return (("t", "Close together"), ("Esc", "Back, keep it open"))

    def action_close(self) -> None:
        if self._channel is not None:
            self.say("Asking the peer to sign…")
            self.execute(CloseChannel(channel=self._channel.channel_id), self.dismiss)
