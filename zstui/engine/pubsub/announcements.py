"""What nodes announce to a whole network: on each subject every node has one word, the latest one.

A newer sequence number replaces an older one, so replayed and reordered messages do no harm, and whoever comes later is told the
latest words by its neighbours. All words of a topic together shall come to about one a second, however large the network: with
more authors, each waits longer until it says its word again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from urllib.parse import quote

import msgspec

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.errors import ProtocolError
from zstui.engine.events import Event
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import Network
from zstui.engine.net.tasks import Tasks
from zstui.engine.pubsub.limits import Buckets
from zstui.engine.pubsub.model import Message, Verdict
from zstui.engine.pubsub.service import Links, PubSub
from zstui.engine.views import TopicView

log = logging.getLogger(__name__)

AGAIN_LEAST_S, AGAIN_MOST_S = 60.0, 3600.0
"""A word is said again after so many seconds as there are authors, between these bounds."""
BURST, PER_S = 16.0, 1 / 10
"""Words that an author may say in one topic; more are passed on by nobody. This node says half as many."""
MAX_AUTHORS = 4096
"""Remembered for each topic."""
CALM_S = 0.1
"""Changes within this time are one announcement."""
LATEST, LATEST_S = 64, 900.0
"""Words that a newcomer is told, and how old they may be."""


class Subject(msgspec.Struct, frozen=True):
    name: str
    take: Callable[[PeerId, bytes], None]
    """Gets an author and its word. Raises ProtocolError for what no honest peer passes on."""
    mine: Callable[[], bytes | None]
    """What this node has to say at present, at most ``MAX_DATA`` bytes; None while it has nothing."""
    on: tuple[type[Event], ...] = ()
    """Events after which it may have something new to say."""


class _Word(msgspec.Struct, frozen=True):
    seqno: bytes
    at_us: int
    message: Message | None
    """None once it is too old to be told."""


def topic_name(network: str, subject: str) -> str:
    """Nodes of a named network talk among themselves."""
    return f"/zstui/{quote(network, safe='')}/{subject}" if network else f"/zstui/{subject}"


class _Topic:
    """What was said in one topic."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.subject = subject
        self.name = name
        self.words: OrderedDict[PeerId, _Word] = OrderedDict()
        """The latest of each author, the latest heard last."""
        self.budget: Buckets[PeerId] = Buckets(BURST, PER_S, MAX_AUTHORS)
        self.mine: Buckets[str] = Buckets(BURST / 2, PER_S / 2)
        self.said: Message | None = None
        """My own latest."""
        self.due_us = 0
        """When this node says its word again."""

    def judge(self, author: PeerId, message: Message, now_us: int) -> Verdict:
        known = self.words.get(author)
        if known is not None and message.seqno <= known.seqno:
            return Verdict.IGNORE
        if not self.budget.take(author, now_us):
            return Verdict.IGNORE
        try:
            self.subject.take(author, message.data)
        except ProtocolError as error:
            log.debug("%s by %s: %s", self.name, author, error)
            return Verdict.REJECT
        self.words[author] = _Word(message.seqno, now_us, message)
        self.words.move_to_end(author)
        if len(self.words) > MAX_AUTHORS:
            self.words.popitem(last=False)
        return Verdict.ACCEPT

    def latest(self, peer: PeerId, now_us: int) -> list[Message]:
        """My own and those of others than ``peer``, the latest first."""
        found = [self.said] if self.said is not None else []
        for author, word in reversed(self.words.items()):
            if word.message is None or word.at_us + LATEST_S * US < now_us or len(found) == LATEST:
                break
            if author != peer:
                found.append(word.message)
        return found

    def expire(self, now_us: int) -> None:
        """Old words are kept by their number only."""
        for author, word in self.words.items():
            if word.at_us + LATEST_S * US > now_us:
                break
            if word.message is not None:
                self.words[author] = _Word(word.seqno, word.at_us, None)

    def authors(self, now_us: int) -> int:
        """Who has said something lately."""
        return sum(word.at_us + AGAIN_MOST_S * US > now_us for word in self.words.values())


class Announcements:
    def __init__(
        self,
        identity: Identity,
        network: Network,
        links: Links,
        bus: Bus,
        clock: Clock,
        network_name: str,
        subjects: Iterable[Subject],
        *,
        app_score: Callable[[PeerId], float] = lambda peer: 0.0,
        chance: random.Random | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self._topics = {s.name: _Topic(s, topic_name(network_name, s.name)) for s in subjects}
        by_name = {topic.name: topic for topic in self._topics.values()}

        def judging(topic: _Topic) -> Callable[[PeerId, Message], Verdict]:
            return lambda author, message: topic.judge(author, message, self._now())

        self.pubsub = PubSub(
            identity,
            network,
            links,
            bus,
            clock,
            {name: judging(topic) for name, topic in by_name.items()},
            app_score=app_score,
            newcomer=self._newcomer,
            chance=chance,
        )
        self._by_name = by_name
        self._changed: set[str] = set(self._topics)
        self._wake = asyncio.Event()
        self._tasks = Tasks(bus)

    async def start(self) -> None:
        subjects = [topic.subject for topic in self._topics.values()]
        events = self._bus.subscribe(*{kind for subject in subjects for kind in subject.on})
        await self.pubsub.start()
        for work in (self._announce(), self._follow(events)):
            self._tasks.spawn(work, "announcements")

    async def stop(self) -> None:
        """Idempotent."""
        await self._tasks.stop()
        await self.pubsub.stop()

    async def _follow(self, events: Subscription[Event]) -> None:
        async for event in events:
            self._changed.update(name for name, topic in self._topics.items() if isinstance(event, topic.subject.on))
            self._wake.set()

    def views(self) -> tuple[TopicView, ...]:
        meshes, now_us = self.pubsub.router.meshes(), self._now()
        return tuple(
            TopicView(
                subject=topic.subject.name,
                topic=topic.name,
                peers=len(self.pubsub.router.subscribers(topic.name)),
                mesh=len(meshes.get(topic.name, ())),
                authors=topic.authors(now_us),
            )
            for topic in self._topics.values()
        )

    def _newcomer(self, peer: PeerId, name: str) -> list[Message]:
        """What a peer is told that has just subscribed."""
        return self._by_name[name].latest(peer, self._now())

    async def _announce(self) -> None:
        while True:
            now_us = self._now()
            waits = [self._tend(topic, now_us) for topic in self._topics.values()]
            try:
                async with asyncio.timeout(max(CALM_S, min(waits) / US)):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()
            await self._clock.sleep(CALM_S)

    def _tend(self, topic: _Topic, now_us: int) -> int:
        """Say my word if it is a new one or due; how long until it should be looked at again."""
        topic.expire(now_us)
        name, due = topic.subject.name, topic.due_us <= now_us
        if name in self._changed or due:
            wait_us = topic.mine.wait_us("", now_us)
            if wait_us:
                return wait_us
            self._changed.discard(name)
            word = topic.subject.mine()
            if word is not None and (due or topic.said is None or word != topic.said.data):
                topic.mine.take("", now_us)
                topic.said = self.pubsub.publish(topic.name, word)
                due = True
            if due:
                again_s = min(max(AGAIN_LEAST_S, float(topic.authors(now_us))), AGAIN_MOST_S)
                topic.due_us = now_us + round(again_s * self._chance.uniform(0.8, 1.2) * US)
        return topic.due_us - now_us

    def _now(self) -> int:
        return self._clock.monotonic_us()
