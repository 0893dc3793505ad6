"""SQL of debit notes: the signed bytes of both sides, and what was said of them."""

from __future__ import annotations

import msgspec

from zstui.engine.store.database import Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "job_notes",
        1,
        """
        CREATE TABLE job_note (
            job_id TEXT NOT NULL REFERENCES job (job_id) ON DELETE CASCADE,
            no INTEGER NOT NULL,
            note_id TEXT NOT NULL UNIQUE,
            raw BLOB NOT NULL,
            accepted_u INTEGER NOT NULL,
            reply BLOB NOT NULL,
            dispute TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (job_id, no)
        ) STRICT
        """,
    ),
)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One note as either side keeps it."""

    job_id: str
    no: int
    note_id: str
    """SHA-256 of ``raw``."""
    raw: bytes
    accepted_u: int
    """What its payer agrees is due in all; at the executor: what the note says, until told otherwise."""
    reply: bytes = b""
    """The payer's signed answer, if it gave one."""
    dispute: str = ""
    """Why not all of it is owed."""
    at_us: int


_COLUMNS = "job_id, no, note_id, raw, accepted_u, reply, dispute, at_us"


def _note(row: tuple[object, ...]) -> Note:
    return msgspec.convert(dict(zip(Note.__struct_fields__, row, strict=True)), Note)


def add(tx: Tx, note: Note) -> None:
    tx.execute(
        f"INSERT INTO job_note ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
        tuple(getattr(note, f) for f in Note.__struct_fields__),
    )


def last(tx: Tx, job_id: str) -> Note | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM job_note WHERE job_id = ? ORDER BY no DESC LIMIT 1", (job_id,)).fetchone()
    return None if row is None else _note(row)


def by_id(tx: Tx, note_id: str) -> Note | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM job_note WHERE note_id = ?", (note_id,)).fetchone()
    return None if row is None else _note(row)


def set_reply(tx: Tx, note_id: str, reply: bytes, accepted_u: int, dispute: str) -> None:
    tx.execute(
        "UPDATE job_note SET reply = ?, accepted_u = ?, dispute = ? WHERE note_id = ?",
        (reply, accepted_u, dispute, note_id),
    )
