"""Nearest capability cards: an annoy index rebuilt in a thread, and an exact look at what is newer than it."""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import mul

from annoy import AnnoyIndex

from zstui.engine.search.embedding import DIMENSIONS

Vector = Sequence[float]
EXACT_UP_TO = 200
"""So many vectors, or one in 400 if that is more, are compared one by one; more are worth a new index."""
EXACT_MOST = 500
"""And no more than the latest so many, where a build takes longer than changes come: a query must not hold up the loop."""
TREES = 32
SEARCH_NODES = 6_000
"""Candidates that a query looks at: recall against time."""
_ADD_AT_ONCE = 500


class CapabilityIndex:
    """Vectors by key. ``put`` and ``remove`` take effect at once; the index behind catches up by itself."""

    def __init__(self) -> None:
        self._vectors: dict[str, Vector] = {}
        self._fresh: dict[str, None] = {}
        """Keys whose vector is not the one in the index, while there is one; the latest last."""
        self._annoy: AnnoyIndex | None = None
        self._keys: list[str] = []
        self._changed: dict[str, None] = {}
        """Keys that changed since the build under way began."""
        self._held = False
        self._building: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._vectors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def put(self, key: str, vector: Vector) -> None:
        """Add or replace. Call it on the event loop."""
        vector = array("f", vector)
        if self._vectors.get(key) == vector:
            return
        self._vectors[key] = vector
        if self._annoy is not None:
            _last(self._fresh, key)
        if self._building is not None:
            _last(self._changed, key)
        self._catch_up()

    def remove(self, key: str) -> None:
        self._vectors.pop(key, None)
        self._fresh.pop(key, None)
        self._changed.pop(key, None)

    def similarity(self, vector: Vector, key: str) -> float:
        """Cosine; 0 for a key that is not here."""
        known = self._vectors.get(key)
        return 0.0 if known is None else _dot(vector, known)

    def search(self, vector: Vector, count: int) -> list[tuple[str, float]]:
        """The ``count`` nearest keys with their cosine similarity, best first; equal ones in order of their keys."""
        newer = self._vectors if self._annoy is None else self._fresh
        near = set(islice(reversed(newer), EXACT_MOST))
        if self._annoy is not None:
            found = self._annoy.get_nns_by_vector(vector, 2 * count, SEARCH_NODES)
            near.update(self._keys[item] for item in found)
        scored = ((-_dot(vector, self._vectors[k]), k) for k in near if k in self._vectors)
        return [(key, -score) for score, key in heapq.nsmallest(count, scored)]

    def hold(self) -> None:
        """Build nothing until ``release``: many vectors are about to come."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self._catch_up()

    async def settled(self) -> None:
        """Return once no build is under way."""
        while self._building is not None:
            await asyncio.wait([self._building])

    async def stop(self) -> None:
        """Idempotent."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)

    def _catch_up(self) -> None:
        newer = len(self._vectors if self._annoy is None else self._fresh)
        if newer > max(EXACT_UP_TO, len(self._vectors) // 400) and self._building is None and not self._held:
            self._building = asyncio.create_task(self._build(), name="capability index")

    async def _build(self) -> None:
        try:
            self._changed.clear()
            index = AnnoyIndex(DIMENSIONS, "angular")
            index.set_seed(1)
            keys: list[str] = []
            for number, key in enumerate(tuple(self._vectors), 1):
                if key in self._vectors:
                    index.add_item(len(keys), self._vectors[key])
                    keys.append(key)
                if number % _ADD_AT_ONCE == 0:
                    await asyncio.sleep(0)
            await asyncio.to_thread(index.build, TREES, n_jobs=1)  # the other cores are for whoever waits
            self._annoy, self._keys = index, keys
            self._fresh, self._changed = self._changed, {}
        finally:
            self._building = None
        self._catch_up()


def _last(keys: dict[str, None], key: str) -> None:
    keys.pop(key, None)
    keys[key] = None


def _dot(a: Vector, b: Vector) -> float:
    cosine: float = sum(map(mul, a, b))
    return cosine


def exact(vectors: Mapping[str, Vector], vector: Vector, count: int) -> list[str]:
    """The nearest keys by looking at every vector: what ``search`` is measured against."""
    return heapq.nsmallest(count, vectors, key=lambda key: (-_dot(vector, vectors[key]), key))
