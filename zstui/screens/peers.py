"""Pane 1: who is there, over which path, how far away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.engine.commands import BlockPeer, Connect, UnblockPeer
from zstui.engine.views import PeerView
from zstui.screens.details import TextScreen
from zstui.screens.dialogs import ConfirmScreen, ConnectScreen, InvitesScreen, NamePeerScreen, OpenChannelScreen
from zstui.screens.guild_rows import runs
from zstui.screens.network import network_lines
from zstui.screens.pane import Pane
from zstui.screens.peer_details import PATHS, STATES, Survey, peer_details, why_lines
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import (
    Cell,
    Line,
    Span,
    milliseconds,
    plain,
    short_address,
    short_peer,
    sparkline,
    until,
)

ORDER = {"online": 0, "connecting": 1, "offline": 2, "blocked": 3}


def _rtt(peer: PeerView) -> Cell:
    if peer.rtt_ms is None:
        return Span("-", "faint")
    return Span(milliseconds(peer.rtt_ms), "" if peer.rtt_ms < 150 else "warn")


def _path(peer: PeerView) -> Cell:
    return Span("-", "faint") if peer.path is None else Span(*PATHS[peer.path])


def score_style(score: float) -> str:
    return "ok" if score >= 0.7 else "" if score >= 0.4 else "warn"


class PeersPane(Pane[PeerView]):
    TITLE = "Peers"
    RECORD = "Peer"
    AREA = "peers"
    SORT = "State"
    HELP = (
        "Machines that this node found on the local network or was told about. Each proves its key when it connects. Of some "
        "it has only heard through others: what they offer is signed by them, and what is said of them by who says it. "
        "LAN, direct and relay say how packets travel; RTT is the time to the peer and back. Enter tells why that path, "
        "and what was learned of others; f tells how this node is reached and what the hash table and the relays do."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "invite", "Invite", id="peers.invite", tooltip="Make an invite code for one of your guilds"),
        Binding("c", "connect", "Connect", id="peers.connect", tooltip="Connect to an address you were given"),
        Binding(
            "e",
            "retry",
            "Retry",
            id="peers.retry",
            tooltip="Try again to reach this peer, or without a relay",
        ),
        Binding(
            "w",
            "why",
            "Why",
            id="peers.why",
            tooltip="Why packets take this path; what else was weighed",
        ),
        Binding("b", "block", "Block", id="peers.block", tooltip="Block this peer for 24 hours, or unblock it"),
        Binding("r", "rename", "Name", id="peers.name", tooltip="Give this peer a name of your own"),
        Binding("o", "channel", "Channel", id="peers.channel", tooltip="Open a payment channel with this peer"),
        Binding(
            "f", "network", "Network", id="peers.network", tooltip="This node's addresses, hash table, relays, routes"
        ),
    ]

    def on_mount(self) -> None:
        self._survey = Survey(self.bridge, self.run_worker, self._seen)

    def _seen(self) -> None:
        self.post_message(self.Note())

    def columns(self) -> Sequence[Column[PeerView]]:
        return (
            Column(
                "Peer", 8, lambda p: Span(plain(p.name) or "-", "strong"), lambda p: p.name.casefold(), flex=3, limit=28
            ),
            Column("Key", 9, lambda p: Span(short_peer(p.peer_id), "muted")),
            Column(
                "Address",
                18,
                lambda p: short_address(p.address) or "-",
                lambda p: p.address,
                flex=1,
                limit=30,
                above=70,
            ),
            Column("RTT", 5, _rtt, lambda p: 1e9 if p.rtt_ms is None else p.rtt_ms, align="right"),
            Column("12s", 6, lambda p: Span(sparkline(p.rtt_history_ms, 6), "bar"), flex=1, limit=6),
            Column(
                "Score", 5, lambda p: Span(f"{p.score:.2f}", score_style(p.score)), lambda p: -p.score, align="right"
            ),
            Column("Path", 6, _path, lambda p: p.path or "~"),
            Column(
                "State", 10, lambda p: Span(p.state, STATES[p.state]), lambda p: (ORDER[p.state], p.name.casefold())
            ),
        )

    def key(self, record: PeerView) -> str:
        return record.peer_id

    def records(self) -> Iterable[PeerView]:
        return self.bridge.peers.values()

    @property
    def total(self) -> int:
        return len(self.bridge.peers)

    def find(self, key: str) -> PeerView | None:
        return self.bridge.peers.get(key)

    def words(self, record: PeerView) -> str:
        offer = record.capabilities
        tags = " ".join((*offer.tags, offer.hardware, offer.region))
        return f"{record.name} {record.peer_id} {record.address} {record.state} {record.path or ''} {tags}"

    def note(self, record: PeerView) -> tuple[str, str]:
        status = self.bridge.status
        if record.state == "blocked" and record.blocked_until:
            return (f"Blocked until {until(record.blocked_until)}: {record.why}", "error")
        if record.why:
            return (record.why, "muted" if record.state == "online" else "warn")
        return (status.notices[-1], "warn") if status and status.notices else ("", "")

    def details(self, record: PeerView, width: int) -> list[Line]:
        return peer_details(record, self.bridge, self._survey, width)

    def empty(self) -> list[str]:
        network = self.bridge.status.network if self.bridge.status else ""
        where = plain(network).split(" ", 1)[0].split(":", 1)[0] or "the network"
        return [
            f"Nobody yet on {where}.",
            "i  make an invite code",
            "c  connect to an address",
            "f  check the firewall",
        ]

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_invite(self) -> None:
        mine = [g for g in self.bridge.guilds.values() if runs(g)]
        if not mine:
            self.say("An invite is for a guild that you run: create one first (2, then n).")
            return
        best = min(mine, key=lambda g: (g.role != "creator", -g.expires_at))
        self.ask(InvitesScreen(self.bridge, best))

    def action_connect(self) -> None:
        self.ask(ConnectScreen(self.bridge), lambda peer: self.select(peer.peer_id))

    def action_retry(self) -> None:
        if peer := self.need("peer"):
            self.execute(Connect(address=peer.peer_id), lambda view: f"{view.name} is {view.state}.")

    def action_why(self) -> None:
        if peer := self.need("peer"):
            key = peer.peer_id
            self.app.push_screen(TextScreen("Why this path", partial(self._why_lines, key, peer)))

    def _why_lines(self, key: str, last: PeerView, width: int) -> list[Line]:
        return why_lines(self.find(key) or last, self._survey.peer(key), self.bridge.status, width)

    def action_block(self) -> None:
        if not (peer := self.need("peer")):
            return
        name = plain(peer.name)
        if peer.blocked_until is not None:
            command = UnblockPeer(peer=peer.peer_id)
            self.execute(command, lambda _: f"{name} is no longer blocked.")
            return
        self.ask(
            ConfirmScreen(
                f"Block {name}?",
                "For 24 hours it gets no jobs, no payments and no answers from this node. b takes it back.",
                "Block",
            ),
            lambda _: self.execute(BlockPeer(peer=peer.peer_id), lambda view: f"{name} is blocked for 24 h."),
        )

    def action_rename(self) -> None:
        if peer := self.need("peer"):
            self.ask(
                NamePeerScreen(self.bridge, peer.peer_id),
                lambda view: self.say(f"You call it {view.name}." if view.name else "It has its own name again."),
            )

    def action_channel(self) -> None:
        peer = self.table.record
        window = OpenChannelScreen(self.bridge, peer.peer_id if peer else None)
        self.ask(window, lambda channel: self.say(f"The channel with {channel.peer_name} is {channel.state}."))

    def action_network(self) -> None:
        self.app.push_screen(TextScreen("Network", self._network_lines))

    def _network_lines(self, width: int) -> list[Line]:
        return network_lines(self.bridge.status, self._survey.network(), width)
