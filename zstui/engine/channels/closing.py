"""Closing: my Close, the peer's, the two equal Settles, and the timers that start or end it. Runs inside a transaction."""

from __future__ import annotations

import msgspec

from zstui.engine.channels import store
from zstui.engine.channels.greeting import where_i_am
from zstui.engine.channels.messages import Close, Settle
from zstui.engine.channels.model import Channel, closes_at
from zstui.engine.channels.opening import give_up
from zstui.engine.channels.state import (
    LATE_US,
    OPEN_TIMEOUT_US,
    SOFT_DISPUTES,
    Half,
    Judgement,
    Move,
    State,
    judge_close,
)
from zstui.engine.channels.work import Work
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Signed

VERDICT_GRACE_US = 7 * 86_400 * 1_000_000
"""How much longer than the challenge witnesses may take; then each side books what its own record says."""


def close(work: Work, id: bytes, unilateral: bool = False, reason: str = "unilateral") -> Channel:
    """Freeze and sign my half. Raises IllegalTransition. Where my Close is out already, only ``unilateral`` changes anything:
    the channel is then disputed, for ``reason``."""
    channel = work.need(id)
    channel = work.put(channel.move(Move.CLOSE, work.now_us))
    channel = _freeze(work, channel)
    if unilateral and channel.state is State.CLOSING:
        channel = work.dispute(channel, reason, store.document(work.tx, id, "close", store.OUT) or b"")
    if channel.tainted:
        work.send(work.seal(where_i_am(work.tx, channel)), id)
    return _settle(work, channel)


def on_close(work: Work, channel: Channel, signed: Signed, message: Close) -> None:
    """The peer's half ends: remember it, answer with mine and, as both are now fixed, with a Settle."""
    if channel.state is State.CLOSED:
        return
    if channel.state is State.OPENING:
        raise ProtocolError("A Close on a channel that is not confirmed.")
    known = store.document(work.tx, channel.id, "close", store.IN)
    if known is not None:
        if known != signed.raw:
            work.dispute(channel, "fork", known, signed.raw)
        return
    verdict = judge_close(message, channel.inn)
    if verdict is Judgement.GAP:
        raise ProtocolError("A payment before this Close is missing.")
    if verdict is Judgement.FORK:
        at = store.envelope(work.tx, channel.id, store.IN, max(1, min(message.my_seq + 1, channel.inn.seq))) or b""
        work.dispute(channel, "fork", at, signed.raw)
        return
    store.put_document(work.tx, channel.id, "close", store.IN, signed.raw)
    channel = channel.move(Move.CLOSE, work.now_us)
    channel = work.put(
        msgspec.structs.replace(
            channel, confirmed=True, peer_close=Half(message.my_seq, message.my_cum, message.my_head)
        )
    )
    resume(work, channel)


def resume(work: Work, channel: Channel) -> Channel:
    """Sign what a closing under way lacks. In a dispute that accuses the peer I sign only what a person asked for."""
    if channel.state is State.CLOSING or (channel.state is State.DISPUTED and channel.reason in SOFT_DISPUTES):
        channel = _freeze(work, channel)
    return _settle(work, channel) if channel.open else channel


def on_settle(work: Work, channel: Channel, signed: Signed, message: Settle) -> None:
    """The peer's closing balances. Equal to mine: closed. The peer signed where my half ended, so all of it is acknowledged."""
    if channel.state is State.CLOSED:
        return
    if not channel.can_settle():
        raise ProtocolError("A Settle before both sides closed.")
    if message != channel.settlement():
        if not work.may_sign(channel.id):
            raise ProtocolError("A Settle before this side holds all that it has signed.")
        work.dispute(channel, "settle", signed.raw)
        return
    channel = _settle(work, channel, sure=True)
    store.put_document(work.tx, channel.id, "settle", store.IN, signed.raw)
    channel = work.acknowledge(channel, channel.out)
    work.closed(channel.move(Move.SETTLE, work.now_us, "cooperative"), "settled")


def expire(work: Work, id: bytes) -> None:
    """Carry out what the time of day asks of one channel."""
    channel = work.find(id)
    if channel is None:
        return
    now = work.now_us
    if channel.state is State.OPENING and now >= channel.since_us + OPEN_TIMEOUT_US:
        give_up(work, id)
    elif channel.state is State.ACTIVE and now >= closes_at(channel):
        work.notice(channel, "A channel is about to expire and closes by itself.", "info")
        close(work, id)
    elif channel.state is State.CLOSING and now >= channel.expires_us + LATE_US:
        work.dispute(channel, "expired")
    elif channel.state is State.DISPUTED and now >= resolved_at(channel):
        work.notice(channel, "A disputed channel was closed on this node's own record; the peer gets no more credit.")
        store.set_credit(work.tx, channel.peer, None)  # What was granted before is void; a person may grant it anew.
        work.closed(channel.move(Move.UNRESOLVED, now, "unresolved"), "claimed")


def next_deadline(channel: Channel) -> int | None:
    """When ``expire`` has something to do, Unix µs."""
    match channel.state:
        case State.OPENING:
            return channel.since_us + OPEN_TIMEOUT_US
        case State.ACTIVE:
            return closes_at(channel)
        case State.CLOSING:
            return channel.expires_us + LATE_US
        case State.DISPUTED:
            return resolved_at(channel)
        case _:
            return None


def resolved_at(channel: Channel) -> int:
    """When a dispute without a verdict ends."""
    grace = VERDICT_GRACE_US if channel.params.witnesses else 0
    return channel.since_us + channel.params.challenge_s * 1_000_000 + grace


def decide(work: Work, id: bytes, paid_u: int, received_u: int) -> None:
    """The witnesses have decided: close on their balances. Nothing where the channel is closed already."""
    channel = work.find(id)
    if channel is None or not channel.open:
        return
    if channel.state is not State.DISPUTED:
        channel = work.dispute(channel, "case")
    closed = channel.move(Move.VERDICT, work.now_us, "verdict")
    work.closed(msgspec.structs.replace(closed, decided=(paid_u, received_u)), "decided")


def forget(work: Work, id: bytes) -> None:
    """A channel that never became active has been on show for long enough."""
    channel = work.find(id)
    if channel is not None and channel.reason == "void":
        work.forget(channel)
        store.forget_epoch(work.tx, channel.peer)


def unanswered(work: Work, id: bytes) -> None:
    """A connected peer has had my Close for too long."""
    channel = work.find(id)
    if channel is not None and channel.state is State.CLOSING:
        work.dispute(channel, "unanswered")


def _freeze(work: Work, channel: Channel) -> Channel:
    """Sign my Close if I may and have not; ``resume`` does it later where I may not yet."""
    if channel.frozen or channel.tainted or not work.may_sign(channel.id):
        return channel
    raw = work.seal(channel.closing())
    store.put_document(work.tx, channel.id, "close", store.OUT, raw)
    work.send(raw, channel.id)
    return work.put(msgspec.structs.replace(channel, frozen=True))


def _settle(work: Work, channel: Channel, sure: bool = False) -> Channel:
    """Sign the Settle once both halves are final and I hold all of mine, which the peer has told, or is ``sure``."""
    if (
        channel.state in (State.CLOSING, State.DISPUTED)
        and channel.can_settle()
        and (sure or work.may_sign(channel.id))
        and store.document(work.tx, channel.id, "settle", store.OUT) is None
    ):
        raw = work.seal(channel.settlement())
        store.put_document(work.tx, channel.id, "settle", store.OUT, raw)
        work.send(raw, channel.id)
    return channel
