"""The mesh of each topic: the few peers to whom every message is passed on at once, and who pass theirs on (gossipsub 1.1)."""

from __future__ import annotations

from statistics import median

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.messages import Prune
from zstui.engine.pubsub.state import State

_SLACK_US = 2 * US
"""A peer is grafted again so long after its backoff ended: its clock's heartbeat is not this one's."""


_MAX_BACKOFFS = 8192


class Mesh:
    def __init__(self, state: State) -> None:
        self._state = state
        self.topics: dict[str, set[PeerId]] = {}
        """Topics this node is subscribed to."""
        self.fanout: dict[str, set[PeerId]] = {}
        """Whom messages go to in topics that it only publishes in."""
        self.fresh: set[tuple[str, PeerId]] = set()
        """Who came into a mesh since the last heartbeat, and may have missed what came shortly before."""
        self._published_us: dict[str, int] = {}
        self._backoff: dict[tuple[str, PeerId], int] = {}
        """Not to be grafted before."""
        self._beats = 0

    # --- my subscriptions --------------------------------------------------------------------------------------------

    def join(self, topic: str, now_us: int) -> None:
        chosen = self.fanout.pop(topic, set()) & set(self._candidates(topic, now_us))
        self._published_us.pop(topic, None)
        self.topics[topic] = set()
        others = [p for p in self._candidates(topic, now_us) if p not in chosen]
        for peer in [*chosen, *self._state.shuffled(others)][: self._state.params.d]:
            self._graft(peer, topic, now_us)

    def leave(self, topic: str, now_us: int) -> None:
        for peer in tuple(self.topics[topic]):
            self._prune(peer, topic, now_us, self._state.params.unsubscribe_backoff_us)
        del self.topics[topic]

    def publish_to(self, topic: str, now_us: int) -> set[PeerId]:
        """The fanout of a topic that this node is not subscribed to."""
        state = self._state
        self._published_us[topic] = now_us
        chosen = self.fanout.setdefault(topic, set())
        if not chosen:
            chosen.update(state.shuffled(state.subscribers(topic, state.thresholds.publish))[: state.params.d])
        return chosen

    # --- what peers ask ----------------------------------------------------------------------------------------------

    def forget(self, peer: PeerId) -> None:
        """It is gone; how long it is not to be grafted stays known."""
        for members in (*self.topics.values(), *self.fanout.values()):
            members.discard(peer)

    def unsubscribed(self, peer: PeerId, topic: str) -> None:
        for members in (self.topics.get(topic), self.fanout.get(topic)):
            if members is not None and peer in members:
                members.discard(peer)
                self._state.scores.prune(peer, topic)

    def grafted(self, peer: PeerId, topic: str, now_us: int) -> None:
        """``peer`` wants to be in the mesh. Topics unknown here are not answered, so that nobody can make this node talk."""
        state, members = self._state, self.topics.get(topic)
        if members is None or peer in members or not state.peers[peer].meshes:
            return
        p = state.params
        until_us = self._backoff.get((topic, peer), 0)
        too_soon = now_us < until_us
        if too_soon:
            flooding = now_us < until_us - p.prune_backoff_us + p.graft_flood_us
            state.scores.penalize(peer, 2 if flooding else 1)
        full = len(members) >= p.d_hi and not state.peers[peer].dialed
        if too_soon or full or state.scores.score(peer) < 0:
            self._back_off(topic, peer, now_us + p.prune_backoff_us)
            state.tell_prune(peer, topic, p.prune_backoff_us)
            return
        self._add(peer, topic, now_us)

    def pruned(self, peer: PeerId, prune: Prune, now_us: int) -> None:
        members = self.topics.get(prune.topic)
        if members is None:
            return
        if peer in members:
            members.discard(peer)
            self._state.scores.prune(peer, prune.topic)
        p = self._state.params
        asked_us = p.prune_backoff_us if prune.backoff_s is None else min(prune.backoff_s * US, p.max_backoff_us)
        self._back_off(prune.topic, peer, now_us + asked_us)

    # --- once a second -----------------------------------------------------------------------------------------------

    def heartbeat(self, now_us: int) -> None:
        self._beats += 1
        self._backoff = {key: until for key, until in self._backoff.items() if until + _SLACK_US > now_us}
        for topic, members in self.topics.items():
            self._tend(topic, members, now_us)
        for topic in tuple(self.fanout):
            self._tend_fanout(topic, now_us)

    def _tend(self, topic: str, members: set[PeerId], now_us: int) -> None:
        state = self._state
        p = state.params
        scores = {peer: state.scores.score(peer) for peer in members}
        for peer, score in scores.items():
            if score < 0:
                self._prune(peer, topic, now_us, p.prune_backoff_us)
        if len(members) < p.d_lo:
            for peer in state.shuffled(self._candidates(topic, now_us))[: p.d - len(members)]:
                self._graft(peer, topic, now_us)
        if len(members) > p.d_hi:
            for peer in members - self._best(members, scores):
                self._prune(peer, topic, now_us, p.prune_backoff_us)
        if len(members) >= p.d_lo:
            missing = p.d_out - sum(state.peers[peer].dialed for peer in members)
            dialed = [peer for peer in self._candidates(topic, now_us) if state.peers[peer].dialed]
            for peer in state.shuffled(dialed)[: max(0, missing)]:
                self._graft(peer, topic, now_us)
        if self._beats % p.opportunistic_every == 0 and len(members) > 1:
            self._graft_better(topic, members, now_us)

    def _best(self, members: set[PeerId], scores: dict[PeerId, float]) -> set[PeerId]:
        """Those that stay in a mesh that is too large: the best, then by chance, so many of them dialed as is asked for."""
        state, p = self._state, self._state.params
        ranked = sorted(state.shuffled(members), key=lambda peer: -scores.get(peer, 0.0))
        order = ranked[: p.d_score] + state.shuffled(ranked[p.d_score :])
        kept, rest = order[: p.d], order[p.d :]
        missing = p.d_out - sum(state.peers[peer].dialed for peer in kept)
        spare = [peer for peer in rest if state.peers[peer].dialed][: max(0, missing)]
        gives_way = [peer for peer in reversed(kept) if not state.peers[peer].dialed][: len(spare)]
        return (set(kept) - set(gives_way)) | set(spare)

    def _graft_better(self, topic: str, members: set[PeerId], now_us: int) -> None:
        """A mesh of peers that do little is improved by some who do more."""
        state = self._state
        middle = median(state.scores.score(peer) for peer in members)
        if middle < state.thresholds.opportunistic:
            better = [peer for peer in self._candidates(topic, now_us) if state.scores.score(peer) > middle]
            for peer in state.shuffled(better)[: state.params.opportunistic_peers]:
                self._graft(peer, topic, now_us)

    def _tend_fanout(self, topic: str, now_us: int) -> None:
        state = self._state
        if self._published_us[topic] + state.params.fanout_ttl_us < now_us:
            del self.fanout[topic], self._published_us[topic]
            return
        fit = state.subscribers(topic, state.thresholds.publish)
        members = self.fanout[topic]
        members &= set(fit)
        fresh = state.shuffled(peer for peer in fit if peer not in members)
        members.update(fresh[: max(0, state.params.d - len(members))])

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _candidates(self, topic: str, now_us: int) -> list[PeerId]:
        """Who could be grafted."""
        members = self.topics.get(topic, set())
        return [
            peer
            for peer in self._state.subscribers(topic, 0)
            if peer not in members and self._backoff.get((topic, peer), -_SLACK_US) + _SLACK_US <= now_us
        ]

    def _graft(self, peer: PeerId, topic: str, now_us: int) -> None:
        self._add(peer, topic, now_us)
        self._state.draft(peer).graft.append(topic)

    def _add(self, peer: PeerId, topic: str, now_us: int) -> None:
        self.topics[topic].add(peer)
        self.fresh.add((topic, peer))
        self._state.scores.graft(peer, topic, now_us)

    def _prune(self, peer: PeerId, topic: str, now_us: int, backoff_us: int) -> None:
        self.topics[topic].discard(peer)
        self._state.scores.prune(peer, topic)
        self._back_off(topic, peer, now_us + backoff_us)
        self._state.tell_prune(peer, topic, backoff_us)

    def _back_off(self, topic: str, peer: PeerId, until_us: int) -> None:
        self._backoff[topic, peer] = max(until_us, self._backoff.get((topic, peer), 0))
        if len(self._backoff) > _MAX_BACKOFFS:
            del self._backoff[next(iter(self._backoff))]
