"""Peers in order of a key, kept sorted: a change costs O(log N), the best n cost O(log N + n). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedList

from zstui.engine.identity.keys import PeerId


class Ranking:
    """Highest key first; equal keys in order of peer id."""

    def __init__(self) -> None:
        self._sorted: SortedList = SortedList()
        self._keys: dict[PeerId, float] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._keys

    def __iter__(self) -> Iterator[PeerId]:
        return (peer for _, peer in self._sorted)

    def put(self, peer: PeerId, key: float) -> None:
        """Add ``peer``, or move it to its new key."""
        self.drop(peer)
        self._keys[peer] = key
        self._sorted.add((-key, peer))

    def drop(self, peer: PeerId) -> None:
        """Take ``peer`` out if it is there."""
        key = self._keys.pop(peer, None)
        if key is not None:
            self._sorted.remove((-key, peer))

    def top(self, n: int) -> list[PeerId]:
        """The best ``n`` peers, best first."""
        return list(islice(self, max(n, 0)))

    def position(self, peer: PeerId) -> int | None:
        """1 for the best; None if ``peer`` is not ranked."""
        key = self._keys.get(peer)
        return None if key is None else int(self._sorted.bisect_left((-key, peer))) + 1
