"""What this node thinks of each peer's behaviour (gossipsub 1.1, "Peer Scoring"). Pure; never told to anybody.

    score = min(topic_cap, sum over topics of weight * (w1 P1 + w2 P2 + w3 P3 + w3b P3b + w4 P4)) + w5 P5 + w6 P6 + w7 P7

P1 time in the mesh, P2 messages first brought, P3 too few messages brought while in the mesh, P3b the same when pruned, P4
invalid messages, P5 what the application says, P6 many peers at one IP address, P7 misbehaviour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.model import MessageId, ScoreParams, TopicScore, Verdict


@dataclass
class _InTopic:
    """A peer's counters in one topic."""

    grafted_us: int | None = None
    mesh_us: int = 0
    first: float = 0.0
    mesh: float = 0.0
    failures: float = 0.0
    invalid: float = 0.0

    def deficit(self, p: TopicScore) -> float:
        """Squared; 0 outside of the mesh or while the peer is new in it."""
        if self.grafted_us is None or self.mesh_us <= p.mesh_activation_us:
            return 0.0
        return max(0.0, p.mesh_threshold - self.mesh) ** 2

    def value(self, p: TopicScore) -> float:
        time = min(self.mesh_us / p.time_quantum_us, p.time_cap) if self.grafted_us is not None else 0.0
        return p.weight * (
            p.time_weight * time
            + p.first_weight * self.first
            + p.mesh_weight * self.deficit(p)
            + p.failure_weight * self.failures
            + p.invalid_weight * self.invalid**2
        )

    def decay(self, p: TopicScore, zero: float, now_us: int) -> None:
        self.first = _decayed(self.first, p.first_decay, zero)
        self.mesh = _decayed(self.mesh, p.mesh_decay, zero)
        self.failures = _decayed(self.failures, p.failure_decay, zero)
        self.invalid = _decayed(self.invalid, p.invalid_decay, zero)
        if self.grafted_us is not None:
            self.mesh_us = now_us - self.grafted_us


@dataclass
class _Standing:
    ip: str = ""
    topics: dict[str, _InTopic] = field(default_factory=dict)
    behaviour: float = 0.0
    until_us: int | None = None
    """When it is forgotten; None while connected."""


@dataclass
class _Delivery:
    """What became of a message, and who brought it before that was known or soon after."""

    verdict: Verdict
    at_us: int
    peers: set[PeerId]


class PeerScores:
    """``app_score`` is P5 of a peer. Topics without parameters do not count."""

    def __init__(
        self,
        params: ScoreParams,
        topics: Mapping[str, TopicScore],
        app_score: Callable[[PeerId], float],
        remember_us: int,
        limit: int,
    ) -> None:
        """Deliveries are remembered for ``remember_us``, at most ``limit`` of them."""
        self._params = params
        self._topics = topics
        self._app_score = app_score
        self._remember_us = remember_us
        self._limit = limit
        self._peers: dict[PeerId, _Standing] = {}
        self._at_ip: dict[str, set[PeerId]] = {}
        self._deliveries: OrderedDict[MessageId, _Delivery] = OrderedDict()
        self._decayed_us: int | None = None

    # --- who is there ------------------------------------------------------------------------------------------------

    def add(self, peer: PeerId, ip: str) -> None:
        """``peer`` is connected from ``ip``; "" where its address says nothing about it."""
        standing = self._peers.setdefault(peer, _Standing())
        standing.until_us = None
        self._move(peer, standing, ip)

    def remove(self, peer: PeerId, now_us: int) -> None:
        """It is gone. What is good about it is forgotten; what is bad stays for a while."""
        standing = self._peers.get(peer)
        if standing is None:
            return
        bad = self.score(peer) < 0
        self._move(peer, standing, "")
        if not bad:
            del self._peers[peer]
            return
        for topic in tuple(standing.topics):
            self.prune(peer, topic)
            standing.topics[topic].first = 0.0
        standing.until_us = now_us + self._params.retain_us
        retained = [p for p, s in self._peers.items() if s.until_us is not None]
        if len(retained) > self._params.max_retained:
            self._forget(retained[0])

    def _move(self, peer: PeerId, standing: _Standing, ip: str) -> None:
        if standing.ip:
            others = self._at_ip[standing.ip]
            others.discard(peer)
            if not others:
                del self._at_ip[standing.ip]
        standing.ip = ip
        if ip:
            self._at_ip.setdefault(ip, set()).add(peer)

    def _forget(self, peer: PeerId) -> None:
        self._move(peer, self._peers[peer], "")
        del self._peers[peer]

    # --- the score ---------------------------------------------------------------------------------------------------

    def score(self, peer: PeerId) -> float:
        """0 for a peer of which nothing is known."""
        standing = self._peers.get(peer)
        if standing is None:
            return 0.0
        p = self._params
        topics = sum(counters.value(self._topics[topic]) for topic, counters in standing.topics.items())
        score = min(topics, p.topic_cap) + p.app_weight * self._app_score(peer)
        surplus = len(self._at_ip[standing.ip]) - p.colocation_threshold if standing.ip else 0
        if surplus > 0:
            score += p.colocation_weight * surplus**2
        excess = standing.behaviour - p.behaviour_threshold
        return score + (p.behaviour_weight * excess**2 if excess > 0 else 0.0)

    def refresh(self, now_us: int) -> None:
        """Let counters decay by as many intervals as have passed."""
        p = self._params
        if self._decayed_us is None:
            self._decayed_us = now_us
        intervals = (now_us - self._decayed_us) // p.decay_interval_us
        self._decayed_us += intervals * p.decay_interval_us
        for peer, standing in tuple(self._peers.items()):
            if standing.until_us is not None:
                if standing.until_us <= now_us:
                    self._forget(peer)
                continue
            for _ in range(min(intervals, 60)):
                standing.behaviour = _decayed(standing.behaviour, p.behaviour_decay, p.decay_to_zero)
                for topic, counters in standing.topics.items():
                    counters.decay(self._topics[topic], p.decay_to_zero, now_us)
        while self._deliveries:
            message_id, delivery = next(iter(self._deliveries.items()))
            if delivery.at_us + self._remember_us > now_us and len(self._deliveries) <= self._limit:
                break
            del self._deliveries[message_id]

    # --- what peers do -----------------------------------------------------------------------------------------------

    def penalize(self, peer: PeerId, slips: float = 1) -> None:
        """P7."""
        if peer in self._peers:
            self._peers[peer].behaviour += slips

    def graft(self, peer: PeerId, topic: str, now_us: int) -> None:
        counters = self._in_topic(peer, topic)
        if counters is not None:
            counters.grafted_us, counters.mesh_us = now_us, 0

    def prune(self, peer: PeerId, topic: str) -> None:
        counters = self._in_topic(peer, topic)
        if counters is not None:
            counters.failures += counters.deficit(self._topics[topic])
            counters.grafted_us = None

    def judged(self, peer: PeerId, topic: str, message_id: MessageId, verdict: Verdict, now_us: int) -> None:
        """``peer`` was the first to bring this message, and this is the verdict on it."""
        self._deliveries[message_id] = _Delivery(verdict, now_us, {peer})
        if verdict is Verdict.ACCEPT:
            self._first(peer, topic)
        elif verdict is Verdict.REJECT:
            self.invalid(peer, topic)

    def duplicate(self, peer: PeerId, topic: str, message_id: MessageId, now_us: int) -> None:
        """``peer`` brings it, too."""
        delivery = self._deliveries.get(message_id)
        if delivery is None or peer in delivery.peers:
            return
        delivery.peers.add(peer)
        parameters = self._topics.get(topic)
        if delivery.verdict is Verdict.REJECT:
            self.invalid(peer, topic)
        elif (
            delivery.verdict is Verdict.ACCEPT
            and parameters is not None
            and now_us - delivery.at_us <= parameters.mesh_window_us
        ):
            self._in_mesh(peer, topic)

    def invalid(self, peer: PeerId, topic: str) -> None:
        """P4."""
        counters = self._in_topic(peer, topic)
        if counters is not None:
            counters.invalid += 1

    def _first(self, peer: PeerId, topic: str) -> None:
        counters = self._in_topic(peer, topic)
        if counters is not None:
            counters.first = min(counters.first + 1, self._topics[topic].first_cap)
            self._in_mesh(peer, topic)

    def _in_mesh(self, peer: PeerId, topic: str) -> None:
        counters = self._in_topic(peer, topic)
        if counters is not None and counters.grafted_us is not None:
            counters.mesh = min(counters.mesh + 1, self._topics[topic].mesh_cap)

    def _in_topic(self, peer: PeerId, topic: str) -> _InTopic | None:
        if peer not in self._peers or topic not in self._topics:
            return None
        return self._peers[peer].topics.setdefault(topic, _InTopic())


def _decayed(value: float, factor: float, zero: float) -> float:
    value *= factor
    return value if value >= zero else 0.0
