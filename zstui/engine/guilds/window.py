"""Which chat lines of each membership have been taken: no line counts twice, and gaps can be asked for."""

from __future__ import annotations

Key = bytes
"""A membership, by its X25519 key."""
MAX_ABOVE = 1_024
"""Counters remembered above a floor."""


class LineWindow:
    """Per membership a floor, up to which nothing is missing, and the counters seen above it."""

    def __init__(self) -> None:
        self._floors: dict[Key, int] = {}
        self._above: dict[Key, set[int]] = {}

    def floor(self, key: Key) -> int:
        return self._floors.get(key, 0)

    def floors(self) -> dict[Key, int]:
        return dict(self._floors)

    def seen(self, key: Key, counter: int) -> bool:
        return counter <= self.floor(key) or counter in self._above.get(key, ())

    def take(self, key: Key, counter: int) -> bool:
        """Note a line. False: it was taken before."""
        if self.seen(key, counter):
            return False
        above = self._above.setdefault(key, set())
        above.add(counter)
        if len(above) > MAX_ABOVE:
            self._raise(key, min(above))
        self._raise(key, self.floor(key))
        return True

    def settle(self, key: Key, counter: int) -> None:
        """Nothing up to ``counter`` is missing."""
        self._raise(key, max(counter, self.floor(key)))

    def settle_all(self, key: Key) -> None:
        """What is missing below the latest lines of this membership cannot be had any more."""
        if key in self._above:
            self.settle(key, max(self._above[key]))

    def top(self, key: Key) -> int:
        """The highest counter taken."""
        return max(self._above.get(key, {0}) | {self.floor(key)})

    def _raise(self, key: Key, floor: int) -> None:
        above = self._above.get(key, set())
        while floor + 1 in above:
            floor += 1
        above = {c for c in above if c > floor}
        self._floors[key] = floor
        if above:
            self._above[key] = above
        else:
            self._above.pop(key, None)
