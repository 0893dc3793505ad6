"""The peers this node knows: a bounded table of those that have proven their key, and what they are called."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import msgspec

from zstui.engine.errors import BadInput, ProtocolError, UnknownPeer
from zstui.engine.identity.card import MAX_NAME, Card, read_card
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.identity.text import clean_text
from zstui.engine.net.limits import MAX_HEARD
from zstui.engine.net.multiaddr import Multiaddr

COMMON_PREFIX = "12D3KooW"
"""How every Ed25519 peer id begins."""
_LEAST_PREFIX = 4


class PeerRecord(msgspec.Struct):
    peer_id: PeerId
    name: str = ""
    """My own name for it."""
    address: str = ""
    """Multiaddr last connected, "" if it never was."""
    first_seen_us: int = 0
    last_seen_us: int = 0
    agent: str = ""
    card: bytes | None = None
    """Its latest signed card, as received."""
    why: str = ""
    """Why there is no link to it."""
    also: tuple[Multiaddr, ...] = ()
    """Other addresses it was heard of at."""
    heard_us: int = 0
    """When its card came through others; 0 if it gave the card itself."""

    @property
    def met(self) -> bool:
        """It has proven its key here at some time, or I gave it a name."""
        return self.address != "" or self.name != ""

    @property
    def first_met_us(self) -> int:
        """0 if it never was: being talked of makes nobody an old acquaintance."""
        return self.first_seen_us if self.met else 0


def short_id(peer: PeerId) -> str:
    """Eight characters to tell peers apart by; also a prefix that ``PeerBook.resolve`` takes."""
    return peer[len(COMMON_PREFIX) : len(COMMON_PREFIX) + 8]


class PeerBook:
    """At most ``limit`` peers. ``pinned`` tells which must not be forgotten: those connected or configured."""

    def __init__(self, limit: int, pinned: Callable[[PeerId], bool]) -> None:
        self._limit = limit
        self._pinned = pinned
        self._records: dict[PeerId, PeerRecord] = {}
        self._cards: dict[PeerId, tuple[bytes, Card | None]] = {}
        self._unmet: OrderedDict[PeerId, None] = OrderedDict()
        """Heard of through others, the latest last; some of them may have been met since."""

    def __iter__(self) -> Iterator[PeerRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, peer: PeerId) -> PeerRecord | None:
        return self._records.get(peer)

    def load(self, records: Iterable[PeerRecord]) -> None:
        self._records.update((r.peer_id, r) for r in records)

    def add(self, peer: PeerId, now_us: int) -> tuple[PeerRecord, list[PeerId]]:
        """The record of ``peer``, made now if it is new, and the peers forgotten for it."""
        record = self._records.get(peer)
        if record is not None:
            return record, []
        record = self._records[peer] = PeerRecord(peer, first_seen_us=now_us, last_seen_us=now_us)
        forgotten: list[PeerId] = []
        while len(self._records) > self._limit:
            candidates = [r for r in self._records.values() if r is not record and not self._pinned(r.peer_id)]
            if not candidates:
                break
            oldest = min(candidates, key=lambda r: (r.name != "", r.met, r.last_seen_us))
            self._forget(oldest.peer_id)
            forgotten.append(oldest.peer_id)
        return record, forgotten

    def hear(self, peer: PeerId, now_us: int) -> list[PeerId]:
        """``peer`` was heard of through others: it gets a record if that takes the place of nobody met, and of those not met
        the one heard of longest ago gives way. Returns the peers forgotten for it."""
        known = self._records.get(peer)
        if known is not None:
            if peer in self._unmet and not known.met:
                known.last_seen_us = now_us
                self._unmet.move_to_end(peer)
            return []
        full = len(self._records) >= self._limit
        gone = self._longest_unmet() if full or len(self._unmet) >= MAX_HEARD else None
        if gone is not None:
            self._forget(gone)
        elif full:
            return []
        self._records[peer] = PeerRecord(peer, first_seen_us=now_us, last_seen_us=now_us)
        self._unmet[peer] = None
        return [] if gone is None else [gone]

    def _longest_unmet(self) -> PeerId | None:
        """Of those only heard of; who was met meanwhile is none of them any more."""
        while self._unmet:
            peer, _ = self._unmet.popitem(last=False)
            record = self._records.get(peer)
            if record is not None and not record.met and not self._pinned(peer):
                return peer
        return None

    def _forget(self, peer: PeerId) -> None:
        del self._records[peer]
        self._cards.pop(peer, None)
        self._unmet.pop(peer, None)

    def card_of(self, peer: PeerId) -> Card | None:
        record = self._records.get(peer)
        if record is None or record.card is None:
            return None
        raw, card = self._cards.get(peer, (b"", None))
        if raw is not record.card:
            try:
                card = read_card(record.card, peer)
            except ProtocolError:
                card = None
            self._cards[peer] = (record.card, card)
        return card

    def name_of(self, peer: PeerId) -> str:
        """My name for it, else the one on its card, else its short id."""
        record = self._records.get(peer)
        if record is not None and record.name:
            return record.name
        card = self.card_of(peer)
        return card.name if card is not None and card.name else short_id(peer)

    def resolve(self, text: str) -> PeerId:
        """The peer meant by a full id, a name, or a prefix of an id. Raises UnknownPeer."""
        text = text.strip()
        if text in self._records or is_peer_id(text):
            return text
        for alike in (self._named(text), self._prefixed(text)):
            found = [p for p in alike if self._records[p].met] or alike  # so that hearsay makes no name ambiguous
            if len(found) == 1:
                return found[0]
            if found:
                shown = ", ".join(f"{self.name_of(p)} ({short_id(p)})" for p in found[:4])
                raise UnknownPeer(f"{text[:60]!r} could be any of {len(found)} peers: {shown}.")
        raise UnknownPeer(f"No peer {text[:60]!r} is known.")

    def check_name(self, peer: PeerId, name: str) -> str:
        """``name`` cleaned, if it can become my name for ``peer``. Raises BadInput."""
        cleaned = clean_text(name, MAX_NAME)
        if name.strip() and not cleaned:
            raise BadInput("A name needs at least one visible character.")
        for record in self._records.values():
            if cleaned and record.peer_id != peer and record.name.casefold() == cleaned.casefold():
                raise BadInput(f"{cleaned!r} is already your name for {short_id(record.peer_id)}.")
        return cleaned

    def _named(self, text: str) -> list[PeerId]:
        wanted = text.casefold()
        mine = [r.peer_id for r in self._records.values() if wanted and r.name.casefold() == wanted]
        if mine:
            return mine
        return [p for p in self._records if wanted and self.name_of(p).casefold() == wanted]

    def _prefixed(self, text: str) -> list[PeerId]:
        if len(text) < _LEAST_PREFIX:
            return []
        skipped = len(COMMON_PREFIX)
        return [p for p in self._records if p.startswith(text) or p[skipped:].startswith(text)]


def is_peer_id(text: str) -> bool:
    try:
        public_key_of(text)
    except BadInput:
        return False
    return True
