"""Making a complaint from what is on record: the job's documents, and the payments that its executor acknowledged. Runs inside a
transaction."""

from __future__ import annotations

from collections.abc import Iterable

from zstui.engine.channels import store as channel_store
from zstui.engine.channels.disputes.party import opening_of
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import Pay, read, take
from zstui.engine.channels.model import Channel
from zstui.engine.complaints import store
from zstui.engine.complaints.messages import MAX_PAYS, Complaint
from zstui.engine.complaints.model import acknowledged, pays_for
from zstui.engine.errors import BadInput
from zstui.engine.identity.envelope import MAX_ENVELOPE
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.receipt import Evidence
from zstui.engine.store.database import Tx

PER_PAY = 8
"""Bytes that a document takes in a body beside its own."""


def draw_up(unit: Unit, agreement: bytes, evidence: Evidence, executor: PeerId) -> bytes:
    """A signed complaint about a job of mine. Raises BadInput where there is nothing to show or nobody to judge."""
    channel = _paid_on(unit.tx, agreement)
    if channel is None or channel.peer != executor:
        raise BadInput("Nothing was paid for this job over a channel; reject its payment instead.")
    if not channel.params.witnesses:
        raise BadInput("The channel on which it was paid has no witnesses, so nobody can judge the output.")
    ack, acked = _latest_ack(unit.tx, channel)
    body = Complaint(
        ch=channel.id,
        opening=opening_of(unit, channel),
        manifest=evidence.manifest,
        agreements=(evidence.agreements[0], evidence.agreements[1]),
        receipt=evidence.receipt,
        pays=(),
        ack=ack,
    )
    room = MAX_ENVELOPE - len(unit.seal(body))
    pays = _most_telling(_pays(unit.tx, channel, agreement, acked), agreement, room)
    if not pays:
        raise BadInput("No payment for this job that the executor acknowledged is on record here.")
    return unit.seal(Complaint(body.ch, body.opening, body.manifest, body.agreements, body.receipt, pays, body.ack))


def _paid_on(tx: Tx, agreement: bytes) -> Channel | None:
    """The channel on which a job was paid; of several the last with witnesses."""
    ids = dict.fromkeys(id for id, _ in store.paid_in(tx, agreement))
    channels = [c for c in (channel_store.load(tx, id) for id in ids) if c is not None]
    channels.sort(key=lambda c: (bool(c.params.witnesses), c.created_us), reverse=True)
    return channels[0] if channels else None


def _latest_ack(tx: Tx, channel: Channel) -> tuple[bytes, int]:
    """The document with which the peer acknowledged most, and how far."""
    documents = (
        channel_store.document(tx, channel.id, "ack", channel_store.IN),
        channel_store.document(tx, channel.id, "settle", channel_store.IN),
        channel_store.envelope(tx, channel.id, channel_store.IN, channel.inn.seq),
    )
    found = [(acknowledged(take(raw), channel.params, channel.id, channel.peer)[0], raw) for raw in documents if raw]
    if not found:
        raise BadInput("The executor has not acknowledged the payment yet; try again when it is online.")
    seq, raw = max(found)
    return raw, seq


def _pays(tx: Tx, channel: Channel, agreement: bytes, acked: int) -> Iterable[bytes]:
    for id, seq in store.paid_in(tx, agreement):
        raw = channel_store.envelope(tx, id, channel_store.OUT, seq) if id == channel.id and seq <= acked else None
        if raw is not None:
            yield raw


def _most_telling(raws: Iterable[bytes], agreement: bytes, room: int) -> tuple[bytes, ...]:
    """Those that paid most, as many as fit, in order."""
    pays = [(read(take(raw), Pay), raw) for raw in raws]
    pays.sort(key=lambda p: pays_for(p[0], agreement), reverse=True)
    chosen = []
    for pay, raw in pays[:MAX_PAYS]:
        room -= len(raw) + PER_PAY
        if room < 0:
            break
        if pays_for(pay, agreement):
            chosen.append((pay.seq, raw))
    return tuple(raw for _, raw in sorted(chosen))
