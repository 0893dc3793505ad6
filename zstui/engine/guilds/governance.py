"""What a creator or officer does to a guild of its own accord: removals, officers, invites, its time, its key."""

from __future__ import annotations

from collections.abc import Iterable

from zstui.engine.clock import US
from zstui.engine.errors import BadInput, GuildError, NotPermitted
from zstui.engine.guilds import invites, store
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.invites import Invite
from zstui.engine.guilds.log import MAX_INVITES, MAX_OFFICERS
from zstui.engine.guilds.membership import can_kick
from zstui.engine.guilds.model import MAX_LIFE_US, MAX_TTL_S
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.roles import MAY, Action
from zstui.engine.guilds.writer import Writer
from zstui.engine.identity.keys import PeerId

REKEY_US = 3600 * US
"""The key is changed when it has been in use this long."""
STEP_IN_US = 10 * US
"""An authority that is not the acting one makes the key of a log unsettled for this long."""
MAX_USES = 50
MIN_INVITE_S = 60


class Governance:
    def __init__(self, registry: Registry, writer: Writer) -> None:
        self._registry = registry
        self._writer = writer

    def guild(self, guild_id: bytes, action: Action, verb: str) -> Guild:
        """A living guild where I may do that. Raises UnknownGuild, GuildExpired, NotPermitted."""
        guild = self._registry.alive(guild_id)
        if not guild.membership.may(self._registry.me, action):
            creator = self._registry.name_of(guild.charter.creator)
            who = f"the creator of {guild.charter.name}, {creator},"
            who += " and its officers" if "officer" in MAY[action] else ""
            raise NotPermitted(f"Only {who} can {verb}.")
        return guild

    async def kick(self, guild: Guild, peer: PeerId) -> None:
        """Remove a member. Raises NotPermitted, BadInput."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            membership, name = guild.membership, guild.charter.name
            if peer == guild.charter.creator:
                raise NotPermitted(f"The creator cannot be removed; only the creator can dissolve {name}.")
            if peer == self._registry.me:
                raise BadInput(f"To get out of {name} yourself, leave it.")
            self._check_member(guild, peer)
            if not can_kick(membership, self._registry.me, peer):
                raise NotPermitted(f"{self._registry.name_of(peer)} is an officer; only the creator can remove it.")
            await self._writer.append(guild, "kick", peer)

    async def appoint(self, guild: Guild, peer: PeerId) -> None:
        """Name an officer of my guild. Raises BadInput, GuildError."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            self._check_member(guild, peer)
            membership, who = guild.membership, self._registry.name_of(peer)
            if peer in membership.officers:
                return
            if peer == guild.charter.creator:
                raise BadInput("You are the creator, who may do all that officers may.")
            if membership.role(peer) == "observer":
                raise BadInput(f"{who} is an observer; only members and executors can be officers.")
            if len(membership.officers) >= MAX_OFFICERS:
                raise GuildError(f"{guild.charter.name} has {MAX_OFFICERS} officers, which is the limit.")
            await self._writer.append(guild, "officer", peer)

    async def demote(self, guild: Guild, peer: PeerId) -> None:
        """Take an officer's office back; it stays a member. Raises BadInput."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            if peer not in guild.membership.officers:
                raise BadInput(f"{self._registry.name_of(peer)} is no officer of {guild.charter.name}.")
            await self._writer.append(guild, "demote", peer)

    async def extend(self, guild: Guild, by_s: int) -> None:
        """Let my guild live longer. Raises BadInput."""
        if not 60 <= by_s <= MAX_TTL_S:
            raise BadInput("A guild is extended by 1 minute to 24 hours at a time.")
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            until_us = guild.membership.expires_us + by_s * US
            if until_us > guild.charter.created_us + MAX_LIFE_US:
                raise BadInput("A guild lives for 30 days at most; create a new one.")
            await self._writer.append(guild, "extend", until_us=until_us)

    async def dissolve(self, guild: Guild) -> None:
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            await self._writer.append(guild, "dissolve")

    async def invite(self, guild: Guild, uses: int, ttl_s: int, addresses: Iterable[str]) -> Invite:
        """An invite that all members know of, so that any authority can honour it. Raises BadInput, GuildError."""
        if not 1 <= uses <= MAX_USES:
            raise BadInput(f"An invite is good for 1 to {MAX_USES} uses.")
        if not MIN_INVITE_S <= ttl_s <= MAX_TTL_S:
            raise BadInput("An invite is good for 1 minute to 24 hours.")
        registry = self._registry
        async with guild.lock:
            registry.alive(guild.guild_id)
            if sum(1 for token in guild.membership.tokens.values() if token.left) >= MAX_INVITES:
                raise GuildError(f"{guild.charter.name} has {MAX_INVITES} open invites; revoke one first.")
            until_us = min(registry.clock.now_us() + ttl_s * US, guild.membership.expires_us)
            made = invites.make_invite(guild.charter, registry.me, addresses, until_us)
            await self._writer.append(guild, "invite", token=made.token, uses=uses, until_us=made.expires_us)
            text = invites.text_of(made)
            await registry.db.write(lambda tx: store.put_invite(tx, guild.guild_id, made.token, text))
        return made

    async def revoke(self, guild: Guild, wanted: str) -> None:
        """End an invite by its id, a prefix of it, or its string. Raises BadInput."""
        async with guild.lock:
            self._registry.alive(guild.guild_id)
            token = self._token(guild, wanted)
            if not guild.membership.tokens[token].revoked:
                await self._writer.append(guild, "revoke", token=token)

    async def tend(self, guild: Guild) -> None:
        """Make the key that two halves miss after they met, and change the key when it has been in use for long.

        That is for the creator, or the officer who acts in its place; another authority steps in where it does not.
        """
        registry = self._registry
        membership, mono_us = guild.membership, registry.clock.monotonic_us()
        if not membership.may(registry.me, "rekey"):
            return
        acting = guild.acting(registry.me, mono_us) == registry.me
        since_us = guild.unsettled_since_us
        if membership.key is None:
            due = acting or (since_us is not None and mono_us - since_us >= STEP_IN_US)
        else:
            age_us = registry.clock.now_us() - membership.key.entry.at_us
            due = acting and age_us >= REKEY_US and len(membership.members) > 1
        if due:
            async with guild.lock:
                if guild.alive(registry.clock.now_us()) and guild.membership is membership:
                    await self._writer.append(guild, "rekey")

    def _token(self, guild: Guild, wanted: str) -> bytes:
        if invites.looks_like_invite(wanted):
            tokens = [invites.parse_invite(wanted).token]
        else:
            wanted = wanted.strip().lower()
            tokens = [t for t in guild.membership.tokens if len(wanted) >= 4 and t.hex().startswith(wanted)]
        found = [token for token in tokens if token in guild.membership.tokens]
        if len(found) != 1:
            what = (
                "Several invites match; give more digits." if found else "No such invite; list them to see their ids."
            )
            raise BadInput(what)
        return found[0]

    def _check_member(self, guild: Guild, peer: PeerId) -> None:
        if peer not in guild.membership.members:
            raise BadInput(f"{self._registry.name_of(peer)} is not a member of {guild.charter.name}.")
