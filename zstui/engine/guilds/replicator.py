"""Keeps members' logs and lines the same: pushes what is new, pulls what was missed, serves those who ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator

from zstui.engine.errors import NetError, ProtocolError, Refused, UnknownGuild
from zstui.engine.guilds import store
from zstui.engine.guilds.chat import Chat
from zstui.engine.guilds.entries import read_entry
from zstui.engine.guilds.epochs import EpochAhead
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.log import MAX_LOG, merge
from zstui.engine.guilds.messages import (
    MAX_FLOORS,
    MAX_HAVE,
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
    Welcome,
    decode_list,
    decode_reply,
    encode,
)
from zstui.engine.guilds.messages import Chat as ChatFrame
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.store import MAX_MESSAGES
from zstui.engine.guilds.tasks import Tasks
from zstui.engine.guilds.window import Key
from zstui.engine.identity.keys import PeerId, public_key_of
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

    def push_log(self, guild: Guild, peers: Iterable[PeerId], place: int) -> None:
        """Bring the log from ``place`` on to ``peers``. Those not connected pull it later."""
        for peer in peers:
            self._courier(guild, peer).log_changed(place)

    def welcome(self, guild: Guild, peer: PeerId) -> None:
        """Tell a peer who knocked that there is an answer, if it is there; else it asks by itself."""
        if peer in self._network.connected():
            self._tasks.start("guild welcome", self.ask(peer, Welcome(guild.guild_id)))

    def push_line(self, guild: Guild, counter: int, raw: bytes) -> None:
        """Bring line ``counter`` of mine to all members who are connected."""
        for peer in self._network.connected() & guild.membership.members.keys():
            self._courier(guild, peer).add(counter, raw)

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

    @staticmethod
    def pages(guild: Guild, have: Iterable[bytes] = ()) -> Iterator[tuple[tuple[bytes, ...], bool]]:
        """What somebody who holds ``have`` lacks of the log, as much as fits into a frame at a time; and whether more comes."""
        raws = [signed.raw for signed in guild.log.lacking(have)]
        while True:
            page = _fit(raws[:PAGE_ENTRIES])
            raws = raws[len(page) :]
            yield tuple(page), bool(raws)
            if not raws:
                return

    # --- taking in

    async def absorb(self, guild: Guild, raws: Iterable[bytes], grants: bytes) -> None:
        """Apply what is new. Raises ProtocolError for an entry that its signer was not allowed to write."""
        async with guild.lock:
            if guild.state != "joined":
                return
            entries = []
            for number, raw in enumerate(raws):
                entries.append(read_entry(guild.charter, raw))
                if number % 40 == 39:
                    await asyncio.sleep(0)
            after, added = merge(guild.log, guild.waiting, entries)
            await self._registry.commit(guild, after, added, grants)

    def fetch_missing(self, guild: Guild, sender: PeerId) -> None:
        """Ask ``sender`` for what its entries build on, and the key's maker for the key, where they did not come."""
        if guild.state != "joined":
            return
        if guild.waiting:
            self.start_sync(guild, sender)
        key = guild.membership.key
        if key is not None and not guild.has_key():
            connected = self._network.connected()
            holders = [p for p in (key.signer, *guild.membership.authorities) if p in connected and p != sender]
            for peer in holders[:1]:
                self.start_sync(guild, peer)

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
        """Fetch from a member what I miss. A failure of the link is left to the next time. One at a time per member.

        Where lines came, it is followed by another, by which the member sees that they did.
        """
        key = (guild.guild_id, peer)
        running = self._syncing.get(key)
        if running is not None:
            await asyncio.shield(running)
            return
        mine = self._syncing[key] = asyncio.get_running_loop().create_future()
        took = 0
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                took = await self._pull(guild, peer)
        except (NetError, TimeoutError, Refused):
            pass
        finally:
            del self._syncing[key]
            mine.set_result(None)
        if took:
            self.start_sync(guild, peer)

    def start_sync(self, guild: Guild, peer: PeerId) -> None:
        self._tasks.start("guild sync", self.sync(guild, peer))

    async def _pull(self, guild: Guild, peer: PeerId) -> int:
        """Returns how many lines came."""
        floors = tuple(guild.window.floors().items())[-MAX_FLOORS:]
        stream = await self._network.open(peer, GUILD_PROTOCOL, ANSWER_S)
        try:
            await stream.send(encode(Sync(guild.guild_id, guild.log.have(MAX_HAVE), floors)))
            await stream.close()
            for _ in range(MAX_LOG // PAGE_ENTRIES + 1):
                match decode_reply(await stream.receive(ANSWER_S)):
                    case State(entries=entries, grants=grants, more=more):
                        await self.absorb(guild, entries, grants)
                        if not more:
                            break
                    case No(code="unknown_guild"):
                        self.push_log(guild, [peer], 0)
                        return 0
                    case No():
                        return 0
                    case _:
                        raise ProtocolError("Not an answer to a sync.")
            return await self._pull_lines(guild, peer, stream)
        finally:
            stream.reset()

    async def _pull_lines(self, guild: Guild, peer: PeerId, stream: Stream) -> int:
        more, left = True, MAX_MESSAGES
        while more and left > 0:
            reply = decode_reply(await stream.receive(ANSWER_S))
            if not isinstance(reply, Lines):
                break
            more = reply.more
            if not reply.sealed or not guild.alive(self._registry.clock.now_us()):
                continue
            plain = guild.ring.open(public_key_of(peer), reply.sealed, RELAYED, self._registry.clock.now_us())
            raws = decode_list(plain)
            left -= len(raws)
            await self._chat.take_relayed(guild, raws)
        member = guild.membership.members.get(peer)
        if not more and member is not None:
            guild.window.settle_all(member.box_key)
        return MAX_MESSAGES - left

    # --- serving

    async def serve(self, stream: Stream, request: Sync) -> None:
        """Answer a member's, or for the log a former member's, sync. Raises UnknownGuild to anybody else."""
        registry, peer = self._registry, stream.peer
        guild = registry.guilds.get(request.guild)
        known = guild is not None and guild.state in ("joined", "dissolved")
        if guild is None or not known or not guild.log.was_member(peer):
            raise UnknownGuild("No such guild.")
        is_member = guild.membership.may(peer, "sync")
        if is_member and guild.state == "joined":
            self._note(guild, peer, request)
        for entries, more in self.pages(guild, request.have):
            grants = guild.current_grants() if is_member and not more else b""
            await stream.send(encode(State(entries, grants, more)))
        member = guild.membership.members.get(peer)
        if member is None or not guild.alive(registry.clock.now_us()) or not guild.has_key():
            await stream.send(encode(Lines(b"", False)))
            return
        await self._serve_lines(stream, guild, member.since, dict(request.floors))

    def _note(self, guild: Guild, peer: PeerId, request: Sync) -> None:
        """What a member's sync tells of it: what it has of mine, and whether it knows more of the log."""
        if any(digest not in guild.log for digest in request.have):
            self.start_sync(guild, peer)
        mine = guild.membership.members.get(self._registry.me)
        floor = dict(request.floors).get(mine.box_key, 0) if mine is not None else 0
        if floor > guild.reached.get(peer, 0):
            guild.reached[peer] = floor

    async def _serve_lines(self, stream: Stream, guild: Guild, since: bytes, floors: dict[Key, int]) -> None:
        """Lines written by authors who knew that the asking member was in: those of its epochs."""
        registry = self._registry
        rows = await registry.db.read(lambda tx: store.lines(tx, guild.guild_id))
        raws = []
        for member, epoch, counter, raw in rows:
            if counter > floors.get(member, 0) and guild.log.knows(epoch, since):
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

    def __init__(self, replicator: Replicator, registry: Registry, guild: Guild, peer: PeerId) -> None:
        self.peer = peer
        self._replicator = replicator
        self._registry = registry
        self._guild = guild
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=MAX_OUTBOX)
        self._place: int | None = None
        """Place of the log from which to tell; None: nothing to tell."""

    def log_changed(self, place: int) -> None:
        self._place = place if self._place is None else min(place, self._place)

    def add(self, counter: int, raw: bytes) -> None:
        self._lines.append((counter, raw))

    async def run(self) -> None:
        """Until all is delivered. Raises ZsError when the member cannot be reached; it will sync when it can be."""
        while True:
            if self._place is not None:
                place, self._place = self._place, None
                await self._bring_log(place)
            elif self._lines:
                await self._bring(*self._lines.popleft())
            else:
                return

    async def _bring_log(self, place: int) -> None:
        guild = self._guild
        while place < len(guild.log):
            page = _fit([signed.raw for signed in guild.log.entries[place : place + PAGE_ENTRIES]])
            place += len(page)
            last = place >= len(guild.log)
            grants = guild.current_grants() if last and guild.membership.role(self.peer) is not None else b""
            reply = await self._replicator.ask(self.peer, Update(guild.guild_id, tuple(page), grants))
            if not isinstance(reply, Done):
                return

    async def _bring(self, counter: int, raw: bytes) -> None:
        guild = self._guild
        for _ in range(2):
            if not guild.alive(self._registry.clock.now_us()):
                return
            sealed = guild.seal(self._registry.identity.public_key, raw, CHAT)
            reply = await self._replicator.ask(self.peer, ChatFrame(guild.guild_id, sealed))
            if isinstance(reply, Done) or (isinstance(reply, No) and reply.code == "replay"):
                guild.reached[self.peer] = max(counter, guild.reached.get(self.peer, 0))
                self._registry.changed(guild)
                return
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
