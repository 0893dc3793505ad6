"""Guilds that others announced: a bounded table, in memory only."""

from __future__ import annotations

import msgspec

from zstui.engine.guilds.messages import MAX_ANNOUNCED
from zstui.engine.guilds.model import Charter
from zstui.engine.identity.keys import PeerId

MAX_SEEN = 1_000


class Seen(msgspec.Struct, frozen=True):
    charter: Charter
    members: int


class SeenTable:
    """At most ``MAX_SEEN`` guilds and ``MAX_ANNOUNCED`` of one creator; the oldest give way."""

    def __init__(self) -> None:
        self._guilds: dict[bytes, Seen] = {}
        self._by_creator: dict[PeerId, dict[bytes, None]] = {}
        self._by_raw: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._guilds)

    def all(self) -> list[Seen]:
        return list(self._guilds.values())

    def get(self, guild_id: bytes) -> Seen | None:
        return self._guilds.get(guild_id)

    def by_raw(self, raw: bytes) -> Seen | None:
        """The guild of exactly this charter, already verified."""
        guild_id = self._by_raw.get(raw)
        return self._guilds.get(guild_id) if guild_id is not None else None

    def put(self, seen: Seen) -> list[bytes]:
        """Add or replace; returns the ids of those that gave way."""
        charter = seen.charter
        self.remove(charter.guild_id)
        gone: list[bytes] = []
        mine = self._by_creator.get(charter.creator, {})
        if len(mine) >= MAX_ANNOUNCED:
            gone.append(next(iter(mine)))
        elif len(self._guilds) >= MAX_SEEN:
            gone.append(next(iter(self._guilds)))
        for guild_id in gone:
            self.remove(guild_id)
        self._guilds[charter.guild_id] = seen
        self._by_creator.setdefault(charter.creator, {})[charter.guild_id] = None
        self._by_raw[charter.raw] = charter.guild_id
        return gone

    def remove(self, guild_id: bytes) -> bool:
        """Whether it was there."""
        seen = self._guilds.pop(guild_id, None)
        if seen is None:
            return False
        self._by_raw.pop(seen.charter.raw, None)
        creator = seen.charter.creator
        self._by_creator[creator].pop(guild_id, None)
        if not self._by_creator[creator]:
            del self._by_creator[creator]
        return True

    def expire(self, now_us: int) -> list[bytes]:
        """Remove those whose time is up; returns their ids."""
        over = [g for g, seen in self._guilds.items() if seen.charter.expires_us <= now_us]
        for guild_id in over:
            self.remove(guild_id)
        return over
