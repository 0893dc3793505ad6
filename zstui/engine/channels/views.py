"""Channel records as people see them."""

from __future__ import annotations

from datetime import datetime

from zstui.engine.channels.closing import resolved_at
from zstui.engine.channels.model import Channel, closes_at
from zstui.engine.channels.state import OPEN_TIMEOUT_US, State
from zstui.engine.channels.work import REASONS
from zstui.engine.views import ChannelView, Funds

SOON_US = 3_600_000_000
"""Expiry is mentioned from an hour before."""


def funds(channel: Channel) -> Funds:
    return Funds(
        channel_id=channel.id.hex(),
        peer_id=channel.peer,
        state=channel.state.value,  # type: ignore[arg-type]
        mine_u=channel.balance,
        theirs_u=channel.peer_balance,
        sequence=channel.out.seq,
        expires_at=channel.expires_us // 1_000_000,
    )


def view(
    channel: Channel,
    name: str,
    online: bool,
    at_risk_u: int,
    owed_u: int,
    reserved_u: int,
    now_us: int,
    in_case: str = "",
) -> ChannelView:
    """``at_risk_u``: work done for the peer and not paid; what the peer has not acknowledged is added here. ``owed_u``: work
    done by the peer for me and not paid.
    ``reserved_u``: promised to jobs at the peer. ``in_case``: who must act in the case that witnesses hear."""
    c = channel
    return ChannelView(
        channel_id=c.id.hex(),
        peer_id=c.peer,
        peer_name=name,
        state=c.state.value,  # type: ignore[arg-type]
        reason=c.reason,
        epoch=c.epoch,
        mine_u=c.balance,
        theirs_u=c.peer_balance,
        deposit_mine_u=c.dep_mine,
        deposit_theirs_u=c.dep_theirs,
        sequence=c.out.seq,
        sequence_theirs=c.inn.seq,
        expires_at=c.expires_us // 1_000_000,
        at_risk_u=at_risk_u + c.unacked_u if c.open else 0,
        at_risk_theirs_u=owed_u if c.open else 0,
        reserved_u=min(reserved_u, c.balance) if c.state is State.ACTIVE else 0,
        unacknowledged=c.out.seq - c.acked,
        action=in_case or action(c, name, online, now_us),
        witnesses=len(c.params.witnesses),
        witnesses_needed=c.params.m,
        driver=c.params.driver,
    )


def action(channel: Channel, name: str, online: bool, now_us: int) -> str:
    """Who must act, by when; "" if nobody."""
    c = channel
    match c.state:
        case State.OPENING:
            return f"{name} must confirm by {clock_time(c.since_us + OPEN_TIMEOUT_US, now_us, seconds=True)}"
        case State.ACTIVE:
            return _active(c, name, online, now_us)
        case State.CLOSING if c.tainted:
            return f"{name} must agree to close; disputed from {clock_time(c.expires_us, now_us)} on"
        case State.CLOSING if not online:
            return f"{name} must come back online to close; disputed from {clock_time(c.expires_us, now_us)} on"
        case State.CLOSING:
            return f"{name} must sign the closing"
        case State.DISPUTED:
            why = REASONS.get(c.reason, c.reason)
            return (
                f"{why}; closes on your own record at {clock_time(resolved_at(c), now_us)} unless {name} agrees before"
            )
        case _:
            return ""


def _active(c: Channel, name: str, online: bool, now_us: int) -> str:
    if c.tainted:
        return "restored from an older copy: it takes no payments; close it and open another"
    by = clock_time(closes_at(c), now_us)
    if not c.confirmed:
        return f"{name} must confirm; until then nothing can be paid"
    waiting = c.out.seq - c.acked
    if waiting and not online:
        return (
            f"{name} must come back online to acknowledge {waiting} payment{'s' if waiting > 1 else ''}; closes by {by}"
        )
    if now_us >= closes_at(c) - SOON_US:
        return f"closes by itself at {by}; open another to go on"
    return ""


def clock_time(at_us: int, now_us: int, seconds: bool = False) -> str:
    """Local time of day, with the date if it is not today's."""
    at = datetime.fromtimestamp(at_us // 1_000_000)
    text = at.strftime("%H:%M:%S" if seconds else "%H:%M")
    today = datetime.fromtimestamp(now_us // 1_000_000).date()
    return text if at.date() == today else f"{at:%d %b} {text}"
