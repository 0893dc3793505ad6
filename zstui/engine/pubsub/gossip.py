"""Telling peers outside of the mesh which messages there are, and asking for those that were missed (gossipsub 1.1)."""

from __future__ import annotations

from collections import Counter

from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.cache import History, Seen
from zstui.engine.pubsub.mesh import Mesh
from zstui.engine.pubsub.messages import IHave
from zstui.engine.pubsub.model import MessageId
from zstui.engine.pubsub.state import State


class Gossip:
    def __init__(self, state: State, mesh: Mesh, history: History, seen: Seen) -> None:
        self._state = state
        self._mesh = mesh
        self._history = history
        self._seen = seen
        self._offers: Counter[PeerId] = Counter()
        """IHAVEs of this heartbeat."""
        self._asked: Counter[PeerId] = Counter()
        """Ids asked for in this heartbeat."""
        self._promises: dict[MessageId, dict[PeerId, int]] = {}
        """Messages offered and asked for, and by when they must have come."""

    def offered(self, peer: PeerId, have: IHave, now_us: int) -> None:
        """Ask for what is new of it."""
        state, p = self._state, self._state.params
        self._offers[peer] += 1
        room = p.max_ihave - self._asked[peer]
        if self._offers[peer] > p.max_ihave_messages or room <= 0 or not self._hears(peer):
            return
        if have.topic not in self._mesh.topics:
            return
        wanted = list(dict.fromkeys(i for i in have.ids[: p.max_ihave] if i not in self._seen))
        state.chance.shuffle(wanted)
        wanted = wanted[:room]
        if wanted:
            self._asked[peer] += len(wanted)
            state.draft(peer).iwant.extend(wanted)
            self._promises.setdefault(state.chance.choice(wanted), {}).setdefault(peer, now_us + p.iwant_followup_us)

    def wanted(self, peer: PeerId, ids: tuple[MessageId, ...], now_us: int) -> None:
        """Send what it asks for, a few times at most."""
        if not self._hears(peer):
            return
        for message_id in dict.fromkeys(ids[: self._state.params.max_ihave]):
            found = self._history.give(message_id, peer)
            if found is not None and found[1] <= self._state.params.retransmissions:
                self._state.forward(peer, found[0], now_us)

    def came(self, message_id: MessageId) -> None:
        """Whoever promised it has kept its word, or need not any more."""
        self._promises.pop(message_id, None)

    def forget(self, peer: PeerId) -> None:
        self._offers.pop(peer, None)
        self._asked.pop(peer, None)

    def heartbeat(self, now_us: int) -> None:
        self._offers.clear()
        self._asked.clear()
        self._punish_broken(now_us)
        for topic, members in (*self._mesh.topics.items(), *self._mesh.fanout.items()):
            self._tell(topic, members)
        self._mesh.fresh.clear()
        self._history.shift()

    def _punish_broken(self, now_us: int) -> None:
        """P7 for each promise of a message that never came, from anybody."""
        for message_id, promised in tuple(self._promises.items()):
            for peer in [p for p, by_us in promised.items() if by_us <= now_us]:
                del promised[peer]
                self._state.scores.penalize(peer)
            if not promised:
                del self._promises[message_id]

    def _tell(self, topic: str, members: set[PeerId]) -> None:
        state, p = self._state, self._state.params
        ids = self._history.recent(topic)
        if not ids:
            return
        fit = state.subscribers(topic, state.thresholds.gossip)
        others = [peer for peer in fit if peer not in members]
        fresh = [peer for peer in fit if (topic, peer) in self._mesh.fresh and peer in members]
        for peer in fresh + state.shuffled(others)[: max(p.d_lazy, round(p.gossip_factor * len(others)))]:
            chosen = ids if len(ids) <= p.max_ihave else state.chance.sample(ids, p.max_ihave)
            state.draft(peer).ihave.append(IHave(topic, tuple(chosen)))

    def _hears(self, peer: PeerId) -> bool:
        return self._state.scores.score(peer) >= self._state.thresholds.gossip
