"""The distributed hash table: finds peers by id, who provides a thing, and signed values, without any server."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock
from zstui.engine.dht import messages, store
from zstui.engine.dht.lookup import Lookup
from zstui.engine.dht.messages import Message, Node
from zstui.engine.dht.records import REPUBLISH_US, Providers, Validator, Values
from zstui.engine.dht.search import search
from zstui.engine.dht.table import K, RoutingTable, key_of, peer_key
from zstui.engine.errors import BadInput, NetError, ProtocolError, Refused
from zstui.engine.events import Notice, PeerChanged, PeerDisconnected
from zstui.engine.identity.keys import PeerId, base58_decode
from zstui.engine.net.link import Network, Stream
from zstui.engine.net.multiaddr import Multiaddr, parse_multiaddr
from zstui.engine.store.database import Database
from zstui.engine.views import BucketView, DhtView, TableStanding

log = logging.getLogger(__name__)

ANSWER_S = 5.0
QUIET_S = 30.0
"""A stream without a question for so long is closed."""
PER_SECOND, BURST = 20.0, 100.0
"""Questions that one peer may ask."""
REFRESH_S = 600.0
REFRESHES = 4
"""Look-ups of random keys that fill the far buckets; that of its own key fills the near ones."""
FIRST_REFRESH_S = 1.0
"""After the first contact."""


class Addresses(Protocol):
    """What the table needs of the network beside streams."""

    def known_addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Where ``peer`` might be dialed."""

    def learn(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """``peer`` might be dialed there, too."""

    def speaks(self, peer: PeerId, protocol: str) -> bool:
        """Whether a connected peer said that it speaks ``protocol``."""

    def own_addresses(self) -> tuple[Multiaddr, ...]: ...


class Dht:
    """``values`` are signed and validated; providers only say where to look. Both are bounded and expire."""

    def __init__(
        self,
        network: Network,
        addresses: Addresses,
        db: Database,
        bus: Bus,
        clock: Clock,
        validators: tuple[Validator, ...] = (),
    ) -> None:
        self._network = network
        self._addresses = addresses
        self._db = db
        self._bus = bus
        self._clock = clock
        self._me = network.peer_id
        self._table = RoutingTable(peer_key(self._me))
        self._providers = Providers()
        self._values = Values(validators)
        self._mine: dict[bytes, int] = {}
        """What I provide, and when it was last announced."""
        self._my_values: dict[bytes, Callable[[], bytes]] = {}
        self._budgets: dict[PeerId, tuple[float, float]] = {}
        self._refreshed_us = 0
        self._lookups, self._lookup_us, self._lookup_asked = 0, 0, 0
        """How many there were; duration of the latest, and peers it asked."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        network.handle(messages.PROTOCOL, self._serve)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up the contacts of last time, and keep the table fresh."""
        for peer, texts in await self._db.read(store.load):
            known = []
            for text in texts:
                try:
                    known.append(parse_multiaddr(text))
                except BadInput:
                    continue
            if known:
                self._addresses.learn(peer, tuple(known))
                self._table.heard(peer, known[0].host)
        if len(self._table):
            self._wake.set()
        for work in (self._follow(), self._maintain()):
            self._spawn(work)

    async def stop(self) -> None:
        """Idempotent."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            await self._save()

    # --- what it does ------------------------------------------------------------------------------------------------

    @property
    def contacts(self) -> int:
        """Peers in the routing table."""
        return len(self._table)

    @property
    def records(self) -> int:
        """Keys and values kept for others."""
        return len(self._providers) + len(self._values)

    def view(self) -> DhtView:
        """Its state, for people."""
        buckets = tuple(BucketView(prefix_bits=n, contacts=c, waiting=w) for n, c, w in self._table.buckets())
        return DhtView(
            contacts=len(self._table),
            waiting=sum(bucket.waiting for bucket in buckets),
            buckets=buckets,
            provider_keys=len(self._providers),
            value_keys=len(self._values),
            announced=len(self._mine) + len(self._my_values),
            refreshed_at=self._refreshed_us // US or None,
            lookups=self._lookups,
            lookup_us=self._lookup_us,
            lookup_asked=self._lookup_asked,
        )

    def standing(self, peer: PeerId) -> tuple[TableStanding, int]:
        """The place of ``peer`` in the table, and the length of the prefix that its key shares with mine."""
        bits = self._table.prefix_bits(peer)
        if peer in self._table:
            return "contact", bits
        if self._table.waits(peer):
            return "waiting", bits
        linked = peer in self._network.connected()
        return "client" if linked and not self._addresses.speaks(peer, messages.PROTOCOL) else "unknown", bits

    async def find_peer(self, peer: PeerId) -> bool:
        """Look for addresses of ``peer`` and let the network learn them; whether any were found."""
        found = False

        def enough(answer: Message) -> bool:
            nonlocal found
            found = found or any(node.peer == peer and node.addresses for node in answer.closer)
            return found

        await self._search(base58_decode(peer), messages.FIND_NODE, enough)
        return found

    async def find_providers(self, key: bytes, count: int = K) -> list[PeerId]:
        """Up to ``count`` peers that say they provide ``key``, other than this node; the network learns their addresses."""
        found = dict.fromkeys(p for p in self._providers.get(key, self._clock.now_us()) if p != self._me)

        def enough(answer: Message) -> bool:
            for node in answer.providers:
                if node.peer != self._me:
                    self._addresses.learn(node.peer, node.addresses)
                    found[node.peer] = None
            return len(found) >= count

        if len(found) < count:
            await self._search(key, messages.GET_PROVIDERS, enough)
        return list(found)[:count]

    async def provide(self, key: bytes) -> None:
        """Tell the peers closest to ``key`` that this node provides it, now and again until ``withdraw``."""
        self._mine[key] = self._clock.now_us()
        self._providers.add(key, self._me, self._clock.now_us())
        me = Node(self._me, self._addresses.own_addresses())
        message = Message(type=messages.ADD_PROVIDER, key=key, providers=(me,))
        await self._tell(await self._closest(key), message)

    def withdraw(self, key: bytes) -> None:
        """Announce it no more; what others keep expires."""
        self._mine.pop(key, None)

    async def put(self, key: bytes, value: Callable[[], bytes]) -> None:
        """Bring a signed value to the peers closest to ``key``, and what ``value`` gives by then again and again."""
        self._my_values[key] = value
        raw = value()
        self._values.put(key, raw, self._clock.now_us())
        await self._tell(await self._closest(key), Message(type=messages.PUT_VALUE, key=key, value=raw))

    async def get(self, key: bytes) -> bytes | None:
        """The newest genuine value that this node or anyone on the way to ``key`` keeps."""
        found = [v for v in (self._values.get(key, self._clock.now_us()),) if v is not None]

        def enough(answer: Message) -> bool:
            if answer.value is not None:
                found.append(answer.value)
            return False

        await self._search(key, messages.GET_VALUE, enough)
        return self._values.newest(key, found)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _closest(self, key: bytes) -> list[PeerId]:
        return (await self._search(key, messages.FIND_NODE, lambda answer: False)).closest()

    async def _search(self, key: bytes, kind: int, enough: Callable[[Message], bool]) -> Lookup:
        target = key_of(key)
        lookup = Lookup(target, self._table.closest(target))

        def learned(peer: PeerId, answer: Message | None) -> bool:
            if answer is None:
                self._table.failed(peer)
                return False
            self._heard(peer)
            for node in answer.closer:
                if node.peer != self._me:
                    self._addresses.learn(node.peer, node.addresses)
            return enough(answer)

        since_us = self._clock.monotonic_us()
        await search(lookup, lambda peer: self._ask(peer, Message(type=kind, key=key)), learned)
        self._lookups += 1
        self._lookup_us, self._lookup_asked = self._clock.monotonic_us() - since_us, lookup.asked
        return lookup

    async def _ask(self, peer: PeerId, message: Message) -> Message:
        if peer == self._me:
            raise Refused("That is this node itself.")
        stream = await self._network.open(peer, messages.PROTOCOL, ANSWER_S)
        try:
            await stream.send(messages.encode(message))
            return messages.read(await stream.receive(ANSWER_S))
        finally:
            await stream.close()
            stream.reset()

    async def _tell(self, peers: list[PeerId], message: Message) -> None:
        """To each of them at once; who cannot be reached misses it."""
        await asyncio.gather(*(self._tell_one(peer, message) for peer in peers))

    async def _tell_one(self, peer: PeerId, message: Message) -> None:
        try:
            if message.type == messages.PUT_VALUE:
                await self._ask(peer, message)
                return
            stream = await self._network.open(peer, messages.PROTOCOL, ANSWER_S)
            await stream.send(messages.encode(message))
            await stream.close()
        except (NetError, Refused, ProtocolError) as error:
            log.debug("Not told %s: %s", peer, error)

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        self._heard(stream.peer)
        while True:
            message = messages.read(await stream.receive(QUIET_S))
            if not self._within_budget(stream.peer):
                raise Refused("Too many questions.")
            answer = self._answer(stream.peer, message)
            if answer is not None:
                await stream.send(messages.encode(answer))

    def _answer(self, peer: PeerId, message: Message) -> Message | None:
        now_us = self._clock.now_us()
        closer = self._nodes(p for p in self._table.closest(key_of(message.key), K + 1) if p != peer)[:K]
        match message.type:
            case messages.FIND_NODE:
                return Message(type=messages.FIND_NODE, key=message.key, closer=closer)
            case messages.GET_PROVIDERS:
                providers = self._nodes(self._providers.get(message.key, now_us))[:K]
                return Message(type=messages.GET_PROVIDERS, key=message.key, closer=closer, providers=providers)
            case messages.ADD_PROVIDER:
                for node in message.providers:
                    if node.peer == peer and self._providers.add(message.key, peer, now_us):
                        self._addresses.learn(peer, node.addresses)
                return None
            case messages.PUT_VALUE:
                if message.value is None or not self._values.put(message.key, message.value, now_us):
                    raise Refused("Not a value that is kept here.")
                return Message(type=messages.PUT_VALUE, key=message.key, value=message.value)
            case messages.GET_VALUE:
                value = self._values.get(message.key, now_us)
                return Message(type=messages.GET_VALUE, key=message.key, value=value, closer=closer)
            case messages.PING:
                return Message(type=messages.PING)
        raise ProtocolError("An unknown DHT question.")

    def _nodes(self, peers: Any) -> tuple[Node, ...]:
        """Those that can be dialed, with their addresses."""
        own = self._addresses.own_addresses
        found = (Node(p, own() if p == self._me else self._addresses.known_addresses(p)) for p in peers)
        return tuple(node for node in found if node.addresses)

    def _within_budget(self, peer: PeerId) -> bool:
        now = self._clock.monotonic_us() / US
        left, at = self._budgets.get(peer, (BURST, now))
        left = min(BURST, left + (now - at) * PER_SECOND)
        self._budgets[peer] = (left - 1, now)
        return left >= 1

    # --- keeping the table -------------------------------------------------------------------------------------------

    def _heard(self, peer: PeerId) -> None:
        addresses = self._addresses.known_addresses(peer)
        if addresses and self._table.heard(peer, addresses[0].host) and len(self._table) == 1:
            self._wake.set()

    async def _follow(self) -> None:
        async for event in self._bus.subscribe(PeerChanged, PeerDisconnected):
            match event:
                case PeerDisconnected(peer_id=peer):
                    self._budgets.pop(peer, None)
                case PeerChanged(peer_id=peer):
                    if peer not in self._table and self._addresses.speaks(peer, messages.PROTOCOL):
                        self._heard(peer)
                case _:
                    pass

    async def _maintain(self) -> None:
        """Fill the table, announce again what is due, and save; for ever."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_S * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(FIRST_REFRESH_S)
            except TimeoutError:
                pass
            await self._refresh()
            await self._save()

    async def _refresh(self) -> None:
        for key in (base58_decode(self._me), *(os.urandom(32) for _ in range(REFRESHES))):
            await self._closest(key)
        now_us = self._refreshed_us = self._clock.now_us()
        for key, announced_us in tuple(self._mine.items()):
            if now_us - announced_us > REPUBLISH_US or announced_us == 0:
                await self.provide(key)
        for key, value in tuple(self._my_values.items()):
            await self.put(key, value)

    async def _save(self) -> None:
        contacts = [(peer, [str(a) for a in self._addresses.known_addresses(peer)]) for peer in self._table]
        await self._db.write(lambda tx: store.replace(tx, contacts))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="dht")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("A task of the DHT failed.", exc_info=error)
            self._bus.publish(Notice("error", "dht", f"The DHT failed: {error!r}."))
