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
from zstui.engine.guilds.epochs import EpochRing, fingerprint_of, grants_hash, open_grant
from zstui.engine.guilds.model import Charter, Membership, SignedEntry, read_charter, read_entry
from zstui.engine.guilds.store import NewMessage
from zstui.engine.guilds.window import LineWindow
from zstui.engine.identity.keys import Identity, PeerId, peer_id_of
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


class Guild:
    """One guild this node is or was in. Whoever changes it holds ``lock``."""

    def __init__(self, charter: Charter, role: Role, entered_us: int) -> None:
        self.charter = charter
        self.role: Role = role
        self.entered_us = entered_us
        self.state: GuildStateName = "joined"
        self.ended_us: int | None = None
        self.box_secret = b""
        self.grants = b""
        self.membership = Membership(charter)
        self.waiting: dict[int, SignedEntry] = {}
        self.ring = EpochRing(charter.guild_id)
        self.window = LineWindow()
        self.counter = 0
        self.unread = 0
        self.pending_leave: bytes | None = None
        self.warnings: set[str] = set()
        self.lock = asyncio.Lock()

    @property
    def guild_id(self) -> bytes:
        return self.charter.guild_id

    @property
    def hex(self) -> str:
        return self.charter.guild_id.hex()

    def begin_again(self, fresh: Guild) -> None:
        """Take over a new membership in the same guild; what was written and read in it stays."""
        self.role, self.entered_us, self.state, self.ended_us = fresh.role, fresh.entered_us, "joined", None
        self.box_secret, self.grants, self.membership = fresh.box_secret, fresh.grants, fresh.membership
        self.ring, self.waiting, self.pending_leave, self.counter = fresh.ring, {}, None, 0

    def seal(self, sender: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Seal under the current key. Raises ProtocolError while that has not come: an older one is known to who left."""
        if self.ring.epoch != self.membership.epoch:
            raise ProtocolError(f"The key of {self.charter.name} has just changed; the new one is still on its way.")
        return self.ring.seal(sender, plaintext, context)

    def alive(self, now_us: int) -> bool:
        """I am in and it is not over."""
        return self.state == "joined" and now_us < self.charter.expires_us


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
        if guild.state == "expired" or self.clock.now_us() >= guild.charter.expires_us:
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
            guild = Guild(read_charter(row.charter), cast(Role, row.role), row.entered_us)
            guild.state = cast(GuildStateName, row.state)
            guild.ended_us = row.ended_us
            guild.box_secret = row.box_secret or b""
            guild.grants = row.grants
            guild.counter = row.counter
            guild.pending_leave = row.pending_leave
            history = await self.db.read(partial(store.history, guild_id=guild.guild_id, me=self.me))
            guild.unread = history.unread
            for number, raw in enumerate(history.entries):
                guild.membership.apply(read_entry(guild.charter, raw))
                if number % 50 == 49:
                    await asyncio.sleep(0)
            for author, since, floor in history.floors:
                guild.window.settle((author, since), floor)
            for author, version, counter in history.lines:
                span = guild.membership.span_at(author, version)
                if span is not None:
                    guild.window.take((author, span.first), counter)
            if guild.state == "joined":
                key = self._key(guild, guild.membership, guild.grants)
                if key is not None:
                    guild.ring.advance(guild.membership.epoch, key, self.clock.now_us())
            self.guilds[guild.guild_id] = guild
        await self.sweep()

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
        guild = Guild(charter, role, now_us)
        membership = Membership(charter)
        for number, signed in enumerate(entries):
            membership.apply(signed)
            if number % 200 == 199:
                await asyncio.sleep(0)
        guild.box_secret, guild.grants, guild.membership = box_secret, grants, membership
        if membership.role(self.me) != role or membership.dissolved:
            raise ProtocolError("The guild's log does not hold the membership that was asked for.")
        key = self._key(guild, membership, grants)
        if key is None:
            raise ProtocolError("The guild's creator sent no key for this node.")
        guild.ring.advance(membership.epoch, key, now_us)
        verb = "created" if role == "creator" else "joined"
        line = NewMessage(self.me, f"You {verb} {charter.name} as {role}{note}.", now_us)

        def write(tx: Tx) -> int:
            store.enter(tx, charter.guild_id, charter.raw, role, box_secret, now_us)
            store.add_entries(tx, charter.guild_id, [(s.entry.version, s.raw) for s in entries])
            store.set_keys(tx, charter.guild_id, role, grants)
            return store.add_message(tx, charter.guild_id, line)

        number = await self.db.write(write)
        earlier = self.guilds.setdefault(guild.guild_id, guild)
        if earlier is not guild:
            earlier.begin_again(guild)
        self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildChanged(guild.hex))
        return earlier

    async def commit(
        self, guild: Guild, after: Membership, entries: Sequence[SignedEntry], grants: bytes, note: str = ""
    ) -> None:
        """Make ``after``, which is the guild's log with ``entries`` applied, durable and then current.

        ``grants`` may be empty where they are still to come. ``note`` is added to the feed line. Holds the lock already.
        """
        key = None
        if grants and after.epoch > guild.ring.epoch:
            key = self._key(guild, after, grants)
        if grants_hash(grants) != after.grants:
            grants = guild.grants
        lines = [NewMessage(*line, self._at(s)) for s in entries for line in self._told(guild, s, note)]
        role = after.role(self.me)
        gone: EndReason | None = None
        if after.dissolved:
            gone = "dissolved"
        elif role is None:
            gone = "kicked" if self.me in after.kicked else "left"

        def write(tx: Tx) -> list[int]:
            store.add_entries(tx, guild.guild_id, [(s.entry.version, s.raw) for s in entries])
            store.set_keys(tx, guild.guild_id, role or guild.role, grants)
            return [store.add_message(tx, guild.guild_id, line) for line in lines]

        if entries or key is not None:
            numbers = await self.db.write(write)
            guild.membership, guild.grants, guild.role = after, grants, role or guild.role
            if key is not None:
                guild.ring.advance(after.epoch, key, self.clock.now_us())
            for number in numbers:
                self.bus.publish(GuildMessageReceived(guild.hex, number))
            self.bus.publish(GuildChanged(guild.hex))
        if gone is not None and guild.state == "joined":
            await self.finish(guild, gone)

    async def finish(self, guild: Guild, reason: EndReason, pending_leave: bytes | None = None) -> None:
        """The guild is over for me: keys are dropped, the records stay for a day. Holds the lock already."""
        if guild.state != "joined":
            return
        now_us = self.clock.now_us()
        state = _STATE_OF[reason]
        lines = []
        if reason in ("expired", "left"):
            told = f"{guild.charter.name} has expired." if reason == "expired" else f"You left {guild.charter.name}."
            lines.append(NewMessage(self.me, told, now_us))

        def write(tx: Tx) -> list[int]:
            store.end(tx, guild.guild_id, state, now_us, pending_leave)
            return [store.add_message(tx, guild.guild_id, line) for line in lines]

        guild.state, guild.ended_us, guild.pending_leave = state, now_us, pending_leave
        guild.ring.wipe()
        guild.box_secret = guild.grants = b""
        guild.waiting.clear()
        for number in await self.db.write(write):
            self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildEnded(guild.hex, reason, max(0, now_us - guild.entered_us)))
        self.bus.publish(GuildChanged(guild.hex))

    async def add_lines(self, guild: Guild, lines: Sequence[tuple[int, NewMessage]]) -> list[int]:
        """Store chat lines whose counters the window has taken, each with the version at which its author's membership began.

        Returns their numbers.
        """
        counter = guild.counter
        floors = {(m.sender, since): guild.window.floor((m.sender, since)) for since, m in lines}

        def write(tx: Tx) -> list[int]:
            store.set_counter(tx, guild.guild_id, counter)
            for (author, since), floor in floors.items():
                store.set_floor(tx, guild.guild_id, author, since, floor)
            return [store.add_message(tx, guild.guild_id, message) for _, message in lines]

        numbers = await self.db.write(write)
        guild.unread += sum(message.sender != self.me for _, message in lines)
        for number in numbers:
            self.bus.publish(GuildMessageReceived(guild.hex, number))
        self.bus.publish(GuildChanged(guild.hex))
        return numbers

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
        """My copy of the epoch's key; None if these grants are of another epoch or hold none for me."""
        if grants_hash(grants) != membership.grants:
            return None
        key = open_grant(grants, self.identity.public_key, guild.box_secret)
        if key is not None and fingerprint_of(guild.guild_id, membership.epoch, key) != membership.fingerprint:
            self.notice(guild, f"The creator of {guild.charter.name} gave members different keys; leave this guild.")
            raise ProtocolError("A guild key that is not the one in the log.")
        return key

    def notice(self, guild: Guild, text: str) -> None:
        """Warn a person, once."""
        if text in guild.warnings:
            return
        guild.warnings.add(text)
        self.bus.publish(Notice("warning", "guilds", text, guild.hex))

    def _at(self, signed: SignedEntry) -> int:
        return min(signed.entry.at_us, self.clock.now_us())

    def _told(self, guild: Guild, signed: SignedEntry, note: str) -> list[tuple[PeerId, str]]:
        entry = signed.entry
        name = guild.charter.name
        peer = peer_id_of(entry.peer) if entry.peer else guild.charter.creator
        who = "You" if peer == self.me else self.name_of(peer)
        match entry.kind:
            case "join":
                return [(peer, f"{who} joined as {entry.role}{note}.")]
            case "leave":
                return [(peer, f"{who} left.")]
            case "kick":
                return [(peer, f"{who} {'were' if peer == self.me else 'was'} removed by the creator.")]
            case "dissolve":
                return [(peer, f"{who} dissolved {name}.")]
            case _:
                return []
