"""A trivial job between two processes on loopback, its module cached on both sides; nothing is paid.

remote_job_ms_p50, _p95     from submitting to a verified receipt, committed on the submitter's side; the payment, which is
                            asked for after that, is no part of it
remote_job_cpu_ms           CPU time of both processes for such a job, with asking for its payment
remote_jobs_per_s           200 such jobs as one batch over two executors, until the last receipt
remote_batch_cpu_ms         CPU time of the submitter for one job of that batch
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from zstui import demo
from zstui.engine import commands as c
from zstui.engine.bus import Subscription
from zstui.engine.events import JobMoved
from zstui.engine.node import Node

WARM = 10
JOBS = 60
BATCH = 200


async def measure() -> dict[str, object]:
    async with demo.network() as (node, peers):
        north, south = peers["north"], peers["south"]
        guild = await node.execute(c.CreateGuild(name="bench"))
        for peer in (north, south):
            await demo.until("guild seen", lambda engine=peer.engine: demo.sees(engine, guild.guild_id))  # type: ignore[misc]
            await peer.engine.execute(c.JoinGuild(guild=guild.guild_id, role="executor"))
            await node.execute(c.OpenChannel(peer=peer.peer_id, amount_u=90_000_000))
        moved = node._running.bus.subscribe(JobMoved)  # tells of a job's end when its receipt is committed
        spec = c.JobSpec(module="hello", guild=guild.guild_id, executor=north.peer_id, max_price_u=100_000, timeout_s=1)
        for _ in range(WARM):
            await _one(node, moved, spec)
        there = _cpu_ms(north.pid)
        here = time.process_time()
        took = [await _one(node, moved, spec) for _ in range(JOBS)]
        both = (time.process_time() - here) * 1000 + _cpu_ms(north.pid) - there
        moved.close()
        whole = c.JobSpec(module="hello", guild=guild.guild_id, max_price_u=80_000_000, timeout_s=1, memory_mib=1)
        begin, here = time.perf_counter(), time.process_time()
        batch = await node.execute(c.SubmitBatch(spec=whole, map_lines=("",) * BATCH))
        done = await node.execute(c.WaitBatch(batch=batch.batch_id))
        rate = BATCH / (time.perf_counter() - begin)
        assert done.state == "done", done
        return {
            "remote_job_ms_p50": round(statistics.median(took), 2),
            "remote_job_ms_p95": round(statistics.quantiles(took, n=20)[18], 2),
            "remote_job_cpu_ms": round(both / JOBS, 2),
            "remote_jobs_per_s": round(rate, 1),
            "remote_batch_cpu_ms": round((time.process_time() - here) * 1000 / BATCH, 2),
        }


async def _one(node: Node, moved: Subscription[JobMoved], spec: c.JobSpec) -> float:
    """Milliseconds; returns when its payment has been asked for, so that the next job has the machine for itself."""
    begin = time.perf_counter()
    job = await node.execute(c.SubmitJob(spec=spec))
    async for event in moved:
        if event.job_id == job.job_id and event.state not in ("queued", "running"):
            break
    took = (time.perf_counter() - begin) * 1000
    done = await node.execute(c.WaitJob(job=job.job_id))
    assert done.state == "done", done.why
    return took


def _cpu_ms(pid: int) -> float:
    """CPU time of a process so far."""
    nanoseconds = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    threads = Path(f"/proc/{pid}/task").iterdir()
    others = (int((t / "schedstat").read_text().split()[0]) for t in threads if t.name != str(pid))
    return (nanoseconds + sum(others)) / 1e6
