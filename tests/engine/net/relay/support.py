"""Two nodes that exchange no datagram with each other, and a relay between: all on addresses of 127.0.0.0/8."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from tests.support.net import NetNode, net_node, until

RELAY, ALPHA, BETA = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Triangle(msgspec.Struct):
    relay: NetNode
    alpha: NetNode
    beta: NetNode

    @property
    def circuit(self) -> str:
        """Beta's address through the relay."""
        return next(a for a in self.beta.net.addresses() if "/p2p-circuit/" in a)

    async def link(self) -> None:
        """Alpha and beta, through the relay."""
        await self.alpha.net.connect(self.circuit)
        await until(lambda: self.alpha.id in self.beta.net.connected())

    def open_up(self) -> None:
        """From now on alpha and beta can reach each other."""
        for node in (self.alpha, self.beta):
            node.net._links.endpoint._reachable = lambda host: True
            node.net._relaying._reachable = lambda host: True


def confine(node: NetNode) -> None:
    """Let ``node`` exchange datagrams only with the relay's address."""
    node.net._links.endpoint._reachable = lambda host: host == RELAY
    node.net._relaying._reachable = lambda host: host == RELAY


@contextlib.asynccontextmanager
async def triangle(home: Path, **relay: Any) -> AsyncIterator[Triangle]:
    """Both are linked to the relay, and beta has its place there."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name, host in (("relay", RELAY), ("alpha", ALPHA), ("beta", BETA)):
            settings = {"relay": True, **relay} if name == "relay" else {}
            node = await stack.enter_async_context(net_node(home, name, start=False, listen=f"{host}:0", **settings))
            if name != "relay":
                confine(node)
            await node.net.start()
            nodes.append(node)
        made = Triangle(*nodes)
        for node in (made.alpha, made.beta):
            await node.net.connect(made.relay.address)
            await until(node.net._relaying.client.relays)
        yield made
