"""Announcements: my public guilds to connected peers, and theirs into the table of guilds seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from zstui.engine.errors import NetError, ProtocolError, Refused
from zstui.engine.events import GuildChanged
from zstui.engine.guilds.messages import MAX_ANNOUNCED, Announce, Announced, Done
from zstui.engine.guilds.model import CLOCK_SLACK_US, read_charter
from zstui.engine.guilds.registry import Guild, Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.guilds.seen import Seen, SeenTable
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Network

PARALLEL = 16


class Heralds:
    def __init__(self, registry: Registry, network: Network, replicator: Replicator, tasks: Tasks) -> None:
        self.seen = SeenTable()
        self._registry = registry
        self._network = network
        self._replicator = replicator
        self._tasks = tasks
        self._told: dict[bytes, Announced] = {}
        self._missed: set[PeerId] = set()
        """Connected peers that did not take an announcement."""

    def announce(self) -> None:
        """Tell all connected peers what is new about my public guilds; nothing if nothing is."""
        news = []
        for guild in self._mine():
            item = self._item(guild)
            told = self._told.get(guild.guild_id)
            if told != item and not (told is None and item.ended):
                self._told[guild.guild_id] = item
                news.append(item)
        for guild_id in self._told.keys() - self._registry.guilds.keys():
            del self._told[guild_id]
        if news:
            self._tasks.start("guild announcement", self._tell(self._network.connected(), tuple(news)))

    def announce_to(self, peer: PeerId) -> None:
        """Tell a peer who just came of all my open public guilds."""
        now_us = self._registry.clock.now_us()
        items = tuple(self._item(g) for g in self._mine() if g.alive(now_us))
        if items:
            self._tasks.start("guild announcement", self._tell((peer,), items))

    def repair(self) -> None:
        """Tell those again who missed something."""
        missed, self._missed = self._missed, set()
        for peer in missed & self._network.connected():
            self.announce_to(peer)

    def heard(self, peer: PeerId, guilds: tuple[Announced, ...]) -> None:
        """Note the guilds that ``peer`` created and announces. Raises ProtocolError for one that is not its own."""
        now_us = self._registry.clock.now_us()
        for item in guilds:
            known = self.seen.by_raw(item.charter)
            charter = known.charter if known is not None else read_charter(item.charter)
            if charter.creator != peer:
                raise ProtocolError("An announcement of somebody else's guild.")
            if charter.guild_id in self._registry.guilds:
                continue
            if item.ended or charter.expires_us <= now_us:
                if self.seen.remove(charter.guild_id):
                    self._changed(charter.guild_id)
                continue
            if charter.created_us > now_us + CLOCK_SLACK_US or (known is not None and known.members == item.members):
                continue
            for guild_id in (charter.guild_id, *self.seen.put(Seen(charter, min(item.members, charter.max_members)))):
                self._changed(guild_id)

    def sweep(self) -> None:
        """Forget what expired; tell what changed."""
        for guild_id in self.seen.expire(self._registry.clock.now_us()):
            self._changed(guild_id)
        self.announce()

    def _mine(self) -> list[Guild]:
        return [
            g
            for g in self._registry.guilds.values()
            if g.charter.creator == self._registry.me and not g.charter.private and g.state != "expired"
        ]

    def _item(self, guild: Guild) -> Announced:
        return Announced(guild.charter.raw, len(guild.membership.members), guild.state != "joined")

    async def _tell(self, peers: Iterable[PeerId], items: tuple[Announced, ...]) -> None:
        limit = asyncio.Semaphore(PARALLEL)

        async def tell(peer: PeerId) -> None:
            async with limit:
                try:
                    for i in range(0, len(items), MAX_ANNOUNCED):
                        reply = await self._replicator.ask(peer, Announce(items[i : i + MAX_ANNOUNCED]))
                        if not isinstance(reply, Done):
                            self._missed.add(peer)
                except (NetError, Refused, ProtocolError):
                    self._missed.add(peer)

        await asyncio.gather(*(tell(peer) for peer in peers))

    def _changed(self, guild_id: bytes) -> None:
        self._registry.bus.publish(GuildChanged(guild_id.hex()))
