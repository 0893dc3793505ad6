"""Which known peers offer something like what a person describes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from zstui.engine.bus import Bus, Subscription
from zstui.engine.events import PeerChanged
from zstui.engine.identity.card import Card
from zstui.engine.identity.keys import PeerId
from zstui.engine.search.embedding import card_words, embed, query_words
from zstui.engine.search.index import CapabilityIndex

TURN = 32
"""Cards read before others on the loop get their turn."""


class PeerSearch:
    """Follows the cards of known peers. ``start`` before use; ``known`` and ``card_of`` say what there is."""

    def __init__(
        self, bus: Bus, *, known: Callable[[], Iterable[PeerId]], card_of: Callable[[PeerId], Card | None]
    ) -> None:
        self._bus = bus
        self._known = known
        self._card_of = card_of
        self._index = CapabilityIndex()
        self._words: dict[PeerId, tuple[str, ...]] = {}
        self._changes: Subscription[PeerChanged] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._changes = self._bus.subscribe(PeerChanged)
        for number, peer in enumerate(tuple(self._known()), 1):
            self._take(peer)
            if number % TURN == 0:
                await asyncio.sleep(0)
        self._task = asyncio.create_task(self._follow(self._changes), name="peer search")

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None and self._changes is not None:
            self._changes.close()
            await self._task
            self._task = None
        await self._index.stop()

    def like(self, text: str, count: int = 20) -> list[tuple[PeerId, float]]:
        """Peers whose cards are most like ``text``, best first, with a similarity above 0 and up to 1."""
        words = query_words(text)
        if not words:
            return []
        return [(peer, similarity) for peer, similarity in self._index.search(embed(words), count) if similarity > 0]

    async def _follow(self, changes: Subscription[PeerChanged]) -> None:
        async for change in changes:
            self._take(change.peer_id)

    def _take(self, peer: PeerId) -> None:
        card = self._card_of(peer)
        words = () if card is None else card_words(card)
        if words == self._words.get(peer, ()):
            return
        if words:
            self._words[peer] = words
            self._index.put(peer, embed(words))
        else:
            del self._words[peer]
            self._index.remove(peer)
