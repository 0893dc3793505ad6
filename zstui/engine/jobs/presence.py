"""How much of the time a peer was online, as far as this node saw it since its start. Times are monotonic µs. Pure."""

from __future__ import annotations

from zstui.engine.identity.keys import PeerId

REMEMBERED = 4096
"""Peers, those seen first go first."""


class Presence:
    def __init__(self) -> None:
        self._first: dict[PeerId, int] = {}
        self._since: dict[PeerId, int] = {}
        """Of those online."""
        self._total: dict[PeerId, int] = {}

    def connected(self, peer: PeerId, now: int) -> None:
        self._first.setdefault(peer, now)
        self._since.setdefault(peer, now)
        if len(self._first) > REMEMBERED:
            oldest = next(iter(self._first))
            for table in (self._first, self._since, self._total):
                table.pop(oldest, None)

    def disconnected(self, peer: PeerId, now: int) -> None:
        since = self._since.pop(peer, None)
        if since is not None:
            self._total[peer] = self._total.get(peer, 0) + now - since

    def share(self, peer: PeerId, now: int) -> float:
        """Of the time since it was first seen; 1 for a peer never seen, or only just."""
        first = self._first.get(peer)
        if first is None or now <= first:
            return 1.0
        online = self._total.get(peer, 0) + (now - self._since[peer] if peer in self._since else 0)
        return online / (now - first)
