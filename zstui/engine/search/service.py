"""Which known peers offer something like what a person describes."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable

from zstui.engine.bus import Bus, Subscription
from zstui.engine.events import PeerChanged
from zstui.engine.identity.card import Card
from zstui.engine.identity.keys import PeerId
from zstui.engine.search.embedding import card_words, embed, query_words
from zstui.engine.search.index import CapabilityIndex
from zstui.engine.search.model import Fit
from zstui.engine.search.words import MAX_WORDS, WordIndex

CANDIDATES = 3
"""Times as many as asked for that say most of the words are compared by their vectors."""
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
        self.index = CapabilityIndex()
        self._said = WordIndex()
        self._changes: Subscription[PeerChanged] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._changes = self._bus.subscribe(PeerChanged)
        self.index.hold()
        for number, peer in enumerate(tuple(self._known()), 1):
            self._take(peer)
            if number % TURN == 0:
                await asyncio.sleep(0)
        self.index.release()
        self._task = asyncio.create_task(self._follow(self._changes), name="peer search")

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None and self._changes is not None:
            self._changes.close()
            await self._task
            self._task = None
        await self.index.stop()

    async def settled(self) -> None:
        """Return once the index has caught up with what was told of cards."""
        await self.index.settled()

    def like(self, text: str, count: int = 20) -> list[tuple[PeerId, float]]:
        """Peers whose cards are most like ``text``, best first, with a similarity above 0 and up to 1.

        Those that say more of its words come first; of equals, and for words that nobody says so, the nearer vector.
        """
        words = tuple(dict.fromkeys(query_words(text)))[:MAX_WORDS]
        if not words:
            return []
        vector = embed(words)
        saying = self._said.most(words, CANDIDATES * count)
        near = {peer: self.index.similarity(vector, peer) for peer in saying}
        if len(saying) < count or self._said.said(saying[count - 1], words) < len(words):
            near.update(self.index.search(vector, count))
        rated = ((self._said.said(peer, words) + max(0.0, min(1.0, cosine)), peer) for peer, cosine in near.items())
        best = heapq.nsmallest(count, ((-rate, peer) for rate, peer in rated if rate > 0))
        return [(peer, -rate / (len(words) + 1)) for rate, peer in best]

    def fits(self, text: str, peers: Iterable[PeerId]) -> dict[PeerId, Fit]:
        """How well each of ``peers`` fits ``text``; those without a card are left out."""
        words = tuple(dict.fromkeys(query_words(text)))[:MAX_WORDS]
        vector = embed(words)
        found = {peer: self._said.words(peer) for peer in peers} if words else {}
        return {
            peer: Fit(
                said=tuple(word for word in words if word in spoken),
                near=max(0.0, min(1.0, self.index.similarity(vector, peer))),
            )
            for peer, spoken in found.items()
            if spoken
        }

    async def _follow(self, changes: Subscription[PeerChanged]) -> None:
        async for change in changes:
            self._take(change.peer_id)

    def _take(self, peer: PeerId) -> None:
        card = self._card_of(peer)
        words = () if card is None else tuple(dict.fromkeys(card_words(card)))
        if words == self._said.words(peer):
            return
        if words:
            self._said.put(peer, words)
            self.index.put(peer, embed(words))
        else:
            self._said.remove(peer)
            self.index.remove(peer)
