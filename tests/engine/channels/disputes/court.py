"""Nodes of one guild that open channels with witnesses, over the in-memory network, with a clock that a test shifts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tests.engine.channels.rig import BOOKS, Node, running, until
from zstui.engine.bus import Bus
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels.disputes import store
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.service import ChannelService
from zstui.engine.clock import US
from zstui.engine.events import Event
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.memory import MemoryHub
from zstui.engine.store.database import Database
from zstui.engine.views import DisputeView

HOUR = 3600.0
DAY = 24 * HOUR


class ShiftClock:
    """Real time plus a shift; who sleeps wakes when a shift brings its time."""

    def __init__(self) -> None:
        self.offset_us = 0
        self._shifted = asyncio.Event()

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000 + max(0, self.offset_us)

    async def sleep(self, seconds: float) -> None:
        end = self.now_us() + round(seconds * US)
        while (left := end - self.now_us()) > 0:
            shifted = self._shifted
            try:
                async with asyncio.timeout(left / US):
                    await shifted.wait()
            except TimeoutError:
                return

    def shift(self, seconds: float) -> None:
        self.offset_us += round(seconds * US)
        shifted, self._shifted = self._shifted, asyncio.Event()
        shifted.set()


class CourtNode(Node):
    """A node with channels and disputes; ``members`` is the one guild."""

    members: list[PeerId]
    clock: ShiftClock
    willing = True

    def __init__(self, hub: MemoryHub, number: int, folder: Path, members: list[PeerId]) -> None:
        super().__init__(hub, number, folder, ShiftClock())
        self.members = members
        members.append(self.id)
        self.schema = (*channel_schema.SCHEMA, *store.SCHEMA, BOOKS)
        self.blacklisted: dict[PeerId, tuple[int, str]] = {}
        """Everywhere."""
        self.blocked: dict[tuple[str, PeerId], tuple[int, str]] = {}
        """In one guild."""

    async def start(self) -> CourtNode:
        self.db = await Database.open(self.path, self.schema)
        self.bus = Bus()
        self.events = self.bus.subscribe(Event, limit=100_000)
        self.memory = self.hub.add(self.id, self.bus)
        network = self.wrap(self.memory)
        disputes: DisputeService
        self.service = ChannelService(
            self.identity,
            network,
            self.db,
            self.bus,
            self.clock,
            name_of=lambda peer: f"n{peer[-4:]}",
            credit_limit=lambda peer: 0 if disputes.at_fault(peer) else self.limit,
            at_risk=lambda peer: 0,
            on_credit=lambda tx, ch, peer, line: self.on_credit(tx, ch, peer, line),
            on_acknowledged=lambda tx, ch, peer, line: self.on_acknowledged(tx, ch, peer, line),
            tainted=self.tainted,
            nominate=lambda peer, wanted, expires_s: disputes.nomination(peer, wanted, expires_s),
            agreed_witnesses=lambda peer: disputes.nomination.agreed(peer),
            action_in_case=lambda channel_id: disputes.action(channel_id),
        )
        self.disputes = disputes = DisputeService(
            self.identity,
            network,
            self.db,
            self.bus,
            self.clock,
            channels=self.service,
            name_of=lambda peer: f"n{peer[-4:]}",
            candidates=lambda peer: [m for m in self.members if m not in (peer, self.id)],
            runs_jobs=lambda peer: False,
            willing=lambda peer: self.willing and peer in self.members,
            shares_guild=lambda peer: peer in self.members,
            fellows=lambda peer: [m for m in self.members if m not in (peer, self.id)],
            guilds_of=lambda one, two: ["guild"] if {one, two} <= set(self.members) else [],
            blacklist=self._blacklist,
            tainted=self.tainted,
        )
        await self.service.start()
        await self.disputes.start()
        running.append(self)
        return self

    async def _blacklist(self, peer: PeerId, hours: int, why: str, guild_id: str) -> None:
        if guild_id:
            self.blocked[guild_id, peer] = (hours, why)
        else:
            self.blacklisted[peer] = (hours, why)

    async def stop(self) -> None:
        running.remove(self)
        await self.memory.stop()
        await self.disputes.stop()
        await self.service.stop()
        await self.db.close()

    async def revive(self) -> None:
        """Start again on the same file, linked to everyone that runs."""
        await self.start()

    def case(self, channel: str) -> DisputeView:
        return self.disputes.view(channel)

    def balance(self, channel: str) -> tuple[str, str, int, int]:
        view = self.service.view(channel)
        return view.state, view.reason, view.mine_u, view.theirs_u


def shift(seconds: float, *nodes: Node) -> None:
    for node in nodes:
        assert isinstance(node.clock, ShiftClock)
        node.clock.shift(seconds)


class Court:
    """Two parties and four witnesses."""

    def __init__(self, nodes: list[CourtNode]) -> None:
        self.a, self.b, *self.witnesses = nodes
        self.nodes = nodes

    @property
    def up(self) -> list[CourtNode]:
        return [node for node in self.nodes if node in running]

    def shift(self, seconds: float) -> None:
        shift(seconds, *self.up)

    async def heard(self, channel: str, *nodes: CourtNode) -> None:
        """Until every node knows the deadline."""
        await until(lambda: all(self._deadline(n, channel) for n in nodes or self.witnesses))

    @staticmethod
    def _deadline(node: CourtNode, channel: str) -> bool:
        file = node.disputes._files.get(bytes.fromhex(channel))
        return file is not None and file.deadline_us is not None

    async def closed(self, channel: str, *nodes: CourtNode) -> None:
        await until(lambda: all(n.service.view(channel).state == "closed" for n in nodes))


async def court(folder: Path, witnesses: int = 4, prepare: Callable[[CourtNode], None] = lambda node: None) -> Court:
    hub, members = MemoryHub(), list[PeerId]()
    nodes = [CourtNode(hub, number, folder, members) for number in range(1, 3 + witnesses)]
    for node in nodes:
        prepare(node)
        await node.start()
    return Court(nodes)
