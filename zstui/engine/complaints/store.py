"""SQL of complaints. Every function runs inside a transaction that its caller holds. Messages wait in the disputes' mail."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from zstui.engine.channels.messages import Params
from zstui.engine.complaints.model import Claim, State
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "complaints",
        1,
        """
        CREATE TABLE complaint_case (
            id BLOB PRIMARY KEY,
            digest BLOB NOT NULL,
            seat TEXT NOT NULL,
            channel BLOB NOT NULL,
            params BLOB NOT NULL,
            payer TEXT NOT NULL,
            executor TEXT NOT NULL,
            guild_id TEXT NOT NULL,
            job_id TEXT NOT NULL,
            module TEXT NOT NULL,
            paid_u INTEGER NOT NULL,
            refund_u INTEGER NOT NULL,
            filed_us INTEGER NOT NULL,
            state TEXT NOT NULL,
            decided_us INTEGER NOT NULL,
            verdict BLOB NOT NULL,
            returned_u INTEGER NOT NULL,
            raw BLOB NOT NULL
        ) STRICT;
        CREATE INDEX complaint_case_job ON complaint_case (job_id);
        CREATE INDEX complaint_case_state ON complaint_case (state, filed_us);
        CREATE TABLE complaint_heard (
            case_id BLOB NOT NULL,
            witness TEXT NOT NULL,
            time_ms INTEGER NOT NULL,
            PRIMARY KEY (case_id, witness)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE complaint_verdict (
            case_id BLOB NOT NULL,
            witness TEXT NOT NULL,
            digest BLOB NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (case_id, witness)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)

Seat = Literal["payer", "executor", "witness"]
OPEN: tuple[State, ...] = ("open", "upheld")
"""States in which something is still to be done."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One complaint as this node has it on record."""

    id: bytes
    digest: bytes
    """Of the complaint's envelope: which complaint, should the payer make two."""
    seat: Seat
    """What I am in it."""
    channel: bytes
    params: Params
    """The channel's: its witnesses judge."""
    payer: PeerId
    executor: PeerId
    guild_id: str
    job_id: str
    module: str
    paid_u: int
    refund_u: int
    """Due if it is upheld."""
    filed_us: int
    """By my clock."""
    state: State = "open"
    decided_us: int = 0
    verdict: bytes = b""
    """Digest of the binding verdict's body: what a refund refers to."""
    returned_u: int = 0
    """What the payer has got back."""


_FIELDS = msgspec.structs.fields(Case)
_COLUMNS = ", ".join(field.name for field in _FIELDS)


def case_from(claim: Claim, seat: Seat, channel: bytes, now_us: int) -> Case:
    return Case(
        id=claim.case,
        digest=claim.digest,
        seat=seat,
        channel=channel,
        params=claim.params,
        payer=claim.payer,
        executor=claim.executor,
        guild_id=claim.manifest.guild_id,
        job_id=claim.job_id,
        module=claim.manifest.module_name,
        paid_u=claim.paid_u,
        refund_u=claim.refund_u,
        filed_us=now_us,
    )


def _case(row: tuple[Any, ...]) -> Case:
    values = {field.name: value for field, value in zip(_FIELDS, row, strict=True)}
    return Case(**(values | {"params": msgspec.msgpack.decode(values["params"], type=Params)}))


def insert(tx: Tx, case: Case, raw: bytes) -> Case:
    values = msgspec.structs.asdict(case) | {"params": msgspec.msgpack.encode(case.params)}
    tx.execute(
        f"INSERT INTO complaint_case ({_COLUMNS}, raw) VALUES ({', '.join('?' * (len(_FIELDS) + 1))})",
        (*(values[field.name] for field in _FIELDS), raw),
    )
    return case


def change(tx: Tx, case: Case) -> Case:
    """Store its state and what came of it."""
    tx.execute(
        "UPDATE complaint_case SET state = ?, decided_us = ?, verdict = ? WHERE id = ?",
        (case.state, case.decided_us, case.verdict, case.id),
    )
    return case


def load(tx: Tx, id: bytes) -> Case | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM complaint_case WHERE id = ?", (id,)).fetchone()
    return _case(row) if row else None


def raw_of(tx: Tx, id: bytes) -> bytes:
    """The complaint itself, as it was signed."""
    return bytes(tx.execute("SELECT raw FROM complaint_case WHERE id = ?", (id,)).fetchone()[0])


def cases(tx: Tx, ended: int) -> list[Case]:
    """All in which something is to be done, and the ``ended`` latest of the others."""
    marks = ", ".join("?" * len(OPEN))
    rows = tx.execute(f"SELECT {_COLUMNS} FROM complaint_case WHERE state IN ({marks})", OPEN).fetchall()
    rows += tx.execute(
        f"SELECT {_COLUMNS} FROM complaint_case WHERE state NOT IN ({marks}) ORDER BY filed_us DESC LIMIT ?",
        (*OPEN, ended),
    ).fetchall()
    return [_case(row) for row in rows]


def abstain(tx: Tx) -> None:
    """End my part as a witness in every case: this copy does not know what I have signed since."""
    tx.execute("UPDATE complaint_case SET state = 'unresolved' WHERE seat = 'witness' AND state = 'open'")


def count_witnessed(tx: Tx, payer: PeerId | None = None, since_us: int | None = None) -> int:
    """Open cases that I witness, all or one payer's; with ``since_us`` all that were filed from then on, also ended ones."""
    which, least = ("state = 'open'", 0) if since_us is None else ("1", since_us)
    row = tx.execute(
        f"SELECT count(*) FROM complaint_case WHERE seat = 'witness' AND {which} AND filed_us >= ? AND payer = ifnull(?, payer)",
        (least, payer),
    ).fetchone()
    return int(row[0])


def add_heard(tx: Tx, case: bytes, witness: PeerId, time_ms: int) -> bool:
    """False if it said so before."""
    changed = tx.execute("INSERT OR IGNORE INTO complaint_heard VALUES (?, ?, ?)", (case, witness, time_ms))
    return changed.rowcount == 1


def heard(tx: Tx, case: bytes) -> dict[PeerId, int]:
    """Witness to the time it put the case on record, Unix ms."""
    return dict(tx.execute("SELECT witness, time_ms FROM complaint_heard WHERE case_id = ?", (case,)).fetchall())


def add_verdict(tx: Tx, case: bytes, witness: PeerId, digest: bytes, raw: bytes) -> bytes:
    """The verdict of this witness on record: the first one, whatever it signs later."""
    tx.execute("INSERT OR IGNORE INTO complaint_verdict VALUES (?, ?, ?, ?)", (case, witness, digest, raw))
    row = tx.execute("SELECT raw FROM complaint_verdict WHERE case_id = ? AND witness = ?", (case, witness)).fetchone()
    return bytes(row[0])


def verdicts(tx: Tx, case: bytes) -> list[tuple[PeerId, bytes, bytes]]:
    """(witness, digest of the body, envelope)."""
    return tx.execute(
        "SELECT witness, digest, raw FROM complaint_verdict WHERE case_id = ? ORDER BY witness", (case,)
    ).fetchall()


def add_returned(tx: Tx, case: Case, amount_u: int) -> None:
    """A refund came in, in the channel's transaction. It may come late, and in parts."""
    tx.execute("UPDATE complaint_case SET returned_u = returned_u + ? WHERE id = ?", (amount_u, case.id))
    tx.execute(
        "UPDATE complaint_case SET state = 'refunded' WHERE id = ? AND state IN ('upheld', 'unpaid')"
        " AND returned_u >= refund_u",
        (case.id,),
    )


def drop_old(tx: Tx, before_us: int) -> None:
    """Forget what ended and was filed before a time."""
    old = f"SELECT id FROM complaint_case WHERE state NOT IN ({', '.join('?' * len(OPEN))}) AND filed_us < ?"
    for table in ("heard", "verdict"):
        tx.execute(f"DELETE FROM complaint_{table} WHERE case_id IN ({old})", (*OPEN, before_us))
    tx.execute(f"DELETE FROM complaint_case WHERE id IN ({old})", (*OPEN, before_us))


# --- what a complaint is made of, and what a refund became -----------------------------------------------------------


def paid_in(tx: Tx, agreement: bytes) -> list[tuple[bytes, int]]:
    """(channel, sequence) of my payments with a line for a job, the latest first."""
    return tx.execute(
        "SELECT DISTINCT channel, seq FROM channel_lines WHERE agreement = ? ORDER BY seq DESC", (agreement,)
    ).fetchall()
