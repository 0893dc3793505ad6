"""Pane 5: peers by their score, and what the score is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.bridge import Bridge
from zstui.engine.commands import BlockPeer, UnblockPeer
from zstui.engine.views import RankView
from zstui.screens.dialogs import ConfirmScreen, RankDetailScreen
from zstui.screens.pane import Pane
from zstui.screens.peers import score_style
from zstui.screens.widgets.lines import field, heading, mixed, paragraph
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
    seconds,
    short_id,
    short_peer,
    until,
)

PARTS = (
    ("Success", "success_part"),
    ("Speed", "speed_part"),
    ("Cost", "cost_part"),
    ("Longevity", "longevity_part"),
)


def _state(rank: RankView) -> Cell:
    if rank.blacklisted_until is not None:
        return Span(f"until {until(rank.blacklisted_until)[-5:]}", "error")
    return Span("ranked", "ok") if rank.rank is not None else Span("few jobs", "muted")


class RanksPane(Pane[RankView]):
    TITLE = "Ranks"
    RECORD = "Score"
    AREA = "ranks"
    SORT = "#"
    ENTER = "Receipts"
    HELP = (
        "Peers that did jobs for you, best first. The score comes only from receipts you hold: success, speed, cost and "
        "how long you know the peer; it fades with time. Under five jobs there is no rank. A blacklisted peer gets no work."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "block", "Block", id="ranks.block", tooltip="Block this peer for 24 hours, or unblock it"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._known: tuple[tuple[RankView, ...], dict[str, RankView]] = ((), {})

    def columns(self) -> Sequence[Column[RankView]]:
        return (
            Column(
                "#",
                3,
                lambda r: str(r.rank) if r.rank is not None else Span("-", "faint"),
                lambda r: (r.rank or 10**9, -r.score, r.peer_id),
                align="right",
            ),
            Column(
                "Peer",
                8,
                lambda r: Span(plain(r.name) or short_peer(r.peer_id), "strong"),
                lambda r: r.name.casefold(),
                flex=2,
                limit=26,
            ),
            Column(
                "Score", 6, lambda r: Span(f"{r.score:.2f}", score_style(r.score)), lambda r: -r.score, align="right"
            ),
            Column("Bar", 10, lambda r: bar(r.score, 10, empty="·")),
            Column("Done", 5, lambda r: str(r.completed), lambda r: -r.completed, align="right"),
            Column(
                "Fail", 5, lambda r: Span(str(r.failed), "warn" if r.failed else ""), lambda r: -r.failed, align="right"
            ),
            Column(
                "Avg-s",
                6,
                lambda r: f"{r.avg_duration_us / 1e6:.1f}",
                lambda r: r.avg_duration_us,
                align="right",
                above=70,
            ),
            Column(
                "Cost",
                8,
                lambda r: amount(r.avg_cost_u),
                lambda r: r.avg_cost_u,
                align="right",
                flex=1,
                limit=11,
                above=70,
            ),
            Column(
                "Seen",
                5,
                lambda r: duration(now() - r.last_seen_at),
                lambda r: -r.last_seen_at,
                align="right",
                above=70,
            ),
            Column("State", 11, _state, lambda r: (r.blacklisted_until or 0, r.rank or 10**9)),
        )

    def key(self, record: RankView) -> str:
        return record.peer_id

    def records(self) -> Iterable[RankView]:
        return self.bridge.ranks

    def find(self, key: str) -> RankView | None:
        ranks, table = self._known
        if ranks is not self.bridge.ranks:
            table = {rank.peer_id: rank for rank in self.bridge.ranks}
            self._known = (self.bridge.ranks, table)
        return table.get(key)

    def words(self, record: RankView) -> str:
        return f"{record.name} {record.peer_id} {'blacklisted' if record.blacklisted_until else ''}"

    def note(self, record: RankView) -> tuple[str, str]:
        if record.blacklisted_until is not None:
            return (f"Blacklisted until {until(record.blacklisted_until)}: {record.blacklist_reason}", "error")
        if record.rank is None:
            return ("Not ranked: fewer than five finished jobs.", "muted")
        return ("", "")

    def details(self, record: RankView, width: int) -> list[Line]:
        lines: list[Line] = [
            *field("Peer", record.name or "no name", "strong", width),
            *field("Key", short_peer(record.peer_id), "", width),
            mixed(
                "Score", [Span(f"{record.score:.3f} ", score_style(record.score)), *bar(record.score, 16, empty="·")]
            ),
            *field("Rank", str(record.rank) if record.rank is not None else "none", "", width),
        ]
        if record.blacklisted_until is not None:
            lines += field(
                "Blocked", f"until {until(record.blacklisted_until)}: {record.blacklist_reason}", "error", width
            )
        for block in record.guild_blocks:
            guild = self.bridge.guilds.get(block.guild_id)
            where = guild.name if guild is not None else short_id(block.guild_id)
            lines += field("Blocked", f"in {where} until {until(block.until)}: {block.reason}", "error", width)
        lines += field("Jobs", f"{record.completed} done, {record.failed} failed", "", width)
        lines += field("Average", f"{seconds(record.avg_duration_us)}, {amount(record.avg_cost_u)} a job", "", width)
        lines += field(
            "Seen",
            f"first {duration(now() - record.first_seen_at)} ago, last {duration(now() - record.last_seen_at)} ago",
            "",
            width,
        )
        lines += heading("What the score adds up to", width)
        top = max((getattr(record, name) for _, name in PARTS), default=0.0) or 1.0
        for label, name in PARTS:
            part: float = getattr(record, name)
            lines.append(
                mixed(label, [Span(f"+{part:.3f} "), *bar(part / top, max(6, min(24, width - 20)), empty="·")])
            )
        if len(record.trend) > 1:
            lines += heading("Score after each job", width)
            lines += plot(record.trend, width, 5, "")
        if record.receipts:
            lines += heading("Receipts behind it (Enter opens them)", width)
            lines += paragraph("  ".join(short_id(r) for r in record.receipts[-24:]), "muted", width)
        lines += field("Id", record.peer_id, "", width)
        return lines

    def empty(self) -> list[str]:
        return ["No finished jobs yet, so nobody has a score.", "3 then n  submit a job"]

    def open(self, record: RankView) -> None:
        self.ask(RankDetailScreen(self.bridge, record.peer_id))

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_block(self) -> None:
        if not (rank := self.need("peer")):
            return
        name = plain(rank.name) or short_peer(rank.peer_id)
        if rank.blacklisted_until is not None or rank.guild_blocks:
            self.execute(UnblockPeer(peer=rank.peer_id), lambda _: f"{name} is no longer blocked.")
            return
        self.ask(
            ConfirmScreen(
                f"Block {name}?",
                "For 24 hours it gets no jobs, no payments and no answers from this node. b takes it back.",
                "Block",
            ),
            lambda _: self.execute(BlockPeer(peer=rank.peer_id), lambda view: f"{name} is blocked for 24 h."),
        )
