"""Chat lines: signed by their author, sealed for the guild, each taken once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from zstui.engine.errors import BadInput, GuildError, NotPermitted, ProtocolError
from zstui.engine.guilds.messages import GuildLine
from zstui.engine.guilds.model import SPEAKERS
from zstui.engine.guilds.registry import Guild, Registry
from zstui.engine.guilds.store import NewMessage
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text

MAX_TEXT = 1_000


class LineAhead(ProtocolError):
    """Written at a log version that this node has not reached."""


class Chat:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def write(self, guild: Guild, text: str) -> tuple[int, bytes]:
        """Sign and store a line of mine; returns its number and bytes. Raises BadInput, NotPermitted."""
        cleaned = clean_text(text, MAX_TEXT + 1)
        if not cleaned:
            raise BadInput("There is nothing to send.")
        if len(cleaned) > MAX_TEXT:
            raise BadInput(f"A message has at most {MAX_TEXT} characters.")
        registry = self._registry
        async with guild.lock:
            registry.alive(guild.guild_id)
            if guild.role not in SPEAKERS:
                raise NotPermitted(f"You are an observer in {guild.charter.name}: observers read and do not write.")
            now_us = registry.clock.now_us()
            line = GuildLine(guild.guild_id, guild.membership.version, guild.counter + 1, cleaned, now_us)
            raw = seal(registry.identity, line)
            guild.counter = line.counter
            since = guild.membership.members[registry.me].since
            guild.window.take((registry.me, since), line.counter)
            message = NewMessage(registry.me, cleaned, now_us, line.counter, line.version, raw)
            return (await registry.add_lines(guild, [(since, message)]))[0], raw

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
        lines: list[tuple[int, NewMessage]] = []
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

    def _read(self, guild: Guild, raw: bytes, author: PeerId | None = None) -> tuple[int, NewMessage] | None:
        """Verify a line and note its counter; with it, when its author's membership began. None: taken before."""
        signed = open_envelope(raw, author)
        line = signed.decode(GuildLine)
        if line.guild != guild.guild_id:
            raise ProtocolError("A line of another guild.")
        if line.version > guild.membership.version:
            raise LineAhead(f"Written at version {line.version}; this node is at {guild.membership.version}.")
        span = guild.membership.span_at(signed.signer, line.version)
        if span is None or span.role not in SPEAKERS:
            raise ProtocolError("A line of somebody who may not write in this guild.")
        text = clean_text(line.text, MAX_TEXT)
        if not text:
            raise ProtocolError("A line without text.")
        if not guild.window.take((signed.signer, span.first), line.counter):
            return None
        if signed.signer == self._registry.me and span.last is None:
            guild.counter = max(guild.counter, line.counter)
        at_us = min(line.at_us, self._registry.clock.now_us())
        return span.first, NewMessage(signed.signer, text, at_us, line.counter, line.version, raw)


def may_write(guild: Guild, peer: PeerId) -> None:
    """Raises GuildError unless ``peer`` is a member with a voice right now."""
    if guild.membership.role(peer) not in SPEAKERS:
        raise GuildError("A line of somebody who may not write in this guild now.")
