"""Which chat lines of each author have been taken: no line counts twice, and gaps can be asked for."""

from __future__ import annotations

from zstui.engine.identity.keys import PeerId

MAX_ABOVE = 1_024
"""Counters remembered above an author's floor."""


class LineWindow:
    """Per author a floor, up to which nothing is missing, and the counters seen above it."""

    def __init__(self) -> None:
        self._floors: dict[PeerId, int] = {}
        self._above: dict[PeerId, set[int]] = {}

    def floor(self, author: PeerId) -> int:
        return self._floors.get(author, 0)

    def floors(self) -> dict[PeerId, int]:
        return dict(self._floors)

    def seen(self, author: PeerId, counter: int) -> bool:
        return counter <= self.floor(author) or counter in self._above.get(author, ())

    def take(self, author: PeerId, counter: int) -> bool:
        """Note a line. False: it was taken before."""
        if self.seen(author, counter):
            return False
        above = self._above.setdefault(author, set())
        above.add(counter)
        if len(above) > MAX_ABOVE:
            self._raise(author, min(above))
        self._raise(author, self.floor(author))
        return True

    def settle(self, author: PeerId, counter: int = 0) -> None:
        """Nothing up to ``counter``, or else up to the latest line taken, can be had any more."""
        latest = max(self._above.get(author, ()), default=0)
        self._raise(author, max(counter or latest, self.floor(author)))

    def _raise(self, author: PeerId, floor: int) -> None:
        above = self._above.get(author, set())
        while floor + 1 in above:
            floor += 1
        above = {c for c in above if c > floor}
        self._floors[author] = floor
        if above:
            self._above[author] = above
        else:
            self._above.pop(author, None)
