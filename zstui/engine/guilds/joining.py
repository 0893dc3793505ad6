"""The joiner's side: asking to be let in, waiting for an answer, and telling that I left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import (
    BadInput,
    GuildError,
    GuildExpired,
    GuildFull,
    NetError,
    NotPermitted,
    ProtocolError,
    Refused,
    UnknownGuild,
    Unreachable,
)
from zstui.engine.events import GuildChanged, Notice
from zstui.engine.guilds import store
from zstui.engine.guilds.entries import SignedEntry, read_entry
from zstui.engine.guilds.epochs import box_key_of, new_box_secret
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.invites import Invite
from zstui.engine.guilds.log import MAX_LOG
from zstui.engine.guilds.messages import (
    Check,
    Done,
    GuildJoin,
    Invited,
    Join,
    JoinRole,
    Leave,
    No,
    State,
    Wait,
    decode_reply,
    encode,
)
from zstui.engine.guilds.model import CLOCK_SLACK_US, JOIN_ROLES, Charter, full_text, read_charter
from zstui.engine.guilds.registry import MAX_JOINED, Registry
from zstui.engine.guilds.replicator import ANSWER_S, Replicator
from zstui.engine.guilds.store import Knocking
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import GUILD_PROTOCOL, Network
from zstui.engine.views import Role

DIAL_S = 8.0
WAIT_US = 2 * 3600 * US
"""A knock that nobody answers is given up after this long."""
MAX_KNOCKING = 32


class Target(msgspec.Struct, frozen=True):
    """A guild to join, as known beforehand."""

    guild_id: bytes
    name: str
    creator: PeerId
    authorities: tuple[PeerId, ...]
    """Who may let me in, the creator or the invite's issuer first."""
    charter: Charter | None = None
    invite: Invite | None = None
    expires_us: int | None = None
    """None: not known."""


class Joiner:
    def __init__(
        self,
        registry: Registry,
        network: Network,
        replicator: Replicator,
        connect: Callable[[str], Awaitable[PeerId]],
    ) -> None:
        self._registry = registry
        self._network = network
        self._replicator = replicator
        self._connect = connect
        self.under_way: dict[bytes, asyncio.Event] = {}
        """Guilds being joined; each event is set when that is over."""
        self.knocking: dict[bytes, tuple[Charter, Knocking]] = {}
        """Guilds where I wait for an answer."""

    async def load(self) -> None:
        for row in await self._registry.db.read(store.knocking):
            self.knocking[row.guild_id] = (read_charter(row.charter), row)

    async def join(self, target: Target, role: Role) -> Guild | None:
        """Become a member, or one with another role; None: I knocked, and wait.

        Raises GuildError, Unreachable, ProtocolError.
        """
        wanted = self._check(target, role)
        if target.guild_id in self.under_way:
            raise GuildError(f"You are joining {target.name} already.")
        done = self.under_way[target.guild_id] = asyncio.Event()
        try:
            return await self._join(target, wanted)
        finally:
            del self.under_way[target.guild_id]
            done.set()

    async def _join(self, target: Target, role: JoinRole) -> Guild | None:
        registry = self._registry
        secret = self._box_secret(target.guild_id, role)
        request = seal(registry.identity, GuildJoin(target.guild_id, role, box_key_of(secret)))
        waiting: Charter | None = None
        refusal: GuildError | None = None
        for authority in self._in_reach_first(target.authorities):
            try:
                await self._reach(authority, target)
                answer = await self._ask(authority, target, request)
            except UnknownGuild as error:
                refusal = refusal or error
                continue
            except (NetError, Refused, TimeoutError):
                continue
            if answer is None:
                waiting = target.charter
                continue
            charter, entries, grants = answer
            note = f" with the invite {target.invite.code}" if target.invite is not None else ""
            known = registry.guilds.get(target.guild_id)
            async with known.lock if known is not None else nullcontext():
                entered = await registry.enter(charter, role, secret, entries, grants, note)
            self.knocking.pop(target.guild_id, None)
            return entered
        if waiting is not None:
            await self._wait(Knocking(target.guild_id, waiting.raw, role, secret, registry.clock.now_us()), waiting)
            return None
        if refusal is not None:
            raise refusal
        creator = registry.name_of(target.creator)
        others = ", and no officer can either" if len(target.authorities) > 1 else ""
        raise Unreachable(
            f"{creator}, the creator of {target.name}, cannot be reached{others}; nobody can join while it is away."
        )

    async def check(self, target: Target) -> Invited:
        """Ask who may let me in how the invite of ``target`` stands. Raises GuildError, Unreachable, ProtocolError."""
        assert target.invite is not None
        refusal: UnknownGuild | None = None
        for authority in self._in_reach_first(target.authorities):
            try:
                await self._reach(authority, target)
                reply = await self._replicator.ask(authority, Check(target.guild_id, target.invite.secret))
            except (NetError, Refused):
                continue
            if isinstance(reply, Invited):
                return reply
            if not isinstance(reply, No):
                raise ProtocolError("Not an answer about an invite.")
            refused = self._refusal(authority, target, reply)
            if not isinstance(refused, UnknownGuild):
                raise refused
            refusal = refusal or refused
        raise refusal or Unreachable(f"Nobody who could let you into {target.name} can be reached now.")

    # --- knocking

    async def ask_again(self, guild_id: bytes, authorities: tuple[PeerId, ...]) -> Guild | None:
        """See whether a knock has been answered. A refusal ends it, and is told."""
        charter, row = self.knocking[guild_id]
        target = Target(guild_id, charter.name, charter.creator, authorities, charter)
        if self._registry.clock.now_us() - row.at_us > WAIT_US:
            await self.give_up(guild_id, f"Nobody answered your knock at {charter.name}.")
            return None
        try:
            return await self.join(target, row.role)  # type: ignore[arg-type]  # one of JOIN_ROLES
        except (Unreachable, UnknownGuild):
            return None
        except (GuildError, ProtocolError) as error:
            if guild_id not in self.under_way:
                await self.give_up(guild_id, str(error))
            return None

    async def give_up(self, guild_id: bytes, why: str = "") -> None:
        """Wait no longer."""
        if self.knocking.pop(guild_id, None) is None:
            return
        await self._registry.db.write(lambda tx: store.drop_knocking(tx, guild_id))
        if why:
            self._registry.bus.publish(Notice("warning", "guilds", why, guild_id.hex()))
        self._registry.bus.publish(GuildChanged(guild_id.hex()))

    def _box_secret(self, guild_id: bytes, role: JoinRole) -> bytes:
        """The same for the same knock, so that asking again is the same request."""
        waiting = self.knocking.get(guild_id)
        if waiting is not None and waiting[1].role == role:
            return waiting[1].box_secret
        return new_box_secret()

    async def _wait(self, row: Knocking, charter: Charter) -> None:
        known = self.knocking.get(row.guild_id)
        if known is not None and known[1].role == row.role:
            return
        if known is None and len(self.knocking) >= MAX_KNOCKING:
            raise GuildError(f"You wait at {MAX_KNOCKING} guilds already; leave one first.")
        await self._registry.db.write(lambda tx: store.put_knocking(tx, row))
        self.knocking[row.guild_id] = (charter, row)
        self._registry.bus.publish(GuildChanged(row.guild_id.hex()))

    # --- leaving

    async def deliver_leave(self, guild: Guild) -> None:
        """Bring a pending leave to the creator or an officer; it stays pending if that fails."""
        request = guild.pending_leave
        authorities = [p for p in guild.membership.authorities if p in self._network.connected()]
        if request is None or not authorities:
            return
        try:
            reply = await self._replicator.ask(authorities[0], Leave(request))
        except (NetError, Refused, ProtocolError):
            return
        if isinstance(reply, Done) and guild.pending_leave == request:
            guild.pending_leave = None
            await self._registry.db.write(lambda tx: store.leave_delivered(tx, guild.guild_id))

    # --- asking

    def _check(self, target: Target, role: Role) -> JoinRole:
        now_us, name = self._registry.clock.now_us(), target.name
        if role == "creator" or role not in JOIN_ROLES:
            raise NotPermitted(f"A guild has one creator; join as {', '.join(JOIN_ROLES)}.")
        if target.creator == self._registry.me:
            raise NotPermitted(f"You created {name}.")
        if target.invite is not None and target.invite.expires_us <= now_us:
            raise NotPermitted(f"This invite to {name} has expired; ask its creator for a new one.")
        known = self._registry.guilds.get(target.guild_id)
        if known is not None and known.state == "dissolved":
            raise GuildExpired(f"{name} was dissolved by its creator.")
        if target.expires_us is not None and target.expires_us <= now_us:
            raise GuildExpired(f"{name} has expired.")
        if target.charter is not None and target.charter.created_us > now_us + CLOCK_SLACK_US:
            raise GuildError(f"{name} was created in the future: compare the clocks of both machines.")
        others = sum(g.guild_id != target.guild_id for g in self._registry.living())
        if others + len(self.under_way) >= MAX_JOINED:
            raise GuildError(f"You are in {MAX_JOINED} guilds, which is the limit; leave one first.")
        return role

    def _in_reach_first(self, authorities: tuple[PeerId, ...]) -> list[PeerId]:
        connected = self._network.connected()
        return sorted(dict.fromkeys(authorities), key=lambda peer: peer not in connected)

    async def _reach(self, peer: PeerId, target: Target) -> None:
        """Try the addresses of an invite until one leads to its issuer. The network itself knows of all others."""
        invite = target.invite
        if invite is None or peer != invite.issuer:
            return
        for address in invite.addresses:
            if peer in self._network.connected():
                return
            try:
                async with asyncio.timeout(DIAL_S):
                    await self._connect(f"{address}/p2p/{peer}")
            except (NetError, Refused, BadInput, TimeoutError):
                continue

    async def _ask(
        self, peer: PeerId, target: Target, request: bytes
    ) -> tuple[Charter, list[SignedEntry], bytes] | None:
        """Charter, the whole log with me in it, and the sealed keys; None: I have to wait."""
        charter = target.charter
        entries: list[SignedEntry] = []
        secret = target.invite.secret if target.invite is not None else b""
        async with asyncio.timeout(3 * ANSWER_S):
            stream = await self._network.open(peer, GUILD_PROTOCOL, ANSWER_S)
            try:
                await stream.send(encode(Join(request, secret)))
                await stream.close()
                while len(entries) <= MAX_LOG:
                    reply = decode_reply(await stream.receive(ANSWER_S))
                    if isinstance(reply, No):
                        raise self._refusal(peer, target, reply)
                    if isinstance(reply, Wait) and charter is not None and not entries:
                        return None
                    if not isinstance(reply, State):
                        raise ProtocolError("Not an answer to a join.")
                    charter = charter or _charter_of(target, reply.charter)
                    entries += [read_entry(charter, raw) for raw in reply.entries]
                    await asyncio.sleep(0)
                    if not reply.more:
                        return charter, entries, reply.grants
            finally:
                stream.reset()
        raise ProtocolError("A guild log without end.")

    def _refusal(self, peer: PeerId, target: Target, reply: No) -> GuildError:
        told = clean_text(reply.text, 200) or "no reason given."
        match reply.code:
            case "guild_full":
                return GuildFull(told if target.charter is None else full_text(target.charter))
            case "guild_expired":
                return GuildExpired(f"{target.name} is over.")
            case "unknown_guild":
                return UnknownGuild(f"The creator of {target.name} does not know it any more.")
        kind = NotPermitted if reply.code == "not_permitted" else GuildError
        who = f"The creator of {target.name}"
        if peer != target.creator:
            who = f"{self._registry.name_of(peer)}, an officer of {target.name},"
        return kind(f"{who} refused: {told}")


def _charter_of(target: Target, raw: bytes) -> Charter:
    """The charter that comes with the answer to an invite. Raises ProtocolError if it is not the one invited to."""
    charter = read_charter(raw)
    if (charter.guild_id, charter.creator) != (target.guild_id, target.creator):
        raise ProtocolError("A charter of another guild than that of the invite.")
    if charter.name != target.name:
        raise ProtocolError(f"The invite calls the guild {target.name}, but its charter {charter.name}.")
    return charter
