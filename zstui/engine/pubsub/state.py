"""What the parts of a router share: who is connected and subscribed to what, and what is to be sent to whom."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.limits import Buckets
from zstui.engine.pubsub.messages import FLOODSUB, GOSSIPSUB_11, IHave, Prune, Rpc
from zstui.engine.pubsub.model import Message, MessageId, Params, Thresholds
from zstui.engine.pubsub.score import PeerScores


@dataclass
class Peer:
    protocol: str
    dialed: bool
    """This node made the link, not the peer."""
    topics: set[str] = field(default_factory=set)

    @property
    def meshes(self) -> bool:
        """Speaks gossipsub."""
        return self.protocol != FLOODSUB


@dataclass
class Draft:
    """An RPC that is being filled."""

    subscriptions: list[tuple[bool, str]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    ihave: list[IHave] = field(default_factory=list)
    iwant: list[MessageId] = field(default_factory=list)
    graft: list[str] = field(default_factory=list)
    prune: list[Prune] = field(default_factory=list)

    def finish(self) -> Rpc:
        return Rpc(
            subscriptions=tuple(self.subscriptions),
            messages=tuple(self.messages),
            ihave=tuple(self.ihave),
            iwant=tuple(self.iwant),
            graft=tuple(self.graft),
            prune=tuple(self.prune),
        )


class State:
    def __init__(self, params: Params, thresholds: Thresholds, scores: PeerScores, chance: random.Random) -> None:
        self.params = params
        self.thresholds = thresholds
        self.scores = scores
        self.chance = chance
        self.peers: dict[PeerId, Peer] = {}
        self._drafts: dict[PeerId, Draft] = {}
        self._outbound: Buckets[PeerId] = Buckets(params.forward_burst, params.forwards_per_s)

    def draft(self, peer: PeerId) -> Draft:
        """What goes to ``peer`` next."""
        return self._drafts.setdefault(peer, Draft())

    def take(self) -> list[tuple[PeerId, Rpc]]:
        """What is to be sent now."""
        drafts, self._drafts = self._drafts, {}
        return [(peer, draft.finish()) for peer, draft in drafts.items() if peer in self.peers]

    def forward(self, peer: PeerId, message: Message, now_us: int) -> None:
        """Send on what another has published; not more than the receiver puts up with, whoever floods this node."""
        if self._outbound.take(peer, now_us):
            self.draft(peer).messages.append(message)

    def subscribers(self, topic: str, least: float, *, meshing: bool = True) -> list[PeerId]:
        """Peers subscribed to ``topic`` whose score is at least so high; those that only flood left out if ``meshing``."""
        score = self.scores.score
        return [
            peer
            for peer, known in self.peers.items()
            if topic in known.topics and (known.meshes or not meshing) and score(peer) >= least
        ]

    def tell_prune(self, peer: PeerId, topic: str, backoff_us: int) -> None:
        """gossipsub 1.0 knows no time in it."""
        timed = self.peers[peer].protocol == GOSSIPSUB_11
        self.draft(peer).prune.append(Prune(topic, backoff_us // 1_000_000 if timed else None))

    def shuffled(self, peers: Iterable[PeerId]) -> list[PeerId]:
        found = list(peers)
        self.chance.shuffle(found)
        return found
