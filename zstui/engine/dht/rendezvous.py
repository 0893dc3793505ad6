"""What a node says of itself in the hash table, and how others find it there: its card, that it runs jobs, its open guilds.

A private guild is announced to nobody. Modules and inputs are not announced either: they belong to their job, and who holds
them is nobody else's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable

from zstui.engine.bus import Bus
from zstui.engine.dht.messages import MAX_VALUE
from zstui.engine.dht.records import Validator
from zstui.engine.dht.service import Dht
from zstui.engine.errors import BadInput, NetError, ProtocolError, Refused
from zstui.engine.events import AddressesChanged, GuildCreated, GuildEnded, GuildJoined
from zstui.engine.identity.card import MAX_CARD, read_card
from zstui.engine.identity.keys import PeerId, base58_decode, base58_encode
from zstui.engine.net.service import NetService

CARD_PREFIX = b"/zs/card/"
_CALM_S = 0.5
"""Changes within this time are announced together."""
ANSWER_S = 8.0
MAX_TRIED = 8
"""Providers that are dialed for one question."""

assert MAX_CARD <= MAX_VALUE


def _multihash(text: bytes) -> bytes:
    """SHA2-256 multihash, the form of a provider key."""
    return b"\x12\x20" + hashlib.sha256(text).digest()


EXECUTORS = _multihash(b"zs/executors")


def guild_key(guild_id: str) -> bytes:
    return _multihash(b"zs/guild/" + bytes.fromhex(guild_id))


def card_key(peer: PeerId) -> bytes:
    return CARD_PREFIX + base58_decode(peer)


def _card_version(key: bytes, value: bytes) -> int:
    """When the card was signed. Raises ProtocolError unless the key's peer signed it."""
    return read_card(value, base58_encode(key.removeprefix(CARD_PREFIX))).issued_us


CARDS = Validator(CARD_PREFIX, _card_version)


class Rendezvous:
    """``open_guilds``: ids of guilds of mine that anyone may find. ``runs_jobs``: whether I am an executor."""

    def __init__(
        self,
        dht: Dht,
        net: NetService,
        bus: Bus,
        *,
        my_card: Callable[[], bytes],
        runs_jobs: Callable[[], bool],
        open_guilds: Callable[[], Iterable[str]],
    ) -> None:
        self._dht = dht
        self._net = net
        self._bus = bus
        self._my_card = my_card
        self._runs_jobs = runs_jobs
        self._open_guilds = open_guilds
        self._announced: set[bytes] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._announce(), name="rendezvous")

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def executors(self) -> list[PeerId]:
        """Peers that say they run jobs, their cards known afterwards."""
        found = await self._dht.find_providers(EXECUTORS)
        cards = await asyncio.gather(*(self._dht.get(card_key(peer)) for peer in found))
        for peer, raw in zip(found, cards, strict=True):
            if raw is not None:
                with contextlib.suppress(ProtocolError):
                    self._net.contacts.take_card(peer, raw)
        return [peer for peer, raw in zip(found, cards, strict=True) if raw is not None]

    async def reach_guild(self, guild_id: str) -> bool:
        """Connect to members of an open guild that this node has not heard of; whether one answered. They then tell of it."""
        for peer in (await self._dht.find_providers(guild_key(guild_id)))[:MAX_TRIED]:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._net.connect(peer)
            except (NetError, Refused, BadInput, TimeoutError):
                continue
            return True
        return False

    async def _announce(self) -> None:
        changes = self._bus.subscribe(GuildCreated, GuildJoined, GuildEnded, AddressesChanged)
        await self._dht.put(card_key(self._net.peer_id), self._my_card)
        await self._update()
        async for _ in changes:
            await asyncio.sleep(_CALM_S)
            await self._update()

    async def _update(self) -> None:
        wanted = {guild_key(guild_id) for guild_id in self._open_guilds()}
        if self._runs_jobs():
            wanted.add(EXECUTORS)
        for key in self._announced - wanted:
            self._dht.withdraw(key)
        for key in wanted - self._announced:
            await self._dht.provide(key)
        self._announced = wanted
