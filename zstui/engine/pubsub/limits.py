"""How much of something each peer may do: token buckets by key, in a bounded table. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from zstui.engine.clock import US

K = TypeVar("K", bound=Hashable)


class Buckets(Generic[K]):
    """``burst`` at once and ``per_s`` from then on, for each key. Of more than ``limit`` keys the longest unused is forgotten."""

    def __init__(self, burst: float, per_s: float, limit: int = 4096) -> None:
        self._burst = burst
        self._per_s = per_s
        self._limit = limit
        self._left: OrderedDict[K, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: K, now_us: int) -> bool:
        """Whether there was one left."""
        left = self._refilled(key, now_us)
        allowed = left >= 1
        self._keep(key, left - 1 if allowed else left, now_us)
        return allowed

    def spend(self, key: K, amount: float, now_us: int) -> int:
        """Take ``amount``, whether it is there or not; how long to wait until nothing is owed any more, 0 if nothing is."""
        left = self._refilled(key, now_us) - amount
        self._keep(key, left, now_us)
        return 0 if left >= 0 else round(-left / self._per_s * US) + 1

    def wait_us(self, key: K, now_us: int) -> int:
        """How long until there is one; 0 if there is now."""
        left = self._refilled(key, now_us)
        return 0 if left >= 1 else round((1 - left) / self._per_s * US) + 1

    def _refilled(self, key: K, now_us: int) -> float:
        left, at_us = self._left.get(key, (self._burst, now_us))
        return min(self._burst, left + (now_us - at_us) / US * self._per_s)

    def _keep(self, key: K, left: float, now_us: int) -> None:
        self._left[key] = (left, now_us)
        self._left.move_to_end(key)
        if len(self._left) > self._limit:
            self._left.popitem(last=False)
