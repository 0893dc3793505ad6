"""Windows about payment channels: open, close together, close by force."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import CloseChannel, ListLedger, OpenChannel
from zstui.engine.errors import BadInput
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import ChannelView, LedgerView
from zstui.screens.dialog import MUTED, Dialog, Guarded, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, parse_duration, safe
from zstui.screens.widgets.text import fit, short_id, until

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
        yield Static(
            "A deposit is a promise, not a transfer: it bounds what you can come to owe this peer. Each payment over the channel "
            "is signed by its payer. When it closes, both sign what is owed and it is kept in the ledger between you.",
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
        )
        self.send(command, self.dismiss)


def _balances(channel: ChannelView) -> list[tuple[str, str | Content]]:
    fields: list[tuple[str, str | Content]] = [
        ("Channel", f"{short_id(channel.channel_id)}  {channel.state}  until {until(channel.expires_at)}"),
        ("Mine", f"{format_amount(channel.mine_u)} left of my deposit {format_amount(channel.deposit_mine_u)}"),
        ("Theirs", f"{format_amount(channel.theirs_u)}, deposit {format_amount(channel.deposit_theirs_u)}"),
    ]
    if channel.at_risk_u:
        text = f"{format_amount(channel.at_risk_u)} of work or payments not settled yet"
        fields.append(("At risk", Content.styled(text, "$text-warning")))
    if channel.action:
        fields.append(("Now", safe(channel.action, 200)))
    return fields


def _net(channel: ChannelView, name: str) -> str:
    """Who owes whom when this state becomes final."""
    owed = channel.deposit_mine_u - channel.mine_u
    if owed == 0:
        return "Nobody will owe anything."
    return f"You will owe {name} {format_amount(owed)}." if owed > 0 else f"{name} will owe you {format_amount(-owed)}."


class CloseChannelScreen(Guarded[ChannelView | None]):
    """Closing with the peer's signature. Leads to ``ForceCloseScreen`` by its own key. Dismissed with the channel, or None."""

    GUARDED = frozenset({"close", "force"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "close", "Close together", id="close.together"),
        Binding("u", "force", "Force", id="close.force"),
    ]

    def __init__(self, bridge: Bridge, channel_id: str) -> None:
        super().__init__(bridge)
        self._channel = bridge.channels.get(channel_id)
        self._payee: str = safe(self._channel.peer_name, 24) if self._channel else ""
        self.heading = f"Close together with {self._payee}" if self._channel else "Close a channel"

    def content(self) -> ComposeResult:
        if self._channel is None:
            yield Static("This channel is gone.", markup=False)
            return
        yield Rows(_balances(self._channel))
        yield Static(
            f"Both sides sign the final state. {_net(self._channel, self._payee)} It enters the ledger between you as owed; "
            f"nothing is paid out. While {self._payee} is away the channel waits as closing.",
            classes="gap",
            markup=False,
        )
        yield Static(
            f"If {self._payee} never answers: u forces it, after another question.", classes="note", markup=False
        )

    def keys(self) -> Keys:
        if self._channel is None:
            return (("Esc", "Back"),)
        return (("Enter", "Close together"), ("u", "Force without them"), ("Esc", "Back"))

    def action_close(self) -> None:
        if self._channel is not None:
            self.say("Asking the peer to sign…")
            self.execute(CloseChannel(channel=self._channel.channel_id), self.dismiss)

    def action_force(self) -> None:
        if self._channel is not None and not self.busy:
            self.app.push_screen(ForceCloseScreen(self.bridge, self._channel), self._forced)

    def _forced(self, channel: ChannelView | None) -> None:
        if channel is not None:
            self.dismiss(channel)
        else:
            self.disarm()


class ForceCloseScreen(Form[ChannelView | None]):
    """Closing against a peer that does not answer: a dispute. The word must be typed."""

    danger = True
    WORD = "force"

    def __init__(self, bridge: Bridge, channel: ChannelView) -> None:
        super().__init__(bridge)
        self._channel = channel
        self._payee = safe(channel.peer_name, 24)
        self.heading = f"FORCE CLOSE against {self._payee}: starts a dispute"

    def content(self) -> ComposeResult:
        yield Rows(_balances(self._channel))
        yield Static(
            f"The channel is frozen as disputed: it carries no more payments. If {self._payee} agrees and signs, it is settled "
            f"together. {self._otherwise()} This cannot be taken back.",
            classes="gap",
            markup=False,
        )
        yield Static(
            f"Do it only if {self._payee} is gone for good or refuses to close together.", classes="note", markup=False
        )
        yield Field("Type force", plain_input(placeholder="then Enter"), id="word")

    def _otherwise(self) -> str:
        """What happens without agreement."""
        n, m = self._channel.witnesses, self._channel.witnesses_needed
        if n:
            return (
                f"If not, both sides have 24 h to show what was signed (this node does so by itself); then {m} of the channel's "
                f"{n} witnesses decide for both."
            )
        return (
            "If not, after 24 h it closes on this node's own record, without their signature. Nobody judges: this channel has no "
            f"witnesses. You give {self._payee} no more credit."
        )

    def keys(self) -> Keys:
        return (("Enter", "Start the dispute"), ("Esc", "Back, keep the channel"))

    def submit(self) -> None:
        if self.text_of("word").lower() != self.WORD:
            raise FieldError("word", "Type the word force to start a dispute, or Esc to keep the channel.")
        self.send(CloseChannel(channel=self._channel.channel_id, unilateral=True), self.dismiss)


class LedgerScreen(Dialog[None]):
    """What is owed between me and each peer over all closed channels."""

    tall = True
    AUTO_FOCUS = ""
    heading = "Ledger of closed channels"

    def content(self) -> ComposeResult:
        yield Static("", id="ledger", markup=False)
        yield Static(
            "What is owed is a promise; how it is made good is between the two of you.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("PgUp PgDn", "Scroll"), ("Esc", "Close"))

    def on_mount(self) -> None:
        self.run_worker(self.attempt(ListLedger(), self._show))

    def _show(self, entries: list[LedgerView]) -> None:
        head = f"{'Peer':26}{'Owed to me':>14}{'I owe':>14}{'Credit limit':>16}"
        lines = [
            fit(named(e.peer_name, e.peer_id, 14), 26)
            + f"{format_amount(e.owed_to_me_u):>14}{format_amount(e.i_owe_u):>14}{format_amount(e.credit_limit_u):>16}"
            for e in entries
        ]
        text = Content("\n".join(lines) if lines else "No channel was closed yet.")
        self.query_one("#ledger", Static).update(Content.assemble((head, f"bold {MUTED}"), "\n", text))
