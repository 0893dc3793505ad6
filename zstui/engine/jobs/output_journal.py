"""Small outputs are made durable by the transaction that keeps the receipt: one sync instead of one a file.

Their files follow at leisure; after a crash of the machine they are written again from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from zstui.engine.jobs.outputs import Outputs, StreamName
from zstui.engine.store.database import Database, Migration, Tx

SCHEMA = (
    Migration(
        "job_outputs",
        1,
        """
        CREATE TABLE job_output (
            job_id TEXT NOT NULL REFERENCES job (job_id) ON DELETE CASCADE,
            stream TEXT NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (job_id, stream)
        ) STRICT
        """,
    ),
)
Row = tuple[str, StreamName, bytes]
GROUP = 256
"""Files that are made durable between two transactions."""


def store_small(tx: Tx, job_id: str, small: Mapping[StreamName, bytes]) -> None:
    rows = [(job_id, stream, data) for stream, data in small.items()]
    tx.executemany("INSERT OR REPLACE INTO job_output VALUES (?, ?, ?)", rows)


def _some(tx: Tx) -> list[Row]:
    return tx.execute("SELECT job_id, stream, data FROM job_output LIMIT ?", (GROUP,)).fetchall()


async def flush(db: Database, outputs: Outputs) -> None:
    """Make the files durable, those that a crash damaged too, and empty the journal. Raises JobError where the disk is full."""
    while rows := await db.read(_some):
        await asyncio.to_thread(_write, outputs, rows)
        await db.write(partial(_forget, rows))


def _forget(rows: list[Row], tx: Tx) -> None:
    tx.executemany(
        "DELETE FROM job_output WHERE job_id = ? AND stream = ?", [(job_id, stream) for job_id, stream, _ in rows]
    )


def _write(outputs: Outputs, rows: list[Row]) -> None:
    for job_id, stream, data in rows:
        if outputs.holds(job_id, stream, data):
            outputs.sync(job_id, stream)
        else:
            outputs.write(job_id, stream, data)
