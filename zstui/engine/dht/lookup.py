"""One iterative look-up: whom to ask next, and who is closest of those that answered. Sans-I/O; no clock.

The look-up runs over disjoint paths (Baumgart and Mies 2007, S/Kademlia): a peer is asked on the path that heard of it first and
on no other, so that one liar leads at most its own path astray.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from zstui.engine.dht.table import K, peer_key
from zstui.engine.identity.keys import PeerId

ALPHA = 3
"""Questions under way at the same time."""
PATHS = 3
MAX_HEARD = 1_000
"""Peers that one look-up takes in."""


class Lookup:
    """Ask everyone that ``next`` names and report each with ``answered`` or ``failed`` until ``done``."""

    def __init__(
        self, target: int, seeds: Iterable[PeerId], *, k: int = K, alpha: int = ALPHA, paths: int = PATHS
    ) -> None:
        self._target = target
        self._k = k
        self._alpha = alpha
        self._paths: list[list[tuple[int, PeerId]]] = [[] for _ in range(paths)]
        """What each path has heard of and not given up, nearest first."""
        self._all: list[tuple[int, PeerId]] = []
        self._path_of: dict[PeerId, int] = {}
        self._depth: dict[PeerId, int] = {}
        self._asked: set[PeerId] = set()
        self._waiting: set[PeerId] = set()
        self._answered: set[PeerId] = set()
        for number, peer in enumerate(seeds):
            self._hear(peer, number % paths, 1)

    @property
    def done(self) -> bool:
        """Nobody is left to ask: the closest known have all answered."""
        return not self._waiting and not self._wanted()

    @property
    def asked(self) -> int:
        return len(self._asked)

    def next(self) -> list[PeerId]:
        """Peers to ask now. They count as asked."""
        chosen = self._wanted()[: self._alpha - len(self._waiting)]
        self._asked.update(chosen)
        self._waiting.update(chosen)
        return chosen

    def answered(self, peer: PeerId, closer: Iterable[PeerId]) -> None:
        """``peer`` told of these peers; more than ``k`` are not taken in."""
        if peer not in self._waiting:
            return
        self._waiting.discard(peer)
        self._answered.add(peer)
        path, depth = self._path_of[peer], self._depth[peer] + 1
        for number, other in enumerate(closer):
            if number >= self._k:
                break
            self._hear(other, path, depth)

    def failed(self, peer: PeerId) -> None:
        """``peer`` gave no answer, or not one that could be read."""
        if peer not in self._waiting:
            return
        self._waiting.discard(peer)
        entry = (peer_key(peer) ^ self._target, peer)
        self._paths[self._path_of[peer]].remove(entry)
        self._all.remove(entry)

    def has_heard_of(self, peer: PeerId) -> bool:
        return peer in self._path_of

    def hops_to(self, peer: PeerId) -> int:
        """How many questions in a row led to hearing of ``peer``, itself not asked."""
        return self._depth[peer] - 1

    def closest(self) -> list[PeerId]:
        """Up to ``k`` peers that answered, the nearest to the target first."""
        return [peer for _, peer in self._all if peer in self._answered][: self._k]

    def _hear(self, peer: PeerId, path: int, depth: int) -> None:
        if peer in self._path_of or len(self._path_of) >= MAX_HEARD:
            return
        self._path_of[peer] = path
        self._depth[peer] = depth
        entry = (peer_key(peer) ^ self._target, peer)
        insort(self._paths[path], entry)
        insort(self._all, entry)

    def _wanted(self) -> list[PeerId]:
        """Not yet asked, and among the closest: first one of each path in turn, then of all together."""
        width = -(-self._k // len(self._paths))
        queues = [[peer for _, peer in path[:width] if peer not in self._asked] for path in self._paths]
        busy = {self._path_of[peer] for peer in self._waiting}
        wanted = [queue[0] for number, queue in enumerate(queues) if queue and number not in busy]
        if wanted or self._waiting:
            return wanted
        return [peer for _, peer in self._all[: self._k] if peer not in self._asked]
