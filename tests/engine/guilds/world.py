"""Several guild services over one memory hub, each with a database of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import Clock, ManualClock
from zstui.engine.errors import Unreachable
from zstui.engine.guilds.service import GuildService
from zstui.engine.guilds.store import SCHEMA
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.memory import MemoryHub, MemoryNetwork
from zstui.engine.store.database import Database

T = TypeVar("T")


async def until(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """Wait until ``condition`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.002)
    return value


async def until_async(condition: Callable[[], Awaitable[T]], seconds: float = 20.0) -> T:
    deadline = time.monotonic() + seconds
    while not (value := await condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.002)
    return value


class Peer:
    """One node's guilds."""

    def __init__(self, world: World, name: str, identity: Identity) -> None:
        self.world = world
        self.name = name
        self.identity = identity
        self.id: PeerId = identity.peer_id
        self.bus = Bus()
        self.network: MemoryNetwork
        self.db: Database
        self.guilds: GuildService

    async def start(self) -> None:
        """The links come up once the service is there, as those of a real network do."""
        hub = self.world.hub
        self.network = hub.add(self.id, self.bus)
        others = self.network.connected()
        for other in others:
            hub.cut(self.id, other)
        self.db = await Database.open(self.world.folder / f"{self.name}.db", SCHEMA)
        self.guilds = GuildService(
            self.identity,
            self.network,
            self.db,
            self.bus,
            self.world.clock,
            name_of=self.world.name_of,
            addresses=lambda: (f"/memory/{self.name}/p2p/{self.id}",),
            connect=self.connect,
        )
        await self.guilds.start()
        for other in others:
            hub.link(self.id, other)

    async def stop(self) -> None:
        await self.guilds.stop()
        await self.network.stop()
        await self.db.close()

    async def connect(self, address: str) -> PeerId:
        """Undo a cut to the peer named in the address, if it is there and may be linked."""
        for peer in self.world.peers.values():
            if address in (peer.id, f"/memory/{peer.name}/p2p/{peer.id}"):
                if frozenset((peer.id, self.id)) in self.world.unreachable:
                    break
                self.world.hub.link(self.id, peer.id)
                if peer.id in self.network.connected():
                    return peer.id
        raise Unreachable("Nobody answers there.")

    def events(self, *types: type[T]) -> Subscription[T]:
        return self.bus.subscribe(*types)


class World:
    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.clock: Clock = clock or ManualClock()
        self.hub = MemoryHub()
        self.peers: dict[str, Peer] = {}
        self.unreachable: set[frozenset[PeerId]] = set()

    async def add(self, *names: str) -> list[Peer]:
        added = []
        for name in names:
            peer = Peer(self, name, Identity.generate())
            self.peers[name] = peer
            await peer.start()
            added.append(peer)
        return added

    def cut(self, a: Peer, b: Peer) -> None:
        """Cut the link for good: neither side can make a new one until ``mend``."""
        self.unreachable.add(frozenset((a.id, b.id)))
        self.hub.cut(a.id, b.id)

    def mend(self, a: Peer, b: Peer) -> None:
        self.unreachable.discard(frozenset((a.id, b.id)))
        self.hub.link(a.id, b.id)

    def name_of(self, peer: PeerId) -> str:
        return next((p.name for p in self.peers.values() if p.id == peer), peer[-6:])

    async def stop(self) -> None:
        for peer in self.peers.values():
            await peer.stop()

    async def advance(self, seconds: float) -> None:
        """Jump, then let the last second pass, so that a day costs no more than a second."""
        assert isinstance(self.clock, ManualClock)
        self.clock._now += round(max(0.0, seconds - 1) * 1_000_000)
        await self.clock.advance(min(1.0, seconds))


def queued(subscription: Subscription[T]) -> list[T]:
    """Events published so far."""
    return list(subscription._queue)
