"""Guilds: ephemeral encrypted groups. The verbs and questions that the rest of the engine has for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import Clock
from zstui.engine.errors import GuildError, NetError, NotPermitted, ProtocolError, Refused, UnknownGuild
from zstui.engine.events import GuildCreated, PeerConnected, PeerDisconnected
from zstui.engine.guilds import invites, store
from zstui.engine.guilds.admission import Admission
from zstui.engine.guilds.catalogue import Catalogue
from zstui.engine.guilds.chat import Chat, in_written_order
from zstui.engine.guilds.epochs import box_key_of
from zstui.engine.guilds.governance import Governance
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.heralds import Heralds
from zstui.engine.guilds.joining import Joiner
from zstui.engine.guilds.keeper import Keeper
from zstui.engine.guilds.limits import Limits
from zstui.engine.guilds.messages import Admission as AdmissionRule
from zstui.engine.guilds.messages import GuildLeave
from zstui.engine.guilds.model import check_needs
from zstui.engine.guilds.office import Office
from zstui.engine.guilds.protocol import GuildProtocol
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.guilds.writer import Writer
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId, public_key_of
from zstui.engine.net.link import GUILD_PROTOCOL, Network
from zstui.engine.store.database import Database
from zstui.engine.views import (
    GuildMessageView,
    GuildView,
    InviteDetailView,
    NeedsView,
    Role,
)

log = logging.getLogger(__name__)


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
        card_of: Callable[[PeerId], Card | None] = lambda peer: None,
        is_known: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        self._identity = identity
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name_of = name_of
        self._tasks = Tasks(bus)
        self._registry = Registry(identity, db, bus, clock, name_of)
        self._chat = Chat(self._registry)
        self._replicator = Replicator(self._registry, network, self._chat, self._tasks)
        writer = Writer(self._registry, self._replicator)
        self._admission = Admission(self._registry, writer, card_of)
        governance = Governance(self._registry, writer)
        self.heralds = Heralds(self._registry, network, self._replicator, self._tasks, is_known)
        """What is told and heard of public guilds."""
        self._joiner = Joiner(self._registry, network, self._replicator, connect)
        self._catalogue = Catalogue(self._registry, self.heralds.seen, self._joiner.knocking, network)
        self._keeper = Keeper(
            self._registry,
            network,
            self._admission,
            governance,
            self._catalogue,
            self.heralds,
            self._joiner,
            self._replicator,
            self._tasks,
            connect,
        )
        self.office = Office(
            self._registry, self._admission, governance, self._catalogue, self.heralds, self._replicator, addresses
        )
        """What those who run a guild ask of it."""
        self._ready = asyncio.Event()
        protocol = GuildProtocol(
            self._registry,
            self._admission,
            self._replicator,
            self._chat,
            Limits(),
            clock,
            self.heralds.heard,
            self._keeper.welcomed,
            self._joiner.under_way,
            self._ready,
        )
        network.handle(GUILD_PROTOCOL, protocol.handle)

    async def start(self) -> None:
        """Bring back my guilds and catch up with their members."""
        links: Subscription[PeerConnected | PeerDisconnected] = self._bus.subscribe(PeerConnected, PeerDisconnected)
        await self._registry.load()
        await self._joiner.load()
        self._ready.set()
        self._keeper.start(links)

    async def stop(self) -> None:
        await self._tasks.stop()
        await self._registry.save_presence()

    # --- being in guilds

    async def create(
        self,
        name: str,
        ttl_s: int = 3600,
        max_members: int = 50,
        admission: AdmissionRule = "open",
        needs: NeedsView = NeedsView(),  # noqa: B008  # frozen
    ) -> GuildView:
        """Found a guild; I am its creator. Raises BadInput, GuildError."""
        asked = check_needs(needs.memory_mib, needs.cores, needs.tags)
        guild = await self._admission.create(name, ttl_s, max_members, admission, asked)
        self._bus.publish(GuildCreated(guild.hex))
        self.heralds.announce()
        return self.view(guild.hex)

    async def join(self, guild: str, role: Role = "member") -> GuildView:
        """Join a guild seen (id, prefix or name), or by an invite. Joining again with another role changes the role.

        Where members are let in by hand, the guild is "knocking" until somebody answers. Raises BadInput, UnknownGuild,
        GuildFull, GuildExpired, NotPermitted, Unreachable (nobody who admits is there), GuildError.
        """
        if invites.looks_like_invite(guild):
            target = self._catalogue.invited(invites.parse_invite(guild))
        else:
            target = self._catalogue.target(self._catalogue.resolve(guild))
        known = self._registry.guilds.get(target.guild_id)
        if known is not None and known.alive(self._clock.now_us()) and known.role == role:
            return self.view(known.hex)
        started_us = self._clock.monotonic_us()
        entered = await self._joiner.join(target, role)
        if entered is not None:
            self._keeper.entered(entered, started_us)
        return self.view(target.guild_id.hex())

    async def leave(self, guild: str) -> GuildView:
        """I am out at once; authorities who are away hear of it when they come back. Takes back a knock, too.

        Raises NotPermitted for my own guild.
        """
        guild_id = self._catalogue.resolve(guild)
        if guild_id in self._joiner.knocking:
            left = msgspec.structs.replace(self._catalogue.view(guild_id), state="left")
            await self._joiner.give_up(guild_id)
            return left
        found = self._alive(guild)
        if found.charter.creator == self._identity.peer_id:
            raise NotPermitted(f"You created {found.charter.name}; dissolve it instead.")
        async with found.lock:
            self._registry.alive(found.guild_id)
            request = seal(self._identity, GuildLeave(found.guild_id, box_key_of(found.box_secret)))
            await self._registry.finish(found, "left", request)
        await self._joiner.deliver_leave(found)
        return self.view(found.hex)

    async def send(self, guild: str, text: str) -> GuildMessageView:
        """Say something to all members; who is away gets it on return. Raises BadInput, NotPermitted, GuildExpired."""
        found = self._alive(guild)
        number, raw = await self._chat.write(found, text)
        self._replicator.push_line(found, found.counter, raw)
        return await self.message(found.hex, number)

    async def messages(self, guild: str, peek: bool = False) -> list[GuildMessageView]:
        """What is stored of a guild I am or was in, oldest first; marks it read, unless one only peeks."""
        found = self._registry.get(self._catalogue.resolve(guild))
        rows = await self._db.read(lambda tx: store.messages(tx, found.guild_id))
        if found.unread and not peek:
            found.unread = 0
            await self._db.write(lambda tx: store.mark_read(tx, found.guild_id))
            self._registry.changed(found)
        return [self._catalogue.message_view(found, row) for row in in_written_order(rows)]

    async def message(self, guild_id: str, number: int) -> GuildMessageView:
        """The message that a ``GuildMessageReceived`` tells of. Raises UnknownGuild when it is gone."""
        found = self._registry.get(bytes.fromhex(guild_id))
        row = await self._db.read(lambda tx: store.message(tx, found.guild_id, number))
        if row is None:
            raise UnknownGuild(f"Message {number} of {found.charter.name} is not kept any more.")
        return self._catalogue.message_view(found, row)

    async def inspect(self, invite: str, qr: bool = False, ask: bool = False) -> InviteDetailView:
        """What an invite string says; nobody is asked but, with ``ask``, whoever could let this node in. Raises BadInput."""
        parsed = invites.parse_invite(invite)
        detail = self._catalogue.detail(parsed)
        if ask:
            detail = await self._asked(detail, parsed)
        return msgspec.structs.replace(detail, qr=invites.qr_of(parsed)) if qr else detail

    async def _asked(self, detail: InviteDetailView, invite: invites.Invite) -> InviteDetailView:
        changed = msgspec.structs.replace
        try:
            found = await self._joiner.check(self._catalogue.invited(invite))
        except GuildError as error:
            return changed(detail, usable=False, standing=str(error))
        except (NetError, ProtocolError, Refused) as error:
            return changed(detail, standing=str(error))
        full = found.members >= found.max_members
        uses = f"{found.left} of {found.uses} {'use' if found.uses == 1 else 'uses'} left"
        return changed(
            detail,
            usable=found.left > 0 and not full,
            uses=found.uses,
            uses_left=found.left,
            members=found.members,
            max_members=found.max_members,
            standing=f"{uses}; {'full, ' if full else ''}{found.members} of {found.max_members} members",
        )

    # --- questions

    def views(self) -> list[GuildView]:
        """Guilds I am or was in, then those only seen."""
        return self._catalogue.views()

    def sizes(self) -> dict[str, int]:
        """Members of each living guild I am in: at most ``MAX_JOINED``, whatever others announce."""
        return {g.hex: len(g.membership.members) for g in self._registry.living()}

    def view(self, guild_id: str) -> GuildView:
        """Raises UnknownGuild."""
        return self._catalogue.view(_key(guild_id))

    def name_of(self, guild_id: str) -> str:
        """ "" for an id that is not known here."""
        try:
            return self._catalogue.charter(_key(guild_id)).name
        except UnknownGuild:
            return ""

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

    # --- helpers

    def _alive(self, guild: str) -> Guild:
        found = self._catalogue.resolve(guild)
        if found not in self._registry.guilds:
            raise NotPermitted(f"You are not in {self._catalogue.charter(found).name}; join it first.")
        return self._registry.alive(found)

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
