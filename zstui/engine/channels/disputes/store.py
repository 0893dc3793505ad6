"""SQL of disputes. Every function runs inside a transaction that its caller holds."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from zstui.engine.channels.disputes.messages import Opening
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.store.database import Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "disputes",
        1,
        """
        CREATE TABLE dispute_cases (
            id BLOB PRIMARY KEY,
            seat TEXT NOT NULL,
            opening BLOB NOT NULL,
            filed_by TEXT NOT NULL,
            filed_us INTEGER NOT NULL,
            state TEXT NOT NULL,
            ended_us INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE dispute_submissions (
            case_id BLOB NOT NULL,
            digest BLOB NOT NULL,
            submitter TEXT NOT NULL,
            raw BLOB NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (case_id, digest)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE dispute_receipts (
            case_id BLOB NOT NULL,
            witness TEXT NOT NULL,
            time_ms INTEGER NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (case_id, witness)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE dispute_ready (
            case_id BLOB NOT NULL,
            witness TEXT NOT NULL,
            digest BLOB NOT NULL,
            PRIMARY KEY (case_id, witness)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE dispute_verdicts (
            case_id BLOB NOT NULL,
            witness TEXT NOT NULL,
            digest BLOB NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (case_id, witness)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE dispute_mail (
            number INTEGER PRIMARY KEY,
            peer TEXT NOT NULL,
            digest BLOB NOT NULL,
            case_id BLOB NOT NULL,
            raw BLOB NOT NULL,
            at_us INTEGER NOT NULL,
            UNIQUE (peer, digest)
        ) STRICT;
        CREATE TABLE dispute_consents (
            pk_lo BLOB NOT NULL,
            pk_hi BLOB NOT NULL,
            asker TEXT NOT NULL,
            until_ms INTEGER NOT NULL,
            PRIMARY KEY (pk_lo, pk_hi)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE dispute_faults (
            culprit TEXT NOT NULL,
            kind TEXT NOT NULL,
            channel BLOB NOT NULL,
            first BLOB NOT NULL,
            second BLOB NOT NULL,
            at_us INTEGER NOT NULL,
            until_us INTEGER NOT NULL,
            PRIMARY KEY (culprit, kind, channel)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    Migration(
        "disputes",
        2,
        """
        ALTER TABLE dispute_faults ADD COLUMN parties TEXT NOT NULL DEFAULT '';
        ALTER TABLE dispute_faults ADD COLUMN carried_out INTEGER NOT NULL DEFAULT 1
        """,
    ),
)

Seat = Literal["party", "witness"]
CaseState = Literal["open", "decided", "settled", "unresolved"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One disputed channel as this node has it on record."""

    id: bytes
    """The channel's."""
    seat: Seat
    """What I am in it."""
    opening: Opening
    filed_by: PeerId
    filed_us: int
    """By my clock."""
    state: CaseState = "open"
    ended_us: int = 0


class Letter(msgspec.Struct, frozen=True):
    """A message that its addressee does not have yet."""

    number: int
    peer: PeerId
    case_id: bytes
    raw: bytes


def digest_of(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


# --- cases -----------------------------------------------------------------------------------------------------------

_CASE = "id, seat, opening, filed_by, filed_us, state, ended_us"


def _case(row: tuple[Any, ...]) -> Case:
    return Case(
        id=row[0],
        seat=row[1],
        opening=msgspec.msgpack.decode(row[2], type=Opening),
        filed_by=row[3],
        filed_us=row[4],
        state=row[5],
        ended_us=row[6],
    )


def save(tx: Tx, case: Case) -> Case:
    tx.execute(
        f"INSERT INTO dispute_cases ({_CASE}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, ended_us = excluded.ended_us",
        (
            case.id,
            case.seat,
            msgspec.msgpack.encode(case.opening),
            case.filed_by,
            case.filed_us,
            case.state,
            case.ended_us,
        ),
    )
    return case


def load(tx: Tx, id: bytes) -> Case | None:
    row = tx.execute(f"SELECT {_CASE} FROM dispute_cases WHERE id = ?", (id,)).fetchone()
    return _case(row) if row else None


def cases(tx: Tx, ended: int) -> list[Case]:
    """All that are open, and the ``ended`` latest of the others."""
    rows = tx.execute(f"SELECT {_CASE} FROM dispute_cases WHERE state = 'open'").fetchall()
    rows += tx.execute(
        f"SELECT {_CASE} FROM dispute_cases WHERE state <> 'open' ORDER BY ended_us DESC LIMIT ?", (ended,)
    ).fetchall()
    return [_case(row) for row in rows]


def count_open(tx: Tx, filed_by: PeerId | None = None) -> int:
    """Open cases that I witness, all or one filer's."""
    sql = "SELECT count(*) FROM dispute_cases WHERE seat = 'witness' AND state = 'open'"
    if filed_by is None:
        return int(tx.execute(sql).fetchone()[0])
    return int(tx.execute(f"{sql} AND filed_by = ?", (filed_by,)).fetchone()[0])


def witnessed_of(tx: Tx, party: PeerId) -> bool:
    """Whether I witness an open case of this peer."""
    key = public_key_of(party)
    rows = tx.execute("SELECT opening FROM dispute_cases WHERE seat = 'witness' AND state = 'open'").fetchall()
    openings = (msgspec.msgpack.decode(row[0], type=Opening).params for row in rows)
    return any(key in (params.pk_lo, params.pk_hi) for params in openings)


def abstain(tx: Tx, now_us: int) -> None:
    """End my part as a witness in every case, and take back every consent: this copy does not know what I have signed since,
    and a second verdict would be proof of fraud."""
    tx.execute(
        "UPDATE dispute_cases SET state = 'unresolved', ended_us = ? WHERE seat = 'witness' AND state = 'open'",
        (now_us,),
    )
    tx.execute("DELETE FROM dispute_consents")


# --- evidence, receipts, verdicts ------------------------------------------------------------------------------------


def add_submission(tx: Tx, case: bytes, submitter: PeerId, raw: bytes, at_us: int) -> bool:
    """False if it is there already."""
    changed = tx.execute(
        "INSERT OR IGNORE INTO dispute_submissions VALUES (?, ?, ?, ?, ?)",
        (case, digest_of(raw), submitter, raw, at_us),
    )
    return changed.rowcount == 1


def submissions(tx: Tx, case: bytes) -> list[tuple[PeerId, bytes]]:
    """(submitter, envelope), in no particular order."""
    return tx.execute("SELECT submitter, raw FROM dispute_submissions WHERE case_id = ?", (case,)).fetchall()


def submitted(tx: Tx, case: bytes, submitter: PeerId) -> tuple[int, int]:
    """(number, bytes) on record of one side."""
    row = tx.execute(
        "SELECT count(*), coalesce(sum(length(raw)), 0) FROM dispute_submissions WHERE case_id = ? AND submitter = ?",
        (case, submitter),
    ).fetchone()
    return int(row[0]), int(row[1])


def has_submission(tx: Tx, case: bytes, raw: bytes) -> bool:
    return (
        tx.execute(
            "SELECT 1 FROM dispute_submissions WHERE case_id = ? AND digest = ?", (case, digest_of(raw))
        ).fetchone()
        is not None
    )


def add_receipt(tx: Tx, case: bytes, witness: PeerId, time_ms: int, raw: bytes) -> bool:
    """The first receipt of each witness counts; False if there is one."""
    changed = tx.execute("INSERT OR IGNORE INTO dispute_receipts VALUES (?, ?, ?, ?)", (case, witness, time_ms, raw))
    return changed.rowcount == 1


def receipts(tx: Tx, case: bytes) -> dict[PeerId, int]:
    """Witness to the time it put the case on record, Unix ms."""
    return dict(tx.execute("SELECT witness, time_ms FROM dispute_receipts WHERE case_id = ?", (case,)).fetchall())


def receipt(tx: Tx, case: bytes, witness: PeerId) -> bytes | None:
    row = tx.execute("SELECT raw FROM dispute_receipts WHERE case_id = ? AND witness = ?", (case, witness)).fetchone()
    return row[0] if row else None


def set_ready(tx: Tx, case: bytes, witness: PeerId, digest: bytes) -> bool:
    """False if it said so before."""
    row = tx.execute("SELECT digest FROM dispute_ready WHERE case_id = ? AND witness = ?", (case, witness)).fetchone()
    if row is not None and row[0] == digest:
        return False
    tx.execute("INSERT OR REPLACE INTO dispute_ready VALUES (?, ?, ?)", (case, witness, digest))
    return True


def ready(tx: Tx, case: bytes) -> dict[PeerId, bytes]:
    return dict(tx.execute("SELECT witness, digest FROM dispute_ready WHERE case_id = ?", (case,)).fetchall())


def add_verdict(tx: Tx, case: bytes, witness: PeerId, digest: bytes, raw: bytes) -> bytes:
    """The verdict of this witness on record: the first one, whatever it signs later."""
    tx.execute("INSERT OR IGNORE INTO dispute_verdicts VALUES (?, ?, ?, ?)", (case, witness, digest, raw))
    row = tx.execute("SELECT raw FROM dispute_verdicts WHERE case_id = ? AND witness = ?", (case, witness)).fetchone()
    return bytes(row[0])


def verdicts(tx: Tx, case: bytes) -> list[tuple[PeerId, bytes, bytes]]:
    """(witness, digest of the body, envelope)."""
    return tx.execute(
        "SELECT witness, digest, raw FROM dispute_verdicts WHERE case_id = ? ORDER BY witness", (case,)
    ).fetchall()


# --- mail ------------------------------------------------------------------------------------------------------------


def post(tx: Tx, peer: PeerId, case: bytes, raw: bytes, at_us: int, limit: int) -> None:
    """Keep a message until ``peer`` has it; past ``limit`` waiting ones the oldest is given up."""
    tx.execute(
        "INSERT OR IGNORE INTO dispute_mail (peer, digest, case_id, raw, at_us) VALUES (?, ?, ?, ?, ?)",
        (peer, digest_of(raw), case, raw, at_us),
    )
    tx.execute(
        "DELETE FROM dispute_mail WHERE number IN (SELECT number FROM dispute_mail WHERE peer = ? ORDER BY number DESC"
        " LIMIT -1 OFFSET ?)",
        (peer, limit),
    )


def mail_for(tx: Tx, peer: PeerId, after: int, limit: int) -> list[Letter]:
    rows = tx.execute(
        "SELECT number, peer, case_id, raw FROM dispute_mail WHERE peer = ? AND number > ? ORDER BY number LIMIT ?",
        (peer, after, limit),
    ).fetchall()
    return [Letter(*row) for row in rows]


def addressees(tx: Tx) -> list[PeerId]:
    """Peers with mail."""
    return [row[0] for row in tx.execute("SELECT DISTINCT peer FROM dispute_mail").fetchall()]


def delivered(tx: Tx, number: int) -> None:
    tx.execute("DELETE FROM dispute_mail WHERE number = ?", (number,))


def drop_old(tx: Tx, mail_before_us: int, cases_before_us: int, now_ms: int) -> None:
    """Give up mail and forget ended cases from before a time, and consents that have run out."""
    tx.execute("DELETE FROM dispute_mail WHERE at_us < ?", (mail_before_us,))
    tx.execute("DELETE FROM dispute_consents WHERE until_ms < ?", (now_ms,))
    old = "SELECT id FROM dispute_cases WHERE state <> 'open' AND ended_us < ?"
    for table in ("submissions", "receipts", "ready", "verdicts"):
        tx.execute(f"DELETE FROM dispute_{table} WHERE case_id IN ({old})", (cases_before_us,))
    tx.execute("DELETE FROM dispute_cases WHERE state <> 'open' AND ended_us < ?", (cases_before_us,))


# --- consents --------------------------------------------------------------------------------------------------------


def add_consent(tx: Tx, pk_lo: bytes, pk_hi: bytes, asker: PeerId, until_ms: int) -> None:
    tx.execute(
        "INSERT INTO dispute_consents VALUES (?, ?, ?, ?)"
        " ON CONFLICT (pk_lo, pk_hi) DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)",
        (pk_lo, pk_hi, asker, until_ms),
    )


def consented(tx: Tx, pk_lo: bytes, pk_hi: bytes) -> int:
    """Until when I agreed to judge between these two, Unix ms; 0: never."""
    row = tx.execute("SELECT until_ms FROM dispute_consents WHERE pk_lo = ? AND pk_hi = ?", (pk_lo, pk_hi)).fetchone()
    return int(row[0]) if row else 0


def count_consents(tx: Tx, asker: PeerId | None = None) -> int:
    """All of them, or those that one peer asked for."""
    if asker is None:
        return int(tx.execute("SELECT count(*) FROM dispute_consents").fetchone()[0])
    return int(tx.execute("SELECT count(*) FROM dispute_consents WHERE asker = ?", (asker,)).fetchone()[0])
