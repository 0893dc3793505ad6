"""Writes log entries: mine as creator or officer, each with a fresh group key where its kind carries one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from zstui.engine.guilds.entries import KEYED, SignedEntry, read_entry
from zstui.engine.guilds.epochs import box_key_of, fingerprint_of, grants_hash, seal_grants
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.log import MAX_PARENTS, MemberLog
from zstui.engine.guilds.membership import Member
from zstui.engine.guilds.messages import EntryKind, GuildEntry
from zstui.engine.guilds.model import Charter
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import PeerId, public_key_of


class Writer:
    def __init__(self, registry: Registry, replicator: Replicator) -> None:
        self._registry = registry
        self._replicator = replicator

    def genesis(self, charter: Charter, box_secret: bytes) -> tuple[SignedEntry, bytes]:
        """The first entry of a guild of mine, and the grants of its key."""
        key, box_key = self._registry.identity.public_key, box_key_of(box_secret)
        members = [Member(key, "creator", box_key, b"")]
        return self._sign(MemberLog(charter), "join", members, peer=key, role="creator", box_key=box_key)

    async def append(self, guild: Guild, kind: EntryKind, peer: PeerId = "", **fields: Any) -> None:
        """Sign an entry that knows of all others, commit it, and bring it to everybody else. Holds the lock already.

        ``fields`` are those of ``GuildEntry``. Raises ProtocolError if the log does not allow it.
        """
        log, before = guild.log, guild.membership
        members = list(before.members.values())
        if peer:
            fields["peer"] = public_key_of(peer)
        if kind in ("join", "leave", "kick"):
            old = before.members.get(peer)
            fields["last"] = guild.window.top(old.box_key) if old is not None else 0
            members = [m for m in members if m.key != fields["peer"]]
        if kind == "join":
            members.append(Member(fields["peer"], "member", fields["box_key"], b""))
        signed, grants = self._sign(log, kind, members, **fields)
        after = log.copy()
        after.add(signed)
        place = len(log)
        await self._registry.commit(guild, after, [signed], grants)
        told = before.members.keys() - {self._registry.me} - ({peer} if kind in ("join", "leave") else set())
        self._replicator.push_log(guild, told, place)

    def _sign(
        self, log: MemberLog, kind: EntryKind, members: Iterable[Member], **fields: Any
    ) -> tuple[SignedEntry, bytes]:
        registry = self._registry
        guild_id = log.charter.guild_id
        latest = sorted((s for s in map(log.get, log.heads) if s is not None), key=lambda s: s.rank)[-MAX_PARENTS:]
        grants = b""
        if kind in KEYED:
            key = os.urandom(32)
            grants = seal_grants(key, members)
            fields |= {"fingerprint": fingerprint_of(guild_id, key), "grants": grants_hash(grants)}
        entry = GuildEntry(
            guild_id,
            log.written(registry.me) + 1,
            latest[-1].entry.depth + 1 if latest else 1,
            tuple(s.digest for s in latest),
            kind,
            at_us=registry.clock.now_us(),
            **fields,
        )
        return read_entry(log.charter, seal(registry.identity, entry)), grants
