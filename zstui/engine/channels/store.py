"""SQL of the payment channels. Every function runs inside a transaction that its caller holds."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from zstui.engine.channels.messages import Params, PayLine
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import Half, State
from zstui.engine.errors import ChannelError
from zstui.engine.store.database import Tx

OUT, IN = 0, 1
MAX_EVIDENCE = 32
"""Documents of proof kept for one channel."""

_COLUMNS = (
    "id, peer, epoch, state, reason, proposer, agreed, params, low, dep_mine, dep_theirs, created_us, expires_us, "
    "out_seq, out_cum, out_head, in_seq, in_cum, in_head, acked, acked_cum, confirmed, frozen, "
    "close_seq, close_cum, close_head, tainted, peer_tainted, since_us, rev, "
    "decided_paid, decided_received"
)
_FIXED = "id, peer, epoch, state, proposer, agreed, params, low, dep_mine, dep_theirs, created_us, expires_us"
_CHANGING = (
    "reason, out_seq, out_cum, out_head, in_seq, in_cum, in_head, acked, acked_cum, confirmed, frozen, "
    "close_seq, close_cum, close_head, tainted, peer_tainted, since_us, rev, decided_paid, decided_received"
)
_SAVE = f"INSERT INTO channels ({_FIXED}, {_CHANGING}) VALUES ({', '.join('?' * len(_COLUMNS.split(',')))})"
_UPDATE = f"UPDATE channels SET {', '.join(f'{name} = ?' for name in _CHANGING.split(', '))} WHERE id = ? AND state = ?"
"""Touches no index, which is most of what a payment costs on disk."""


def _channel(row: tuple[Any, ...]) -> Channel:
    return Channel(
        id=row[0],
        peer=row[1],
        epoch=row[2],
        state=State(row[3]),
        reason=row[4],
        proposer=bool(row[5]),
        agreed=bool(row[6]),
        params=msgspec.msgpack.decode(row[7], type=Params),
        low=bool(row[8]),
        dep_mine=row[9],
        dep_theirs=row[10],
        created_us=row[11],
        expires_us=row[12],
        out=Half(row[13], row[14], row[15]),
        inn=Half(row[16], row[17], row[18]),
        acked=row[19],
        acked_cum=row[20],
        confirmed=bool(row[21]),
        frozen=bool(row[22]),
        peer_close=None if row[23] is None else Half(row[23], row[24], row[25]),
        tainted=bool(row[26]),
        peer_tainted=bool(row[27]),
        since_us=row[28],
        rev=row[29],
        decided=None if row[30] is None else (row[30], row[31]),
    )


def save(tx: Tx, channel: Channel) -> Channel:
    """Insert or update; returns the record with its new ``rev``."""
    c = msgspec.structs.replace(channel, rev=channel.rev + 1)
    if tx.execute(_UPDATE, (*_changing(c), c.id, c.state.value)).rowcount == 0:
        tx.execute("DELETE FROM channels WHERE id = ?", (c.id,))
        fixed = (
            c.id,
            c.peer,
            c.epoch,
            c.state.value,
            c.proposer,
            c.agreed,
            msgspec.msgpack.encode(c.params),
            c.low,
            c.dep_mine,
            c.dep_theirs,
            c.created_us,
            c.expires_us,
        )
        tx.execute(_SAVE, (*fixed, *_changing(c)))
    return c


def _changing(c: Channel) -> tuple[Any, ...]:
    """Values of ``_CHANGING``."""
    close = c.peer_close
    return (
        c.reason,
        c.out.seq,
        c.out.cum,
        c.out.head,
        c.inn.seq,
        c.inn.cum,
        c.inn.head,
        c.acked,
        c.acked_cum,
        c.confirmed,
        c.frozen,
        close.seq if close else None,
        close.cum if close else None,
        close.head if close else None,
        c.tainted,
        c.peer_tainted,
        c.since_us,
        c.rev,
        *(c.decided or (None, None)),
    )


def load(tx: Tx, channel: bytes) -> Channel | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM channels WHERE id = ?", (channel,)).fetchone()
    return _channel(row) if row else None


def load_open(tx: Tx, peer: str) -> Channel | None:
    """The one channel with ``peer`` that is not closed."""
    row = tx.execute(f"SELECT {_COLUMNS} FROM channels WHERE peer = ? AND state <> 'closed'", (peer,)).fetchone()
    return _channel(row) if row else None


def load_recent(tx: Tx, closed: int) -> list[Channel]:
    """All that are not closed, and the ``closed`` latest of the others."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM channels WHERE state <> 'closed'").fetchall()
    rows += tx.execute(
        f"SELECT {_COLUMNS} FROM channels WHERE state = 'closed' ORDER BY since_us DESC LIMIT ?", (closed,)
    ).fetchall()
    return [_channel(row) for row in rows]


def forget(tx: Tx, channel: bytes) -> None:
    """Drop a channel that never became active, with its documents."""
    tx.execute("DELETE FROM channels WHERE id = ?", (channel,))
    tx.execute("DELETE FROM channel_documents WHERE channel = ?", (channel,))
    tx.execute("DELETE FROM ledger_reservations WHERE channel = ?", (channel,))


def unresolved_peers(tx: Tx) -> set[str]:
    """Peers with which a dispute ended without agreement or verdict."""
    return {row[0] for row in tx.execute("SELECT DISTINCT peer FROM channels WHERE reason = 'unresolved'")}


def credits(tx: Tx) -> dict[str, int]:
    """Credit limits that were set for one peer, µ."""
    return dict(tx.execute("SELECT peer, limit_u FROM channel_credit").fetchall())


def set_credit(tx: Tx, peer: str, limit_u: int | None) -> None:
    """None: back to what everybody of its kind gets."""
    tx.execute("DELETE FROM channel_credit WHERE peer = ?", (peer,))
    if limit_u is not None:
        tx.execute("INSERT INTO channel_credit VALUES (?, ?)", (peer, limit_u))


def openings(tx: Tx) -> int:
    return int(tx.execute("SELECT count(*) FROM channels WHERE state = 'opening'").fetchone()[0])


def taint_all(tx: Tx) -> None:
    """Mark every channel that is not closed."""
    tx.execute("UPDATE channels SET tainted = 1, rev = rev + 1 WHERE state <> 'closed'")


# --- envelopes and documents -----------------------------------------------------------------------------------------


def add_envelope(tx: Tx, channel: bytes, direction: int, half: Half, raw: bytes) -> None:
    tx.execute(
        "INSERT INTO channel_envelopes VALUES (?, ?, ?, ?, ?, ?)",
        (channel, direction, half.seq, half.cum, half.head, raw),
    )


def half_at(tx: Tx, channel: bytes, direction: int, seq: int) -> Half | None:
    """A half as it was after ``seq``."""
    if seq == 0:
        return Half.start(channel)
    row = tx.execute(
        "SELECT seq, cum, head FROM channel_envelopes WHERE channel = ? AND direction = ? AND seq = ?",
        (channel, direction, seq),
    ).fetchone()
    return Half(*row) if row else None


def envelope(tx: Tx, channel: bytes, direction: int, seq: int) -> bytes | None:
    row = tx.execute(
        "SELECT raw FROM channel_envelopes WHERE channel = ? AND direction = ? AND seq = ?", (channel, direction, seq)
    ).fetchone()
    return row[0] if row else None


def envelopes(tx: Tx, channel: bytes, direction: int, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
    """(seq, bytes) in order."""
    return tx.execute(
        "SELECT seq, raw FROM channel_envelopes WHERE channel = ? AND direction = ? AND seq BETWEEN ? AND ?"
        " ORDER BY seq LIMIT ?",
        (channel, direction, first, last, limit),
    ).fetchall()


def put_document(tx: Tx, channel: bytes, kind: str, direction: int, raw: bytes) -> None:
    tx.execute("INSERT OR REPLACE INTO channel_documents VALUES (?, ?, ?, ?)", (channel, kind, direction, raw))


def document(tx: Tx, channel: bytes, kind: str, direction: int) -> bytes | None:
    row = tx.execute(
        "SELECT raw FROM channel_documents WHERE channel = ? AND kind = ? AND direction = ?", (channel, kind, direction)
    ).fetchone()
    return row[0] if row else None


def add_evidence(tx: Tx, channel: bytes, reason: str, raws: tuple[bytes, ...], at_us: int) -> None:
    """Keep proof; past ``MAX_EVIDENCE`` documents nothing is added: the first ones prove the fault."""
    have = tx.execute("SELECT count(*) FROM channel_evidence WHERE channel = ?", (channel,)).fetchone()[0]
    for raw in raws[: max(0, MAX_EVIDENCE - have)]:
        tx.execute(
            "INSERT INTO channel_evidence (channel, reason, raw, at_us) VALUES (?, ?, ?, ?)",
            (channel, reason, raw, at_us),
        )


def evidence(tx: Tx, channel: bytes) -> list[tuple[str, bytes]]:
    return tx.execute(
        "SELECT reason, raw FROM channel_evidence WHERE channel = ? ORDER BY number", (channel,)
    ).fetchall()


def prune(tx: Tx, before_us: int, limit: int) -> int:
    """Delete payments of channels that were closed before a time, but for the last of each side; how many rows went.

    What both signed at the end stays: opening, Close, Settle.
    """
    return tx.execute(
        "DELETE FROM channel_envelopes WHERE (channel, direction, seq) IN (SELECT e.channel, e.direction, e.seq"
        " FROM channels c JOIN channel_envelopes e ON e.channel = c.id"
        " WHERE c.state = 'closed' AND c.since_us < ? AND e.seq < CASE e.direction WHEN 0 THEN c.out_seq ELSE c.in_seq END"
        " LIMIT ?)",
        (before_us, limit),
    ).rowcount


def prune_lines(tx: Tx, before_us: int, limit: int) -> int:
    """Delete what I paid on channels that were closed before a time; how many rows went. Nobody can ask for it any more: what
    asked for it is older still."""
    return tx.execute(
        "DELETE FROM channel_lines WHERE (agreement, no) IN (SELECT l.agreement, l.no"
        " FROM channels c JOIN channel_lines l ON l.channel = c.id WHERE c.state = 'closed' AND c.since_us < ? LIMIT ?)",
        (before_us, limit),
    ).rowcount


def prune_evidence(tx: Tx, before_us: int, limit: int) -> int:
    """Delete the proofs kept for channels that were closed before a time; how many rows went."""
    return tx.execute(
        "DELETE FROM channel_evidence WHERE number IN (SELECT e.number FROM channels c JOIN channel_evidence e"
        " ON e.channel = c.id WHERE c.state = 'closed' AND c.since_us < ? LIMIT ?)",
        (before_us, limit),
    ).rowcount


def prune_reservations(tx: Tx, before_us: int, limit: int) -> int:
    """Delete the released deposits of channels that were closed before a time; how many rows went."""
    return tx.execute(
        "DELETE FROM ledger_reservations WHERE channel IN (SELECT r.channel FROM channels c JOIN ledger_reservations r"
        " ON r.channel = c.id WHERE r.released = 1 AND c.state = 'closed' AND c.since_us < ? LIMIT ?)",
        (before_us, limit),
    ).rowcount


# --- lines I paid ----------------------------------------------------------------------------------------------------


def add_line(tx: Tx, channel: bytes, seq: int, position: int, line: PayLine) -> None:
    """Raises ChannelError if this (agreement, no) was paid before."""
    try:
        tx.execute(
            "INSERT INTO channel_lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (line.agreement, line.no, channel, seq, position, line.amount_u, line.kind, line.ref),
        )
    except sqlite3.IntegrityError:
        raise ChannelError("This has been paid before; it is not paid twice.") from None


def adopt_line(tx: Tx, channel: bytes, seq: int, position: int, line: PayLine) -> None:
    """As ``add_line``, for a line of a Pay that was lost: what is there already stays."""
    tx.execute(
        "INSERT OR IGNORE INTO channel_lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (line.agreement, line.no, channel, seq, position, line.amount_u, line.kind, line.ref),
    )


def drop_line(tx: Tx, line: PayLine) -> None:
    """It was never paid: it may be."""
    tx.execute("DELETE FROM channel_lines WHERE agreement = ? AND no = ?", (line.agreement, line.no))


def seq_within(tx: Tx, channel: bytes, cum: int) -> int:
    """The last of my Pays up to which no more than ``cum`` µ were paid; 0 for none."""
    row = tx.execute(
        "SELECT coalesce(max(seq), 0) FROM channel_envelopes WHERE channel = ? AND direction = ? AND cum <= ?",
        (channel, OUT, cum),
    ).fetchone()
    return int(row[0])


def signed_under(tx: Tx, agreement: bytes) -> int:
    """µ that I ever signed under an agreement, on any channel."""
    row = tx.execute(
        "SELECT coalesce(sum(amount_u), 0) FROM channel_lines WHERE agreement = ?", (agreement,)
    ).fetchone()
    return int(row[0])


def line_under(tx: Tx, agreement: bytes, no: int) -> tuple[bytes, int] | None:
    """(channel, sequence) of the Pay in which I paid this; None if I did not."""
    row = tx.execute(
        "SELECT channel, seq FROM channel_lines WHERE agreement = ? AND no = ?", (agreement, no)
    ).fetchone()
    return (bytes(row[0]), int(row[1])) if row else None


def lines_between(tx: Tx, channel: bytes, after: int, last: int) -> list[PayLine]:
    """Lines of my Pays ``after + 1`` to ``last`` in order."""
    rows = tx.execute(
        "SELECT amount_u, agreement, kind, no, ref FROM channel_lines WHERE channel = ? AND seq > ? AND seq <= ?"
        " ORDER BY seq, position",
        (channel, after, last),
    ).fetchall()
    return [PayLine(*row) for row in rows]


# --- epochs ----------------------------------------------------------------------------------------------------------


def epoch(tx: Tx, peer: str) -> int:
    """Highest epoch known with ``peer``."""
    row = tx.execute("SELECT high FROM channel_epochs WHERE peer = ?", (peer,)).fetchone()
    return int(row[0]) if row else 0


def epochs(tx: Tx, limit: int) -> list[tuple[str, int]]:
    """(peer, highest epoch), the latest used first."""
    return tx.execute(
        "SELECT e.peer, e.high FROM channel_epochs e LEFT JOIN channels c ON c.peer = e.peer AND c.epoch = e.high"
        " ORDER BY c.created_us DESC NULLS LAST LIMIT ?",
        (limit,),
    ).fetchall()


def raise_epoch(tx: Tx, peer: str, to: int) -> None:
    tx.execute(
        "INSERT INTO channel_epochs VALUES (?, ?) ON CONFLICT (peer) DO UPDATE SET high = max(high, excluded.high)",
        (peer, to),
    )


def lower_epoch(tx: Tx, peer: str, epoch: int) -> None:
    """A proposal of mine with the highest number came to nothing here, so that the number says nothing of a channel."""
    tx.execute("UPDATE channel_epochs SET high = ?2 - 1 WHERE peer = ?1 AND high = ?2", (peer, epoch))


def forget_epoch(tx: Tx, peer: str) -> None:
    """Drop the mark of a peer with which no channel is on record."""
    tx.execute(
        "DELETE FROM channel_epochs WHERE peer = ?1 AND NOT EXISTS (SELECT 1 FROM channels WHERE peer = ?1)", (peer,)
    )
