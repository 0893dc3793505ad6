"""Getting back in step after a reconnect, a crash or a restored backup. Runs inside a transaction."""

from __future__ import annotations

import msgspec

from zstui.engine.channels import closing, store
from zstui.engine.channels.greeting import where_i_am
from zstui.engine.channels.messages import (
    MAX_DOCUMENT,
    Abort,
    Close,
    LogPull,
    Opened,
    OpenPull,
    Pay,
    Reestablish,
    Settle,
    read,
    take,
)
from zstui.engine.channels.model import Channel
from zstui.engine.channels.paying import digest
from zstui.engine.channels.state import Half, Move, State
from zstui.engine.channels.vault import adopt
from zstui.engine.channels.vault.messages import Opening
from zstui.engine.channels.work import InStep, Pulled, Unknown, Work
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId

PULL = 64
"""Pays in one answer to a LogPull."""


def on_reestablish(work: Work, peer: PeerId, signed: Signed, message: Reestablish) -> None:
    """Compare both views of both halves: acknowledge, find proof of a lie, or learn that I lost something."""
    channel = work.find(message.ch)
    if message.sent_seq or message.recv_seq:
        lost = channel is None or (channel.reason == "void" and channel.peer == peer)
    else:
        lost = channel is None and work.context.restored()
    if lost:
        work.out.steps.append(Unknown(message.ch))
        return
    if channel is None or channel.peer != peer or not channel.agreed or channel.reason == "void":
        work.send(work.seal(Abort(message.ch, 0)))
        return
    if channel.state is State.OPENING:
        _still_opening(work, channel, message)
        return
    step = InStep(channel.id, message.recv_seq + 1)
    if message.sent_seq < channel.inn.seq:
        step = msgspec.structs.replace(step, after_pull=channel.inn.seq)
    if not channel.open:
        work.out.steps.append(step)
        return
    proof = adopt.is_stale(work, channel.id, message)
    if proof is not None:
        work.dispute(channel, "stale", proof, signed.raw)
        work.out.steps.append(step)
        return
    received = Half(message.recv_seq, message.recv_cum, message.recv_head)
    if received.seq > channel.out.seq:
        if not _is_mine(work, channel, message.your_last_pay, received):
            channel = work.dispute(channel, "false_ack", signed.raw)
        else:
            work.notice(channel, "This node lost payments it had made; they are fetched back from the peer.")
            step = msgspec.structs.replace(step, recover_to=received.seq)
    elif work.log(channel)(received.seq) != received:
        channel = work.dispute(channel, "false_ack", signed.raw)
    else:
        channel = work.acknowledge(channel, received)
    channel = _compare_sent(work, channel, signed, message)
    if message.state == "opening":
        confirm = store.document(work.tx, channel.id, "confirm", store.OUT)
        if confirm is not None:
            work.send(confirm)
    elif not channel.confirmed:
        channel = work.put(msgspec.structs.replace(channel, confirmed=True))
    channel = _compare_end(work, channel, message)
    if message.your_close and not channel.frozen:
        step = msgspec.structs.replace(step, close=message.your_close)
    if not step.recover_to:
        channel = recovered(work, channel.id, step.close)
    if message.tainted and message.sent_seq <= channel.inn.seq:
        channel = work.put(msgspec.structs.replace(work.need(channel.id), peer_tainted=True))
        if len(signed.raw) <= MAX_DOCUMENT and store.document(work.tx, channel.id, "taint", store.IN) is None:
            store.put_document(work.tx, channel.id, "taint", store.IN, signed.raw)
        if message.state in ("closing", "disputed") or channel.frozen:
            closing.close(work, channel.id)
    work.out.steps.append(step)


def recovered(work: Work, id: bytes, my_close: bytes) -> Channel:
    """I hold all I ever signed on this channel, as far as the peer knows: adopt my lost Close, and sign again."""
    for raw in adopt.complete(work, id):
        signed = take(raw)
        adopt_pay(work, work.need(id), signed, read(signed, Pay), held=False)
    if my_close:
        _adopt_close(work, id, my_close)
    work.out.in_step.append(id)
    return closing.resume(work, work.need(id))


def _still_opening(work: Work, channel: Channel, message: Reestablish) -> None:
    """The peer holds as active what is opening here: it sends its Confirm next. Payments of mine mean an old backup."""
    received = Half(message.recv_seq, message.recv_cum, message.recv_head)
    if received == channel.out:
        work.out.in_step.append(channel.id)
        work.out.steps.append(InStep(channel.id, 1))
    elif _is_mine(work, channel, message.your_last_pay, received):
        after = received.seq + 1
        work.out.steps.append(InStep(channel.id, after, recover_to=received.seq, close=message.your_close))
    else:
        raise ProtocolError("A peer that claims payments on a channel that is only opening.")


def pull_opening(work: Work, id: bytes) -> None:
    """Ask how a channel that I have lost was opened."""
    work.send(work.seal(OpenPull(id)))


def on_open_pull(work: Work, channel: Channel) -> None:
    """Show both consents, as stored, and say once more where I am."""
    opening = adopt.opening_of(work, channel.peer)
    if opening is not None and channel.open:
        work.send(work.seal(Opened(opening.accept, opening.confirm)))
        work.send(work.seal(where_i_am(work.tx, channel)))


def on_opened(work: Work, peer: PeerId, message: Opened) -> None:
    """A channel that both sides signed and I lost: my database is older than the channel, so it comes back tainted."""
    adopt.adopt_opening(work, peer, Opening(message.accept, message.confirm))


def adopt_pay(work: Work, channel: Channel, signed: Signed, message: Pay, *, held: bool = True) -> None:
    """A Pay under my own key that follows on my log: I signed it and lost it. Durable before anything else is signed.

    ``held``: it came from the peer, which therefore has it.
    """
    if channel.state is State.CLOSED or message.seq <= channel.out.seq:
        return
    if message.seq != channel.out.seq + 1 or message.prev != channel.out.head:
        raise ProtocolError("A payment of mine that does not follow on my log.")
    if message.cum != channel.out.cum + sum(line.amount_u for line in message.lines):
        raise ProtocolError("A payment of mine with a wrong total.")
    after = channel.out.after(message, signed.digest)
    store.add_envelope(work.tx, channel.id, store.OUT, after, signed.raw)
    for position, line in enumerate(message.lines):
        store.adopt_line(work.tx, channel.id, message.seq, position, line)
    channel = work.put(msgspec.structs.replace(channel, out=after))
    if held:
        work.acknowledge(channel, after)


def _adopt_close(work: Work, id: bytes, raw: bytes) -> None:
    """My own Close, held by the peer. Raises ProtocolError unless it is mine and ends my half where my log ends."""
    channel = work.need(id)
    if channel.state is State.CLOSED or channel.frozen:
        return
    signed = take(raw)
    if signed.signer != work.context.identity.peer_id:
        raise ProtocolError("A Close that is said to be mine and is not.")
    close = read(signed, Close)
    if close != channel.closing():
        raise ProtocolError("A Close of mine that does not end where my log ends.")
    store.put_document(work.tx, id, "close", store.OUT, raw)
    work.put(msgspec.structs.replace(channel.move(Move.CLOSE, work.now_us), frozen=True))


def pull(work: Work, id: bytes, to: int) -> None:
    """Ask for the next stretch of my lost Pays."""
    first = work.need(id).out.seq + 1
    work.send(work.seal(LogPull(id, first, min(to, first + PULL - 1))))


def on_pull(work: Work, channel: Channel, message: LogPull) -> None:
    """Give the peer its own Pays back, as stored."""
    last = min(message.last, message.first + PULL - 1, channel.inn.seq)
    for _, raw in store.envelopes(work.tx, channel.id, store.IN, message.first, last, PULL):
        work.send(raw)
    work.out.steps.append(Pulled(channel.id, last))


def _is_mine(work: Work, channel: Channel, raw: bytes, received: Half) -> bool:
    """Whether ``raw`` is a Pay of mine on this channel that ends at ``received``."""
    try:
        signed = take(raw)
        pay = read(signed, Pay)
    except ProtocolError:
        return False
    return (
        signed.signer == work.context.identity.peer_id
        and pay.ch == channel.id
        and Half(pay.seq, pay.cum, digest(raw)) == received
    )


def _compare_end(work: Work, channel: Channel, message: Reestablish) -> Channel:
    """The peer has closed: so do I. What I signed without a Close once I knew that my database is old makes it old again."""
    if message.your_end and not message.your_close and not channel.frozen and not channel.tainted:
        signed = take(message.your_end)
        if signed.signer == work.context.identity.peer_id and _was_tainted(signed, channel.id):
            channel = work.put(msgspec.structs.replace(channel, tainted=True))
    if message.state == "closed" and channel.state is State.ACTIVE:
        channel = work.put(channel.move(Move.CLOSE, work.now_us))
    return channel


def _was_tainted(signed: Signed, channel: bytes) -> bool:
    """Whether I signed this as one who pays and closes no more on ``channel``."""
    if signed.kind == "Settle":
        return read(signed, Settle).ch == channel
    said = read(signed, Reestablish)
    return said.ch == channel and said.tainted


def _compare_sent(work: Work, channel: Channel, signed: Signed, message: Reestablish) -> Channel:
    """The peer's log up to what I hold must be what I hold."""
    if message.sent_seq > channel.inn.seq:
        return channel
    half = store.half_at(work.tx, channel.id, store.IN, message.sent_seq)
    if half is not None and half.head != message.sent_head:
        held = store.envelope(work.tx, channel.id, store.IN, message.sent_seq) or b""
        return work.dispute(channel, "fork", held, signed.raw)
    return channel
