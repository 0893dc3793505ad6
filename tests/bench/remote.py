"""A trivial job between two processes on loopback, its module cached on both sides.

remote_job_ms_p50, _p95     submit to verified receipt and payment request
remote_jobs_per_s           200 such jobs as one batch
"""

from __future__ import annotations

import statistics
import time

from zstui import demo
from zstui.engine import commands as c

WARM = 10
JOBS = 60
BATCH = 200


async def measure() -> dict[str, object]:
    async with demo.network() as (node, peers):
        guild = await node.execute(c.CreateGuild(name="bench"))
        north = peers["north"]
        await demo.until("guild seen", lambda: demo.sees(north.engine, guild.guild_id))
        await north.engine.execute(c.JoinGuild(guild=guild.guild_id, role="executor"))
        await node.execute(c.OpenChannel(peer=north.peer_id, amount_u=90_000_000))
        await node.execute(
            c.SetGrant(scope="node", subject="", per_payment_u=10**6, per_day_u=10**8, total_u=10**8, expires_s=3600)
        )
        spec = c.JobSpec(module="hello", guild=guild.guild_id, executor=north.peer_id, max_price_u=100_000, timeout_s=1)
        took = [await _one(node, spec) for _ in range(WARM + JOBS)][WARM:]
        begin = time.perf_counter()
        whole = c.JobSpec(module="hello", guild=guild.guild_id, max_price_u=80_000_000, timeout_s=1, memory_mib=1)
        batch = await node.execute(c.SubmitBatch(spec=whole, map_lines=("",) * BATCH))
        done = await node.execute(c.WaitBatch(batch=batch.batch_id))
        rate = BATCH / (time.perf_counter() - begin)
        assert done.state == "done", done
    return {
        "remote_job_ms_p50": round(statistics.median(took), 2),
        "remote_job_ms_p95": round(statistics.quantiles(took, n=20)[18], 2),
        "remote_jobs_per_s": round(rate, 1),
    }


async def _one(node: c.Engine, spec: c.JobSpec) -> float:
    begin = time.perf_counter()
    job = await node.execute(c.SubmitJob(spec=spec))
    done = await node.execute(c.WaitJob(job=job.job_id))
    assert done.state == "done", done.why
    return (time.perf_counter() - begin) * 1000
