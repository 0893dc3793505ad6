"""Which cards say which words: bitmaps over cards, so that those that say most of a query are found without a look at each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

RARE = 512
"""A word that no more cards say is a set of their slots; a more frequent one a bitmap, an eighth of a byte for each card."""
MAX_WORDS = 8
"""Words of a query that are counted: its first ones."""
_BLOCK = 64
"""Bytes of a bitmap that are looked at together."""


class WordIndex:
    """Words by key. Adding and removing take time in proportion to the number of cards, some microseconds at 100,000."""

    def __init__(self, rare: int = RARE) -> None:
        self._most_rare = rare
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self._free: list[int] = []
        self._words: list[str] = []
        """By slot, with spaces between: text, which the garbage collector leaves alone, and no dict that grows."""
        self._rare: dict[str, set[int]] = {}
        self._bitmaps: dict[str, int] = {}

    def put(self, key: str, words: Iterable[str]) -> None:
        """Add or replace. Words have no spaces."""
        self.remove(key)
        words = tuple(dict.fromkeys(words))
        if self._free:
            slot = self._free.pop()
            self._keys[slot], self._words[slot] = key, " ".join(words)
        else:
            slot = len(self._keys)
            self._keys.append(key)
            self._words.append(" ".join(words))
        self._slots[key] = slot
        for word in words:
            if word in self._bitmaps:
                self._bitmaps[word] |= 1 << slot
                continue
            slots = self._rare.setdefault(word, set())
            slots.add(slot)
            if len(slots) > self._most_rare:
                self._bitmaps[word] = self._bitmap(self._rare.pop(word))

    def remove(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        self._free.append(slot)
        for word in self._words[slot].split():
            if word in self._bitmaps:
                self._bitmaps[word] &= ~(1 << slot)
                if not self._bitmaps[word]:
                    del self._bitmaps[word]
            else:
                self._rare[word].discard(slot)
                if not self._rare[word]:
                    del self._rare[word]

    def said(self, key: str, words: Iterable[str]) -> int:
        """How many of ``words`` the card of ``key`` says."""
        spoken = self.words(key)
        return sum(word in spoken for word in words)

    def words(self, key: str) -> tuple[str, ...]:
        slot = self._slots.get(key)
        return () if slot is None else tuple(self._words[slot].split())

    def most(self, words: Iterable[str], count: int) -> list[str]:
        """``count`` keys, or as many as there are, that say at least one of ``words``, those that say most of them first."""
        at_least: list[int] = []
        """[n]: the cards that say more than n of the words so far."""
        for word in tuple(dict.fromkeys(words))[:MAX_WORDS]:
            bitmap = self._bitmaps.get(word) or self._bitmap(self._rare.get(word, ()))
            at_least.append(0)
            for n in range(len(at_least) - 1, 0, -1):
                at_least[n] |= at_least[n - 1] & bitmap
            if bitmap:
                at_least[0] |= bitmap
        found: list[str] = []
        above = 0
        for bitmap in reversed(at_least):
            found += self._first(bitmap & ~above, count - len(found))
            if len(found) >= count:
                break
            above = bitmap
        return found

    def _first(self, bitmap: int, count: int) -> list[str]:
        found: list[str] = []
        data = bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "little")
        for start in range(0, len(data), _BLOCK):
            block = int.from_bytes(data[start : start + _BLOCK], "little")
            while block and len(found) < count:
                lowest = block & -block
                found.append(self._keys[start * 8 + lowest.bit_length() - 1])
                block ^= lowest
            if len(found) >= count:
                break
        return found

    def _bitmap(self, slots: Collection[int]) -> int:
        data = bytearray(len(self._keys) // 8 + 1 if slots else 0)
        for slot in slots:
            data[slot >> 3] |= 1 << (slot & 7)
        return int.from_bytes(data, "little")
