"""Everything about one channel, as lines for the detail column and the detail window, and how its balance went."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from zstui.bridge import Bridge
from zstui.engine.commands import ListBalances
from zstui.engine.errors import ZsError
from zstui.engine.money import MICRO, format_amount
from zstui.engine.views import BalancesView, ChannelView
from zstui.screens.channel_dialogs import at_risk
from zstui.screens.dispute_text import WITNESS, acts, cost_of, output_disputes, when
from zstui.screens.widgets.lines import field, heading, mixed
from zstui.screens.widgets.text import (
    Line,
    Span,
    bar,
    duration,
    now,
    plain,
    plot,
    short_peer,
    until,
)

STATES = {"opening": "info", "active": "ok", "closing": "warn", "closed": "muted", "disputed": "error"}
REASONS = {"cooperative": "both sides signed the final balance", "void": "it never came to be open"}
DRIVERS = {"ledger": "in the ledger between you", "manual": "paid outside; both sign that it was"}
OUTPUTS = 3
"""Disputes about outputs that are listed."""
PLOT_ROWS = 6
KEPT = 32
"""Channels whose history is remembered."""
REFRESH = 2.0
"""Seconds between two readings of one that changes."""


def share(channel: ChannelView) -> float:
    """My part of what is in the channel."""
    total = channel.mine_u + channel.theirs_u
    return channel.mine_u / total if total else 0.0


def reason(channel: ChannelView) -> str:
    """Why it is closed or disputed, in words."""
    return REASONS.get(channel.reason, channel.reason)


class History:
    """How balances went, read from the node when a channel is looked at and again after payments; ``seen`` is called then."""

    def __init__(self, bridge: Bridge, run: Callable[..., Any], seen: Callable[[], None]) -> None:
        self._bridge, self._run, self._seen = bridge, run, seen
        self._known: dict[str, BalancesView] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        """By channel: payments it had when it was read, and when."""

    def of(self, channel: ChannelView) -> BalancesView | None:
        """What is known, which may be a little old: it is then read again."""
        key, payments = channel.channel_id, channel.sequence + channel.sequence_theirs
        had, at = self._asked.get(key, (-1, 0.0))
        if had != payments and monotonic() - at >= REFRESH:
            self._asked[key] = (payments, monotonic())
            if len(self._asked) > KEPT:
                oldest = next(iter(self._asked))
                del self._asked[oldest]
                self._known.pop(oldest, None)
            self._run(partial(self._read, key), name=f"balances of {key[:8]}")
        return self._known.get(key)

    async def _read(self, key: str) -> None:
        try:
            self._known[key] = await self._bridge.execute(ListBalances(channel=key))
        except ZsError:
            return  # The channel went meanwhile; the pane shows that.
        self._seen()


def over_time(view: BalancesView, columns: int) -> list[float]:
    """The balance in ``columns`` equal stretches of time, in units; payment by payment where all fell within a minute."""
    points = view.points
    first, last = points[0].at, points[-1].at
    if last - first < 60:
        return [point.mine_u / MICRO for point in points][-columns:]
    out: list[float] = []
    index = 0
    for column in range(columns):
        end = first + (last - first) * (column + 1) / columns
        while index + 1 < len(points) and points[index + 1].at <= end:
            index += 1
        out.append(points[index].mine_u / MICRO)
    return out


def channel_details(channel: ChannelView, bridge: Bridge, history: History, width: int) -> list[Line]:
    lines = _standing(channel, bridge, width)
    lines += _balance(channel, width)
    view = history.of(channel)
    if view is not None and len(view.points) > 1:
        span = view.points[-1].at - view.points[0].at
        title = "My balance, payment by payment" if span < 60 else f"My balance over {duration(span)}"
        lines += heading(f"{title}, {view.payments} in all", width)
        values = over_time(view, max(2, width - 7))
        low = max(0.0, min(values) - 0.1 * (max(values) - min(values)))
        lines += plot(values, width, PLOT_ROWS, "", low)
    return lines + _dispute(channel, bridge, width) + field("Id", channel.channel_id, "", width)


def _standing(channel: ChannelView, bridge: Bridge, width: int) -> list[Line]:
    peer = bridge.peers.get(channel.peer_id)
    left = channel.expires_at - now()
    lines: list[Line] = [
        *field("Peer", f"{channel.peer_name or '-'}  {short_peer(channel.peer_id)}", "strong", width),
        mixed("State", [Span(channel.state, STATES[channel.state]), Span(f"  {plain(reason(channel))}", "muted")]),
    ]
    if channel.action:
        lines += field("Must act", channel.action, "error" if channel.state == "disputed" else "warn", width)
    if peer is not None:
        lines += field("Peer is", peer.state, "ok" if peer.state == "online" else "warn", width)
    text = f"{until(channel.expires_at)}, " + (f"in {duration(left)}" if left > 0 else "over")
    lines += field("Expires", text, "", width)
    named, needed = channel.witnesses, channel.witnesses_needed
    text = (
        f"{named} named; {needed} equal verdict{'' if needed == 1 else 's'} decide{'s' if needed == 1 else ''}"
        if named
        else "none: nobody decides a dispute"
    )
    lines += field("Witnesses", text, "", width)
    return lines + field("Settles", DRIVERS.get(channel.driver, channel.driver), "", width)


def _balance(channel: ChannelView, width: int) -> list[Line]:
    lines = heading("Balance", width)
    lines.append((*bar(share(channel), max(10, width - 1), "▓", "░"),))
    for label, amount_u, deposit_u in (
        ("Mine", channel.mine_u, channel.deposit_mine_u),
        ("Theirs", channel.theirs_u, channel.deposit_theirs_u),
    ):
        lines += field(label, f"{format_amount(amount_u)}  (put in {format_amount(deposit_u)})", "", width)
    if channel.reserved_u:
        lines += field(
            "Promised", f"{format_amount(channel.reserved_u)} of mine, to jobs that run or are unpaid", "", width
        )
    stake = channel.at_risk_u or channel.at_risk_theirs_u
    lines += field("At risk", at_risk(channel) if stake else "nothing on either side", "warn" if stake else "", width)
    text = f"mine {channel.sequence}, theirs {channel.sequence_theirs}, epoch {channel.epoch}"
    lines += field("Sequence", text, "", width)
    if count := channel.unacknowledged:
        lines += field("Open", f"{count} payment{'' if count == 1 else 's'} not acknowledged", "warn", width)
    return lines


def _dispute(channel: ChannelView, bridge: Bridge, width: int) -> list[Line]:
    lines: list[Line] = []
    for output in output_disputes(bridge, channel.channel_id)[:OUTPUTS]:
        text = f"{output.state}; {acts(output)}" if output.must_act else output.state
        lines += field(
            "Output", f"of {plain(output.module)} disputed: {text}", "warn" if output.must_act else "", width
        )
    view = bridge.disputes.get(channel.channel_id)
    if view is None:
        return lines
    lines += heading(f"Dispute: {view.state}", width)
    lines += field("", view.text, "", width, 0)
    if view.state in ("filed", "deciding", "own record"):
        lines += field("Must act", acts(view), "warn", width)
        if view.deadline_at is not None:
            lines += field("Deadline", when(view.deadline_at), "", width)
    for choice in view.choices:
        lines += field("You can", f"{choice.title}: {cost_of(choice)}", "", width)
    for witness in view.witnesses:
        lines += field("Witness", f"{witness.name} {WITNESS[witness.state][0]}", "", width)
    return [*lines, (Span("D shows all of it", "muted"),)]
