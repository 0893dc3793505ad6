"""Announcements: my public guilds to connected peers, and theirs into the table of guilds seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from zstui.engine.errors import NetError, ProtocolError, Refused
from zstui.engine.events import GuildChanged
from zstui.engine.guilds.entries import read_entry
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.messages import MAX_ANNOUNCED, Announce, Announced, Done, decode_request, encode
from zstui.engine.guilds.model import CLOCK_SLACK_US, MAX_LIFE_US, Charter, read_charter
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.guilds.seen import Seen, SeenTable
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Network

PARALLEL = 16
MAX_WORD = 12 * 1024
"""Bytes of what is said to the whole network."""


class Heralds:
    def __init__(
        self,
        registry: Registry,
        network: Network,
        replicator: Replicator,
        tasks: Tasks,
        is_known: Callable[[PeerId], bool],
    ) -> None:
        self.seen = SeenTable(self._standing)
        self._is_known = is_known
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

    def word(self) -> bytes | None:
        """What the whole network may hear: my public guilds. None if there are none."""
        items: list[Announced] = []
        size = 0
        for guild in sorted(self._mine(), key=lambda g: g.state != "joined"):
            item = self._item(guild)
            size += len(encode(item))
            if size > MAX_WORD or len(items) == MAX_ANNOUNCED:
                break
            items.append(item)
        return encode(Announce(tuple(items))) if items else None

    def overheard(self, peer: PeerId, word: bytes) -> None:
        """The ``word`` of ``peer`` came through others. Raises ProtocolError as ``heard`` does."""
        announced = decode_request(word)
        if not isinstance(announced, Announce):
            raise ProtocolError("An announcement that is none.")
        self.heard(peer, announced.guilds, through_others=True)

    def heard(self, peer: PeerId, guilds: tuple[Announced, ...], *, through_others: bool = False) -> None:
        """Note the guilds that ``peer`` announces. Raises ProtocolError where it is neither creator nor officer."""
        now_us = self._registry.clock.now_us()
        for item in guilds:
            known = self.seen.by_raw(item.charter)
            charter = known.charter if known is not None else read_charter(item.charter)
            if charter.creator != peer:
                _check_warrant(charter, peer, item)
            if charter.guild_id in self._registry.guilds:
                continue
            expires_us = min(max(item.expires_us, charter.expires_us), charter.created_us + MAX_LIFE_US)
            if (item.ended and charter.creator == peer) or expires_us <= now_us:
                if self.seen.remove(charter.guild_id):
                    self._changed(charter.guild_id)
                continue
            members = min(item.members, charter.max_members)
            seen = Seen(charter, members, expires_us, (peer,), now_us if through_others else None)
            if charter.created_us > now_us + CLOCK_SLACK_US or (known is not None and _same(known, seen)):
                continue
            for guild_id in dict.fromkeys((charter.guild_id, *self.seen.put(seen))):
                self._changed(guild_id)

    def sweep(self) -> None:
        """Forget what expired; tell what changed."""
        for guild_id in self.seen.expire(self._registry.clock.now_us()):
            self._changed(guild_id)
        self.announce()

    def _mine(self) -> list[Guild]:
        return [
            guild
            for guild in self._registry.guilds.values()
            if guild.membership.may(self._registry.me, "announce")
            and guild.charter.admission != "invite"
            and guild.state in ("joined", "dissolved")
        ]

    def _item(self, guild: Guild) -> Announced:
        membership, me = guild.membership, self._registry.me
        warrant = b""
        if guild.charter.creator != me:
            named = [s for s in guild.log.entries if s.entry.kind == "officer" and s.peer == me]
            warrant = named[-1].raw
        ended = guild.state != "joined"
        return Announced(guild.charter.raw, len(membership.members), membership.expires_us, ended, warrant)

    def _standing(self, peer: PeerId) -> int:
        """Peers I named or share a guild with, then those I am connected to, then the rest."""
        if self._is_known(peer) or any(peer in g.membership.members for g in self._registry.guilds.values()):
            return 2
        return int(peer in self._network.connected())

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


def _check_warrant(charter: Charter, peer: PeerId, item: Announced) -> None:
    """Raises ProtocolError unless the creator named ``peer`` an officer of that guild."""
    named = read_entry(charter, item.warrant)
    if named.signer != charter.creator or named.entry.kind != "officer" or named.peer != peer:
        raise ProtocolError("An announcement of somebody else's guild.")


def _same(known: Seen, seen: Seen) -> bool:
    """Nothing new is in what is ``seen``; that somebody else said it, too, is nothing new if it came through others."""
    told = seen.heard_us is not None or known.heard_us is None
    return (known.members, known.expires_us) == (seen.members, seen.expires_us) and seen.via[0] in known.via and told
