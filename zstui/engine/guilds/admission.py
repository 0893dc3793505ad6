"""Founding guilds, and letting peers in and out: what a creator or officer answers to those who ask."""

from __future__ import annotations

import os
from collections.abc import Callable

from zstui.engine.errors import BadInput, GuildError, NotPermitted, UnknownGuild
from zstui.engine.guilds import store
from zstui.engine.guilds.epochs import new_box_secret
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.invites import token_of
from zstui.engine.guilds.membership import Token
from zstui.engine.guilds.messages import Admission as AdmissionRule
from zstui.engine.guilds.messages import GuildCharter, GuildJoin, GuildLeave, Invited, Needs
from zstui.engine.guilds.model import check_terms, lacking, read_charter
from zstui.engine.guilds.registry import MAX_CREATED, MAX_JOINED, Registry
from zstui.engine.guilds.store import Knock
from zstui.engine.guilds.writer import Writer
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId

MAX_KNOCKS = 64
"""Waiting at one guild."""
KNOCK_US = 3600 * 1_000_000
"""A knock is forgotten after this long, and a refusal too."""


class Admission:
    def __init__(self, registry: Registry, writer: Writer, card_of: Callable[[PeerId], Card | None]) -> None:
        self._registry = registry
        self._writer = writer
        self._card_of = card_of
        self._refused: dict[tuple[bytes, PeerId], int] = {}
        """When each of them was refused, oldest first."""

    async def create(self, name: str, ttl_s: int, max_members: int, admission: AdmissionRule, needs: Needs) -> Guild:
        """Found a guild. Raises BadInput for its terms, GuildError over my limits."""
        registry = self._registry
        name = check_terms(name, ttl_s, max_members)
        living = registry.living()
        if len(living) >= MAX_JOINED:
            raise GuildError(f"You are in {MAX_JOINED} guilds, which is the limit; leave one first.")
        if sum(g.charter.creator == registry.me for g in living) >= MAX_CREATED:
            raise GuildError(f"{MAX_CREATED} guilds of yours are open, which is the limit; dissolve one first.")
        key, now_us = registry.identity.public_key, registry.clock.now_us()
        terms = GuildCharter(key, name, ttl_s, max_members, admission, needs, now_us, os.urandom(16))
        charter = read_charter(seal(registry.identity, terms))
        secret = new_box_secret()
        first, grants = self._writer.genesis(charter, secret)
        return await registry.enter(charter, "creator", secret, [first], grants)

    async def admit(self, peer: PeerId, request_raw: bytes, secret: bytes) -> Guild | None:
        """Take ``peer`` in, or note its knock and return None. The same request again, after a lost answer, is good.

        Raises GuildError, ProtocolError.
        """
        registry = self._registry
        request = open_envelope(request_raw, peer).decode(GuildJoin)
        guild = self._mine(request.guild)
        if guild is None:
            raise UnknownGuild("No such guild.")
        async with guild.lock:
            registry.alive(request.guild)
            membership = guild.membership
            member = membership.members.get(peer)
            if member is not None and member.box_key == request.box_key:
                return guild
            if guild.log.box_key_used(request.box_key):
                raise NotPermitted("This request to join was used before.")
            token = self._token(guild, secret) if secret else None
            self._check_welcome(guild, peer, token)
            membership.check_join(peer, request.role)
            if request.role == "executor":
                self._check_needs(guild, peer)
            if guild.charter.admission == "knock" and token is None and member is None:
                await self._note_knock(guild, Knock(peer, request_raw, registry.clock.now_us()))
                return None
            await self._join(guild, peer, request, token_of(secret) if secret else b"")
        return guild

    def invited(self, guild_id: bytes, secret: bytes) -> Invited:
        """How the invite with this secret stands. Raises UnknownGuild, GuildExpired, NotPermitted."""
        guild = self._mine(guild_id)
        if guild is None:
            raise UnknownGuild("No such guild.")
        self._registry.alive(guild_id)
        token = self._token(guild, secret)
        return Invited(token.left, token.uses, len(guild.membership.members), guild.charter.max_members)

    async def part(self, peer: PeerId, request_raw: bytes) -> None:
        """A member left. A request for a membership that is over already changes nothing. Raises ProtocolError."""
        request = open_envelope(request_raw, peer).decode(GuildLeave)
        guild = self._mine(request.guild)
        if guild is None or peer in (self._registry.me, guild.charter.creator):
            return
        async with guild.lock:
            member = guild.membership.members.get(peer)
            if guild.alive(self._registry.clock.now_us()) and member is not None and member.box_key == request.box_key:
                await self._writer.append(guild, "leave", peer, proof=request_raw)

    async def accept(self, guild: Guild, peer: PeerId) -> None:
        """Let in somebody who knocked. Raises BadInput, GuildError."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            knock = self._knock(guild, peer)
            request = open_envelope(knock.request, peer).decode(GuildJoin)
            guild.membership.check_join(peer, request.role)
            await self._join(guild, peer, request, b"")

    async def refuse(self, guild: Guild, peer: PeerId) -> None:
        """Send away somebody who knocked; it may knock again in an hour. Raises BadInput."""
        async with guild.lock:
            self._knock(guild, peer)
            self._refused[guild.guild_id, peer] = self._registry.clock.now_us()
            while len(self._refused) > 1024:
                del self._refused[next(iter(self._refused))]
            await self._drop_knocks(guild, [peer])

    async def sweep(self) -> None:
        """Forget knocks that nobody answered."""
        now_us = self._registry.clock.now_us()
        for guild in self._registry.living():
            old = [k.peer for k in guild.knocks.values() if now_us - k.at_us > KNOCK_US]
            if old:
                async with guild.lock:
                    await self._drop_knocks(guild, old)

    def _mine(self, guild_id: bytes) -> Guild | None:
        """A guild where I decide who is in."""
        guild = self._registry.guilds.get(guild_id)
        return guild if guild is not None and guild.membership.may(self._registry.me, "admit") else None

    async def _join(self, guild: Guild, peer: PeerId, request: GuildJoin, token: bytes) -> None:
        await self._writer.append(guild, "join", peer, role=request.role, box_key=request.box_key, token=token)

    def _token(self, guild: Guild, secret: bytes) -> Token:
        token = guild.membership.tokens.get(token_of(secret))
        if token is None:
            raise NotPermitted(f"This invite is not one of {guild.charter.name}.")
        if token.revoked:
            raise NotPermitted("This invite was revoked; ask for a new one.")
        if token.until_us <= self._registry.clock.now_us():
            raise NotPermitted("This invite has expired; ask for a new one.")
        if not token.left:
            raise NotPermitted("This invite has been used up; ask for a new one.")
        return token

    def _check_welcome(self, guild: Guild, peer: PeerId, token: Token | None) -> None:
        name = guild.charter.name
        if guild.charter.admission == "invite" and token is None and peer not in guild.membership.members:
            raise NotPermitted(f"{name} is private: it takes an invite to join.")
        removed_us = guild.membership.kicked.get(peer)
        if removed_us is not None and (token is None or token.issued_us <= removed_us):
            raise NotPermitted(f"You were removed from {name}; only a new invite lets you back in.")
        refused_us = self._refused.get((guild.guild_id, peer))
        if token is None and refused_us is not None and self._registry.clock.now_us() - refused_us < KNOCK_US:
            raise NotPermitted(f"{name} did not let you in; ask again in an hour, or for an invite.")

    def _check_needs(self, guild: Guild, peer: PeerId) -> None:
        if guild.charter.needs == Needs():
            return
        card = self._card_of(peer)
        if card is None:
            raise GuildError("Your capability card has not arrived here yet; try again in a moment.")
        lack = lacking(guild.charter.needs, card)
        if lack:
            raise NotPermitted(f"In {guild.charter.name} {lack}; join as member, or change your settings.")

    async def _note_knock(self, guild: Guild, knock: Knock) -> None:
        if knock.peer not in guild.knocks and len(guild.knocks) >= MAX_KNOCKS:
            raise GuildError(f"Too many wait to be let into {guild.charter.name}; try again later.")
        known = guild.knocks.get(knock.peer)
        if known is not None and known.request == knock.request:
            return
        await self._registry.add_knock(guild, knock)

    def _knock(self, guild: Guild, peer: PeerId) -> Knock:
        knock = guild.knocks.get(peer)
        if knock is None:
            raise BadInput(f"{self._registry.name_of(peer)} does not wait to be let into {guild.charter.name}.")
        return knock

    async def _drop_knocks(self, guild: Guild, peers: list[PeerId]) -> None:
        for peer in peers:
            guild.knocks.pop(peer, None)
        await self._registry.db.write(lambda tx: store.drop_knocks(tx, guild.guild_id, peers))
        self._registry.changed(guild)
