"""Guilds: ephemeral encrypted groups. The verbs and questions that the rest of the engine has for them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.errors import NotPermitted, ProtocolError, UnknownGuild, ZsError
from zstui.engine.events import GuildChanged, GuildCreated, GuildJoined, PeerConnected, PeerDisconnected
from zstui.engine.guilds import invites, store
from zstui.engine.guilds.admission import Admission
from zstui.engine.guilds.catalogue import Catalogue
from zstui.engine.guilds.chat import Chat
from zstui.engine.guilds.epochs import box_key_of
from zstui.engine.guilds.heralds import Heralds
from zstui.engine.guilds.joining import Joiner
from zstui.engine.guilds.limits import Limits
from zstui.engine.guilds.messages import GuildLeave
from zstui.engine.guilds.protocol import GuildProtocol
from zstui.engine.guilds.registry import Guild, Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId, public_key_of
from zstui.engine.net.link import GUILD_PROTOCOL, Network
from zstui.engine.store.database import Database
from zstui.engine.views import GuildMessageView, GuildView, InviteView, Role

log = logging.getLogger(__name__)

INVITE_US = 3600 * US
TICK_S = 1.0
HEAL_TICKS = 30


class GuildService:
    """Registers its protocol at construction; ``start`` after that. Guild ids are lower-case hex text."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        name_of: Callable[[PeerId], str],
        addresses: Callable[[], tuple[str, ...]],
        connect: Callable[[str], Awaitable[PeerId]],
    ) -> None:
        self._identity = identity
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name_of = name_of
        self._addresses = addresses
        self._connect = connect
        self._tasks = Tasks(bus)
        self._registry = Registry(identity, db, bus, clock, name_of)
        self._chat = Chat(self._registry)
        self._replicator = Replicator(self._registry, network, self._chat, self._tasks)
        self._admission = Admission(self._registry, self._replicator)
        self._heralds = Heralds(self._registry, network, self._replicator, self._tasks)
        self._catalogue = Catalogue(self._registry, self._heralds.seen, network)
        self._joiner = Joiner(self._registry, network, self._replicator, connect)
        self._dialing: set[PeerId] = set()
        self._ready = asyncio.Event()
        self._turn = 0
        protocol = GuildProtocol(
            self._registry,
            self._admission,
            self._replicator,
            self._chat,
            Limits(),
            clock,
            self._heralds.heard,
            self._joiner.under_way,
            self._ready,
        )
        network.handle(GUILD_PROTOCOL, protocol.handle)

    async def start(self) -> None:
        """Bring back my guilds and catch up with their members."""
        links: Subscription[PeerConnected | PeerDisconnected] = self._bus.subscribe(PeerConnected, PeerDisconnected)
        await self._registry.load()
        self._ready.set()
        for peer in self._network.connected():
            self._peer_came(peer)
        self._tasks.start("guild links", self._follow(links))
        self._tasks.start("guild clock", self._tick())

    async def stop(self) -> None:
        await self._tasks.stop()

    # --- verbs

    async def create(self, name: str, ttl_s: int = 3600, max_members: int = 50, private: bool = False) -> GuildView:
        """Found a guild; I am its creator. Raises BadInput, GuildError."""
        guild = await self._admission.create(name, ttl_s, max_members, private)
        self._bus.publish(GuildCreated(guild.hex))
        self._heralds.announce()
        return self.view(guild.hex)

    async def join(self, guild: str, role: Role = "member") -> GuildView:
        """Join a guild seen (id, prefix or name), or by an invite. Joining again with another role changes the role.

        Raises BadInput, UnknownGuild, GuildFull, GuildExpired, NotPermitted, Unreachable (the creator is away), GuildError.
        """
        invite = invites.parse_invite(guild) if invites.looks_like_invite(guild) else None
        charter = invite.charter if invite is not None else self._catalogue.charter(self._catalogue.resolve(guild))
        known = self._registry.guilds.get(charter.guild_id)
        if known is not None and known.alive(self._clock.now_us()) and known.role == role:
            return self.view(known.hex)
        started_us = self._clock.monotonic_us()
        entered = await self._joiner.join(charter, role, invite)
        self._heralds.seen.remove(charter.guild_id)
        self._bus.publish(GuildJoined(entered.hex, self._clock.monotonic_us() - started_us))
        for peer in self._online(entered) - {charter.creator}:
            self._tasks.start("guild sync", self._replicator.sync(entered, peer))
        return self.view(entered.hex)

    async def leave(self, guild: str) -> GuildView:
        """I am out at once; a creator who is away hears of it when it comes back. Raises NotPermitted for my own guild."""
        found = self._alive(guild)
        if found.charter.creator == self._identity.peer_id:
            raise NotPermitted(f"You created {found.charter.name}; dissolve it instead.")
        async with found.lock:
            self._registry.alive(found.guild_id)
            request = seal(self._identity, GuildLeave(found.guild_id, box_key_of(found.box_secret)))
            await self._registry.finish(found, "left", request)
        if found.charter.creator in self._network.connected():
            await self._joiner.deliver_leave(found)
        return self.view(found.hex)

    async def dissolve(self, guild: str) -> GuildView:
        """End my guild for everybody. Raises NotPermitted for another's."""
        found = self._admission.my_guild(self._catalogue.resolve(guild), "dissolve it")
        await self._admission.dissolve(found)
        self._heralds.announce()
        return self.view(found.hex)

    async def kick(self, guild: str, peer: PeerId) -> GuildView:
        """Remove a member from my guild; it reads nothing that is written from now on."""
        found = self._admission.my_guild(self._catalogue.resolve(guild), "remove members")
        await self._admission.kick(found, peer)
        return self.view(found.hex)

    async def invite(self, guild: str) -> InviteView:
        """A string that lets its holders join my guild for an hour. Raises NotPermitted for another's guild."""
        found = self._admission.my_guild(self._catalogue.resolve(guild), "invite")
        now_us = self._clock.now_us()
        expires_us = min(now_us + INVITE_US, found.charter.expires_us)
        made = invites.make_invite(self._identity, found.charter, self._addresses(), os.urandom(16), now_us, expires_us)
        return InviteView(invite=invites.text_of(made), code=made.code, expires_at=expires_us // US)

    def invite_code(self, invite: str) -> tuple[str, str, str]:
        """Guild name, creator's name and confirmation code of an invite string, to compare before joining. Raises BadInput."""
        parsed = invites.parse_invite(invite)
        return parsed.charter.name, self._name_of(parsed.charter.creator), parsed.code

    async def send(self, guild: str, text: str) -> GuildMessageView:
        """Say something to all members; who is away gets it on return. Raises BadInput, NotPermitted, GuildExpired."""
        found = self._alive(guild)
        number, raw = await self._chat.write(found, text)
        self._replicator.push_line(found, raw)
        return await self.message(found.hex, number)

    async def messages(self, guild: str) -> list[GuildMessageView]:
        """What is stored of a guild I am or was in, oldest first; marks it read."""
        found = self._registry.get(self._catalogue.resolve(guild))
        rows = await self._db.read(lambda tx: store.messages(tx, found.guild_id))
        if found.unread:
            found.unread = 0
            await self._db.write(lambda tx: store.mark_read(tx, found.guild_id))
            self._bus.publish(GuildChanged(found.hex))
        return [self._catalogue.message_view(found, row) for row in rows]

    async def message(self, guild_id: str, number: int) -> GuildMessageView:
        """The message that a ``GuildMessageReceived`` tells of. Raises UnknownGuild when it is gone."""
        found = self._registry.get(bytes.fromhex(guild_id))
        row = await self._db.read(lambda tx: store.message(tx, found.guild_id, number))
        if row is None:
            raise UnknownGuild(f"Message {number} of {found.charter.name} is not kept any more.")
        return self._catalogue.message_view(found, row)

    # --- questions

    def views(self) -> list[GuildView]:
        """Guilds I am or was in, then those only seen."""
        return self._catalogue.views()

    def view(self, guild_id: str) -> GuildView:
        """Raises UnknownGuild."""
        return self._catalogue.view(_key(guild_id))

    def resolve(self, text: str) -> str:
        """The guild meant by an id, a prefix of at least 4 digits, or a name. Raises UnknownGuild."""
        return self._catalogue.resolve(text).hex()

    def role_of(self, guild_id: str, peer: PeerId) -> Role | None:
        """None: not a member, or the guild is over, or I am not in it."""
        guild = self._registry.guilds.get(_key(guild_id))
        return guild.membership.role(peer) if guild is not None and guild.alive(self._clock.now_us()) else None

    def members(self, guild_id: str) -> Mapping[PeerId, Role]:
        """Empty if the guild is over or I am not in it."""
        guild = self._registry.guilds.get(_key(guild_id))
        if guild is None or not guild.alive(self._clock.now_us()):
            return {}
        return {peer: member.role for peer, member in guild.membership.members.items()}

    def require(self, guild_id: str, peer: PeerId, *roles: Role) -> None:
        """Raises UnknownGuild, GuildExpired, or NotPermitted unless ``peer`` is a member, in one of ``roles`` if given."""
        guild = self._registry.alive(_key(guild_id))
        role = guild.membership.role(peer)
        who = "You are" if peer == self._identity.peer_id else f"{self._name_of(peer)} is"
        if role is None:
            raise NotPermitted(f"{who} not a member of {guild.charter.name}.")
        if roles and role not in roles:
            raise NotPermitted(f"{who} {role} in {guild.charter.name}; this takes {' or '.join(roles)}.")

    def shared_with(self, peer: PeerId) -> frozenset[str]:
        """Living guilds we both are in."""
        return frozenset(g.hex for g in self._registry.living() if peer in g.membership.members)

    def seal(self, guild_id: str, plaintext: bytes, context: bytes = b"") -> bytes:
        """Encrypt for the members, as me, for one use named by ``context``. Raises GuildError, ProtocolError."""
        return self._registry.alive(_key(guild_id)).seal(self._identity.public_key, plaintext, context)

    def open(self, guild_id: str, sender: PeerId, sealed: bytes, context: bytes = b"") -> bytes:
        """Decrypt what the member at the other end of a link sealed. Raises ProtocolError, GuildError."""
        guild = self._sent_by_member(guild_id, sender)
        return guild.ring.open(public_key_of(sender), sealed, context, self._clock.now_us())

    async def unseal(self, guild_id: str, sender: PeerId, sealed: bytes, context: bytes = b"") -> bytes:
        """As ``open``, but catches up with the sender first where it knows a newer membership than this node."""
        guild = self._registry.alive(_key(guild_id))
        if guild.membership.role(sender) is None:
            await self._replicator.sync(guild, sender)
        self._sent_by_member(guild_id, sender)
        return await self._replicator.open_or_sync(guild, sender, sealed, context)

    # --- in the background

    async def _follow(self, links: Subscription[PeerConnected | PeerDisconnected]) -> None:
        try:
            async for event in links:
                if isinstance(event, PeerConnected):
                    self._peer_came(event.peer_id)
                self._show_presence(event.peer_id)
        finally:
            links.close()

    def _peer_came(self, peer: PeerId) -> None:
        self._heralds.announce_to(peer)
        self._deliver_leaves(peer)
        for guild in self._registry.living():
            if peer in guild.membership.members:
                self._tasks.start("guild sync", self._replicator.sync(guild, peer))

    def _deliver_leaves(self, creator: PeerId) -> None:
        for guild in self._registry.guilds.values():
            if guild.pending_leave is not None and guild.charter.creator == creator:
                self._tasks.start("guild leave", self._joiner.deliver_leave(guild))

    def _show_presence(self, peer: PeerId) -> None:
        for guild in self._registry.living():
            if peer in guild.membership.members:
                self._bus.publish(GuildChanged(guild.hex))

    async def _tick(self) -> None:
        ticks = 0
        while True:
            try:
                await self._registry.sweep()
                for guild in self._registry.living():
                    if guild.charter.creator == self._identity.peer_id:
                        await self._admission.rekey_if_due(guild)
            except ZsError as error:
                log.warning("guild clock: %s", error)
            self._heralds.sweep()
            if ticks % HEAL_TICKS == 0:
                self._heal()
            ticks += 1
            await self._clock.sleep(TICK_S)

    def _heal(self) -> None:
        """Compare with one member of each guild, so that nothing lost on the way stays lost."""
        self._turn += 1
        self._heralds.repair()
        for peer in self._network.connected():
            self._deliver_leaves(peer)
        for guild in self._registry.living():
            creator = guild.charter.creator
            online = sorted(self._online(guild))
            if online:
                peer = creator if creator in online else online[self._turn % len(online)]
                self._tasks.start("guild sync", self._replicator.sync(guild, peer))
            elif creator != self._identity.peer_id and creator not in self._dialing:
                self._tasks.start("guild dial", self._dial(creator))

    async def _dial(self, peer: PeerId) -> None:
        self._dialing.add(peer)
        try:
            await self._connect(peer)
        finally:
            self._dialing.discard(peer)

    # --- helpers

    def _alive(self, guild: str) -> Guild:
        found = self._catalogue.resolve(guild)
        if found not in self._registry.guilds:
            raise NotPermitted(f"You are not in {self._catalogue.charter(found).name}; join it first.")
        return self._registry.alive(found)

    def _online(self, guild: Guild) -> frozenset[PeerId]:
        return self._network.connected() & guild.membership.members.keys()

    def _sent_by_member(self, guild_id: str, sender: PeerId) -> Guild:
        guild = self._registry.alive(_key(guild_id))
        if guild.membership.role(sender) is None:
            raise ProtocolError(f"Guild traffic from {sender[-8:]}, who is not a member.")
        return guild


def _key(guild_id: str) -> bytes:
    """The 32 bytes of an id; bytes of no guild for anything else."""
    try:
        return bytes.fromhex(guild_id)
    except ValueError:
        return b""
