"""A router between peers that do anything: it never fails, talks only to who is there, and keeps every table in its bounds."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.gossip_sim import TOPIC, identity, judge
from zstui.engine.clock import US
from zstui.engine.pubsub.messages import PROTOCOLS, IHave, Prune, Rpc, encode, read, sign
from zstui.engine.pubsub.model import Message, Params
from zstui.engine.pubsub.router import Router

PEERS = [identity(number).peer_id for number in range(2, 18)]
peers = st.sampled_from(PEERS)
topics = st.sampled_from([TOPIC, "elsewhere", ""])
words = st.sampled_from([b"good", b"bad", b"old"])


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.params = Params(max_ihave=20, message_burst=8, messages_per_s=1, max_seen=30, d=3, d_lo=2, d_hi=4, d_out=1)
        self.router = Router(identity(1).peer_id, {TOPIC: judge}, random.Random(1), params=self.params)
        self.router.subscribe(TOPIC, 0)
        self.now_us = 0
        self.here: set[str] = set()
        self.known: list[bytes] = []
        self.count = 0

    def _message(self, number: int, topic: str, word: bytes, *, forged: bool = False) -> Message:
        self.count += 1
        message = sign(identity(number), self.count, topic, word + b" %d" % self.count)
        self.known.append(message.id)
        return Message(message.author, message.seqno, topic, b"forged", message.signature) if forged else message

    def _receive(self, peer: str, rpc: Rpc) -> None:
        accepted = [m for frame in encode(rpc) for m in self.router.receive(peer, read(frame), self.now_us)]
        assert not accepted or peer in self.here
        for message in accepted:
            assert message.data.startswith(b"good")
            assert message.topic == TOPIC

    @rule(peer=peers, protocol=st.sampled_from(PROTOCOLS), dialed=st.booleans(), ip=st.sampled_from(["", "10.0.0.1"]))
    def connect(self, peer: str, protocol: str, dialed: bool, ip: str) -> None:
        self.router.connected(peer, protocol, ip, dialed=dialed)
        self.here.add(peer)

    @rule(peer=peers)
    def disconnect(self, peer: str) -> None:
        self.router.disconnected(peer, self.now_us)
        self.here.discard(peer)

    @rule(peer=peers, subscriptions=st.lists(st.tuples(st.booleans(), topics), max_size=3))
    def subscribe(self, peer: str, subscriptions: list[tuple[bool, str]]) -> None:
        self._receive(peer, Rpc(subscriptions=tuple(subscriptions)))

    @rule(
        peer=peers, author=st.integers(1, 17), topic=topics, word=words, forged=st.booleans(), copies=st.integers(1, 2)
    )
    def message(self, peer: str, author: int, topic: str, word: bytes, forged: bool, copies: int) -> None:
        self._receive(peer, Rpc(messages=(self._message(author, topic, word, forged=forged),) * copies))

    @rule(
        peer=peers, graft=st.lists(topics, max_size=3), prune=st.lists(topics, max_size=3), s=st.integers(0, 2**64 - 1)
    )
    def mesh(self, peer: str, graft: list[str], prune: list[str], s: int) -> None:
        self._receive(peer, Rpc(graft=tuple(graft), prune=tuple(Prune(topic, s) for topic in prune)))

    @rule(peer=peers, ids=st.lists(st.integers(0, 60), max_size=30), invented=st.integers(0, 30))
    def gossip(self, peer: str, ids: list[int], invented: int) -> None:
        real = tuple(self.known[i % len(self.known)] for i in ids if self.known)
        offered = real + tuple(b"invented %d" % n for n in range(invented))
        self._receive(peer, Rpc(ihave=(IHave(TOPIC, offered),), iwant=real))

    @rule()
    def publish(self) -> None:
        self.router.publish(self._message(1, TOPIC, b"good"), self.now_us)

    @rule(on=st.booleans())
    def my_subscription(self, on: bool) -> None:
        (self.router.subscribe if on else self.router.unsubscribe)(TOPIC, self.now_us)

    @rule(beats=st.integers(1, 5))
    def time_goes_by(self, beats: int) -> None:
        for _ in range(beats):
            self.now_us += US
            self.router.heartbeat(self.now_us)

    @invariant()
    def talks_only_to_who_is_there(self) -> None:
        for peer, rpc in self.router.take():
            assert peer in self.here
            assert len(rpc.iwant) <= self.params.max_ihave
            assert not any(m.data.startswith((b"bad", b"old", b"forged")) for m in rpc.messages)

    @invariant()
    def keeps_its_bounds(self) -> None:
        for members in self.router.meshes().values():
            assert members <= self.here
            assert len(members) <= len(PEERS)
        assert len(self.router._seen) <= self.params.max_seen
        assert self.router.graylisted() <= len(self.here)

    @invariant()
    def no_peer_below_zero_stays_long_in_the_mesh(self) -> None:
        self.router.heartbeat(self.now_us)
        for members in self.router.meshes().values():
            assert all(self.router.scores.score(peer) >= 0 for peer in members)


TestRouter = Machine.TestCase
TestRouter.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
