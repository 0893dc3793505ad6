"""Opening a channel: propose, accept, confirm, and every way it comes to nothing. Runs inside a transaction."""

from __future__ import annotations

import os

import msgspec

from zstui.engine.channels import store
from zstui.engine.channels.messages import (
    Abort,
    OpenAccept,
    OpenConfirm,
    OpenPropose,
    OpenReject,
    Params,
    channel_id,
    check_opening,
    sign_opening,
)
from zstui.engine.channels.model import (
    DRIVER,
    MAX_DEPOSIT_U,
    MAX_EXPIRY_S,
    MIN_DEPOSIT_U,
    MIN_EXPIRY_S,
    Channel,
    draft,
    record,
)
from zstui.engine.channels.panel import check_panel
from zstui.engine.channels.settlement import owed_by
from zstui.engine.channels.state import TRANSITIONS, Move, State
from zstui.engine.channels.work import Answer, Work
from zstui.engine.errors import ChannelError, CreditExceeded, ProtocolError
from zstui.engine.events import ChannelOpened
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.money import format_amount

MAX_OPENINGS = 256
"""Channels in state opening, over all peers."""
CLOCK_SKEW_US = 600_000_000
"""How far two clocks may differ for a channel to open."""
MAX_EPOCH_STEP = 1_000_000
"""How far a peer's word moves the epoch; more is refused as nonsense."""
CHALLENGE_RANGE_S = (3_600, 30 * 86_400)


class Panel(msgspec.Struct, frozen=True):
    """Who decides a dispute: ``m`` of these public keys, which are sorted. None: nobody does."""

    witnesses: tuple[bytes, ...] = ()
    m: int = 0


def propose(
    work: Work,
    peer: PeerId,
    mine_u: int,
    theirs_u: int,
    expires_s: int,
    nonce: bytes,
    limit_u: int,
    least_epoch: int,
    panel: Panel = Panel(),  # noqa: B008  frozen
    driver: str = DRIVER,
) -> Channel:
    """Write and send my proposal. Raises ChannelError where one is open, CreditExceeded over the peer's limit."""
    existing = work.open_with(peer)
    if existing is not None:
        raise ChannelError(
            f"A channel with this peer is {existing.state.value} already ({existing.id.hex()[:8]}); close it first."
        )
    owed = max(0, owed_by(work.tx, peer))
    if theirs_u and theirs_u + owed > limit_u:
        raise CreditExceeded(
            f"The peer's deposit of {format_amount(theirs_u)} and the {format_amount(owed)} it owes pass its credit limit"
            f" of {format_amount(limit_u)}."
        )
    me = work.context.identity.peer_id
    epoch = max(store.epoch(work.tx, peer) + 1, least_epoch)
    now_ms = work.now_us // 1000
    params = draft(
        work.context.net, me, peer, epoch, nonce, mine_u, theirs_u, now_ms, expires_s, panel.witnesses, panel.m, driver
    )
    id = channel_id(params)
    raw = work.seal(OpenPropose(params))
    store.raise_epoch(work.tx, peer, epoch)
    channel = work.put(record(id, params, me, peer, proposer=True, agreed=False, now_us=work.now_us))
    work.driver(params).reserve(work.tx, id, mine_u)
    store.put_document(work.tx, id, "propose", store.OUT, raw)
    work.send(raw)
    return channel


def on_propose(work: Work, peer: PeerId, raw: bytes, message: OpenPropose, limit_u: int) -> None:
    """The peer proposes: accept, answer again what was accepted before, or refuse with the reason."""
    params = message.draft
    me = work.context.identity.peer_id
    _check_draft(params, me, peer)
    existing = work.open_with(peer)
    if existing is not None and existing.state is State.OPENING:
        if not existing.proposer:
            if store.document(work.tx, existing.id, "propose", store.IN) == raw:
                _resend_accept(work, existing)
                return
            work.forget(existing)
        elif public_key_of(me) < public_key_of(peer):
            _refuse(work, params, "SIMULTANEOUS")
            return
        else:
            work.out.answers.append(Answer(existing.id, "SIMULTANEOUS"))
            work.forget(existing)
        existing = None
    if existing is not None:
        _refuse(work, params, "EXISTS")
        return
    code, value = _judge(work, params, peer, limit_u)
    if code:
        _refuse(work, params, code, value)
        return
    nonce_low = public_key_of(me) == params.pk_lo
    nonce = os.urandom(32)
    params = (
        msgspec.structs.replace(params, nonce_lo=nonce)
        if nonce_low
        else msgspec.structs.replace(params, nonce_hi=nonce)
    )
    id = channel_id(params)
    accept = work.seal(OpenAccept(params, sign_opening(work.context.identity, id)))
    store.raise_epoch(work.tx, peer, params.epoch)
    channel = work.put_now(record(id, params, me, peer, proposer=False, agreed=True, now_us=work.now_us))
    work.out.in_step.append(id)
    work.driver(params).reserve(work.tx, id, channel.dep_mine)
    store.put_document(work.tx, id, "propose", store.IN, raw)
    store.put_document(work.tx, id, "accept", store.OUT, accept)
    work.send(accept)


def on_accept(work: Work, peer: PeerId, raw: bytes, message: OpenAccept) -> None:
    """The peer accepted: the channel gets its id and is active here."""
    params = message.params
    low = public_key_of(work.context.identity.peer_id) == params.pk_lo
    asked = msgspec.structs.replace(params, nonce_hi=b"") if low else msgspec.structs.replace(params, nonce_lo=b"")
    mine = work.find(channel_id(asked))
    if mine is None or mine.peer != peer or not mine.proposer:
        _accepted_before(work, peer, channel_id(params))
        return
    if len(params.nonce_lo) != 32 or len(params.nonce_hi) != 32:
        raise ProtocolError("An Accept without the responder's nonce.")
    id = channel_id(params)
    check_opening(public_key_of(peer), id, message.sig)
    confirm = work.seal(OpenConfirm(id, sign_opening(work.context.identity, id)))
    propose_raw = store.document(work.tx, mine.id, "propose", store.OUT) or b""
    work.forget(mine)
    fresh = record(id, params, work.context.identity.peer_id, peer, proposer=True, agreed=True, now_us=work.now_us)
    channel = work.put_now(fresh.move(Move.ACCEPT, work.now_us))
    work.driver(params).reserve(work.tx, id, channel.dep_mine)
    store.put_document(work.tx, id, "propose", store.OUT, propose_raw)
    store.put_document(work.tx, id, "accept", store.IN, raw)
    store.put_document(work.tx, id, "confirm", store.OUT, confirm)
    work.send(confirm)
    work.out.started.append(id)
    work.out.in_step.append(id)
    work.out.answers.append(Answer(mine.id, "", id))
    work.event(ChannelOpened(id.hex()))


def _accepted_before(work: Work, peer: PeerId, id: bytes) -> None:
    """An Accept for no proposal of mine that waits: I gave it up, or have confirmed it and the Confirm was lost."""
    channel = work.find(id)
    if channel is None or channel.peer != peer:
        work.send(work.seal(Abort(id, 0)))
    elif channel.state is State.ACTIVE and not channel.confirmed:
        confirm = store.document(work.tx, id, "confirm", store.OUT)
        if confirm is not None:
            work.send(confirm)
            work.out.started.append(id)


def on_confirm(work: Work, peer: PeerId, raw: bytes, message: OpenConfirm) -> None:
    """The proposer confirmed: active here too, and it is told so with an Ack of nothing."""
    channel = work.find(message.id)
    if channel is None or channel.peer != peer or channel.proposer or channel.state is State.CLOSED:
        work.send(work.seal(Abort(message.id, 0)))
        return
    check_opening(public_key_of(peer), channel.id, message.sig)
    if channel.state is State.OPENING:
        channel = msgspec.structs.replace(channel.move(Move.CONFIRM, work.now_us), confirmed=True)
        work.put(channel)
        store.put_document(work.tx, channel.id, "confirm", store.IN, raw)
        if channel.id not in work.recovering:
            work.out.started.append(channel.id)
            work.out.in_step.append(channel.id)
        work.event(ChannelOpened(channel.id.hex()))
    work.out.acks.add(channel.id)


def on_reject(work: Work, peer: PeerId, message: OpenReject) -> None:
    """The peer refuses my proposal."""
    channel = work.find(message.draft)
    if channel is None or channel.peer != peer or channel.agreed:
        return
    work.forget(channel)
    store.lower_epoch(work.tx, channel.peer, channel.epoch)
    work.out.answers.append(Answer(channel.id, message.code, next=message.next))


def on_abort(work: Work, peer: PeerId, raw: bytes, message: Abort) -> None:
    """The peer never had this channel active. True before anything was paid; later it contradicts what it signed.

    Where it signed nothing and only I paid, it may have lost its record before it could know: the next link tells it.
    """
    channel = work.find(message.id)
    if channel is None or channel.peer != peer or channel.state is State.CLOSED:
        return
    if channel.state is State.OPENING:
        work.forget(channel)
        return
    if channel.out.seq == channel.inn.seq == 0 and (channel.state, Move.VOID) in TRANSITIONS:
        work.void(channel)
        work.notice(channel, "The peer has no record of this channel; nothing was paid on it.")
        return
    if channel.acked == channel.inn.seq == 0:
        raise ProtocolError("A peer that has no record of a channel on which a payment is under way.")
    work.dispute(channel, "abort", raw)


def give_up(work: Work, id: bytes) -> None:
    """No answer in time: void."""
    channel = work.find(id)
    if channel is None or channel.state is not State.OPENING:
        return
    if not channel.agreed:
        work.forget(channel)
        store.lower_epoch(
            work.tx, channel.peer, channel.epoch
        )  # The answer may be lost: the peer may yet show the channel.
        work.out.answers.append(Answer(id, "VOID"))
        return
    work.void(channel)
    work.send(work.seal(Abort(id, 0)))


def _check_draft(params: Params, me: PeerId, peer: PeerId) -> None:
    keys = sorted((public_key_of(me), public_key_of(peer)))
    if [params.pk_lo, params.pk_hi] != keys:
        raise ProtocolError("A channel proposal for other peers.")
    mine, theirs = params.nonce_lo, params.nonce_hi
    if public_key_of(me) == params.pk_hi:
        mine, theirs = theirs, mine
    if mine or len(theirs) != 32:
        raise ProtocolError("A channel proposal with wrong nonces.")


def _judge(work: Work, params: Params, peer: PeerId, limit_u: int) -> tuple[str, int]:
    """The code of a refusal with its number, or ("", 0)."""
    deposits = (params.dep_lo, params.dep_hi)
    low = public_key_of(peer) == params.pk_lo
    theirs, mine = deposits if low else deposits[::-1]
    least = store.epoch(work.tx, peer) + 1
    if not least <= params.epoch <= least + MAX_EPOCH_STEP:
        return "EPOCH", least
    life_ms = params.expires_ms - params.created_ms
    if (
        params.net != work.context.net
        or params.driver not in work.context.drivers
        or not _agreed(work, params, peer)
        or not CHALLENGE_RANGE_S[0] <= params.challenge_s <= CHALLENGE_RANGE_S[1]
        or not MIN_EXPIRY_S * 1000 <= life_ms <= MAX_EXPIRY_S * 1000
    ):
        return "TERMS", 0
    if abs(work.now_us - params.created_ms * 1000) > CLOCK_SKEW_US:
        return "CLOCK", 0
    if not MIN_DEPOSIT_U <= theirs <= MAX_DEPOSIT_U or (mine and not MIN_DEPOSIT_U <= mine <= MAX_DEPOSIT_U):
        return "DEPOSIT", 0
    room = limit_u - max(0, owed_by(work.tx, peer))
    if theirs > room or mine > limit_u:
        return "CREDIT", max(0, min(room, limit_u))
    if store.openings(work.tx) >= MAX_OPENINGS:
        return "BUSY", 0
    return "", 0


def _agreed(work: Work, params: Params, peer: PeerId) -> bool:
    """Whether the witnesses are none, or those agreed with the proposer just before."""
    keys = params.witnesses
    if not keys:
        return params.m == 0
    return check_panel(params) and frozenset(keys) == work.context.agreed_witnesses(peer)


def _refuse(work: Work, params: Params, code: str, value: int = 0) -> None:
    body = msgspec.convert((channel_id(params), code, value), OpenReject)
    work.send(work.seal(body))


def _resend_accept(work: Work, channel: Channel) -> None:
    raw = store.document(work.tx, channel.id, "accept", store.OUT)
    if raw is not None:
        work.send(raw)
