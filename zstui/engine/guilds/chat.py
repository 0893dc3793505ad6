"""Chat lines: signed by their author, sealed for the guild, each taken once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from zstui.engine.errors import BadInput, GuildError, NotPermitted, ProtocolError
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.messages import GuildLine
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.roles import SPEAKERS
from zstui.engine.guilds.store import MessageRow, NewMessage
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text

MAX_TEXT = 1_000


class LineAhead(ProtocolError):
    """Written by a membership, or in an epoch, that this node has not heard of."""


class Chat:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def write(self, guild: Guild, text: str) -> tuple[int, bytes]:
        """Sign and store a line of mine; returns its number and bytes. Raises BadInput, NotPermitted, GuildError."""
        cleaned = clean_text(text, MAX_TEXT + 1)
        if not cleaned:
            raise BadInput("There is nothing to send.")
        if len(cleaned) > MAX_TEXT:
            raise BadInput(f"A message has at most {MAX_TEXT} characters.")
        registry = self._registry
        async with guild.lock:
            registry.alive(guild.guild_id)
            membership, name = guild.membership, guild.charter.name
            if not membership.may(registry.me, "chat"):
                raise NotPermitted(f"You are an observer in {name}: observers read and do not write.")
            if membership.key is None:
                raise GuildError(f"{name} has just grown together again and its key is being made; try in a moment.")
            now_us = registry.clock.now_us()
            member = membership.members[registry.me].box_key
            line = GuildLine(guild.guild_id, membership.key.digest, member, guild.counter + 1, cleaned, now_us)
            raw = seal(registry.identity, line)
            guild.counter = line.counter
            guild.window.take(member, line.counter)
            message = NewMessage(registry.me, cleaned, now_us, line.counter, member, line.epoch, raw)
            return (await registry.add_lines(guild, [message]))[0], raw

    async def take(self, guild: Guild, raw: bytes, author: PeerId) -> bool:
        """Store a line that came from ``author`` itself. False: taken before.

        Raises ProtocolError for a line that its author could not write, LineAhead if that cannot be told yet.
        """
        line = self._read(guild, raw, author)
        if line is None:
            return False
        await self._registry.add_lines(guild, [line])
        return True

    async def take_relayed(self, guild: Guild, raws: list[bytes]) -> None:
        """Store what is new of a page of lines that came by way of another member, in one transaction.

        Raises ProtocolError at the first line that its author could not write; those before it are kept.
        """
        lines: list[NewMessage] = []
        try:
            for number, raw in enumerate(raws):
                with suppress(LineAhead):
                    line = self._read(guild, raw)
                    if line is not None:
                        lines.append(line)
                if number % 40 == 39:
                    await asyncio.sleep(0)
        finally:
            if lines:
                await self._registry.add_lines(guild, lines)

    def _read(self, guild: Guild, raw: bytes, author: PeerId | None = None) -> NewMessage | None:
        """Verify a line and note its counter. None: taken before, or written after the end of its membership."""
        signed = open_envelope(raw, author)
        line = signed.decode(GuildLine)
        if line.guild != guild.guild_id:
            raise ProtocolError("A line of another guild.")
        joins = guild.log.begun(line.member)
        if not joins or line.epoch not in guild.log:
            raise LineAhead("Written in an epoch that this node has not heard of.")
        join = joins[0]
        in_epoch = any(guild.log.knows(line.epoch, j.digest) for j in joins)
        if join.peer != signed.signer or join.entry.role not in SPEAKERS or not in_epoch:
            raise ProtocolError("A line of somebody who may not write in this guild.")
        text = clean_text(line.text, MAX_TEXT)
        if not text:
            raise ProtocolError("A line without text.")
        last = guild.log.last_line(join)
        if (last is not None and line.counter > last) or not guild.window.take(line.member, line.counter):
            return None
        if signed.signer == self._registry.me and last is None:
            guild.counter = max(guild.counter, line.counter)
        at_us = min(line.at_us, self._registry.clock.now_us())
        return NewMessage(signed.signer, text, at_us, line.counter, line.member, line.epoch, raw)


def may_write(guild: Guild, peer: PeerId) -> None:
    """Raises GuildError unless ``peer`` is a member with a voice right now."""
    if not guild.membership.may(peer, "chat"):
        raise GuildError("A line of somebody who may not write in this guild now.")


def in_written_order(rows: list[MessageRow]) -> list[MessageRow]:
    """As they came, except that nobody's lines stand in another order than their author wrote them."""
    places: dict[bytes, list[int]] = {}
    for place, row in enumerate(rows):
        if row.member is not None:
            places.setdefault(row.member, []).append(place)
    ordered = list(rows)
    for mine in places.values():
        for place, row in zip(mine, sorted((rows[p] for p in mine), key=lambda r: r.counter or 0), strict=True):
            ordered[place] = row
    return ordered
