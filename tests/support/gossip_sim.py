"""Many gossipsub routers in virtual time: links with delays, heartbeats out of step, and what each one accepted."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import count
from typing import Any

from zstui.engine.clock import US
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.pubsub import messages
from zstui.engine.pubsub.messages import Rpc
from zstui.engine.pubsub.model import Message, Verdict
from zstui.engine.pubsub.router import Router

TOPIC = "/zstui/test"
DELAY_US = 10_000, 60_000


@lru_cache(maxsize=256)
def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def judge(author: PeerId, message: Message) -> Verdict:
    if message.data.startswith(b"bad"):
        return Verdict.REJECT
    return Verdict.IGNORE if message.data.startswith(b"old") else Verdict.ACCEPT


class Sim:
    def __init__(self, nodes: int, degree: int, seed: int = 1, **options: Any) -> None:
        """Each node dials ``degree`` others, chosen by chance."""
        self.chance = random.Random(seed)
        self.now_us = 0
        self.identities = [identity(number) for number in range(1, nodes + 1)]
        self.peers = [i.peer_id for i in self.identities]
        self.routers: dict[PeerId, Router] = {}
        self.links: set[frozenset[PeerId]] = set()
        self.got: dict[PeerId, dict[bytes, int]] = {peer: {} for peer in self.peers}
        """By node, what it accepted and when."""
        self.sent = 0
        """Copies of messages on the way so far."""
        self.lose: Callable[[PeerId, PeerId, Rpc], Rpc | None] = lambda a, b, rpc: rpc
        """What becomes of an RPC on its way."""
        self.silent: set[PeerId] = set()
        """Peers whose routers answer nothing: they do what a test sends for them."""
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        for peer in self.peers:
            self._add(peer, options)
        for number, peer in enumerate(self.peers):
            others = self.chance.sample(self.peers[:number] + self.peers[number + 1 :], min(degree, nodes - 1))
            for other in others:
                self.connect(peer, other)

    def _add(self, peer: PeerId, options: dict[str, Any]) -> None:
        router = Router(peer, {TOPIC: judge}, random.Random(self.chance.random()), **options)
        self.routers[peer] = router
        router.subscribe(TOPIC, 0)
        self.at(self.chance.randrange(US), lambda: self._beat(peer))

    def connect(self, dialer: PeerId, other: PeerId, protocol: str = messages.GOSSIPSUB_11, ip: str = "") -> None:
        pair = frozenset((dialer, other))
        if pair in self.links:
            return
        self.links.add(pair)
        self.routers[dialer].connected(other, protocol, ip, dialed=True)
        self.routers[other].connected(dialer, protocol, ip, dialed=False)
        self.flush(dialer)
        self.flush(other)

    def cut(self, a: PeerId, b: PeerId) -> None:
        self.links.discard(frozenset((a, b)))
        self.routers[a].disconnected(b, self.now_us)
        self.routers[b].disconnected(a, self.now_us)

    def publish(self, number: int, data: bytes) -> Message:
        peer = self.peers[number]
        message = messages.sign(self.identities[number], next(self._numbers) + 1, TOPIC, data)
        self.routers[peer].publish(message, self.now_us)
        self.got[peer][data] = self.now_us
        self.flush(peer)
        return message

    def send(self, sender: PeerId, receiver: PeerId, rpc: Rpc) -> None:
        passed = self.lose(sender, receiver, rpc)
        if passed is None or frozenset((sender, receiver)) not in self.links:
            return
        self.sent += len(passed.messages)
        arrival = self.now_us + self.chance.randrange(*DELAY_US)
        self.at(arrival, lambda: self._arrive(sender, receiver, passed))

    def flush(self, peer: PeerId) -> None:
        for receiver, rpc in self.routers[peer].take():
            if peer not in self.silent:
                self.send(peer, receiver, rpc)

    def at(self, time_us: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_us, next(self._numbers), what))

    def run(self, seconds: float) -> None:
        end = self.now_us + round(seconds * US)
        while self._events and self._events[0][0] <= end:
            self.now_us, _, what = heapq.heappop(self._events)
            what()
        self.now_us = end

    def missing(self, data: bytes, but: Iterable[PeerId] = ()) -> list[PeerId]:
        return [peer for peer in self.peers if data not in self.got[peer] and peer not in but]

    def mesh(self, peer: PeerId) -> frozenset[PeerId]:
        return self.routers[peer].meshes()[TOPIC]

    def _arrive(self, sender: PeerId, receiver: PeerId, rpc: Rpc) -> None:
        for message in self.routers[receiver].receive(sender, rpc, self.now_us):
            self.got[receiver][message.data] = self.now_us
        self.flush(receiver)

    def _beat(self, peer: PeerId) -> None:
        self.routers[peer].heartbeat(self.now_us)
        self.flush(peer)
        self.at(self.now_us + US, lambda: self._beat(peer))
