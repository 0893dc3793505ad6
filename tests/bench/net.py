"""The network between two processes on loopback, and beside it bare aioquic with its stock asyncio protocol (``raw_``).

dial_ms_p50                       from ``connect`` to both sides having proven their keys; raw: without client certificate; in
                                  turns
ping_ms_p50                       round trip of the libp2p ping protocol on an open stream
fresh_stream_ms_p50               one frame there and back on a stream of its own, one after another
requests_per_s_100_concurrent     the same by 100 tasks at once
mb_per_s_50mb                     50 MB one way on one stream, until the other side has told how much it got
mdns_discovery_ms                 from the later ``ready`` line of two nodes to both seeing each other; median of five
relay_ping_ms_p50                 round trip as above, with a relay in a process of its own between
relay_mb_per_s                    5 MB one way through the relay, which is allowed more than that
rss_mib_at_1000_peers             what a process grows by when it is linked to 1,000 peers
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol

from tests.bench import discovery
from tests.bench.net_far import NEAR_IP, ONCE, RELAY_IP, SINK
from tests.support.net import ECHO, NetNode, bare_configuration, net_node
from zstui.engine.net.link import MAX_FRAME, Stream

DIALS = 100
REST_S = 0.05
PINGS = 300
REQUESTS = 2_000
CONCURRENT = 100
BULK = 50_000_000
RELAYED_BULK = 5_000_000


async def measure() -> dict[str, object]:
    logging.disable(logging.CRITICAL)
    async with _far() as far, _folder() as folder:
        figures = await _dials(folder, far) | await _ours(folder, far) | await _raw(far["raw_port"])
        figures |= await _relayed(folder, far)
        figures["rss_mib_at_1000_peers"] = await _crowd(folder, far["crowd"])
    figures["mdns_discovery_ms"] = (await discovery.measure())["after_ready_ms_p50"]
    return figures


async def _dials(folder: Path, far: dict[str, Any]) -> dict[str, object]:
    """Ours and the raw ones in turns, both sides at rest before each: a machine's speed changes from one second to the next."""
    ours, raw = [], []
    for number in range(DIALS):
        async with net_node(folder, f"dial{number}") as node:
            await asyncio.sleep(REST_S)
            ours.append(await _timed(partial(node.net.connect, far["address"])))
        await asyncio.sleep(REST_S)
        begin = time.perf_counter()
        async with connect("127.0.0.1", far["raw_port"], configuration=bare_configuration(True, None, None)):
            raw.append((time.perf_counter() - begin) * 1000)
    return {"dial_ms_p50": _p50(ours), "raw_aioquic_dial_ms_p50": _p50(raw)}


async def _ours(folder: Path, far: dict[str, Any]) -> dict[str, object]:
    async with net_node(folder, "near") as node:
        peer = await node.net.connect(far["address"])
        echo = await node.net.open(peer, ECHO)

        async def ping() -> None:
            await echo.send(b"x" * 32)
            await echo.receive()

        async def request() -> None:
            await node.net.request(peer, ONCE, b"x" * 32)

        return {
            "ping_ms_p50": _p50([await _timed(ping) for _ in range(PINGS)]),
            "fresh_stream_ms_p50": _p50([await _timed(request) for _ in range(PINGS)]),
            "requests_per_s_100_concurrent": await _rate(request),
            "mb_per_s_50mb": await _bulk(await node.net.open(peer, SINK), BULK),
        }


async def _relayed(folder: Path, far: dict[str, Any]) -> dict[str, object]:
    """This process and the far one exchange no datagram; the relay is a third."""
    async with net_node(folder, "behind", start=False, listen=f"{NEAR_IP}:0") as node:
        node.net._links.endpoint._reachable = lambda host: host == RELAY_IP
        await node.net.start()
        await node.net.connect(far["relay"])
        peer = await node.net.connect(far["circuit"])
        assert node.net.view(peer).path == "relay"
        echo = await node.net.open(peer, ECHO)

        async def ping() -> None:
            await echo.send(b"x" * 32)
            await echo.receive()

        pings = [await _timed(ping) for _ in range(PINGS)]
        return {
            "relay_ping_ms_p50": _p50(pings),
            "relay_mb_per_s": await _bulk(await node.net.open(peer, SINK), RELAYED_BULK),
        }


async def _bulk(stream: Stream, size: int) -> float:
    chunk, sent = bytes(MAX_FRAME - 16), 0
    begin = time.perf_counter()
    while sent < size:
        await stream.send(chunk)
        sent += len(chunk)
    await stream.close()
    assert int(await stream.receive()) == sent
    return round(sent / 1e6 / (time.perf_counter() - begin), 1)


async def _raw(port: int) -> dict[str, object]:
    async with connect("127.0.0.1", port, configuration=bare_configuration(True, None, None)) as client:

        async def request() -> None:
            await _raw_exchange(client, b"e" + b"x" * 32)

        fresh = [await _timed(request) for _ in range(PINGS)]
        rate = await _rate(request)
        begin = time.perf_counter()
        reader, writer = await client.create_stream()
        writer.write(b"s")
        sent = 0
        while sent < BULK:
            writer.write(bytes(MAX_FRAME))
            await writer.drain()
            sent += MAX_FRAME
        writer.write_eof()
        assert int(await reader.read()) == sent
        return {
            "raw_fresh_stream_ms_p50": _p50(fresh),
            "raw_requests_per_s_100_concurrent": rate,
            "raw_mb_per_s_50mb": round(sent / 1e6 / (time.perf_counter() - begin), 1),
        }


async def _raw_exchange(client: QuicConnectionProtocol, data: bytes) -> None:
    reader, writer = await client.create_stream()
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data[1:]


async def _crowd(folder: Path, addresses: list[str]) -> float:
    async with net_node(folder, "popular") as node:
        before = _rss_mib()
        for at in range(0, len(addresses), 25):
            await asyncio.gather(*(_meet(node, address) for address in addresses[at : at + 25]))
        assert len(node.net.connected()) == len(addresses)
        return round(_rss_mib() - before, 1)


async def _meet(node: NetNode, address: str) -> None:
    await node.net.connect(address)


async def _rate(request: Callable[[], Awaitable[None]]) -> int:
    async def some() -> None:
        for _ in range(REQUESTS // CONCURRENT):
            await request()

    begin = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(CONCURRENT)))
    return round(REQUESTS / (time.perf_counter() - begin))


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await work()
    return (time.perf_counter() - begin) * 1000


def _p50(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@asynccontextmanager
async def _far() -> AsyncIterator[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.net_far",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as folder:
        yield Path(folder)
