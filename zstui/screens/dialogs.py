"""Windows that ask one question, and the names of all others."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import Connect
from zstui.engine.money import format_amount
from zstui.engine.views import PeerView
from zstui.screens.channel_dialogs import CloseChannelScreen, OpenChannelScreen
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.first_run import FirstRunScreen
from zstui.screens.form import Field, FieldError, Form, plain_input
from zstui.screens.grants import GrantScreen
from zstui.screens.guild_chat import MessagesScreen
from zstui.screens.guild_dialogs import (
    CreateGuildScreen,
    DissolveGuildScreen,
    ExtendGuildScreen,
    KickScreen,
    LeaveGuildScreen,
)
from zstui.screens.guild_invites import InviteScreen, InvitesScreen, InviteTextScreen, QrScreen, RevokeInviteScreen
from zstui.screens.guild_join import JoinGuildScreen
from zstui.screens.guild_people import KnocksScreen, MembersScreen
from zstui.screens.policy import PolicyScreen
from zstui.screens.record_dialogs import (
    NamePeerScreen,
    OutputScreen,
    RankDetailScreen,
    ReceiptScreen,
)
from zstui.screens.values import long_key, safe, safe_lines
from zstui.screens.widgets.text import short_id


class ConfirmScreen(Guarded[bool]):
    """A yes or no. ``body`` may hold a peer's words."""

    GUARDED = frozenset({"confirm"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "confirm", "Yes", id="confirm.yes")]

    def __init__(self, title: str, body: str, confirm_label: str) -> None:
        super().__init__()
        self.heading = safe(title, 70)
        self._body = safe_lines(body)
        self._label = confirm_label

    def content(self) -> ComposeResult:
        yield Static(Content(self._body), markup=False)

    def keys(self) -> Keys:
        return (("y", safe(self._label, 40)), ("Esc", "No, go back"))

    def action_confirm(self) -> None:
        self.dismiss(True)

    def action_cancel(self) -> None:
        self.dismiss(False)


class TextInputScreen(Form[str | None]):
    """One line of text. Dismissed with it, or None."""

    def __init__(self, title: str, label: str, value: str = "") -> None:
        super().__init__()
        self.heading = safe(title, 70)
        self._prompt = label
        self._initial = value

    def content(self) -> ComposeResult:
        yield Static(Content(safe(self._prompt, 200)), markup=False)
        yield Field("", plain_input(self._initial, limit=200), id="text")

    def keys(self) -> Keys:
        return (("Enter", "OK"), ("Esc", "Back"))

    def submit(self) -> None:
        self.dismiss(self.text_of("text"))


class QuitScreen(Guarded[bool]):
    """Asks before quitting, and says what is in flight."""

    heading = "Quit?"
    GUARDED = frozenset({"confirm"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "confirm", "Quit", id="quit.yes")]

    def content(self) -> ComposeResult:
        yield Static("", id="flight", markup=False)

    def keys(self) -> Keys:
        return (("y", "Quit"), ("Esc", "Stay"))

    def on_mount(self) -> None:
        self._list()
        self.follow("jobs", self._list)
        self.follow("approvals", self._list)
        self.follow("channels", self._list)

    def _list(self) -> None:
        lines = in_flight(self.bridge)
        text = "In flight:\n" + "\n".join(f"  {line}" for line in lines) if lines else "Nothing is in flight."
        self.query_one("#flight", Static).update(Content(text))

    def action_confirm(self) -> None:
        self.dismiss(True)

    def action_cancel(self) -> None:
        self.dismiss(False)


def in_flight(bridge: Bridge) -> list[str]:
    """What quitting now would interrupt or leave waiting, one line each; at most a dozen."""
    lines: list[str] = []
    for job in bridge.jobs.values():
        if job.state in ("running", "queued"):
            who = f"on {safe(job.executor_name, 20)}" if job.executor else "with nobody yet"
            where = who if job.mine else f"here, for {safe(job.submitter_name, 20)}"
            lines.append(f"job {short_id(job.job_id)}  {safe(job.module, 24)}  {job.state} {where}")
    for approval in bridge.approvals.values():
        if approval.state == "paying":
            lines.append(
                f"payment of {format_amount(approval.amount_u)} to {safe(approval.peer_name, 20)}, not acknowledged"
            )
    waiting = sum(approval.state == "waiting" for approval in bridge.approvals.values())
    if waiting:
        many = waiting > 1
        fate = "they will expire unpaid and stay owed" if many else "it will expire unpaid and stay owed"
        lines.append(f"{waiting} payment{'s' if many else ''} waiting for you; {fate}")
    for channel in bridge.channels.values():
        if channel.state in ("opening", "closing"):
            lines.append(
                f"channel {short_id(channel.channel_id)} with {safe(channel.peer_name, 20)} is {channel.state}"
            )
    return lines if len(lines) <= 12 else [*lines[:11], f"and {len(lines) - 11} more"]


class ConnectScreen(Form[PeerView | None]):
    """Connects to an address, then shows the key that the peer proved. Dismissed with the peer, or None."""

    heading = "Connect to a peer"

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._peer: PeerView | None = None

    def content(self) -> ComposeResult:
        yield Field(
            "Address",
            plain_input(placeholder="192.168.1.4:4433, a multiaddr, or a known name", limit=400),
            id="address",
        )
        yield Rows(id="proved", label_width=12, classes="gap")
        status = self.bridge.status
        if status is not None and status.addresses:
            yield Static(Content(f"My address: {safe(status.addresses[0], 200)}"), classes="note", markup=False)

    def keys(self) -> Keys:
        return (("Enter", "Connect"), ("Esc", "Back")) if self._peer is None else (("Enter", "Done"), ("Esc", "Close"))

    def submit(self) -> None:
        if self._peer is not None:
            self.dismiss(self._peer)
            return
        address = self.text_of("address")
        if not address:
            raise FieldError("address", "Give an address.")
        self.send(Connect(address=address), self._connected)

    def _connected(self, peer: PeerView) -> None:
        self._peer = peer
        self.query_one("#address", Field).widget.disabled = True
        self.set_focus(None)
        self.query_one("#proved", Rows).show(
            (
                ("Connected", Content.styled(safe(peer.name), "bold")),
                ("Proved key", long_key(peer.peer_id)),
                ("", "Compare it with what the other side shows, if you care who it is."),
            )
        )
        self.say("")
        self.show_keys()

    def action_cancel(self) -> None:
        self.dismiss(self._peer)


ReceiptsScreen = RankDetailScreen

__all__ = [
    "CloseChannelScreen",
    "ConfirmScreen",
    "ConnectScreen",
    "CreateGuildScreen",
    "DissolveGuildScreen",
    "ExtendGuildScreen",
    "FirstRunScreen",
    "GrantScreen",
    "InviteScreen",
    "InviteTextScreen",
    "InvitesScreen",
    "JoinGuildScreen",
    "KickScreen",
    "KnocksScreen",
    "LeaveGuildScreen",
    "MembersScreen",
    "MessagesScreen",
    "NamePeerScreen",
    "OpenChannelScreen",
    "OutputScreen",
    "PolicyScreen",
    "QrScreen",
    "QuitScreen",
    "RankDetailScreen",
    "ReceiptScreen",
    "ReceiptsScreen",
    "RevokeInviteScreen",
    "TextInputScreen",
]
