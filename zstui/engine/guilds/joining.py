"""The joiner's side: asking a creator to be let in, and telling it that I left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext

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
from zstui.engine.guilds import store
from zstui.engine.guilds.epochs import box_key_of, new_box_secret
from zstui.engine.guilds.invites import Invite
from zstui.engine.guilds.messages import Done, GuildJoin, Join, JoinRole, Leave, No, State, decode_reply, encode
from zstui.engine.guilds.model import CLOCK_SLACK_US, JOIN_ROLES, MAX_LOG, Charter, SignedEntry, full_text, read_entry
from zstui.engine.guilds.registry import MAX_JOINED, Guild, Registry
from zstui.engine.guilds.replicator import ANSWER_S, Replicator
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import GUILD_PROTOCOL, Network
from zstui.engine.views import Role

DIAL_S = 8.0


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

    async def join(self, charter: Charter, role: Role, invite: Invite | None) -> Guild:
        """Become a member, or one with another role. Raises GuildError, Unreachable, ProtocolError."""
        registry = self._registry
        wanted = self._check(charter, role)
        if invite is not None and invite.expires_us <= registry.clock.now_us():
            raise NotPermitted(f"This invite to {charter.name} has expired; ask its creator for a new one.")
        if charter.guild_id in self.under_way:
            raise GuildError(f"You are joining {charter.name} already.")
        done = self.under_way[charter.guild_id] = asyncio.Event()
        try:
            await self._reach(charter.creator, invite.addresses if invite is not None else ())
            secret = new_box_secret()
            request = seal(registry.identity, GuildJoin(charter.guild_id, wanted, box_key_of(secret)))
            entries, grants = await self._ask(charter, Join(request, invite.raw if invite is not None else b""))
            note = f" with the invite {invite.code}" if invite is not None else ""
            known = registry.guilds.get(charter.guild_id)
            async with known.lock if known is not None else nullcontext():
                return await registry.enter(charter, role, secret, entries, grants, note)
        finally:
            del self.under_way[charter.guild_id]
            done.set()

    async def deliver_leave(self, guild: Guild) -> None:
        """Bring a pending leave to the creator; it stays pending if that fails."""
        request = guild.pending_leave
        if request is None:
            return
        try:
            reply = await self._replicator.ask(guild.charter.creator, Leave(request))
        except (NetError, Refused, ProtocolError):
            return
        if isinstance(reply, Done) and guild.pending_leave == request:
            guild.pending_leave = None
            await self._registry.db.write(lambda tx: store.leave_delivered(tx, guild.guild_id))

    def _check(self, charter: Charter, role: Role) -> JoinRole:
        now_us = self._registry.clock.now_us()
        if role == "creator" or role not in JOIN_ROLES:
            raise NotPermitted(f"A guild has one creator; join as {', '.join(JOIN_ROLES)}.")
        if charter.creator == self._registry.me:
            raise NotPermitted(f"You created {charter.name}.")
        known = self._registry.guilds.get(charter.guild_id)
        if known is not None and known.state == "dissolved":
            raise GuildExpired(f"{charter.name} was dissolved by its creator.")
        if charter.expires_us <= now_us:
            raise GuildExpired(f"{charter.name} has expired.")
        if charter.created_us > now_us + CLOCK_SLACK_US:
            raise GuildError(f"{charter.name} was created in the future: compare the clocks of both machines.")
        others = sum(g.guild_id != charter.guild_id for g in self._registry.living())
        if others + len(self.under_way) >= MAX_JOINED:
            raise GuildError(f"You are in {MAX_JOINED} guilds, which is the limit; leave one first.")
        return role

    async def _reach(self, creator: PeerId, addresses: Iterable[str]) -> None:
        """Try the addresses of an invite until one leads to the creator."""
        for address in addresses:
            if creator in self._network.connected():
                return
            try:
                async with asyncio.timeout(DIAL_S):
                    await self._connect(f"{address}/p2p/{creator}")
            except (NetError, Refused, BadInput, TimeoutError):
                continue

    async def _ask(self, charter: Charter, request: Join) -> tuple[list[SignedEntry], bytes]:
        """The whole log with me in it, and the sealed keys."""
        entries: list[SignedEntry] = []
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                stream = await self._network.open(charter.creator, GUILD_PROTOCOL, ANSWER_S)
                try:
                    await stream.send(encode(request))
                    await stream.close()
                    while len(entries) <= MAX_LOG:
                        reply = decode_reply(await stream.receive(ANSWER_S))
                        if isinstance(reply, No):
                            raise self._refusal(charter, reply)
                        if not isinstance(reply, State):
                            raise ProtocolError("Not an answer to a join.")
                        for raw in reply.entries:
                            entries.append(read_entry(charter, raw))
                        await asyncio.sleep(0)
                        if not reply.more:
                            return entries, reply.grants
                finally:
                    stream.reset()
        except (NetError, Refused, TimeoutError) as error:
            creator = self._registry.name_of(charter.creator)
            raise Unreachable(
                f"{creator}, the creator of {charter.name}, cannot be reached; nobody can join while it is away."
            ) from error
        raise ProtocolError("A guild log without end.")

    def _refusal(self, charter: Charter, reply: No) -> GuildError:
        match reply.code:
            case "guild_full":
                return GuildFull(full_text(charter))
            case "guild_expired":
                return GuildExpired(f"{charter.name} is over.")
            case "unknown_guild":
                return UnknownGuild(f"The creator of {charter.name} does not know it any more.")
        told = clean_text(reply.text, 160) or "no reason given."
        kind = NotPermitted if reply.code == "not_permitted" else GuildError
        return kind(f"The creator of {charter.name} refused: {told}")
