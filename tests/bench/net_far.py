"""The other process of the net benchmark: a zstui network, bare aioquic with its stock asyncio protocol, and a crowd of peers.

Prints one JSON line, and ends when standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

from aioquic.asyncio.server import QuicServer, serve

from tests.support.net import bare_configuration, make_tls_certificate, net_node
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


async def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="zstui-bench-") as folder:
        async with net_node(Path(folder), "far", start=False) as node:
            node.net.handle(SINK, sink)
            node.net.handle(ONCE, once)
            await node.net.start()
            _, port = await raw_server()
            print(json.dumps({"address": node.address, "raw_port": port, "crowd": await crowd()}), flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
