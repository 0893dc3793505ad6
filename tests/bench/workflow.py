"""The whole workflow between real processes on loopback, and the app on a real pseudo-terminal.

steps                       duration of each step of ``zstui demo --headless``, milliseconds
job_roundtrip_ms_p50        20 "hello" jobs: submit to verified receipt, executor in another process, module cached
payment_ms_p50              the same jobs: pressing pay to the executor's durable acknowledgement
payments_per_s              1,000 payments through one channel, at most 256 in flight, each durable and acknowledged
key_to_paint_ms_p95         60 keys pressed in the app (160x50, demo network of its own home): first output after each
startup_to_first_paint_ms   process start to the painted tab line, node included; the bytecode is cached, as where it is installed
idle_cpu_percent            of one core, over 5 s without input, app and node in one process
rss_mib                     resident memory of that process
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time

from tests.support.terminal import ZSTUI, PtyProgram
from zstui import demo
from zstui.engine import commands as c
from zstui.engine.channels.messages import PayLine
from zstui.engine.node import Node

JOBS = 20
PAYMENTS = 1000
IN_FLIGHT = 256


async def measure() -> dict[str, object]:
    async with demo.network() as (node, peers):
        steps = await demo.walk(node, peers, lambda line: None)
        north = peers["north"].peer_id
        jobs, payments = await _jobs(node, peers)
        rate = await _payments(node, north)
    terminal = await asyncio.to_thread(_terminal)
    return {
        "steps": {name: round(value, 1) for name, value in steps.items()},
        "job_roundtrip_ms_p50": round(statistics.median(jobs), 2),
        "payment_ms_p50": round(statistics.median(payments), 2),
        "payments_per_s": round(rate),
        **terminal,
    }


async def _jobs(node: Node, peers: dict[str, demo.PeerProcess]) -> tuple[list[float], list[float]]:
    guild = await node.execute(c.CreateGuild(name="bench"))
    north = peers["north"]
    await demo.until("guild seen", lambda: demo.sees(north.engine, guild.guild_id))
    await north.engine.execute(c.JoinGuild(guild=guild.guild_id, role="executor"))
    await node.execute(c.OpenChannel(peer=north.peer_id, amount_u=50_000_000))
    spec = c.JobSpec(module="hello", guild=guild.guild_id, executor=north.peer_id, max_price_u=1_000_000)
    jobs, payments = [], []
    for _ in range(JOBS):
        begin = time.perf_counter()
        job = await node.execute(c.SubmitJob(spec=spec))
        done = await node.execute(c.WaitJob(job=job.job_id))
        jobs.append((time.perf_counter() - begin) * 1000)
        assert done.state == "done", done.why

        async def asked(job_id: str = job.job_id) -> str | None:
            waiting = await node.execute(c.ListApprovals())
            return next((a.request_id for a in waiting if a.job_id == job_id and a.state == "waiting"), None)

        request = await demo.until("request", asked)
        begin = time.perf_counter()
        await node.execute(c.PayApproval(request=request, amount_u=done.cost_u, typed=True))
        payments.append((time.perf_counter() - begin) * 1000)
    return jobs, payments


async def _payments(node: Node, peer: str) -> float:
    services = node._running
    channel = services.channels.active_with(peer)
    assert channel is not None
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with gate:
            line = PayLine(1, os.urandom(32), 1, 0, os.urandom(32))
            paid = await services.channels.pay(channel.channel_id, line)
            assert paid.acknowledged

    begin = time.perf_counter()
    await asyncio.gather(*(one(n) for n in range(PAYMENTS)))
    return PAYMENTS / (time.perf_counter() - begin)


def _terminal() -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as home:
        env = {
            "ZSTUI_HOME": home,
            "ZSTUI_LISTEN": "127.0.0.1:0",
            "ZSTUI_MDNS_INTERFACE": "127.0.0.1",
            "ZSTUI_METRICS": "127.0.0.1:0",
            "ZSTUI_NAME": "bench",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": f"{home}/bytecode",
        }
        first = PtyProgram(ZSTUI, 160, 50, env)
        first.wait_for(b"Guilds", 60)
        first.stop()
        program = PtyProgram(ZSTUI, 160, 50, env)
        try:
            paint = program.wait_for(b"Guilds", 30)
            program.drain(1.0)
            keys = []
            for number in range(1, 61):
                keys.append(program.key(b"1234567"[number % 7 : number % 7 + 1]) * 1000)
                program.drain(0.12)
            cpu, begin = program.cpu_seconds(), time.perf_counter()
            while time.perf_counter() - begin < 5:
                program.read(0.2)
            idle = (program.cpu_seconds() - cpu) / (time.perf_counter() - begin) * 100
            rss = program.rss_mib()
        finally:
            program.stop()
    return {
        "key_to_paint_ms_p95": round(statistics.quantiles(keys, n=20)[18], 1),
        "startup_to_first_paint_ms": round(paint * 1000),
        "idle_cpu_percent": round(idle, 2),
        "rss_mib": round(rss, 1),
    }
