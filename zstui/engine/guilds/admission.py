"""The creator's side: founding a guild, and every change of its membership."""

from __future__ import annotations

import os

from zstui.engine.errors import BadInput, GuildError, NotPermitted, ProtocolError, UnknownGuild
from zstui.engine.guilds.epochs import box_key_of, fingerprint_of, grants_hash, new_box_secret, seal_grants
from zstui.engine.guilds.invites import Invite, read_invite
from zstui.engine.guilds.messages import EntryKind, GuildCharter, GuildEntry, GuildJoin, GuildLeave
from zstui.engine.guilds.model import Charter, Member, Membership, SignedEntry, check_terms, read_charter, read_entry
from zstui.engine.guilds.registry import MAX_CREATED, MAX_JOINED, Guild, Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId, public_key_of

REKEY_US = 3600 * 1_000_000
"""The creator changes the key when it has been in use this long."""


class Admission:
    def __init__(self, registry: Registry, replicator: Replicator) -> None:
        self._registry = registry
        self._replicator = replicator

    async def create(self, name: str, ttl_s: int, max_members: int, private: bool) -> Guild:
        """Found a guild. Raises BadInput for its terms, GuildError over my limits."""
        registry = self._registry
        name = check_terms(name, ttl_s, max_members)
        living = registry.living()
        if len(living) >= MAX_JOINED:
            raise GuildError(f"You are in {MAX_JOINED} guilds, which is the limit; leave one first.")
        if sum(g.charter.creator == registry.me for g in living) >= MAX_CREATED:
            raise GuildError(f"{MAX_CREATED} guilds of yours are open, which is the limit; dissolve one first.")
        now_us = registry.clock.now_us()
        key = registry.identity.public_key
        terms = GuildCharter(key, name, ttl_s, max_members, private, now_us, os.urandom(16))
        charter = read_charter(seal(registry.identity, terms))
        secret = new_box_secret()
        genesis, grants = self._next(Membership(charter), "join", key, "creator", box_key_of(secret))
        return await registry.enter(charter, "creator", secret, [genesis], grants)

    def my_guild(self, guild_id: bytes, verb: str) -> Guild:
        """A living guild that I created. Raises UnknownGuild, GuildExpired, NotPermitted."""
        guild = self._registry.alive(guild_id)
        if guild.charter.creator != self._registry.me:
            creator = self._registry.name_of(guild.charter.creator)
            raise NotPermitted(f"Only the creator of {guild.charter.name}, {creator}, can {verb}.")
        return guild

    async def admit(self, peer: PeerId, request_raw: bytes, invite_raw: bytes) -> Guild:
        """Take ``peer`` in. The same request again, after a lost answer, is good. Raises GuildError, ProtocolError."""
        registry = self._registry
        request = open_envelope(request_raw, peer).decode(GuildJoin)
        guild = registry.guilds.get(request.guild)
        if guild is None or guild.charter.creator != registry.me:
            raise UnknownGuild("No such guild.")
        async with guild.lock:
            registry.alive(request.guild)
            membership = guild.membership
            member = membership.members.get(peer)
            if member is not None and member.box_key == request.box_key:
                return guild
            invite = self._invite(guild, invite_raw) if invite_raw else None
            if guild.charter.private and invite is None and member is None:
                raise NotPermitted(f"{guild.charter.name} is private: it takes an invite to join.")
            removed_us = membership.kicked.get(peer)
            if removed_us is not None and (invite is None or invite.issued_us <= removed_us):
                raise NotPermitted(f"You were removed from {guild.charter.name}; only a new invite lets you back in.")
            membership.check_join(peer, request.role, request.box_key)
            note = f" with the invite {invite.code}" if invite is not None else ""
            await self._append(guild, "join", peer, request.role, request.box_key, note)
        return guild

    async def part(self, peer: PeerId, request_raw: bytes) -> None:
        """A member left. A request for a membership that is over already changes nothing. Raises ProtocolError."""
        request = open_envelope(request_raw, peer).decode(GuildLeave)
        guild = self._registry.guilds.get(request.guild)
        if guild is None or guild.charter.creator != self._registry.me or peer == self._registry.me:
            return
        async with guild.lock:
            member = guild.membership.members.get(peer)
            if guild.alive(self._registry.clock.now_us()) and member is not None and member.box_key == request.box_key:
                await self._append(guild, "leave", peer)

    async def kick(self, guild: Guild, peer: PeerId) -> None:
        """Remove a member of my guild. Raises NotPermitted, BadInput."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            if peer == guild.charter.creator:
                raise NotPermitted(f"The creator cannot be removed; dissolve {guild.charter.name} instead.")
            if peer not in guild.membership.members:
                raise BadInput(f"{self._registry.name_of(peer)} is not a member of {guild.charter.name}.")
            await self._append(guild, "kick", peer)

    async def dissolve(self, guild: Guild) -> None:
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            await self._append(guild, "dissolve")

    async def rekey_if_due(self, guild: Guild) -> None:
        """Change the key of my guild if it has been in use for long."""
        now_us = self._registry.clock.now_us()
        if now_us - guild.membership.epoch_at_us < REKEY_US or len(guild.membership.members) < 2:
            return
        async with guild.lock:
            if guild.alive(now_us):
                await self._append(guild, "rekey")

    def _invite(self, guild: Guild, raw: bytes) -> Invite:
        try:
            invite = read_invite(raw, self._registry.me)
        except ProtocolError as error:
            raise NotPermitted("This invite is not one of the guild's creator.") from error
        if invite.charter.guild_id != guild.guild_id:
            raise NotPermitted("This invite is for another guild.")
        if invite.expires_us <= self._registry.clock.now_us():
            raise NotPermitted("This invite has expired; ask for a new one.")
        return invite

    async def _append(
        self,
        guild: Guild,
        kind: EntryKind,
        peer: PeerId = "",
        role: str = "",
        box_key: bytes = b"",
        note: str = "",
    ) -> None:
        """Sign the next entry, commit it, and bring it to everybody else. Holds the lock already."""
        before = guild.membership
        signed, grants = self._next(before, kind, public_key_of(peer) if peer else b"", role, box_key)
        after = before.copy()
        after.apply(signed)
        told = set(before.members) - {self._registry.me}
        if kind == "leave":
            told.discard(peer)
        await self._registry.commit(guild, after, [signed], grants, note)
        self._replicator.push_log(guild, told - ({peer} if kind == "join" else set()), before.version)

    def _next(
        self, before: Membership, kind: EntryKind, key: bytes, role: str, box_key: bytes
    ) -> tuple[SignedEntry, bytes]:
        """The entry that follows, with a fresh group key sealed to those who are members after it."""
        charter: Charter = before.charter
        members = [m for m in before.members.values() if m.key != key]
        if kind == "join":
            members.append(Member(key, "member", box_key, before.version + 1))
        epoch, fingerprint, grants, hashed = before.epoch, before.fingerprint, b"", before.grants
        if kind != "dissolve":
            group_key = os.urandom(32)
            epoch += 1
            fingerprint = fingerprint_of(charter.guild_id, epoch, group_key)
            grants = seal_grants(group_key, members)
            hashed = grants_hash(grants)
        now_us = self._registry.clock.now_us()
        entry = GuildEntry(
            charter.guild_id,
            before.version + 1,
            before.head,
            kind,
            key,
            role,
            box_key,
            epoch,
            fingerprint,
            hashed,
            now_us,
        )
        return read_entry(charter, seal(self._registry.identity, entry)), grants
