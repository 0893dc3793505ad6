"""Exchange of capability cards: the dialer of a link sends its own and gets the other; a changed card is pushed likewise."""

from __future__ import annotations

from collections.abc import Callable

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.card import MAX_CARD, read_card
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Stream
from zstui.engine.net.peers import PeerBook

_BURST = 10
_REFILL_S = 5.0
"""A peer may send ten cards at once and one more every five seconds."""
_ANSWER_S = 10.0


class CardExchange:
    """``changed`` is called with a peer whose card is new."""

    def __init__(
        self,
        book: PeerBook,
        my_card: Callable[[], bytes],
        changed: Callable[[PeerId], None],
        now_s: Callable[[], float],
        wall_us: Callable[[], int],
    ) -> None:
        self._book = book
        self._my_card = my_card
        self._changed = changed
        self._now = now_s
        self._wall_us = wall_us
        self._budget: dict[PeerId, tuple[float, float]] = {}

    async def serve(self, stream: Stream) -> None:
        """The answering side of CARD_PROTOCOL. Raises ProtocolError for a card that is not the peer's."""
        self._take(stream.peer, await stream.receive(_ANSWER_S))
        await stream.send(self._my_card())

    async def exchange(self, stream: Stream) -> None:
        """The asking side."""
        await stream.send(self._my_card())
        self._take(stream.peer, await stream.receive(_ANSWER_S))

    def forget(self, peer: PeerId) -> None:
        """The link to ``peer`` is gone."""
        self._budget.pop(peer, None)

    def _take(self, peer: PeerId, raw: bytes) -> None:
        now = self._now()
        left, since = self._budget.get(peer, (float(_BURST), now))
        left = min(_BURST, left + (now - since) / _REFILL_S)
        if left < 1:
            raise ProtocolError("Too many cards in a short time.")
        self._budget[peer] = (left - 1, now)
        self.take(peer, raw)

    def take(self, peer: PeerId, raw: bytes, *, heard: bool = False) -> None:
        """Keep a card of a known peer if it is newer; ``heard``: it came through others. Raises ProtocolError if it is not the
        peer's."""
        if len(raw) > MAX_CARD:
            raise ProtocolError("A card that is too large.")
        card = read_card(raw, peer)
        record = self._book.get(peer)
        known = self._book.card_of(peer)
        if record is None or (known is not None and known.issued_us >= card.issued_us):
            return
        record.card = raw
        record.heard_us = self._wall_us() if heard else 0
        self._changed(peer)
