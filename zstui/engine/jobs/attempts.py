"""Trying again: a job that failed on its executor's side or was lost on the way goes to another one, as a job of its own."""

from __future__ import annotations

import os

from msgspec.structs import replace

from zstui.engine.clock import US
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs import store
from zstui.engine.jobs.manifest import open_manifest
from zstui.engine.jobs.model import Job, new_job
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.room import Room

LEAST_WAIT_US = 300 * US
"""A later attempt may wait at least this long for its executor."""
FRESH_US = 3600 * US
"""At a start, jobs that ended longer ago are not tried again."""


def may_move(job: Job) -> bool:
    """Whether another executor may be tried."""
    return job.mine and not (job.cancel or job.wanted or job.retried_as) and job.attempt < job.attempts


def worth_another(job: Job) -> bool:
    """Whether it failed for a reason that another executor may not share. A module's own failure is none."""
    return may_move(job) and job.final and job.fault in ("executor", "network")


def latest(room: Room, job: Job) -> Job:
    """The last attempt at the same work."""
    while (following := room.records.get(job.retried_as)) is not None:
        job = following
    return job


def submission_of(room: Room, job: Job) -> str:
    """Id of what was submitted: the job's batch, or the first attempt at its work."""
    while (before := room.records.get(job.retry_of)) is not None:
        job = before
    return job.batch_id or job.job_id


async def try_again(room: Room, job: Job) -> Job | None:
    """Keep the next attempt, with what is left of the price; None if there is to be none."""
    if not worth_another(job):
        return None
    raw = await room.records.papers.raw(job.job_id, "manifest")
    _, m = open_manifest(raw)
    left = m.terms.max_total_u - max(job.cost_u, job.paid_u)
    if left <= 0 or not worth_another(room.records[job.job_id]):
        return None
    now = room.clock.now_us()
    m = replace(m, created_us=now, nonce=os.urandom(16), terms=replace(m.terms, max_total_u=left))
    fresh_raw = seal(room.identity, m)
    fresh_id = open_envelope(fresh_raw).digest.hex()
    fresh = replace(
        new_job(fresh_id, m, "", mine=True, terms=m.terms, now_us=now),
        queued_until_us=max(job.queued_until_us, now + LEAST_WAIT_US),
        attempt=job.attempt + 1,
        attempts=job.attempts,
        retry_of=job.job_id,
        batch_id=job.batch_id,
        batch_index=job.batch_index,
        why=f"Attempt {job.attempt + 1} of {job.attempts}; {room.name_of(job.executor)} failed.",
    )

    await room.records.add(
        fresh,
        [Paper("manifest", room.me, fresh_raw)],
        lambda tx: store.update(tx, job.job_id, {"retried_as": fresh_id}),
    )
    await room.records.reload(job.job_id)
    return fresh
