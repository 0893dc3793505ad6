"""SQL of the discharges."""

from __future__ import annotations

import msgspec

from zstui.engine.channels.discharges.messages import State
from zstui.engine.errors import ChannelError
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx

MAX_WAITING = 16
"""Undecided ones with one peer."""
MAX_UNDECIDED = 1_000

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "discharges",
        1,
        """
        CREATE TABLE discharge (
            id BLOB PRIMARY KEY,
            peer TEXT NOT NULL,
            state TEXT NOT NULL,
            owed_to_me INTEGER NOT NULL,
            amount_u INTEGER NOT NULL,
            note TEXT NOT NULL,
            mine BLOB,
            theirs BLOB,
            created_us INTEGER NOT NULL,
            decided_us INTEGER
        ) STRICT;
        CREATE INDEX discharge_peer ON discharge (peer, state)
        """,
    ),
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    id: bytes
    peer: PeerId
    state: State
    owed_to_me: bool
    """I am the creditor: the peer paid me outside."""
    amount_u: int
    note: str
    mine: bytes | None
    """My signed envelope."""
    theirs: bytes | None
    created_us: int
    decided_us: int | None = None


_COLUMNS = "id, peer, state, owed_to_me, amount_u, note, mine, theirs, created_us, decided_us"


def get(tx: Tx, id: bytes) -> Record | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM discharge WHERE id = ?", (id,)).fetchone()
    return _record(row) if row else None


def load(tx: Tx, limit: int = 500) -> list[Record]:
    """Undecided ones first, then the newest."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM discharge ORDER BY decided_us IS NOT NULL, created_us DESC LIMIT ?", (limit,)
    )
    return [_record(row) for row in rows.fetchall()]


def proposed_to(tx: Tx, peer: PeerId) -> list[Record]:
    rows = tx.execute(f"SELECT {_COLUMNS} FROM discharge WHERE peer = ? AND state = 'proposed'", (peer,)).fetchall()
    return [_record(row) for row in rows]


def put(tx: Tx, record: Record) -> None:
    """Insert or replace. Raises ChannelError where too many with this peer, or with all, are undecided."""
    if record.state in ("proposed", "waiting"):
        one, every = tx.execute(
            "SELECT count(*) FILTER (WHERE peer = ?), count(*) FROM discharge WHERE state IN ('proposed', 'waiting')",
            (record.peer,),
        ).fetchone()
        if one >= MAX_WAITING or every >= MAX_UNDECIDED:
            raise ChannelError("Too many discharges wait for an answer; decide those first.")
    tx.execute(
        f"INSERT OR REPLACE INTO discharge ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(getattr(record, name.strip()) for name in _COLUMNS.split(",")),
    )


def _record(row: tuple[object, ...]) -> Record:
    return msgspec.convert(dict(zip((c.strip() for c in _COLUMNS.split(",")), row, strict=True)), Record, strict=False)
