"""Guilds that others announced: a bounded table, in memory only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from zstui.engine.guilds.messages import MAX_ANNOUNCED
from zstui.engine.guilds.model import Charter
from zstui.engine.identity.keys import PeerId

MAX_SEEN = 256
MAX_VIA = 6


class Seen(msgspec.Struct, frozen=True):
    charter: Charter
    members: int
    expires_us: int
    via: tuple[PeerId, ...]
    """Who announced it, the first of them first: its creator or officers."""
    heard_us: int | None = None
    """When their word came through other peers; None if one of them told this node."""


class SeenTable:
    """At most ``MAX_SEEN`` guilds, and ``MAX_ANNOUNCED`` that one peer brought.

    ``standing`` says how much a peer is to me, more for those I know. When the table is full, a guild of those who are
    least to me gives way, of theirs one of the peer that brought most, of its the latest: so whoever floods the table
    pushes out its own guilds, and what was there first stays.
    """

    def __init__(self, standing: Callable[[PeerId], int] = lambda peer: 0) -> None:
        self._standing = standing
        self._guilds: dict[bytes, Seen] = {}
        self._by_raw: dict[bytes, bytes] = {}
        self._brought: Counter[PeerId] = Counter()

    def __len__(self) -> int:
        return len(self._guilds)

    def all(self) -> list[Seen]:
        """Those of peers I know first."""
        return sorted(self._guilds.values(), key=lambda seen: -self._worth(seen))

    def get(self, guild_id: bytes) -> Seen | None:
        return self._guilds.get(guild_id)

    def by_raw(self, raw: bytes) -> Seen | None:
        """The guild of exactly this charter, already verified."""
        guild_id = self._by_raw.get(raw)
        return self._guilds.get(guild_id) if guild_id is not None else None

    def put(self, seen: Seen) -> list[bytes]:
        """Add or replace; returns the ids of those that gave way, which may be this one's."""
        guild_id = seen.charter.guild_id
        known = self._guilds.get(guild_id)
        if known is not None:
            via = tuple(dict.fromkeys((*known.via, *seen.via)))[:MAX_VIA]
            heard_us = None if known.heard_us is None else seen.heard_us
            self._guilds[guild_id] = msgspec.structs.replace(seen, via=via, heard_us=heard_us)
            return []
        by = seen.via[0]
        gone: list[bytes] = []
        if self._brought[by] >= MAX_ANNOUNCED:
            gone.append(next(g for g, s in self._guilds.items() if s.via[0] == by))
            self.remove(gone[0])
        self._guilds[guild_id] = seen
        self._by_raw[seen.charter.raw] = guild_id
        self._brought[by] += 1
        if len(self._guilds) > MAX_SEEN:
            gone.append(self._least())
            self.remove(gone[-1])
        return gone

    def remove(self, guild_id: bytes) -> bool:
        """Whether it was there."""
        seen = self._guilds.pop(guild_id, None)
        if seen is None:
            return False
        self._by_raw.pop(seen.charter.raw, None)
        self._brought[seen.via[0]] -= 1
        if not self._brought[seen.via[0]]:
            del self._brought[seen.via[0]]
        return True

    def expire(self, now_us: int) -> list[bytes]:
        """Remove those whose time is up; returns their ids."""
        over = [g for g, seen in self._guilds.items() if seen.expires_us <= now_us]
        for guild_id in over:
            self.remove(guild_id)
        return over

    def _worth(self, seen: Seen) -> int:
        return max(self._standing(peer) for peer in seen.via)

    def _least(self) -> bytes:
        ranks = {
            guild_id: (self._worth(seen), -self._brought[seen.via[0]], -place)
            for place, (guild_id, seen) in enumerate(self._guilds.items())
        }
        return min(ranks, key=ranks.__getitem__)
