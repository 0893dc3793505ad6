"""A gossipsub 1.1 router without input and output: what comes in is handed to it, what is to go out is taken from it.

Everything is a function of the calls, of the time that they carry (monotonic µs) and of the ``chance`` it was given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.cache import History, Seen
from zstui.engine.pubsub.gossip import Gossip
from zstui.engine.pubsub.limits import Buckets
from zstui.engine.pubsub.mesh import Mesh
from zstui.engine.pubsub.messages import Rpc, check
from zstui.engine.pubsub.model import (
    Message,
    Params,
    ScoreParams,
    Thresholds,
    TopicScore,
    Verdict,
    author_bytes,
)
from zstui.engine.pubsub.score import PeerScores
from zstui.engine.pubsub.state import Peer, State

_MALFORMED = 5.0
"""Slips that bytes which are no RPC count as."""
_EXCESS = 0.1
"""And a message beyond what a peer may bring. Honest peers send less than that by design, but the network may hold messages back
and bring them all at once."""

Validator = Callable[[PeerId, Message], Verdict]
"""``(author, message)``: judges what a message says, and takes it in if it is accepted. Its signature has been checked."""


class Router:
    """``validators`` by topic are what may be subscribed to."""

    def __init__(
        self,
        me: PeerId,
        validators: Mapping[str, Validator],
        chance: random.Random,
        *,
        app_score: Callable[[PeerId], float] = lambda peer: 0.0,
        params: Params = Params(),  # noqa: B008  # frozen, as the next three
        thresholds: Thresholds = Thresholds(),  # noqa: B008
        score: ScoreParams = ScoreParams(),  # noqa: B008
        topic_score: TopicScore = TopicScore(),  # noqa: B008
    ) -> None:
        self._me = author_bytes(me)
        self._validators = validators
        self._params = params
        self._thresholds = thresholds
        self.scores = PeerScores(
            score, dict.fromkeys(validators, topic_score), app_score, params.seen_ttl_us, params.max_seen
        )
        self._state = State(params, thresholds, self.scores, chance)
        self._seen = Seen(params.seen_ttl_us, params.max_seen)
        self._history = History(params.history, params.history_gossip)
        self._mesh = Mesh(self._state)
        self._gossip = Gossip(self._state, self._mesh, self._history, self._seen)
        self._inbound: Buckets[PeerId] = Buckets(params.message_burst, params.messages_per_s)
        self.take = self._state.take
        """What is to be sent now, to whom: call it after every other call."""

    # --- who is there ------------------------------------------------------------------------------------------------

    def connected(self, peer: PeerId, protocol: str, ip: str, *, dialed: bool) -> None:
        """A peer can be sent to. Called again, it is told my subscriptions again."""
        known = self._state.peers.get(peer)
        self._state.peers[peer] = Peer(protocol, dialed, known.topics if known is not None else set())
        self.scores.add(peer, ip)
        self._state.draft(peer).subscriptions.extend((True, topic) for topic in self._mesh.topics)

    def disconnected(self, peer: PeerId, now_us: int) -> None:
        if self._state.peers.pop(peer, None) is not None:
            self._mesh.forget(peer)
            self._gossip.forget(peer)
            self.scores.remove(peer, now_us)

    # --- what this node does -----------------------------------------------------------------------------------------

    def subscribe(self, topic: str, now_us: int) -> None:
        if topic in self._mesh.topics or topic not in self._validators:
            return
        for peer in self._state.peers:
            self._state.draft(peer).subscriptions.append((True, topic))
        self._mesh.join(topic, now_us)

    def unsubscribe(self, topic: str, now_us: int) -> None:
        if topic not in self._mesh.topics:
            return
        self._mesh.leave(topic, now_us)
        for peer in self._state.peers:
            self._state.draft(peer).subscriptions.append((False, topic))

    def publish(self, message: Message, now_us: int) -> None:
        """Send a signed message of mine to every subscriber in good standing (flood publishing). Who comes within the next
        heartbeats is told of it."""
        self._seen.add(message.id, now_us)
        self._history.put(message)
        if message.topic not in self._mesh.topics:
            self._mesh.publish_to(message.topic, now_us)
        for peer in self._state.subscribers(message.topic, self._thresholds.publish, meshing=False):
            self._state.draft(peer).messages.append(message)

    def heartbeat(self, now_us: int) -> None:
        """Call it once every ``heartbeat_us``."""
        self.scores.refresh(now_us)
        self._seen.expire(now_us)
        self._mesh.heartbeat(now_us)
        self._gossip.heartbeat(now_us)

    # --- what peers send ---------------------------------------------------------------------------------------------

    def receive(self, peer: PeerId, rpc: Rpc, now_us: int) -> list[Message]:
        """The new messages in it that were accepted."""
        if peer not in self._state.peers or not self.hears(peer):
            return []
        for subscribed, topic in rpc.subscriptions:
            self._subscription(peer, subscribed, topic)
        accepted = [m for m in rpc.messages if self._message(peer, m, now_us)]
        if self._state.peers[peer].meshes:
            for have in rpc.ihave:
                self._gossip.offered(peer, have, now_us)
            self._gossip.wanted(peer, rpc.iwant, now_us)
            for topic in dict.fromkeys(rpc.graft):
                self._mesh.grafted(peer, topic, now_us)
            for prune in rpc.prune:
                self._mesh.pruned(peer, prune, now_us)
        return accepted

    def malformed(self, peer: PeerId) -> None:
        """It sent what is no RPC."""
        self.scores.penalize(peer, _MALFORMED)

    def _subscription(self, peer: PeerId, subscribed: bool, topic: str) -> None:
        topics = self._state.peers[peer].topics
        if not subscribed:
            topics.discard(topic)
            self._mesh.unsubscribed(peer, topic)
        elif len(topics) < self._params.max_topics or topic in topics:
            topics.add(topic)
        else:
            self.scores.penalize(peer)

    def _message(self, peer: PeerId, message: Message, now_us: int) -> bool:
        topic = message.topic
        if topic not in self._mesh.topics or message.author == self._me:
            return False
        if message.id in self._seen:
            self.scores.duplicate(peer, topic, message.id, now_us)
            return False
        if not self._inbound.take(peer, now_us):
            self._gossip.came(message.id)
            self.scores.penalize(peer, _EXCESS)
            return False
        try:
            author = check(message)
        except ProtocolError:
            self.scores.invalid(peer, topic)
            return False
        self._seen.add(message.id, now_us)
        self._gossip.came(message.id)
        verdict = self._validators[topic](author, message)
        self.scores.judged(peer, topic, message.id, verdict, now_us)
        if verdict is not Verdict.ACCEPT:
            return False
        self._history.put(message)
        self._forward(peer, author, message, now_us)
        return True

    def _forward(self, source: PeerId, author: PeerId, message: Message, now_us: int) -> None:
        flooded = [
            peer
            for peer in self._state.subscribers(message.topic, self._thresholds.publish, meshing=False)
            if not self._state.peers[peer].meshes
        ]
        for peer in (*self._mesh.topics[message.topic], *flooded):
            if peer not in (source, author):
                self._state.forward(peer, message, now_us)

    # --- what can be seen --------------------------------------------------------------------------------------------

    def meshes(self) -> dict[str, frozenset[PeerId]]:
        """The mesh of each topic subscribed to."""
        return {topic: frozenset(members) for topic, members in self._mesh.topics.items()}

    def subscribers(self, topic: str) -> frozenset[PeerId]:
        """Connected peers subscribed to ``topic``."""
        return frozenset(peer for peer, known in self._state.peers.items() if topic in known.topics)

    def repeat(self, peer: PeerId, messages: Iterable[Message], now_us: int) -> None:
        """Send a newcomer what others said before it came."""
        for message in messages:
            self._state.forward(peer, message, now_us)

    def hears(self, peer: PeerId) -> bool:
        """Whether it is listened to at all."""
        return self.scores.score(peer) >= self._thresholds.graylist

    def graylisted(self) -> int:
        """Connected peers that are not."""
        return sum(not self.hears(peer) for peer in self._state.peers)
