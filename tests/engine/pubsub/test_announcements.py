"""Announcements between nodes in memory and virtual time: who hears what, how soon, how often, and what strangers may not do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.virtual import VirtualClock, VirtualLoop
from zstui.engine.bus import Bus
from zstui.engine.errors import NetError, ProtocolError
from zstui.engine.events import CardChanged
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import Stream
from zstui.engine.net.memory import MemoryHub
from zstui.engine.pubsub.announcements import BURST, PER_S, Announcements, Subject, topic_name
from zstui.engine.pubsub.messages import GOSSIPSUB_11, Rpc, encode, read, sign
from zstui.engine.pubsub.metrics import PubSubMetrics
from zstui.engine.pubsub.service import MAX_WAITING, READ_BURST, READ_PER_S, REPEATS, _Outbox

TOPIC = topic_name("lab", "cards")


class Node:
    """Says one word and keeps those it hears."""

    def __init__(self, hub: MemoryHub, number: int, clock: VirtualClock) -> None:
        self.identity = Identity(number.to_bytes(32, "big"))
        self.id = self.identity.peer_id
        self.bus = Bus()
        self.network = hub.add(self.id, self.bus)
        self.word: bytes | None = b"word of %d" % number
        self.heard: dict[PeerId, bytes] = {}
        self.times: list[float] = []
        self._clock = clock
        subject = Subject("cards", self._take, lambda: self.word, (CardChanged,))
        self.announcements = Announcements(
            self.identity, self.network, self, self.bus, clock, "lab", (subject,), chance=random.Random(number)
        )

    def _take(self, author: PeerId, word: bytes) -> None:
        if word.startswith(b"wrong"):
            raise ProtocolError("A wrong word.")
        self.heard[author] = word
        self.times.append(self._clock.monotonic_us() / 1e6)

    def speaks(self, peer: PeerId, protocol: str) -> bool:
        return protocol == GOSSIPSUB_11

    def origin(self, peer: PeerId) -> tuple[bool, str]:
        return self.id < peer, ""

    def say(self, word: bytes | None) -> None:
        self.word = word
        self.bus.publish(CardChanged())


class World:
    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.hub = MemoryHub()
        self.nodes: list[Node] = []

    def add(self, *neighbours: Node) -> Node:
        """A node with links to these only."""
        node = Node(self.hub, len(self.nodes) + 1, self.clock)
        for other in self.nodes:
            if other not in neighbours:
                self.hub.cut(node.id, other.id)
        self.nodes.append(node)
        return node

    async def line(self, length: int) -> tuple[Node, ...]:
        for _ in range(length):
            node = self.add(*self.nodes[-1:])
            await node.announcements.start()
        return tuple(self.nodes)


def virtually(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in a loop of its own, in which waiting takes no time."""

    def run() -> None:
        loop = VirtualLoop()
        world = World(loop)

        async def whole() -> None:
            try:
                await test(world)
            finally:
                for node in world.nodes:
                    await node.announcements.stop()
                    await node.network.stop()

        try:
            loop.run_until_complete(whole())
        finally:
            loop.close()

    run.__name__ = test.__name__
    return run


@virtually
async def test_a_word_reaches_the_other_end_of_a_line_at_once(world: World) -> None:
    nodes = await world.line(5)
    await asyncio.sleep(3)
    first, last = nodes[0], nodes[-1]
    assert first.heard == {node.id: node.word for node in nodes[1:]}
    last.say(b"new price")
    await asyncio.sleep(0.5)
    assert first.heard[last.id] == b"new price"
    views = first.announcements.views()
    assert [(v.subject, v.topic, v.peers, v.mesh, v.authors) for v in views] == [("cards", TOPIC, 1, 1, 4)]


@virtually
async def test_the_metrics_say_who_takes_part_and_what_went_round(world: World) -> None:
    nodes = await world.line(3)
    await asyncio.sleep(3)
    registry = CollectorRegistry()
    registry.register(PubSubMetrics(nodes[1].announcements))
    lines = generate_latest(registry).decode().splitlines()
    assert 'pubsub_peers{topic="cards"} 2.0' in lines
    assert 'pubsub_mesh_peers{topic="cards"} 2.0' in lines
    assert 'pubsub_authors{topic="cards"} 2.0' in lines
    assert "pubsub_messages_accepted_total 2.0" in lines
    assert "pubsub_messages_published_total 1.0" in lines
    assert "pubsub_graylisted_peers 0.0" in lines
    nodes[1].announcements.pubsub.router.scores.penalize(nodes[0].id, 100)
    assert "pubsub_graylisted_peers 1.0" in generate_latest(registry).decode()


@virtually
async def test_a_newcomer_is_told_the_latest_words_by_its_neighbour(world: World) -> None:
    nodes = await world.line(4)
    await asyncio.sleep(30)
    said = [node.announcements.pubsub.published for node in nodes]
    late = world.add(nodes[0])
    await late.announcements.start()
    await asyncio.sleep(0.5)
    assert late.heard == {node.id: node.word for node in nodes}
    assert [node.announcements.pubsub.published for node in nodes] == said, "nobody had to say it again"
    assert all(node.heard[late.id] == late.word for node in nodes)


@virtually
async def test_old_and_repeated_words_are_not_taken(world: World) -> None:
    one, two = await world.line(2)
    await asyncio.sleep(1)
    old = sign(one.identity, 1, TOPIC, b"old")
    two.announcements.pubsub.router.receive(one.id, Rpc(messages=(old,)), world.clock.monotonic_us())
    assert two.heard[one.id] == one.word
    new = sign(one.identity, 2**62, TOPIC, b"new")
    for _ in range(2):
        two.announcements.pubsub.router.receive(one.id, Rpc(messages=(new,)), world.clock.monotonic_us())
    assert two.heard[one.id] == b"new"
    assert two.announcements.pubsub.router.scores.score(one.id) >= 0, "an old word is nobody's fault"


@virtually
async def test_who_changes_its_mind_all_the_time_says_the_latest_word_in_the_end(world: World) -> None:
    nodes = await world.line(3)
    await asyncio.sleep(60)
    before = nodes[0].announcements.pubsub.published
    for number in range(200):
        nodes[0].say(b"price %d" % number)
        await asyncio.sleep(0.2)
    await asyncio.sleep(25)
    assert nodes[2].heard[nodes[0].id] == b"price 199"
    assert nodes[0].announcements.pubsub.published - before <= BURST / 2 + 70 * PER_S / 2 + 1


@virtually
async def test_an_author_that_says_too_much_is_passed_on_by_nobody(world: World) -> None:
    nodes = await world.line(3)
    await asyncio.sleep(60)
    heard = len(nodes[1].times)
    for number in range(50):
        nodes[0].announcements.pubsub.publish(TOPIC, b"flood %d" % number)
        await asyncio.sleep(0.01)
    assert len(nodes[1].times) - heard <= BURST
    assert nodes[1].announcements.pubsub.router.scores.score(nodes[0].id) >= 0, "it is ignored, not blamed on relays"


@virtually
async def test_a_wrong_word_counts_against_its_bringer(world: World) -> None:
    nodes = await world.line(3)
    await asyncio.sleep(2)
    nodes[0].announcements.pubsub.publish(TOPIC, b"wrong")
    await asyncio.sleep(2)
    assert nodes[1].announcements.pubsub.router.scores.score(nodes[0].id) < 0
    assert nodes[0].id not in nodes[1].announcements.pubsub.router.meshes()[TOPIC]
    assert nodes[2].heard[nodes[0].id] == nodes[0].word, "it got no further"
    assert nodes[2].announcements.pubsub.router.scores.score(nodes[1].id) >= 0


@virtually
async def test_words_are_said_again_now_and_then(world: World) -> None:
    nodes = await world.line(2)
    await asyncio.sleep(1)
    before = nodes[0].announcements.pubsub.published
    await asyncio.sleep(600)
    assert 8 <= nodes[0].announcements.pubsub.published - before <= 13
    nodes[0].say(None)
    await asyncio.sleep(200)
    silent = nodes[0].announcements.pubsub.published
    await asyncio.sleep(600)
    assert nodes[0].announcements.pubsub.published == silent, "nothing to say, nothing said"


@virtually
async def test_broken_streams_are_opened_again_and_links_come_back(world: World) -> None:
    one, two = await world.line(2)
    await asyncio.sleep(2)
    for stream in (*one.announcements.pubsub._inbound.values(), *two.announcements.pubsub._inbound.values()):
        stream.reset()
    one.say(b"said into the gap")
    await asyncio.sleep(10)
    assert two.heard[one.id] == b"said into the gap"
    world.hub.cut(one.id, two.id)
    await asyncio.sleep(1)
    assert one.announcements.views()[0].peers == 0
    one.say(b"said alone")
    await asyncio.sleep(5)
    world.hub.link(one.id, two.id)
    await asyncio.sleep(2)
    assert two.heard[one.id] == b"said alone"


@virtually
async def test_who_sends_garbage_is_soon_not_heard(world: World) -> None:
    (victim,) = await world.line(1)
    attacker = Node(world.hub, 99, world.clock)
    attacker.network.handle(GOSSIPSUB_11, _swallow)
    await asyncio.sleep(0.1)
    for _ in range(5):
        stream = await attacker.network.open(victim.id, GOSSIPSUB_11)
        await stream.send(b"\xff\xff garbage")
        with pytest.raises(NetError):
            await stream.receive(1)
    assert not victim.announcements.pubsub.router.hears(attacker.id)
    stream = await attacker.network.open(victim.id, GOSSIPSUB_11)
    word = sign(attacker.identity, 1, TOPIC, b"hello")
    await stream.send(encode(Rpc(subscriptions=((True, TOPIC),), messages=(word,)))[0])
    await asyncio.sleep(1)
    assert attacker.id not in victim.heard
    await attacker.network.stop()


@virtually
async def test_a_flood_of_bytes_is_read_slowly(world: World) -> None:
    (victim,) = await world.line(1)
    attacker = Node(world.hub, 99, world.clock)
    attacker.network.handle(GOSSIPSUB_11, _swallow)
    stream = await attacker.network.open(victim.id, GOSSIPSUB_11)
    frame = encode(Rpc(subscriptions=((True, "x" * 100),) * 600))[0]
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await stream.send(frame)
            sent += len(frame)

    flooding = asyncio.create_task(flood())
    before = world.clock.monotonic_us()
    await asyncio.sleep(60)
    flooding.cancel()
    stream.reset()
    seconds = (world.clock.monotonic_us() - before) / 1e6
    assert sent <= READ_BURST + READ_PER_S * seconds + 1100 * len(frame), "what is read, and what waits in the stream"
    await attacker.network.stop()


@virtually
async def test_who_subscribes_again_and_again_is_told_a_few_times_only(world: World) -> None:
    nodes = await world.line(2)
    await asyncio.sleep(5)
    greedy = Node(world.hub, 99, world.clock)
    got: list[bytes] = []

    async def listen(stream: Stream) -> None:
        while True:
            got.extend(message.data for message in read(await stream.receive(None)).messages)

    greedy.network.handle(GOSSIPSUB_11, listen)
    stream = await greedy.network.open(nodes[0].id, GOSSIPSUB_11)
    for _ in range(50):
        for on in (True, False):
            await stream.send(encode(Rpc(subscriptions=((on, TOPIC),)))[0])
    await asyncio.sleep(3)
    assert set(got) == {node.word for node in nodes}
    assert len(got) == REPEATS * len(nodes)
    await greedy.network.stop()


async def _swallow(stream: object) -> None:
    await asyncio.sleep(3600)


def test_what_waits_for_a_slow_peer_is_bounded() -> None:
    outbox = _Outbox(GOSSIPSUB_11)
    taken = sum(outbox.put(bytes(1024)) for _ in range(5000))
    assert taken == MAX_WAITING // 1024


def test_named_networks_talk_among_themselves() -> None:
    names = [topic_name(name, "cards") for name in ("", "cards", "a/b", "a", "%", "*")]
    assert names[:2] == ["/zstui/cards", "/zstui/cards/cards"]
    assert len(set(names)) == len(names)
