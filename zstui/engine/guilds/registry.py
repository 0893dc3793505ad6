"""The guilds this node is or was in: loaded, changed and ended in one place, so that memory and database never differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

from zstui.engine.bus import Bus
from zstui.engine.clock import Clock
from zstui.engine.errors import GuildExpired, NotPermitted, ProtocolError, UnknownGuild
from zstui.engine.events import GuildChanged, GuildEnded, GuildMessageReceived, Notice
from zstui.engine.guilds import store
from zstui.engine.guilds.entries import SignedEntry, read_entry
from zstui.engine.guilds.epochs import fingerprint_of, grants_hash, open_grant
from zstui.engine.guilds.feed import told
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.log import MemberLog
from zstui.engine.guilds.membership import Membership
from zstui.engine.guilds.model import Charter, read_charter
from zstui.engine.guilds.store import Knock, NewMessage
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import GuildStateName, Role

MAX_JOINED = 64
"""Guilds one node is in at a time."""
MAX_CREATED = 16
"""Of those, how many are its own."""
KEEP_ENDED_US = 86_400 * 1_000_000
"""Ended guilds stay readable this long."""
MAX_ENDED = 64

EndReason = Literal["expired", "dissolved", "left", "kicked"]
_STATE_OF: dict[EndReason, GuildStateName] = {
    "expired": "expired",
    "dissolved": "dissolved",
    "left": "left",
    "kicked": "left",
}
_WHY: dict[EndReason, str] = {
    "expired": "Its time was up.",
    "dissolved": "Its creator dissolved it.",
    "left": "You left.",
    "kicked": "You were removed.",
}


class Registry:
    def __init__(
        self, identity: Identity, db: Database, bus: Bus, clock: Clock, name_of: Callable[[PeerId], str]
    ) -> None:
        self.identity = identity
        self.db = db
        self.bus = bus
        self.clock = clock
        self.name_of = name_of
        self.guilds: dict[bytes, Guild] = {}

    @property
    def me(self) -> PeerId:
        return self.identity.peer_id

    # --- reading

    def get(self, guild_id: bytes) -> Guild:
        """Raises UnknownGuild."""
        guild = self.guilds.get(guild_id)
        if guild is None:
            raise UnknownGuild(f"No guild {guild_id.hex()[:12]} is known here.")
        return guild

    def alive(self, guild_id: bytes) -> Guild:
        """A guild I am in. Raises UnknownGuild, GuildExpired, NotPermitted."""
        guild = self.get(guild_id)
        name = guild.charter.name
        if guild.state == "dissolved":
            raise GuildExpired(f"{name} was dissolved by its creator.")
        if guild.state == "expired" or self.clock.now_us() >= guild.membership.expires_us:
            raise GuildExpired(f"{name} has expired.")
        if guild.state != "joined":
            raise NotPermitted(f"You are not in {name} any more; join it again.")
        return guild

    def living(self) -> list[Guild]:
        now_us = self.clock.now_us()
        return [g for g in self.guilds.values() if g.alive(now_us)]

    # --- changing

    async def load(self) -> None:
        """Bring back what the database holds; what expired meanwhile ends now."""
        for row in await self.db.read(store.load):
            guild = Guild(read_charter(row.charter), cast(Role, row.role), row.entered_us, self.clock.monotonic_us())
            guild.state = cast(GuildStateName, row.state)
            guild.ended_us, guild.ended_why = row.ended_us, row.ended_why
            guild.box_secret = row.box_secret or b""
            guild.grants = row.grants
            guild.counter = row.counter
            guild.pending_leave = row.pending_leave
            history = await self.db.read(partial(store.history, guild_id=guild.guild_id, me=self.me))
            for number, raw in enumerate(history.entries):
                guild.log.add(read_entry(guild.charter, raw))
                if number % 50 == 49:
                    await asyncio.sleep(0)
            self._recall(guild, history)
            self.guilds[guild.guild_id] = guild
        await self.sweep()

    def _recall(self, guild: Guild, history: store.History) -> None:
        guild.unread = history.unread
        guild.knocks = {knock.peer: knock for knock in history.knocks}
        for peer, at_us in history.seen:
            guild.presence.recall(peer, at_us)
        for member, floor in history.floors:
            guild.window.settle(member, floor)
        for member, counter in history.lines:
            guild.window.take(member, counter)
        if guild.state == "joined":
            self._turn(guild, guild.membership, self._key(guild, guild.membership, guild.grants))
            self._warn(guild)

    async def enter(
        self,
        charter: Charter,
        role: Role,
        box_secret: bytes,
        entries: Sequence[SignedEntry],
        grants: bytes,
        note: str = "",
    ) -> Guild:
        """I am a member now, or again, with this log; ``note`` is added to the feed line.

        Raises ProtocolError if log or keys do not say so.
        """
        now_us = self.clock.now_us()
        guild = Guild(charter, role, now_us, self.clock.monotonic_us())
        for number, signed in enumerate(entries):
            guild.log.add(signed)
            if number % 100 == 99:
                await asyncio.sleep(0)
        guild.box_secret, guild.grants = box_secret, grants
        membership = guild.membership
        if membership.role(self.me) != role or membership.dissolved:
            raise ProtocolError("The guild's log does not hold the membership that was asked for.")
        key = self._key(guild, membership, grants)
        if key is None and membership.key is not None:
            raise ProtocolError("Whoever let this node in sent no key for it.")
        self._turn(guild, membership, key)
        verb = "created" if role == "creator" else "joined"
        line = NewMessage(self.me, f"You {verb} {charter.name} as {role}{note}.", now_us)

        def write(tx: Tx) -> int:
            store.enter(tx, charter.guild_id, charter.raw, role, box_secret, now_us)
            store.add_entries(tx, charter.guild_id, enumerate(s.raw for s in guild.log.entries))
            store.set_keys(tx, charter.guild_id, role, grants)
            store.drop_knocking(tx, charter.guild_id)
            return store.add_message(tx, charter.guild_id, line)

        number = await self.db.write(write)
        earlier = self.guilds.setdefault(guild.guild_id, guild)
        if earlier is not guild:
            earlier.begin_again(guild)
        self._warn(earlier)
        self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildChanged(guild.hex))
        return earlier

    async def commit(self, guild: Guild, after: MemberLog, entries: Sequence[SignedEntry], grants: bytes) -> None:
        """Make ``after``, which is the guild's log with ``entries`` added, durable and then current.

        ``grants`` may be empty where they are still to come. Holds the lock already.
        """
        before, membership = guild.membership, after.membership
        if membership.key is None or grants_hash(grants) != membership.key.entry.grants:
            grants = guild.grants
        missing = membership.key is not None and guild.ring.current != membership.key.digest
        key = self._key(guild, membership, grants) if missing else None
        spoken = told(self.me, self.name_of, before, membership, entries)
        lines = [NewMessage(*line, min(at_us, self.clock.now_us())) for line, at_us in spoken]
        role = membership.role(self.me)
        answered = guild.knocks.keys() & membership.members.keys()
        place = len(guild.log)

        def write(tx: Tx) -> list[int]:
            store.add_entries(tx, guild.guild_id, enumerate((s.raw for s in entries), place))
            store.set_keys(tx, guild.guild_id, role or guild.role, grants)
            store.drop_knocks(tx, guild.guild_id, answered)
            return [store.add_message(tx, guild.guild_id, line) for line in lines]

        if entries or key is not None:
            numbers = await self.db.write(write)
            guild.log, guild.grants, guild.role = after, grants, role or guild.role
            self._turn(guild, membership, key)
            for peer in answered:
                del guild.knocks[peer]
            self._warn(guild)
            for number in numbers:
                self.bus.publish(GuildMessageReceived(guild.hex, number))
            self.bus.publish(GuildChanged(guild.hex))
        if guild.state == "joined" and (membership.dissolved or role is None):
            await self._cast_out(guild, membership)

    async def _cast_out(self, guild: Guild, membership: Membership) -> None:
        if membership.dissolved:
            await self.finish(guild, "dissolved")
        elif any(e.entry.kind == "leave" and e.peer == self.me for e in guild.log.entries[-1:]):
            await self.finish(guild, "left")
        else:
            await self.finish(guild, "kicked")

    def _turn(self, guild: Guild, membership: Membership, key: bytes | None) -> None:
        """Seal under ``key``, that of the membership, from now on."""
        if key is not None and membership.key is not None:
            guild.ring.advance(membership.key.digest, membership.epoch, key, self.clock.now_us())
        if membership.key is not None:
            guild.unsettled_since_us = None
        elif guild.unsettled_since_us is None:
            guild.unsettled_since_us = self.clock.monotonic_us()

    async def finish(self, guild: Guild, reason: EndReason, pending_leave: bytes | None = None) -> None:
        """The guild is over for me: keys are dropped, the records stay for a day. Holds the lock already."""
        if guild.state != "joined":
            return
        now_us = self.clock.now_us()
        state = _STATE_OF[reason]
        lines = []
        if reason in ("expired", "left"):
            text = f"{guild.charter.name} has expired." if reason == "expired" else f"You left {guild.charter.name}."
            lines.append(NewMessage(self.me, text, now_us))
        why = _WHY[reason]

        def write(tx: Tx) -> list[int]:
            store.end(tx, guild.guild_id, state, why, now_us, pending_leave)
            return [store.add_message(tx, guild.guild_id, line) for line in lines]

        guild.state, guild.ended_us, guild.ended_why, guild.pending_leave = state, now_us, why, pending_leave
        guild.ring.wipe()
        guild.box_secret = guild.grants = b""
        guild.waiting.clear()
        guild.knocks.clear()
        for number in await self.db.write(write):
            self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildEnded(guild.hex, reason, max(0, now_us - guild.entered_us)))
        self.bus.publish(GuildChanged(guild.hex))

    async def add_lines(self, guild: Guild, lines: Sequence[NewMessage]) -> list[int]:
        """Store chat lines whose counters the window has taken. Returns their numbers."""
        counter = guild.counter
        floors = {m.member: guild.window.floor(m.member) for m in lines if m.member is not None}

        def write(tx: Tx) -> list[int]:
            store.set_counter(tx, guild.guild_id, counter)
            for member, floor in floors.items():
                store.set_floor(tx, guild.guild_id, member, floor)
            return [store.add_message(tx, guild.guild_id, message) for message in lines]

        numbers = await self.db.write(write)
        guild.unread += sum(message.sender != self.me for message in lines)
        for number in numbers:
            self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildChanged(guild.hex))
        return numbers

    async def add_knock(self, guild: Guild, knock: Knock) -> None:
        """Somebody waits to be let in. Holds the lock already."""
        await self.db.write(lambda tx: store.put_knock(tx, guild.guild_id, knock))
        guild.knocks[knock.peer] = knock
        who = self.name_of(knock.peer)
        self.bus.publish(Notice("info", "guilds", f"{who} asks to be let into {guild.charter.name}.", guild.hex))
        self.changed(guild)

    def changed(self, guild: Guild) -> None:
        self.bus.publish(GuildChanged(guild.hex))

    async def save_presence(self) -> None:
        """Keep when members were last heard of, so that a restart does not lose it."""
        seen = [
            (guild.guild_id, peer, at_us)
            for guild in self.guilds.values()
            if guild.state == "joined"
            for peer, at_us in guild.presence.unsaved()
        ]
        if seen:
            await self.db.write(lambda tx: store.set_seen(tx, seen))

    async def sweep(self) -> None:
        """End what has expired, forget what ended long ago."""
        now_us = self.clock.now_us()
        for guild in list(self.guilds.values()):
            guild.ring.prune(now_us)
            if guild.state == "joined" and not guild.alive(now_us):
                async with guild.lock:
                    await self.finish(guild, "expired")
        ended = sorted((g for g in self.guilds.values() if g.state != "joined"), key=lambda g: -(g.ended_us or 0))
        for place, guild in enumerate(ended):
            if place >= MAX_ENDED or now_us - (guild.ended_us or 0) > KEEP_ENDED_US:
                await self.db.write(partial(store.forget, guild_id=guild.guild_id))
                del self.guilds[guild.guild_id]
                self.bus.publish(GuildChanged(guild.hex))

    # --- helpers

    def _key(self, guild: Guild, membership: Membership, grants: bytes) -> bytes | None:
        """My copy of the key that serves; None if these grants are of another key or hold none for me."""
        made = membership.key
        if made is None or grants_hash(grants) != made.entry.grants:
            return None
        key = open_grant(grants, self.identity.public_key, guild.box_secret)
        if key is not None and fingerprint_of(guild.guild_id, key) != made.entry.fingerprint:
            who = self.name_of(made.signer)
            self.notice(guild, f"{who} gave members of {guild.charter.name} different keys; leave this guild.")
            raise ProtocolError("A guild key that is not the one in the log.")
        return key

    def _warn(self, guild: Guild) -> None:
        """Tell of signers of two histories, whose signed entries anybody can compare."""
        for one, _ in guild.log.proofs:
            name = guild.charter.name
            if one.signer == guild.charter.creator:
                text = f"The creator of {name} signed two different histories of it; do not rely on this guild."
            else:
                who = self.name_of(one.signer)
                text = f"{who}, an officer of {name}, signed two different histories; whom it admitted since is out."
            self.notice(guild, text)

    def notice(self, guild: Guild, text: str) -> None:
        """Warn a person, once; the warning stays with the guild."""
        if text in guild.warnings:
            return
        guild.warnings[text] = None
        self.bus.publish(Notice("warning", "guilds", text, guild.hex))
