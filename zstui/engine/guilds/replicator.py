"""Keeps members' logs and lines the same: pushes what is new, pulls what was missed, serves those who ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from zstui.engine.errors import NetError, ProtocolError, Refused, UnknownGuild
from zstui.engine.guilds import store
from zstui.engine.guilds.chat import Chat
from zstui.engine.guilds.epochs import EpochAhead, grants_hash
from zstui.engine.guilds.messages import (
    MAX_FLOORS,
    PAGE_BYTES,
    PAGE_ENTRIES,
    Done,
    Lines,
    No,
    Reply,
    Request,
    State,
    Sync,
    Update,
    decode_list,
    decode_reply,
    encode,
)
from zstui.engine.guilds.messages import Chat as ChatFrame
from zstui.engine.guilds.model import MAX_LOG, merge, read_entry
from zstui.engine.guilds.registry import Guild, Registry
from zstui.engine.guilds.store import MAX_MESSAGES
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.guilds.window import Key
from zstui.engine.identity.keys import PeerId, peer_id_of, public_key_of
from zstui.engine.net.link import GUILD_PROTOCOL, Network, Stream

ANSWER_S = 10.0
MAX_OUTBOX = 256
"""Lines waiting for one member; what is beyond is fetched by its next sync."""
CHAT = b"zs/1|chat"
RELAYED = b"zs/1|lines"


class Replicator:
    def __init__(self, registry: Registry, network: Network, chat: Chat, tasks: Tasks) -> None:
        self._registry = registry
        self._network = network
        self._chat = chat
        self._tasks = tasks
        self._couriers: dict[tuple[bytes, PeerId], Courier] = {}
        self._syncing: dict[tuple[bytes, PeerId], asyncio.Future[None]] = {}

    async def ask(self, peer: PeerId, request: Request) -> Reply:
        """One request, one reply. Raises NetError, ProtocolError, Refused."""
        return decode_reply(await self._network.request(peer, GUILD_PROTOCOL, encode(request), ANSWER_S))

    # --- pushing

    def push_log(self, guild: Guild, peers: Iterable[PeerId], known: int) -> None:
        """Bring the log to ``peers``, who had version ``known`` at least. Those not connected pull it later."""
        for peer in peers:
            self._courier(guild, peer).log_changed(known)

    def push_line(self, guild: Guild, raw: bytes) -> None:
        """Bring a line of mine to all members who are connected."""
        for peer in self._network.connected() & guild.membership.members.keys():
            self._courier(guild, peer).add(raw)

    def _courier(self, guild: Guild, peer: PeerId) -> Courier:
        key = (guild.guild_id, peer)
        courier = self._couriers.get(key)
        if courier is None:
            courier = self._couriers[key] = Courier(self, self._registry, guild, peer)
            self._tasks.start(f"guild courier {peer[-6:]}", self._run(key, courier))
        return courier

    async def _run(self, key: tuple[bytes, PeerId], courier: Courier) -> None:
        try:
            if courier.peer in self._network.connected():
                await courier.run()
        finally:
            self._couriers.pop(key, None)

    async def update_page(self, guild: Guild, after: int) -> Update:
        """What follows version ``after``, as much as fits into one frame."""
        limit = min(PAGE_ENTRIES, max(0, guild.membership.version - after))
        raws = await self._registry.db.read(lambda tx: store.entries_after(tx, guild.guild_id, after, limit))
        page = _fit(raws)
        last = after + len(page) >= guild.membership.version
        return Update(guild.guild_id, tuple(page), self.grants(guild) if last else b"")

    def grants(self, guild: Guild) -> bytes:
        """The sealed keys of the current epoch, empty if this node does not have them."""
        return guild.grants if grants_hash(guild.grants) == guild.membership.grants else b""

    # --- taking in

    async def absorb(self, guild: Guild, raws: Iterable[bytes], grants: bytes) -> None:
        """Apply what is new. Raises ProtocolError for a log that is not the creator's one history."""
        async with guild.lock:
            if guild.state != "joined":
                return
            entries = []
            for number, raw in enumerate(raws):
                entries.append(read_entry(guild.charter, raw))
                if number % 40 == 39:
                    await asyncio.sleep(0)
            try:
                after, applied = merge(guild.membership, guild.waiting, entries)
            except ProtocolError as error:
                guild.waiting.clear()
                self._registry.notice(guild, f"{guild.charter.name}: {error}")
                raise
            await self._registry.commit(guild, after, applied, grants)

    def fetch_key(self, guild: Guild) -> None:
        """Ask the creator for the current key if another member's update came without it."""
        if guild.state == "joined" and guild.ring.epoch != guild.membership.epoch:
            self._tasks.start("guild sync", self.sync(guild, guild.charter.creator))

    async def open_or_sync(self, guild: Guild, sender: PeerId, sealed: bytes, context: bytes) -> bytes:
        """Open traffic of ``sender``; if it is of an epoch to come, catch up with the sender first. Raises ProtocolError."""
        key = public_key_of(sender)
        try:
            return guild.ring.open(key, sealed, context, self._registry.clock.now_us())
        except EpochAhead:
            await self.sync(guild, sender)
        return guild.ring.open(key, sealed, context, self._registry.clock.now_us())

    # --- pulling

    async def sync(self, guild: Guild, peer: PeerId) -> None:
        """Fetch from a member what I miss. A failure of the link is left to the next time. One at a time per member."""
        key = (guild.guild_id, peer)
        running = self._syncing.get(key)
        if running is not None:
            await asyncio.shield(running)
            return
        mine = self._syncing[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                await self._pull(guild, peer)
        except (NetError, TimeoutError, Refused):
            pass
        finally:
            del self._syncing[key]
            mine.set_result(None)

    async def _pull(self, guild: Guild, peer: PeerId) -> None:
        latest = sorted(guild.window.floors().items(), key=lambda item: -item[0][1])[:MAX_FLOORS]
        floors = tuple((public_key_of(author), since, floor) for (author, since), floor in latest)
        stream = await self._network.open(peer, GUILD_PROTOCOL, ANSWER_S)
        try:
            await stream.send(encode(Sync(guild.guild_id, guild.membership.version, floors)))
            await stream.close()
            for _ in range(2 * MAX_LOG // PAGE_ENTRIES):
                match decode_reply(await stream.receive(ANSWER_S)):
                    case State(entries=entries, grants=grants, more=more):
                        await self.absorb(guild, entries, grants)
                        if not more:
                            break
                    case No():
                        return
                    case _:
                        raise ProtocolError("Not an answer to a sync.")
            await self._pull_lines(guild, peer, stream)
        finally:
            stream.reset()

    async def _pull_lines(self, guild: Guild, peer: PeerId, stream: Stream) -> None:
        more, left = True, MAX_MESSAGES
        while more and left > 0:
            reply = decode_reply(await stream.receive(ANSWER_S))
            if not isinstance(reply, Lines):
                return
            more = reply.more
            if not reply.sealed or not guild.alive(self._registry.clock.now_us()):
                continue
            plain = guild.ring.open(public_key_of(peer), reply.sealed, RELAYED, self._registry.clock.now_us())
            raws = decode_list(plain)
            left -= len(raws)
            await self._chat.take_relayed(guild, raws)
        if not more:
            guild.window.settle_author(peer)

    # --- serving

    async def serve(self, stream: Stream, request: Sync) -> None:
        """Answer a member's, or for the log a former member's, sync. Raises UnknownGuild to anybody else."""
        registry, peer = self._registry, stream.peer
        guild = registry.guilds.get(request.guild)
        known = guild is not None and (guild.state in ("joined", "dissolved"))
        if guild is None or not known or not guild.membership.was_member(peer):
            raise UnknownGuild("No such guild.")
        if request.version > guild.membership.version and guild.state == "joined":
            self._tasks.start("guild sync", self.sync(guild, peer))
        at = min(request.version, guild.membership.version)
        while True:
            page = await self.update_page(guild, at)
            at += len(page.entries)
            more = at < guild.membership.version and bool(page.entries)
            is_member = guild.membership.role(peer) is not None
            await stream.send(encode(State(page.entries, page.grants if is_member else b"", more)))
            if not more:
                break
        member = guild.membership.members.get(peer)
        if member is None or not guild.alive(registry.clock.now_us()) or guild.ring.epoch != guild.membership.epoch:
            await stream.send(encode(Lines(b"", False)))
            return
        floors = {(peer_id_of(author), since): floor for author, since, floor in request.floors}
        await self._serve_lines(stream, guild, member.since, floors)

    async def _serve_lines(self, stream: Stream, guild: Guild, since: int, floors: dict[Key, int]) -> None:
        registry = self._registry
        rows = await registry.db.read(lambda tx: store.lines_since(tx, guild.guild_id, since))
        raws = []
        for author, version, counter, raw in rows:
            span = guild.membership.span_at(author, version)
            if span is not None and counter > floors.get((author, span.first), 0):
                raws.append(raw)
        while True:
            page = _fit(raws)
            raws = raws[len(page) :]
            sealed = guild.seal(registry.identity.public_key, encode(page), RELAYED) if page else b""
            await stream.send(encode(Lines(sealed, bool(raws))))
            if not raws:
                return


class Courier:
    """Brings one guild's log and my lines to one member, in order; lives as long as there is something to bring."""

    MAX_REPEATS = 3

    def __init__(self, replicator: Replicator, registry: Registry, guild: Guild, peer: PeerId) -> None:
        self.peer = peer
        self._replicator = replicator
        self._registry = registry
        self._guild = guild
        self._lines: deque[bytes] = deque(maxlen=MAX_OUTBOX)
        self._known: int | None = None
        """Version the member has at least; None: nothing to tell it."""

    def log_changed(self, known: int) -> None:
        if self._known is None:
            self._known = known

    def add(self, raw: bytes) -> None:
        self._lines.append(raw)

    async def run(self) -> None:
        """Until all is delivered. Raises ZsError when the member cannot be reached; it will sync when it can be."""
        while True:
            if self._known is not None:
                await self._bring_log(self._known)
                self._known = None
            elif self._lines:
                await self._bring(self._lines.popleft())
            else:
                return

    async def _bring_log(self, known: int) -> None:
        repeats = 0
        while known < self._guild.membership.version and repeats < self.MAX_REPEATS:
            page = await self._replicator.update_page(self._guild, known)
            reply = await self._replicator.ask(self.peer, page)
            if not isinstance(reply, Done):
                return
            repeats = repeats + 1 if reply.version <= known else 0
            known = reply.version

    async def _bring(self, raw: bytes) -> None:
        for _ in range(2):
            guild = self._guild
            if not guild.alive(self._registry.clock.now_us()):
                return
            sealed = guild.seal(self._registry.identity.public_key, raw, CHAT)
            reply = await self._replicator.ask(self.peer, ChatFrame(guild.guild_id, sealed))
            if not isinstance(reply, No) or reply.code != "stale":
                return
            await self._replicator.sync(guild, self.peer)


def _fit(raws: list[bytes]) -> list[bytes]:
    """As many from the front as a page holds, at least one."""
    size = 0
    page: list[bytes] = []
    for raw in raws:
        size += len(raw) + 5
        if page and size > PAGE_BYTES:
            break
        page.append(raw)
    return page
