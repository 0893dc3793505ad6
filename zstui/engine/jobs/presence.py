"""How much of the time a peer was online, as far as this node saw it. Pure.

Time is watched time: µs during which this node ran, over all of its runs. ``now`` is monotonic µs.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from zstui.engine.identity.keys import PeerId

REMEMBERED = 4096
"""Peers; those not seen for longest go first."""
WINDOW_US = 30 * 86_400 * 1_000_000
"""Where a peer was watched for longer, what is older counts less and less."""


class Seen(msgspec.Struct, frozen=True):
    """One peer, in watched time."""

    peer: PeerId
    first_us: int
    online_us: int
    """In all, until ``last_us``."""
    last_us: int


class Presence:
    def __init__(self, now: int) -> None:
        self._watched = 0
        """Until ``_as_of``."""
        self._as_of = now
        self._online: set[PeerId] = set()
        self._seen: dict[PeerId, Seen] = {}
        """Those seen last come last."""
        self._changed: set[PeerId] = set()

    def restore(self, watched_us: int, seen: Iterable[Seen]) -> None:
        """Go on from what ``unsaved`` said, before anybody connects; those seen last come last."""
        self._watched = watched_us
        self._seen = {s.peer: s for s in seen}

    def connected(self, peer: PeerId, now: int) -> None:
        watched = self._advance(now)
        if peer in self._online:
            return
        self._online.add(peer)
        known = self._seen.pop(peer, None) or Seen(peer, watched, 0, watched)
        self._seen[peer] = Seen(peer, known.first_us, known.online_us, watched)
        self._changed.add(peer)
        if len(self._seen) > REMEMBERED:
            oldest = next(p for p in self._seen if p != peer)
            del self._seen[oldest]
            self._online.discard(oldest)
            self._changed.add(oldest)

    def disconnected(self, peer: PeerId, now: int) -> None:
        watched = self._advance(now)
        if peer in self._online:
            self._count(peer, watched)
            self._online.discard(peer)

    def share(self, peer: PeerId, now: int) -> float:
        """Of the time since it was first seen; 1 for a peer never seen, or only just."""
        watched, known = self._advance(now), self._seen.get(peer)
        if known is None or watched <= known.first_us:
            return 1.0
        online = known.online_us + (watched - known.last_us if peer in self._online else 0)
        return online / (watched - known.first_us)

    def unsaved(self, now: int) -> tuple[int, list[Seen], list[PeerId]]:
        """Watched time, what changed since the last call, and peers that are remembered no more."""
        watched = self._advance(now)
        for peer in self._online:
            self._count(peer, watched)
        changed, self._changed = self._changed, set()
        gone = [peer for peer in changed if peer not in self._seen]
        return watched, [self._seen[peer] for peer in self._seen if peer in changed], gone

    def _advance(self, now: int) -> int:
        self._watched += max(0, now - self._as_of)
        self._as_of = now
        return self._watched

    def _count(self, peer: PeerId, watched: int) -> None:
        """Add the time since it was last counted."""
        known = self._seen.pop(peer)
        first, online = known.first_us, known.online_us + watched - known.last_us
        if watched - first > WINDOW_US:
            first, online = watched - (watched - first) // 2, online // 2
        self._seen[peer] = Seen(peer, first, online, watched)
        self._changed.add(peer)
