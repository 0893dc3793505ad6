"""A job as the outside sees it."""

from __future__ import annotations

import time

from zstui.engine.clock import US
from zstui.engine.jobs.cid import digest_of_cid
from zstui.engine.jobs.model import Job, StoredFile
from zstui.engine.jobs.room import Room
from zstui.engine.money import format_amount
from zstui.engine.views import FileView, JobView


def at_risk_u(room: Room, job: Job) -> int:
    """What was done by the executor and is not paid yet."""
    if job.final:
        return job.promised_u
    metered = room.records.metered(job.job_id)
    return max(0, metered.due_u - job.paid_u) if metered is not None else 0


def time_of_day(at_us: int) -> str:
    """Local, of a Unix time in µs."""
    return time.strftime("%H:%M:%S", time.localtime(at_us / US))


def _why(room: Room, job: Job) -> str:
    """Who must act, where a run is held still for its payment; who is away."""
    if not job.mine and not job.final and (since := room.away.get(job.submitter)):
        name = room.name_of(job.submitter)
        return f"{name} is unreachable since {time_of_day(since)}. Its job goes on; the result is kept for it."
    metered = None if job.final else room.records.metered(job.job_id)
    if metered is None or not metered.paused:
        return job.why
    unpaid = format_amount(at_risk_u(room, job))
    return metered.why or f"paused: waiting for payment; you must approve {unpaid}, or it is stopped"


def job_view(room: Room, job: Job, guild_names: dict[str, str]) -> JobView:
    """``guild_names`` remembers names between the jobs of one listing."""
    if job.guild_id not in guild_names:
        guild_names[job.guild_id] = room.guilds.name_of(job.guild_id)
    metered = room.records.metered(job.job_id)
    end = job.finished_us or room.clock.now_us()
    return JobView(
        job_id=job.job_id,
        mine=job.mine,
        module=job.module,
        module_cid=job.module_cid,
        function=job.function,
        args=job.args,
        guild_id=job.guild_id,
        guild_name=guild_names[job.guild_id],
        submitter=job.submitter,
        submitter_name=room.name_of(job.submitter),
        executor=job.executor or None,
        executor_name=room.name_of(job.executor) if job.executor else "",
        state=job.state,
        progress=1.0 if job.state == "done" else room.records.progress(job.job_id),
        elapsed_us=max(0, end - job.started_us) if job.started_us else 0,
        timeout_us=job.timeout_us,
        exit_code=job.exit_code,
        fault=job.fault,
        output_hash=job.output_hash,
        gas=job.gas,
        gas_exact=job.gas_exact,
        duration_us=job.duration_us,
        memory_bytes=job.memory_bytes,
        max_memory_bytes=job.max_memory_bytes,
        cost_u=job.cost_u,
        max_cost_u=job.exposure_u,
        receipt_id=job.receipt_id,
        attestations=job.attestations,
        paid=job.paid,
        why=_why(room, job),
        paid_u=job.paid_u,
        due_u=job.cost_u if job.final or metered is None else metered.due_u,
        at_risk_u=at_risk_u(room, job),
        refund_u=job.refund_u,
        paused=not job.final and metered is not None and metered.paused,
        created_at=job.created_us // US,
        finished_at=job.finished_us // US if job.finished_us else None,
        batch_id=job.batch_id,
        batch_index=job.batch_index,
        inputs=tuple(FileView(name=f.name, size=f.size, sha256=digest_of_cid(f.cid).hex()) for f in job.inputs),
        outputs=tuple(_output(room, job, f) for f in job.outputs),
        priority=job.priority,
        attempts=job.attempt,
        retry_of=job.retry_of,
        retried_as=job.retried_as,
        queued_until=job.queued_until_us // US if job.state == "queued" and job.queued_until_us else None,
    )


def _output(room: Room, job: Job, file: StoredFile) -> FileView:
    path = room.outputs.file(job.job_id, file.name)
    here = str(path) if path.is_file() else ""
    return FileView(name=file.name, size=file.size, sha256=digest_of_cid(file.cid).hex(), path=here)
