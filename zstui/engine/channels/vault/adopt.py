"""Taking up again what this node lost: channels that a peer proves, and what my own deposits say. Runs inside a transaction.

A channel comes back empty, with neither half: its peer then states where it is and gives back both halves as they were
signed. What a deposit says of it is only a mark below which the peer must not stay.
"""

from __future__ import annotations

import hashlib

import msgspec

from zstui.engine.channels import settlement, store
from zstui.engine.channels.messages import (
    OpenAccept,
    OpenConfirm,
    Params,
    Reestablish,
    channel_id,
    check_opening,
    read,
    take,
)
from zstui.engine.channels.model import Channel, record
from zstui.engine.channels.state import Move, State
from zstui.engine.channels.vault import store as vault_store
from zstui.engine.channels.vault.messages import Opening
from zstui.engine.channels.vault.model import Deposit
from zstui.engine.channels.work import Work
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import PeerId, peer_id_of, public_key_of


def opening_of(work: Work, peer: PeerId) -> Opening | None:
    """What proves the channel that is open with ``peer``, if there is one and both have signed."""
    channel = store.load_open(work.tx, peer)
    if channel is None or not channel.agreed:
        return None
    here, there = (store.IN, store.OUT) if channel.proposer else (store.OUT, store.IN)
    accept = store.document(work.tx, channel.id, "accept", here)
    confirm = store.document(work.tx, channel.id, "confirm", there)
    return Opening(accept, confirm) if accept and confirm else None


def adopt_opening(work: Work, peer: PeerId, opening: Opening) -> bool:
    """Take up a channel that I signed and do not know, or gave up as void. Raises ProtocolError where it proves nothing.

    False where it is known, where another is open, or where its number was used before: then it was closed. A database from
    while it was opening takes it for void.
    """
    accept, confirm = take(opening.accept), take(opening.confirm)
    params, consent = read(accept, OpenAccept), read(confirm, OpenConfirm)
    me = work.context.identity.peer_id
    id = channel_id(params.params)
    if consent.id != id or {accept.signer, confirm.signer} != {me, peer} or _between(params.params) != {me, peer}:
        raise ProtocolError("A channel is shown as mine that I did not sign.")
    check_opening(public_key_of(accept.signer), id, params.sig)
    check_opening(public_key_of(confirm.signer), id, consent.sig)
    known = work.find(id)
    if known is not None and known.reason != "void":
        return False
    _drop_draft(work, peer, params.params)
    used = known is None and params.params.epoch <= store.epoch(work.tx, peer)
    if (used and vault_store.mark(work.tx, id) is None) or work.open_with(peer) is not None:
        return False
    mine = confirm.signer == me
    _take_up(work, id, params.params, peer, proposer=mine, tainted=True)
    store.put_document(work.tx, id, "accept", store.IN if mine else store.OUT, opening.accept)
    store.put_document(work.tx, id, "confirm", store.OUT if mine else store.IN, opening.confirm)
    return True


def adopt_deposit(work: Work, peer: PeerId, deposit: Deposit, keeper: PeerId) -> None:
    """What my own deposit, kept by ``keeper``, says of ``peer``: channel numbers, what is owed, and where the channel was.

    Where somebody else than the peer itself kept it, it vouches for the channel: the peer cannot show an older state, and
    the channel may be used again once the peer has shown its latest.
    """
    used = store.epoch(work.tx, peer)
    for who, high in deposit.epochs:
        if who == peer:
            store.raise_epoch(work.tx, peer, high)
    _adopt_postings(work, peer, deposit)
    kept = next((c for c in deposit.channels if _between(c.params) == {work.context.identity.peer_id, peer}), None)
    if kept is None:
        return
    id = channel_id(kept.params)
    mark = vault_store.mark(work.tx, id)
    if mark is None or (kept.out[0], kept.inn[0]) > (mark.out[0], mark.inn[0]):
        vault_store.put_mark(work.tx, id, kept)
    channel = work.find(id)
    if channel is None:
        if kept.params.epoch > used and work.open_with(peer) is None:
            _take_up(work, id, kept.params, peer, proposer=kept.proposer, tainted=keeper == peer)
    elif channel.tainted and channel.open and keeper != peer and not channel.frozen:
        work.put(msgspec.structs.replace(channel, tainted=False))


def is_stale(work: Work, id: bytes, message: Reestablish) -> bytes | None:
    """The peer's own Pay, or b"", where it states less than my deposit proves that it had signed or acknowledged."""
    mark = vault_store.mark(work.tx, id)
    if mark is None or (message.sent_seq >= mark.inn[0] and message.recv_seq >= mark.acked):
        return None
    return mark.last


def complete(work: Work, id: bytes) -> list[bytes]:
    """My half is as long as the peer says: the Pays that only my deposit still has, to be added to it.

    Where it stays shorter than I know I had signed, the channel only closes from now on.
    """
    mark, channel = vault_store.mark(work.tx, id), work.need(id)
    if mark is None:
        return []
    tail = list(mark.tail) if channel.out.seq < mark.out[0] else []
    if channel.out.seq + len(tail) < mark.out[0] and not channel.tainted:
        work.put(msgspec.structs.replace(channel, tainted=True))
    return tail


def _adopt_postings(work: Work, peer: PeerId, deposit: Deposit) -> None:
    first = not settlement.has_postings(work.tx, peer)
    for p in deposit.postings:
        if p.peer != peer:
            continue
        channel = work.find(p.ref)
        if channel is None or not channel.open:
            settlement.post(work.tx, p.ref, peer, p.spent_u, p.earned_u, p.kind, p.at_us)
    for who, owed in deposit.rest:
        if who == peer and first and owed:
            ref = hashlib.sha256(b"zs/vault/rest|" + peer.encode()).digest()
            settlement.post(work.tx, ref, peer, max(0, -owed), max(0, owed), "recovered", deposit.at_us)
    work.out.balances[peer] = settlement.owed_by(work.tx, peer)


def _take_up(work: Work, id: bytes, params: Params, peer: PeerId, *, proposer: bool, tainted: bool) -> Channel:
    me = work.context.identity.peer_id
    fresh = record(id, params, me, peer, proposer=proposer, agreed=True, now_us=work.now_us)
    active = fresh.move(Move.ACCEPT if proposer else Move.CONFIRM, work.now_us)
    channel = work.put_now(msgspec.structs.replace(active, confirmed=True, tainted=tainted))
    store.raise_epoch(work.tx, peer, params.epoch)
    work.driver(params).reserve(work.tx, id, channel.dep_mine)
    work.notice(channel, "A channel that this node had lost was found again at its peer.", "info")
    return channel


def _drop_draft(work: Work, peer: PeerId, params: Params) -> None:
    """My proposal of the same number, whose answer I had and lost."""
    existing = work.open_with(peer)
    if existing is not None and existing.state is State.OPENING and existing.epoch == params.epoch:
        work.forget(existing)
        store.lower_epoch(work.tx, peer, existing.epoch)


def _between(params: Params) -> set[PeerId]:
    return {peer_id_of(params.pk_lo), peer_id_of(params.pk_hi)}
