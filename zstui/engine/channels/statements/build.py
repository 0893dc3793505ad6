"""Making a statement from what is on record. Runs inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator

from zstui.engine.channels import store
from zstui.engine.channels.discharges import store as discharge_store
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.messages import Pay, read, take
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.errors import BadInput
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Tx
from zstui.engine.views import PaymentRow, StatementChannel, StatementDischarge, StatementView

VERSION = 1
MAX_PAYS = 80_000
"""Payments with their evidence in one statement: it has to fit a message of the control socket."""
WHAT = {1: "receipt", 2: "note", 3: "refund"}
_DOCUMENTS = (
    ("accept", "accept", store.OUT),
    ("accept", "accept", store.IN),
    ("confirm", "confirm", store.OUT),
    ("confirm", "confirm", store.IN),
    ("close_mine", "close", store.OUT),
    ("close_theirs", "close", store.IN),
    ("settle_mine", "settle", store.OUT),
    ("settle_theirs", "settle", store.IN),
    ("ack_theirs", "ack", store.IN),
)


def build(
    tx: Tx,
    owner: PeerId,
    now_us: int,
    *,
    channel: bytes | None = None,
    peer: PeerId | None = None,
    from_at: int | None = None,
    to_at: int | None = None,
) -> StatementView:
    """Channels that were alive between ``from_at`` and ``to_at`` (Unix seconds), of one peer or one alone.

    Raises BadInput where nothing is left or it is too much for one file.
    """
    least, most = (from_at or 0) * 1_000_000, (to_at or 2**40) * 1_000_000
    chosen = [
        c
        for c in store.load_recent(tx, 100_000)
        if c.agreed
        and c.reason != "void"
        and (channel is None or c.id == channel)
        and (peer is None or c.peer == peer)
        and c.created_us <= most
        and (c.open or c.since_us >= least)
    ]
    chosen.sort(key=lambda c: (c.created_us, c.id))
    discharges = [
        d
        for d in discharge_store.load(tx, 100_000)
        if d.state == "signed" and channel is None and (peer is None or d.peer == peer) and least <= _at_us(d) <= most
    ]
    if not chosen and not discharges:
        raise BadInput("There is nothing on record for such a statement.")
    if sum(c.out.seq + c.inn.seq for c in chosen) > MAX_PAYS:
        raise BadInput(
            f"More than {MAX_PAYS} payments do not fit one statement; ask for one channel, or a shorter time."
        )
    shown = tuple(_channel(tx, c) for c in chosen)
    rows = [row for s in shown for row in _rows(s) if least <= row.at * 1_000_000 <= most]
    moved: dict[PeerId, int] = {}
    for s in shown:
        if s.state == State.CLOSED:
            moved[s.peer_id] = moved.get(s.peer_id, 0) + s.received_u - s.paid_u
    for d in discharges:
        moved[d.peer] = moved.get(d.peer, 0) + (-d.amount_u if d.owed_to_me else d.amount_u)
        rows.append(
            PaymentRow(
                at=_at_us(d) // 1_000_000,
                peer_id=d.peer,
                channel_id="",
                direction="received" if d.owed_to_me else "paid",
                what="discharge",
                sequence=0,
                amount_u=d.amount_u,
                ref=d.id.hex(),
            )
        )
    return StatementView(
        zerostate_statement=VERSION,
        owner=owner,
        made_at=now_us // 1_000_000,
        from_at=from_at,
        to_at=to_at,
        channels=shown,
        discharges=tuple(
            StatementDischarge(
                discharge_id=d.id.hex(),
                peer_id=d.peer,
                amount_u=d.amount_u,
                owed_to_me=d.owed_to_me,
                note=d.note,
                at=_at_us(d) // 1_000_000,
                mine=d.mine or b"",
                theirs=d.theirs or b"",
            )
            for d in discharges
        ),
        payments=tuple(sorted(rows, key=lambda r: (r.at, r.channel_id, r.sequence))),
        moved_u=moved,
    )


def _at_us(discharge: discharge_store.Record) -> int:
    return discharge.decided_us or discharge.created_us


def _channel(tx: Tx, c: Channel) -> StatementChannel:
    documents = {}
    for name, kind, direction in _DOCUMENTS:
        raw = store.document(tx, c.id, kind, direction)
        if raw is not None:
            documents[name] = raw
    if c.decided is not None:
        documents |= {f"verdict_{n}": raw for n, (_, _, raw) in enumerate(dispute_store.verdicts(tx, c.id), 1)}
    paid, received = c.moved
    return StatementChannel(
        channel_id=c.id.hex(),
        peer_id=c.peer,
        epoch=c.epoch,
        state=c.state.value,
        reason=c.reason,
        created_at=c.created_us // 1_000_000,
        changed_at=c.since_us // 1_000_000,
        deposit_mine_u=c.dep_mine,
        deposit_theirs_u=c.dep_theirs,
        paid_u=paid,
        received_u=received,
        sequence=c.out.seq,
        sequence_theirs=c.inn.seq,
        documents=documents,
        pays_mine=_pays(tx, c, store.OUT, c.out.seq),
        pays_theirs=_pays(tx, c, store.IN, c.inn.seq),
    )


def _pays(tx: Tx, c: Channel, direction: int, last: int) -> tuple[bytes, ...]:
    return tuple(raw for _, raw in store.envelopes(tx, c.id, direction, 1, last, MAX_PAYS))


def _rows(shown: StatementChannel) -> Iterator[PaymentRow]:
    for direction, raws in (("paid", shown.pays_mine), ("received", shown.pays_theirs)):
        for raw in raws:
            pay = read(take(raw), Pay)
            for line in pay.lines:
                yield PaymentRow(
                    at=pay.issued_ms // 1000,
                    peer_id=shown.peer_id,
                    channel_id=shown.channel_id,
                    direction=direction,  # type: ignore[arg-type]
                    what=WHAT.get(line.kind, "other"),
                    sequence=pay.seq,
                    amount_u=line.amount_u,
                    ref=line.ref.hex(),
                )
