"""Paying and being paid. Runs inside a transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from zstui.engine.channels import store
from zstui.engine.channels.messages import Ack, Pay, PayLine
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import (
    LATE_US,
    SOFT_DISPUTES,
    Half,
    Judgement,
    Move,
    State,
    judge_ack,
    judge_pay,
    next_pay,
)
from zstui.engine.channels.work import Work, savepoint
from zstui.engine.errors import ProtocolError
from zstui.engine.events import PaymentProcessed
from zstui.engine.identity.envelope import Envelope, Signed
from zstui.engine.store.database import Tx


class Intent(msgspec.Struct, frozen=True):
    """One payment asked for. ``also`` runs in the Pay's transaction; what it raises undoes this payment alone."""

    line: PayLine
    also: Callable[[Tx], None] | None = None


def pay(work: Work, id: bytes, intents: list[Intent]) -> tuple[int, list[Exception | None]]:
    """Sign and store one Pay over all intents that can be paid; returns its sequence and each intent's error."""
    channel = work.need(id)
    seq = channel.out.seq + 1
    errors: list[Exception | None] = []
    lines: list[PayLine] = []
    spent = 0
    for intent in intents:
        try:
            channel.check_payable(intent.line.amount_u, spent, work.now_us, work.may_sign(id))
            if intent.also is None:
                store.add_line(work.tx, id, seq, len(lines), intent.line)
            else:
                with savepoint(work.tx):
                    store.add_line(work.tx, id, seq, len(lines), intent.line)
                    intent.also(work.tx)
        except Exception as error:  # noqa: BLE001  raised again at the caller
            errors.append(error)
        else:
            errors.append(None)
            lines.append(intent.line)
            spent += intent.line.amount_u
    if lines:
        body = next_pay(id, channel.out, channel.inn, tuple(lines), work.now_us // 1000)
        raw = work.seal(body)
        out = Half(body.seq, body.cum, digest(raw))
        store.add_envelope(work.tx, id, store.OUT, out, raw)
        work.put(msgspec.structs.replace(channel.move(Move.PAY, work.now_us), out=out))
        work.send(raw, id, out.seq)
    return seq, errors


def digest(raw: bytes) -> bytes:
    """The head that a Pay's envelope makes."""
    return hashlib.sha256(raw).digest()


def on_pay(work: Work, channel: Channel, signed: Signed, message: Pay) -> None:
    """The peer's next Pay: credit it, acknowledge it again, or keep the proof of what is wrong with it."""
    if channel.state is State.CLOSED or (channel.state is State.DISPUTED and channel.reason not in SOFT_DISPUTES):
        return
    if channel.peer_tainted and channel.frozen:
        raise ProtocolError("A payment from a peer that said it signs none any more.")
    if channel.state is State.OPENING:
        raise ProtocolError("A payment on a channel that is not confirmed.")
    held = signed.digest

    def held_digest(seq: int) -> bytes | None:
        half = store.half_at(work.tx, channel.id, store.IN, seq)
        return half.head if half else None

    verdict = judge_pay(message, held, channel.inn, held_digest, work.log(channel), channel.dep_theirs)
    key = channel.id.hex()
    if verdict is Judgement.ACCEPT and channel.peer_close is not None:
        close = store.document(work.tx, channel.id, "close", store.IN) or b""
        work.dispute(channel, "pay_after_close", close, signed.raw)
    elif verdict is Judgement.ACCEPT:
        _check_time(channel, message, work.now_us)
        after = channel.inn.after(message, held)
        store.add_envelope(work.tx, channel.id, store.IN, after, signed.raw)
        channel = msgspec.structs.replace(channel.move(Move.RECEIVE, work.now_us), inn=after, confirmed=True)
        work.put(channel)
        work.acknowledge(channel, Half(message.peer_seq, message.peer_cum, message.peer_head))
        for line in message.lines:
            work.context.on_credit(work.tx, key, channel.peer, line)
            work.event(PaymentProcessed(key, "received", line.amount_u))
        work.out.acks.add(channel.id)
    elif verdict is Judgement.DUPLICATE:
        work.out.acks.add(channel.id)
    elif verdict is Judgement.GAP:
        raise ProtocolError("A payment before this one is missing.")
    elif verdict is Judgement.INVALID:
        raise ProtocolError("A payment whose total is not the sum of its lines.")
    else:
        if verdict is Judgement.FORK:
            other = store.envelope(work.tx, channel.id, store.IN, min(message.seq, channel.inn.seq)) or b""
            if message.seq <= channel.inn.seq and _body(other) == signed.body:
                raise ProtocolError("A payment signed anew where its stored bytes were due.")
            work.dispute(channel, "fork", other, signed.raw)
        else:
            work.dispute(channel, verdict.value, signed.raw)
        work.event(PaymentProcessed(key, "rejected", sum(line.amount_u for line in message.lines)))


def on_ack(work: Work, channel: Channel, signed: Signed, message: Ack) -> None:
    """The peer acknowledges my half: the proof of payment is kept, the lines are paid."""
    if channel.state in (State.CLOSED, State.OPENING):
        return
    verdict = judge_ack(message, channel.acked, work.log(channel))
    if verdict is Judgement.FALSE_ACK:
        work.dispute(channel, "false_ack", signed.raw)
    elif verdict is Judgement.ACCEPT:
        store.put_document(work.tx, channel.id, "ack", store.IN, signed.raw)
        work.acknowledge(channel, Half(message.seq, message.cum, message.head))
    elif not channel.confirmed:
        work.put(msgspec.structs.replace(channel, confirmed=True))


def _check_time(channel: Channel, message: Pay, now_us: int) -> None:
    if message.issued_ms * 1000 >= channel.expires_us:
        raise ProtocolError("A payment issued after the channel expired.")
    if channel.state is State.ACTIVE and now_us > channel.expires_us + LATE_US:
        raise ProtocolError("A payment that comes too long after the channel expired.")


def _body(raw: bytes) -> bytes:
    return msgspec.msgpack.decode(raw, type=Envelope).body if raw else b""
