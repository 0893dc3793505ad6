"""SQL of batches and their items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from zstui.engine.jobs.batch import Batch, Item
from zstui.engine.store.database import Tx


def insert(tx: Tx, batch: Batch, items: Sequence[Item]) -> None:
    tx.execute(
        "INSERT INTO job_batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.batch_id,
            batch.name,
            batch.guild_id,
            msgspec.json.encode(batch),
            batch.total,
            batch.max_cost_u,
            batch.state,
            batch.why,
            batch.created_us,
            batch.finished_us,
        ),
    )
    tx.executemany(
        "INSERT INTO job_batch_item VALUES (?, ?, ?, ?, ?, ?)",
        [(batch.batch_id, i.number, i.input, i.state, i.cost_u, i.job_id) for i in items],
    )


def update(tx: Tx, batch: Batch) -> None:
    tx.execute(
        "UPDATE job_batch SET state = ?, why = ?, finished_us = ? WHERE batch_id = ?",
        (batch.state, batch.why, batch.finished_us, batch.batch_id),
    )


def set_items(tx: Tx, batch_id: str, items: Iterable[Item]) -> None:
    tx.executemany(
        "UPDATE job_batch_item SET state = ?, cost_u = ?, job_id = ? WHERE batch_id = ? AND number = ?",
        [(i.state, i.cost_u, i.job_id, batch_id, i.number) for i in items],
    )


def load(tx: Tx) -> list[tuple[Batch, list[Item]]]:
    """All batches, oldest first, each with its items in order."""
    found: dict[str, tuple[Batch, list[Item]]] = {}
    for raw, state, why, finished_us in tx.execute(
        "SELECT spec, state, why, finished_us FROM job_batch ORDER BY created_us, batch_id"
    ):
        batch = msgspec.json.decode(raw, type=Batch)
        batch = msgspec.structs.replace(batch, state=state, why=why, finished_us=finished_us)
        found[batch.batch_id] = batch, []
    for batch_id, *fields in tx.execute(
        "SELECT batch_id, number, input, state, cost_u, job_id FROM job_batch_item ORDER BY batch_id, number"
    ):
        found[batch_id][1].append(Item(*fields))
    return list(found.values())


def drop(tx: Tx, batch_ids: Iterable[str]) -> None:
    tx.executemany("DELETE FROM job_batch WHERE batch_id = ?", [(b,) for b in batch_ids])
