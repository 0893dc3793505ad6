"""What goes on without being asked: heartbeats, catching up, reaching for members, and the clock of every guild."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from zstui.engine.bus import Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.errors import ZsError
from zstui.engine.events import GuildJoined, PeerConnected, PeerDisconnected
from zstui.engine.guilds.admission import Admission
from zstui.engine.guilds.catalogue import Catalogue
from zstui.engine.guilds.governance import Governance
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.heralds import Heralds
from zstui.engine.guilds.joining import Joiner
from zstui.engine.guilds.log import MAX_PARENTS
from zstui.engine.guilds.messages import Beat
from zstui.engine.guilds.presence import BEAT_S
from zstui.engine.guilds.registry import MAX_JOINED, Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Network

log = logging.getLogger(__name__)

TICK_S = 1.0
KNOCK_AGAIN_S = 15
MAX_DIALS = 4
"""Members dialled at a time, of all guilds together."""

Links = Subscription[PeerConnected | PeerDisconnected]


class Keeper:
    def __init__(
        self,
        registry: Registry,
        network: Network,
        admission: Admission,
        governance: Governance,
        catalogue: Catalogue,
        heralds: Heralds,
        joiner: Joiner,
        replicator: Replicator,
        tasks: Tasks,
        connect: Callable[[str], Awaitable[PeerId]],
    ) -> None:
        self._registry = registry
        self._network = network
        self._admission = admission
        self._governance = governance
        self._catalogue = catalogue
        self._heralds = heralds
        self._joiner = joiner
        self._replicator = replicator
        self._tasks = tasks
        self._connect = connect
        self._dialing: set[PeerId] = set()
        self._turn = 0

    @property
    def _clock(self) -> Clock:
        return self._registry.clock

    def start(self, links: Links) -> None:
        """Greet who is connected already, and go on by itself."""
        for peer in self._network.connected():
            self._peer_came(peer)
        self._tasks.start("guild links", self._follow(links))
        self._tasks.start("guild clock", self._tick())

    def welcomed(self, peer: PeerId, guild_id: bytes) -> None:
        """Somebody who may let me in says that there is an answer to my knock."""
        if guild_id in self._joiner.knocking and peer in self._catalogue.target(guild_id).authorities:
            self._ask_again(guild_id)

    def entered(self, guild: Guild, started_us: int) -> None:
        """I am in; I began to ask at ``started_us`` (monotonic)."""
        self._heralds.seen.remove(guild.guild_id)
        self._registry.bus.publish(GuildJoined(guild.hex, self._clock.monotonic_us() - started_us))
        for peer in self._online(guild):
            guild.presence.heard(peer, self._clock.now_us(), self._clock.monotonic_us())
            if peer != guild.charter.creator:
                self._replicator.start_sync(guild, peer)

    async def _follow(self, links: Links) -> None:
        async for event in links:
            match event:
                case PeerConnected(peer_id=peer):
                    self._peer_came(peer)
                    self._show_presence(peer)
                case PeerDisconnected(peer_id=peer):
                    self._show_presence(peer)

    def _peer_came(self, peer: PeerId) -> None:
        self._heralds.announce_to(peer)
        self._deliver_leaves(peer)
        shared = [guild for guild in self._registry.living() if peer in guild.membership.members]
        for guild in shared:
            guild.presence.heard(peer, self._clock.now_us(), self._clock.monotonic_us())
            self._replicator.start_sync(guild, peer)
        for guild_id in list(self._joiner.knocking):
            if peer in self._catalogue.target(guild_id).authorities:
                self._ask_again(guild_id)

    def _deliver_leaves(self, authority: PeerId) -> None:
        for guild in self._registry.guilds.values():
            if guild.pending_leave is not None and authority in guild.membership.authorities:
                self._tasks.start("guild leave", self._joiner.deliver_leave(guild))

    def _show_presence(self, peer: PeerId) -> None:
        for guild in self._registry.living():
            if peer in guild.membership.members:
                self._registry.changed(guild)

    def _ask_again(self, guild_id: bytes) -> None:
        if guild_id not in self._joiner.under_way:
            self._tasks.start("guild knock", self._knock(guild_id))

    async def _knock(self, guild_id: bytes) -> None:
        started_us = self._clock.monotonic_us()
        entered = await self._joiner.ask_again(guild_id, self._catalogue.target(guild_id).authorities)
        if entered is not None:
            self.entered(entered, started_us)

    async def _tick(self) -> None:
        beat_us = knock_us = self._clock.monotonic_us()
        while True:
            mono_us = self._clock.monotonic_us()
            beat = mono_us >= beat_us
            try:
                await self._registry.sweep()
                await self._admission.sweep()
                for guild in self._registry.living():
                    await self._governance.tend(guild)
            except ZsError as error:
                log.warning("guild clock: %s", error)
            self._heralds.sweep()
            if beat:
                beat_us = mono_us + BEAT_S * US
                self._tasks.start("guild presence", self._registry.save_presence())
                self._beat()
                self._heal()
            if mono_us >= knock_us:
                knock_us = mono_us + KNOCK_AGAIN_S * US
                for guild_id in list(self._joiner.knocking):
                    self._ask_again(guild_id)
            await self._clock.sleep(TICK_S)

    def _beat(self) -> None:
        """Tell every member I am connected to that I am here, and what I know."""
        beats: dict[PeerId, list[tuple[bytes, tuple[bytes, ...]]]] = {}
        for guild in self._registry.living():
            guild.presence.keep(set(guild.membership.members))
            for peer in self._online(guild):
                beats.setdefault(peer, []).append((guild.guild_id, guild.log.heads[-MAX_PARENTS:]))
        for peer, guilds in beats.items():
            self._tasks.start("guild beat", self._replicator.ask(peer, Beat(tuple(guilds[:MAX_JOINED]))))

    def _heal(self) -> None:
        """Compare with one member of each guild, so that nothing lost on the way stays lost; look for those away."""
        self._turn += 1
        self._heralds.repair()
        for peer in self._network.connected():
            self._deliver_leaves(peer)
        for guild in self._registry.living():
            creator = guild.charter.creator
            online = sorted(self._online(guild))
            if online:
                peer = creator if creator in online else online[self._turn % len(online)]
                self._replicator.start_sync(guild, peer)
            away = sorted(guild.membership.members.keys() - self._network.connected() - {self._registry.me})
            first = [p for p in guild.membership.authorities if p in away]
            for peer in (first or away[self._turn % len(away) :] if away else [])[:1]:
                if peer not in self._dialing and len(self._dialing) < MAX_DIALS:
                    self._tasks.start("guild dial", self._dial(peer))

    async def _dial(self, peer: PeerId) -> None:
        self._dialing.add(peer)
        try:
            await self._connect(peer)
        finally:
            self._dialing.discard(peer)

    def _online(self, guild: Guild) -> frozenset[PeerId]:
        return self._network.connected() & guild.membership.members.keys()
