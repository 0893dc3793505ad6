"""A job as the outside sees it."""

from __future__ import annotations

from zstui.engine.clock import US
from zstui.engine.errors import UnknownGuild
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.room import Room
from zstui.engine.views import JobView


def job_view(room: Room, job: Job, guild_names: dict[str, str]) -> JobView:
    """``guild_names`` remembers names between the jobs of one listing."""
    if job.guild_id not in guild_names:
        try:
            guild_names[job.guild_id] = room.guilds.view(job.guild_id).name
        except UnknownGuild:
            guild_names[job.guild_id] = ""
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
        executor=job.executor,
        executor_name=room.name_of(job.executor),
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
        why=job.why,
        created_at=job.created_us // US,
        finished_at=job.finished_us // US if job.finished_us else None,
    )
