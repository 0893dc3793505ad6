"""Serves inbound streams of the guild protocol: decode, check the rate, hand over, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zstui.engine.clock import Clock
from zstui.engine.errors import GuildError, ProtocolError, Refused
from zstui.engine.guilds.admission import Admission
from zstui.engine.guilds.chat import Chat as ChatLog
from zstui.engine.guilds.chat import may_write
from zstui.engine.guilds.entries import read_entry
from zstui.engine.guilds.epochs import EpochAhead, EpochPast
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.limits import Limits
from zstui.engine.guilds.messages import (
    Announce,
    Announced,
    Beat,
    Chat,
    Check,
    Done,
    Join,
    Leave,
    No,
    State,
    Sync,
    Update,
    Wait,
    Welcome,
    decode_request,
    encode,
)
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.replicator import CHAT, Replicator
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Stream

READY_S = 10.0


class GuildProtocol:
    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        replicator: Replicator,
        chat: ChatLog,
        limits: Limits,
        clock: Clock,
        announced: Callable[[PeerId, tuple[Announced, ...]], None],
        welcomed: Callable[[PeerId, bytes], None],
        joining: dict[bytes, asyncio.Event],
        ready: asyncio.Event,
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._replicator = replicator
        self._chat = chat
        self._limits = limits
        self._clock = clock
        self._announced = announced
        self._welcomed = welcomed
        self._joining = joining
        self._ready = ready

    async def handle(self, stream: Stream) -> None:
        """One request. A refusal that the other side can act on is answered, all else resets the stream."""
        request = decode_request(await stream.receive())
        await _until(self._ready)
        try:
            await self._serve(stream, request)
        except GuildError as error:
            await stream.send(encode(No(error.code, str(error)[:200])))

    async def _serve(self, stream: Stream, request: object) -> None:
        peer = stream.peer
        match request:
            case Announce(guilds=guilds):
                self._spend(peer, "announce", max(1, len(guilds)))
                self._announced(peer, guilds)
                await stream.send(encode(Done()))
            case Join(request=raw, secret=secret):
                self._spend(peer, "join")
                await self._join(stream, raw, secret)
            case Check(guild=guild_id, secret=secret):
                self._spend(peer, "check")
                await stream.send(encode(self._admission.invited(guild_id, secret)))
            case Welcome(guild=guild_id):
                self._spend(peer, "welcome")
                self._welcomed(peer, guild_id)
                await stream.send(encode(Done()))
            case Beat(guilds=guilds):
                self._spend(peer, "beat")
                self._beat(peer, guilds)
                await stream.send(encode(Done()))
            case Leave(request=raw):
                self._spend(peer, "leave")
                await self._admission.part(peer, raw)
                await stream.send(encode(Done()))
            case Update():
                self._spend(peer, "update")
                await self._update(stream, request)
            case Sync():
                self._spend(peer, "sync")
                await self._replicator.serve(stream, request)
            case Chat():
                self._spend(peer, "chat")
                await self._line(stream, request)

    async def _join(self, stream: Stream, raw: bytes, secret: bytes) -> None:
        guild = await self._admission.admit(stream.peer, raw, secret)
        if guild is None:
            await stream.send(encode(Wait()))
            return
        self._hear(guild, stream.peer)
        charter = guild.charter.raw
        for entries, more in self._replicator.pages(guild):
            await stream.send(encode(State(entries, b"" if more else guild.current_grants(), more, charter)))
            charter = b""

    def _beat(self, peer: PeerId, guilds: tuple[tuple[bytes, tuple[bytes, ...]], ...]) -> None:
        for guild_id, heads in guilds:
            guild = self._registry.guilds.get(guild_id)
            if guild is None or guild.state != "joined" or not guild.membership.may(peer, "beat"):
                continue
            self._hear(guild, peer)
            if any(head not in guild.log for head in heads):
                self._replicator.start_sync(guild, peer)

    async def _update(self, stream: Stream, request: Update) -> None:
        joining = self._joining.get(request.guild)
        if joining is not None:
            await _until(joining)
        guild = self._registry.get(request.guild)
        peer = stream.peer
        new = not guild.membership.may(peer, "update")
        if new and not self._introduces(guild, peer, request):
            raise ProtocolError("A log from somebody who is not a member.")
        self._hear(guild, peer)
        await self._replicator.absorb(guild, request.entries, request.grants)
        self._replicator.fetch_missing(guild, peer)
        if new and guild.membership.may(peer, "update"):
            self._replicator.start_sync(guild, peer)
        await stream.send(encode(Done()))

    @staticmethod
    def _introduces(guild: Guild, peer: PeerId, request: Update) -> bool:
        """Whether the entries admit the very peer who brings them: it joined in the other half of a split network."""
        entries = [read_entry(guild.charter, raw) for raw in request.entries]
        return any(signed.entry.kind == "join" and signed.peer == peer for signed in entries)

    def _hear(self, guild: Guild, peer: PeerId) -> None:
        guild.presence.heard(peer, self._clock.now_us(), self._clock.monotonic_us())

    async def _line(self, stream: Stream, request: Chat) -> None:
        guild = self._registry.alive(request.guild)
        peer = stream.peer
        if guild.membership.role(peer) is None:
            await self._replicator.sync(guild, peer)
        may_write(guild, peer)
        self._hear(guild, peer)
        try:
            raw = await self._replicator.open_or_sync(guild, peer, request.sealed, CHAT)
        except (EpochPast, EpochAhead) as error:
            await stream.send(encode(No("stale", str(error)[:200])))
            return
        if not await self._chat.take(guild, raw, peer):
            await stream.send(encode(No("replay", "This line was taken before.")))
            return
        await stream.send(encode(Done()))

    def _spend(self, peer: PeerId, kind: str, amount: int = 1) -> None:
        if not self._limits.allow(peer, kind, self._clock.monotonic_us(), amount):
            raise GuildError(f"Too many {kind} requests; wait a little.")


async def _until(event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), READY_S)
    except TimeoutError:
        raise Refused("This node is busy starting.") from None
