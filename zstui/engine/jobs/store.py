"""SQL of jobs: one row a job, and the signed bytes that prove it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from zstui.engine.errors import StoreError
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import notes_store, output_journal, presence_store
from zstui.engine.jobs.model import Job, Paid
from zstui.engine.jobs.receipt import Evidence
from zstui.engine.store.database import Migration, Tx

RETAIN = 10_000
"""Finished jobs that are kept; the oldest settled ones go first."""

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "jobs",
        1,
        """
        CREATE TABLE job (
            job_id TEXT PRIMARY KEY, mine INTEGER NOT NULL, guild_id TEXT NOT NULL, submitter TEXT NOT NULL,
            executor TEXT NOT NULL, module TEXT NOT NULL, module_cid TEXT NOT NULL, stdin_cid TEXT NOT NULL,
            function TEXT NOT NULL, args TEXT NOT NULL, timeout_us INTEGER NOT NULL, max_memory_bytes INTEGER NOT NULL,
            output_bytes INTEGER NOT NULL, price_per_second_nano INTEGER NOT NULL, price_per_mib_nano INTEGER NOT NULL,
            exposure_u INTEGER NOT NULL, witnesses INTEGER NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,
            cancel INTEGER NOT NULL, agreed INTEGER NOT NULL, agreement_id TEXT NOT NULL, receipt_id TEXT NOT NULL,
            exit_code INTEGER, fault TEXT NOT NULL, output_hash TEXT NOT NULL, gas INTEGER NOT NULL,
            gas_exact INTEGER NOT NULL, duration_us INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
            cost_u INTEGER NOT NULL, paid TEXT NOT NULL, outcome TEXT NOT NULL, audit TEXT NOT NULL,
            attestations TEXT NOT NULL, delivered INTEGER NOT NULL, created_us INTEGER NOT NULL,
            agreed_us INTEGER NOT NULL, started_us INTEGER NOT NULL, finished_us INTEGER NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX job_receipt ON job (receipt_id) WHERE receipt_id != '';
        CREATE UNIQUE INDEX job_agreement ON job (agreement_id) WHERE agreement_id != '';
        CREATE INDEX job_finished ON job (finished_us);
        CREATE TABLE job_evidence (
            job_id TEXT NOT NULL REFERENCES job (job_id) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            signer TEXT NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (job_id, kind, signer)
        ) STRICT
        """,
    ),
    Migration(
        "jobs",
        2,
        """
        ALTER TABLE job ADD COLUMN inputs TEXT NOT NULL DEFAULT '[]';
        ALTER TABLE job ADD COLUMN outputs TEXT NOT NULL DEFAULT '[]';
        ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 4;
        ALTER TABLE job ADD COLUMN wanted TEXT NOT NULL DEFAULT '';
        ALTER TABLE job ADD COLUMN queued_until_us INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE job ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE job ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE job ADD COLUMN retry_of TEXT NOT NULL DEFAULT '';
        ALTER TABLE job ADD COLUMN retried_as TEXT NOT NULL DEFAULT '';
        ALTER TABLE job ADD COLUMN batch_id TEXT NOT NULL DEFAULT '';
        ALTER TABLE job ADD COLUMN batch_index INTEGER;
        CREATE INDEX job_in_batch ON job (batch_id, batch_index) WHERE batch_id != '';
        CREATE TABLE job_batch (
            batch_id TEXT PRIMARY KEY, name TEXT NOT NULL, guild_id TEXT NOT NULL, spec BLOB NOT NULL,
            total INTEGER NOT NULL, max_cost_u INTEGER NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,
            created_us INTEGER NOT NULL, finished_us INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE job_batch_item (
            batch_id TEXT NOT NULL REFERENCES job_batch (batch_id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            input TEXT NOT NULL,
            state TEXT NOT NULL,
            cost_u INTEGER NOT NULL,
            job_id TEXT NOT NULL,
            PRIMARY KEY (batch_id, number)
        ) STRICT;
        CREATE TABLE job_owner (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), wishes BLOB NOT NULL) STRICT
        """,
    ),
    Migration("jobs", 3, "ALTER TABLE job ADD COLUMN paid_u INTEGER NOT NULL DEFAULT 0"),
    *notes_store.SCHEMA,
    *output_journal.SCHEMA,
    *presence_store.SCHEMA,
)

Kind = Literal["manifest", "bid", "agreement", "receipt", "attestation", "checks"]
_FIELDS = msgspec.structs.fields(Job)
_COLUMNS = tuple(f.name for f in _FIELDS)
_LISTS = frozenset({"args", "attestations", "inputs", "outputs"})
_FLAGS = frozenset({"mine", "cancel", "agreed", "gas_exact", "delivered"})


def _value(column: str, value: object) -> object:
    if column in _LISTS:
        return msgspec.json.encode(value).decode()
    return int(bool(value)) if column in _FLAGS else value


def _job(row: tuple[object, ...]) -> Job:
    record = dict(zip(_COLUMNS, row, strict=True))
    for column in _LISTS:
        record[column] = msgspec.json.decode(str(record[column]))
    for column in _FLAGS:
        record[column] = bool(record[column])
    return msgspec.convert(record, Job)


def insert(tx: Tx, job: Job) -> None:
    """Raises StoreError if the job is known."""
    if get(tx, job.job_id) is not None:
        raise StoreError("The job is already known.")
    marks = ",".join("?" * len(_COLUMNS))
    tx.execute(
        f"INSERT INTO job ({','.join(_COLUMNS)}) VALUES ({marks})",
        [_value(c, getattr(job, c)) for c in _COLUMNS],
    )


def update(tx: Tx, job_id: str, changes: Mapping[str, object]) -> None:
    """Change some columns of one row, and only those: others may have been changed by a payment meanwhile."""
    assert changes.keys() <= set(_COLUMNS)
    if changes:
        tx.execute(
            f"UPDATE job SET {','.join(f'{c} = ?' for c in changes)} WHERE job_id = ?",
            [*(_value(c, v) for c, v in changes.items()), job_id],
        )


def get(tx: Tx, job_id: str) -> Job | None:
    row = tx.execute(f"SELECT {','.join(_COLUMNS)} FROM job WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else _job(row)


def load(tx: Tx) -> list[Job]:
    """All jobs, oldest first."""
    rows = tx.execute(f"SELECT {','.join(_COLUMNS)} FROM job ORDER BY created_us, job_id").fetchall()
    return [_job(row) for row in rows]


def credit(tx: Tx, *, mine: bool, peer: PeerId, agreement_id: str, ref: str, amount_u: int, back: bool) -> str | None:
    """Count a payment for one of the documents of a job; its id, or None if it is for no job. ``back``: a refund, which goes
    the other way."""
    other = "executor" if mine else "submitter"
    row = tx.execute(
        f"SELECT job_id FROM job WHERE agreement_id = ? AND mine = ? AND {other} = ? AND (receipt_id = ? OR EXISTS"
        " (SELECT 1 FROM job_note n WHERE n.job_id = job.job_id AND n.note_id = ?))",
        (agreement_id, int(mine), peer, ref, ref),
    ).fetchone()
    if row is None:
        return None
    job_id = str(row[0])
    tx.execute("UPDATE job SET paid_u = paid_u + ? WHERE job_id = ?", (-amount_u if back else amount_u, job_id))
    cover(tx, job_id)
    return job_id


def returned(tx: Tx, job_id: str, amount_u: int) -> None:
    """Part of what was paid for a job of mine came back, and nothing is owed for it again."""
    tx.execute("UPDATE job SET paid_u = paid_u - ? WHERE job_id = ? AND mine = 1", (amount_u, job_id))


def cover(tx: Tx, job_id: str) -> None:
    """Mark a finished job as paid once enough was. My job's outcome becomes due with it."""
    paid = tx.execute(
        "UPDATE job SET paid = 'paid' WHERE job_id = ? AND receipt_id != '' AND cost_u > 0 AND paid_u >= cost_u"
        " AND paid != 'paid'",
        (job_id,),
    ).rowcount
    if paid:
        tx.execute(
            "UPDATE job SET outcome = 'success' WHERE job_id = ? AND mine = 1 AND outcome = '' AND state = 'done'"
            " AND fault = 'none'",
            (job_id,),
        )


def set_owed(tx: Tx, job_id: str, paid: Paid) -> None:
    """Say how the payment of a job of mine stands, unless it has been made meanwhile."""
    tx.execute("UPDATE job SET paid = ? WHERE job_id = ? AND paid NOT IN ('paid', 'free', '')", (paid, job_id))


def put_evidence(tx: Tx, job_id: str, kind: Kind, signer: str, raw: bytes) -> None:
    tx.execute("INSERT OR REPLACE INTO job_evidence VALUES (?, ?, ?, ?)", (job_id, kind, signer, raw))


def drop_evidence(tx: Tx, job_id: str, *kinds: Kind) -> None:
    tx.executemany("DELETE FROM job_evidence WHERE job_id = ? AND kind = ?", [(job_id, kind) for kind in kinds])


def raw(tx: Tx, job_id: str, kind: Kind, signer: str = "") -> bytes:
    """b"" if there is none."""
    row = tx.execute(
        "SELECT raw FROM job_evidence WHERE job_id = ? AND kind = ? AND (? = '' OR signer = ?)",
        (job_id, kind, signer, signer),
    ).fetchone()
    return b"" if row is None else bytes(row[0])


def evidence(tx: Tx, job: Job) -> Evidence:
    """All signed bytes of a job; the submitter's signature under the agreement comes first."""
    rows = tx.execute(
        "SELECT kind, signer, raw FROM job_evidence WHERE job_id = ? ORDER BY kind, signer", (job.job_id,)
    ).fetchall()
    one = {kind: bytes(raw) for kind, signer, raw in rows if kind != "bid" or signer == job.executor}
    signed = {signer: bytes(raw) for kind, signer, raw in rows if kind == "agreement"}
    return Evidence(
        manifest=one.get("manifest", b""),
        bid=one.get("bid", b""),
        agreements=tuple(signed[s] for s in (job.submitter, job.executor) if s in signed),
        receipt=one.get("receipt", b""),
        attestations=tuple(bytes(raw) for kind, _, raw in rows if kind == "attestation"),
    )


def attestation_count(tx: Tx, job_id: str) -> int:
    row = tx.execute(
        "SELECT count(*) FROM job_evidence WHERE job_id = ? AND kind = 'attestation'", (job_id,)
    ).fetchone()
    return int(row[0])


def drop(tx: Tx, job_ids: Iterable[str]) -> None:
    """Forget jobs and their evidence."""
    tx.executemany("DELETE FROM job WHERE job_id = ?", [(j,) for j in job_ids])


def wishes(tx: Tx) -> bytes:
    """What the owner set, as stored; b"" if nothing was."""
    row = tx.execute("SELECT wishes FROM job_owner").fetchone()
    return b"" if row is None else bytes(row[0])


def set_wishes(tx: Tx, raw: bytes) -> None:
    tx.execute("INSERT OR REPLACE INTO job_owner VALUES (1, ?)", (raw,))
