"""Peers that are blocked in one guild only: what a verdict of that guild's witnesses costs, where no proof shows it to others."""

from __future__ import annotations

from collections.abc import Mapping

from zstui.engine.clock import Clock
from zstui.engine.identity.keys import PeerId
from zstui.engine.reputation import store
from zstui.engine.reputation.store import Block
from zstui.engine.store.database import Database


class GuildBlocks:
    """In memory as in the table; an end that has come is seen at once and forgotten at the next change."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._blocks: dict[PeerId, dict[str, Block]] = {}

    def load(self, rows: Mapping[tuple[str, PeerId], Block]) -> None:
        for (guild_id, peer), block in rows.items():
            self._blocks.setdefault(peer, {})[guild_id] = block

    async def put(self, guild_id: str, peer: PeerId, block: Block) -> None:
        """Never shortens what stands."""
        now_us = self._clock.now_us()
        held = self.of(peer).get(guild_id)
        if held is None or held.until_us < block.until_us:
            await self._db.write(lambda tx: store.put_guild_block(tx, guild_id, peer, block, now_us))
            self._blocks.setdefault(peer, {})[guild_id] = block

    async def clear(self, peer: PeerId) -> bool:
        """End all blocks of a peer; False if there are none."""
        if not self.of(peer):
            return False
        await self._db.write(lambda tx: store.drop_guild_blocks(tx, peer))
        self._blocks.pop(peer, None)
        return True

    def peers(self) -> list[PeerId]:
        """Those that are blocked somewhere."""
        return [peer for peer in self._blocks if self.of(peer)]

    def of(self, peer: PeerId) -> dict[str, Block]:
        """Standing blocks by guild."""
        now_us = self._clock.now_us()
        return {guild: block for guild, block in self._blocks.get(peer, {}).items() if block.until_us > now_us}
