"""Gossipsub on the network: one long-lived stream each way with every peer that speaks it, and a heartbeat a second.

A peer's stream carries what it says; what it is told goes over a stream that this node opens. Nothing here dials anybody.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.errors import FrameTooLarge, NetError, ProtocolError, Refused
from zstui.engine.events import PeerChanged, PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import Network, Stream
from zstui.engine.net.tasks import Tasks
from zstui.engine.pubsub.limits import Buckets
from zstui.engine.pubsub.messages import PROTOCOLS, encode, read, sign
from zstui.engine.pubsub.model import MAX_DATA, Message, Params
from zstui.engine.pubsub.router import Router, Validator

log = logging.getLogger(__name__)

Changes = Subscription[PeerConnected | PeerChanged | PeerDisconnected]

MAX_WAITING = 1024 * 1024
"""Bytes for one peer that may wait to be sent; what comes then is dropped, and gossip makes up for it."""
READ_BURST, READ_PER_S = 1024 * 1024, 128 * 1024
"""Bytes of one peer that are read at once, and per second; it has to wait for more, so that reading costs no more than that."""
READ_FRAME = 256
"""What a frame costs beside its bytes."""
REPEATS, REPEAT_S = 4, 60.0
"""How often a peer that subscribes again and again is told again what was said before: so often at once, and so many seconds for
each more."""
RETRY_S, RETRY_MOST_S = 1.0, 300.0
"""After a stream broke while the link stayed."""


class Links(Protocol):
    """What is asked of the network beside streams."""

    def speaks(self, peer: PeerId, protocol: str) -> bool:
        """Whether a connected peer said that it speaks ``protocol``."""

    def origin(self, peer: PeerId) -> tuple[bool, str]:
        """Whether this node dialed a connected peer, and from which IP address it comes; "" where that says nothing of it."""


class _Outbox:
    """Frames for one peer, in order."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.task: asyncio.Task[None] | None = None
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    def put(self, frame: bytes) -> bool:
        """False if too much waits already."""
        if self._bytes + len(frame) > MAX_WAITING:
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        self._ready.set()
        return True

    async def next(self) -> bytes:
        while not self._frames:
            self._ready.clear()
            await self._ready.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    def clear(self) -> None:
        self._frames.clear()
        self._bytes = 0


class PubSub:
    """Subscribed to all topics of ``validators`` from the start on. ``app_score`` is what else is known of a peer, 0: nothing."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        links: Links,
        bus: Bus,
        clock: Clock,
        validators: Mapping[str, Validator],
        *,
        app_score: Callable[[PeerId], float] = lambda peer: 0.0,
        newcomer: Callable[[PeerId, str], list[Message]] = lambda peer, topic: [],
        chance: random.Random | None = None,
    ) -> None:
        """``newcomer`` gives what a peer is told that has just subscribed to a topic."""
        self._identity = identity
        self._network = network
        self._links = links
        self._bus = bus
        self._clock = clock
        self._topics = tuple(validators)
        self._newcomer = newcomer
        self._params = Params()
        self.router = Router(
            network.peer_id, validators, chance or random.SystemRandom(), app_score=app_score, params=self._params
        )
        self._outboxes: dict[PeerId, _Outbox] = {}
        self._inbound: dict[PeerId, Stream] = {}
        self._tasks = Tasks(bus)
        self._stopping = False
        self._reading: Buckets[PeerId] = Buckets(READ_BURST, READ_PER_S)
        self._repeats: Buckets[tuple[PeerId, str]] = Buckets(REPEATS, 1 / REPEAT_S)
        self._seqno = 0
        self.accepted = 0
        """Messages of others taken in, since the start."""
        self.published = 0
        self.dropped = 0
        """Frames not sent, because a peer took too little."""
        for protocol in PROTOCOLS:
            network.handle(protocol, partial(self._serve, protocol))

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        changes: Changes = self._bus.subscribe(PeerConnected, PeerChanged, PeerDisconnected)
        for topic in self._topics:
            self.router.subscribe(topic, self._now())
        for peer in self._network.connected():
            self._look_at(peer)
        self._tasks.spawn(self._follow(changes), "pubsub links")
        self._tasks.spawn(self._beat(), "pubsub heartbeat")

    async def stop(self) -> None:
        """Idempotent."""
        self._stopping = True
        await self._tasks.stop()

    # --- what it does ------------------------------------------------------------------------------------------------

    def publish(self, topic: str, data: bytes) -> Message:
        """Sign ``data`` and send it to all subscribers of the topic; the message. Raises ProtocolError for too much data."""
        if not 0 < len(data) <= MAX_DATA:
            raise ProtocolError(f"A message of {len(data)} bytes; they have 1 to {MAX_DATA}.")
        self._seqno = max(self._seqno + 1, self._clock.now_us() * 1000)
        message = sign(self._identity, self._seqno, topic, data)
        self.router.publish(message, self._now())
        self.published += 1
        self._flush()
        return message

    # --- peers -------------------------------------------------------------------------------------------------------

    async def _follow(self, changes: Changes) -> None:
        async for event in changes:
            if event.peer_id in self._network.connected():
                self._look_at(event.peer_id)
            elif isinstance(event, PeerDisconnected):
                self._drop(event.peer_id)

    def _look_at(self, peer: PeerId) -> None:
        if peer not in self._outboxes:
            spoken = next((p for p in PROTOCOLS if self._links.speaks(peer, p)), "")
            if spoken:
                self._meet(peer, spoken)

    def _meet(self, peer: PeerId, protocol: str) -> None:
        outbox = self._outboxes[peer] = _Outbox(protocol)
        self._greet(peer, outbox)
        outbox.task = self._tasks.spawn(self._carry(peer, outbox), "pubsub sender")

    def _greet(self, peer: PeerId, outbox: _Outbox) -> None:
        dialed, ip = self._links.origin(peer)
        outbox.clear()
        self.router.connected(peer, outbox.protocol, ip, dialed=dialed)
        self._flush()

    def _drop(self, peer: PeerId) -> None:
        outbox = self._outboxes.pop(peer, None)
        if outbox is not None and outbox.task is not None:
            outbox.task.cancel()
        self.router.disconnected(peer, self._now())
        self._flush()

    async def _carry(self, peer: PeerId, outbox: _Outbox) -> None:
        """Send what waits for ``peer``, over another stream where one breaks, while there is a link."""
        pause = RETRY_S
        while peer in self._network.connected():
            began = self._now()
            try:
                await self._send_all(peer, outbox)
            except (NetError, Refused, ProtocolError) as error:
                log.debug("Not sent to %s: %s", peer, error)
            pause = RETRY_S if self._now() - began > RETRY_MOST_S * US else min(2 * pause, RETRY_MOST_S)
            await self._clock.sleep(pause)
            if peer in self._network.connected():
                self._greet(peer, outbox)
                self._repeat(peer, [t for t in self._topics if peer in self.router.subscribers(t)])
        if self._outboxes.get(peer) is outbox:
            self._drop(peer)

    async def _send_all(self, peer: PeerId, outbox: _Outbox) -> None:
        stream = await self._network.open(peer, outbox.protocol)
        try:
            while True:
                await stream.send(await outbox.next())
        finally:
            stream.reset()

    async def _serve(self, protocol: str, stream: Stream) -> None:
        """What one peer says. A new stream of a peer takes the place of its old one."""
        peer = stream.peer
        if self._stopping:
            raise Refused("This node is going.")
        old = self._inbound.get(peer)
        if old is not None:
            old.reset()
        self._inbound[peer] = stream
        if peer not in self._outboxes:
            self._meet(peer, protocol)
        try:
            while True:
                frame = await stream.receive(None)
                self._received(peer, frame)
                wait_us = self._reading.spend(peer, READ_FRAME + len(frame), self._now())
                if wait_us:
                    await self._clock.sleep(wait_us / US)
        except (ProtocolError, FrameTooLarge):
            self.router.malformed(peer)
            raise
        finally:
            if self._inbound.get(peer) is stream:
                del self._inbound[peer]

    def _received(self, peer: PeerId, frame: bytes) -> None:
        if not self.router.hears(peer):
            return
        rpc = read(frame)
        self.accepted += len(self.router.receive(peer, rpc, self._now()))
        joined = {topic for subscribed, topic in rpc.subscriptions if subscribed and topic in self._topics}
        self._repeat(peer, [topic for topic in joined if self._repeats.take((peer, topic), self._now())])
        self._flush()

    def _repeat(self, peer: PeerId, topics: Iterable[str]) -> None:
        """Tell a peer that is new, or may have missed something, what was said before."""
        for topic in topics:
            self.router.repeat(peer, self._newcomer(peer, topic), self._now())
        self._flush()

    # --- helpers -----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._params.heartbeat_us / US)
            self.router.heartbeat(self._now())
            self._flush()

    def _flush(self) -> None:
        for peer, rpc in self.router.take():
            outbox = self._outboxes.get(peer)
            if outbox is not None:
                for frame in encode(rpc):
                    self.dropped += not outbox.put(frame)

    def _now(self) -> int:
        return self._clock.monotonic_us()
