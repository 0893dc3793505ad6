"""Two ``zstui node`` processes with fresh homes on 127.0.0.1 that find each other by mDNS there; five rounds.

both_ready_ms_p50         from starting both at once to the later ready line
see_each_other_ms_p50     from starting both at once until each lists the other as online, asked every 20 ms
after_ready_ms_p50        the difference
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.nodes import NodeProcess
from zstui import demo
from zstui.engine import commands as c
from zstui.engine.control import ControlClient
from zstui.engine.home import Home

ROUNDS = 5


async def measure() -> dict[str, object]:
    rounds = [await _round() for _ in range(ROUNDS)]
    ready, seen = (statistics.median(r[i] for r in rounds) for i in (0, 1))
    after = statistics.median(r[1] - r[0] for r in rounds)
    return {
        "both_ready_ms_p50": round(ready),
        "see_each_other_ms_p50": round(seen),
        "after_ready_ms_p50": round(after),
        "rounds": ROUNDS,
    }


async def _round() -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as folder:
        nodes = [NodeProcess(Path(folder) / name, start=False) for name in ("a", "b")]
        begin = time.perf_counter()
        try:
            await asyncio.gather(*(asyncio.to_thread(node.start) for node in nodes))
            ready = time.perf_counter()
            await asyncio.gather(*(_sees(a, b.peer_id) for a, b in (nodes, nodes[::-1])))
            return (ready - begin) * 1000, (time.perf_counter() - begin) * 1000
        finally:
            for node in nodes:
                await asyncio.to_thread(node.stop)


async def _sees(node: NodeProcess, peer: str) -> None:
    client = ControlClient(Home(node.home).socket)

    async def online() -> bool:
        return any(p.peer_id == peer and p.state == "online" for p in await client.execute(c.ListPeers()))

    await demo.until("peer", online)
