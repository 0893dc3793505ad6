"""The other process of the net benchmark: a zstui network, bare aioquic with its stock asyncio protocol, and a crowd of peers.

Prints one JSON line, and ends when standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from aioquic.asyncio.server import QuicServer, serve

from tests.support.net import bare_configuration, make_tls_certificate, net_node, until
from zstui.engine.bus import Bus
from zstui.engine.errors import StreamClosed
from zstui.engine.identity.keys import Identity
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.endpoint import Endpoint
from zstui.engine.net.link import Stream
from zstui.engine.net.router import Router
from zstui.engine.net.session import PING_PROTOCOL, answer_pings
from zstui.engine.net.stream import WireStream

SINK = "/bench/sink/1.0.0"
ONCE = "/bench/once/1.0.0"
CROWD = 1_000
RELAY_IP, FAR_IP, NEAR_IP = "127.0.0.1", "127.0.0.2", "127.0.0.3"
"""Of the relay, and of the two nodes that exchange datagrams with it alone."""


async def once(stream: Stream) -> None:
    await stream.send(await stream.receive())


async def sink(stream: Stream) -> None:
    """Take frames until the other side has said all, then tell how many bytes."""
    total = 0
    while True:
        try:
            total += len(await stream.receive())
        except StreamClosed:
            await stream.send(str(total).encode())
            return


async def _serve_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte says what: "e" echo, "s" sink."""
    if await reader.readexactly(1) == b"e":
        writer.write(await reader.read())
    else:
        total = 0
        while data := await reader.read(1 << 16):
            total += len(data)
        writer.write(str(total).encode())
    writer.write_eof()


async def raw_server() -> tuple[QuicServer, int]:
    certificate, key = make_tls_certificate(Identity.generate())
    tasks: set[asyncio.Task[None]] = set()

    def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve_raw(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await serve(
        "127.0.0.1", 0, configuration=bare_configuration(False, certificate, key), stream_handler=handler
    )
    assert server._transport is not None
    return server, server._transport.get_extra_info("sockname")[1]


class Member:
    """One of the crowd: accepts everybody, answers pings, and refuses all else."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def authenticated(self, connection: LinkConnection) -> None:
        pass

    def ready(self, connection: LinkConnection) -> None:
        pass

    def inbound(self, connection: LinkConnection, stream: WireStream) -> None:
        self._router.serve(stream)

    def closed(self, connection: LinkConnection) -> None:
        pass


async def crowd() -> list[str]:
    router = Router(Bus())
    router.handle(PING_PROTOCOL, answer_pings)
    found = []
    for _ in range(CROWD):
        identity = Identity.generate()
        endpoint = Endpoint(identity, Member(router), lambda host: True)
        await endpoint.open("127.0.0.1", 0)
        found.append(f"/ip4/127.0.0.1/udp/{endpoint.ports[4]}/quic-v1/p2p/{identity.peer_id}")
    return found


@contextlib.asynccontextmanager
async def hidden(home: Path, relay: str) -> AsyncIterator[str]:
    """The address through ``relay`` of a node that cannot be reached otherwise."""
    async with net_node(home, "hidden", start=False, listen=f"{FAR_IP}:0") as node:
        node.net._links.endpoint._reachable = lambda host: host == RELAY_IP
        node.net.handle(SINK, sink)
        await node.net.start()
        await node.net.connect(relay)
        await until(node.net._relaying.client.relays)
        yield node.net.addresses()[-1]


async def relay_process() -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.net_far", "relay"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def run_relay() -> None:
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as folder:
        async with net_node(Path(folder), "relay", relay=True, relay_mib_per_s=1000) as node:
            print(node.address, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def main() -> None:
    logging.disable(logging.CRITICAL)
    if sys.argv[1:] == ["relay"]:
        await run_relay()
        return
    relay, relay_address = await relay_process()
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as folder:
        async with net_node(Path(folder), "far", start=False) as node:
            node.net.handle(SINK, sink)
            node.net.handle(ONCE, once)
            await node.net.start()
            _, port = await raw_server()
            async with hidden(Path(folder), relay_address) as circuit:
                said = {
                    "address": node.address,
                    "raw_port": port,
                    "relay": relay_address,
                    "circuit": circuit,
                    "crowd": await crowd(),
                }
                print(json.dumps(said), flush=True)
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    assert relay.stdin is not None
    relay.stdin.close()
    await relay.wait()


if __name__ == "__main__":
    asyncio.run(main())
