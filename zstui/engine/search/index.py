"""Nearest capability cards: an annoy index rebuilt in a thread, and an exact look at what is newer than it."""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections.abc import Iterator, Mapping, Sequence

from annoy import AnnoyIndex

from zstui.engine.search.embedding import DIMENSIONS

Vector = Sequence[float]
EXACT_UP_TO = 200
"""So many vectors, or one in 400 if that is more, are compared one by one; more are worth a new index."""
TREES = 32
SEARCH_NODES = 6_000
"""Candidates that a query looks at: recall against time."""
_ADD_AT_ONCE = 500


class CapabilityIndex:
    """Vectors by key. ``put`` and ``remove`` take effect at once; the index behind catches up by itself."""

    def __init__(self) -> None:
        self._vectors: dict[str, Vector] = {}
        self._fresh: set[str] = set()
        """Keys whose vector is not the one in the index."""
        self._annoy: AnnoyIndex | None = None
        self._keys: list[str] = []
        self._changed: set[str] = set()
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
        self._fresh.add(key)
        if self._building is not None:
            self._changed.add(key)
        self._catch_up()

    def remove(self, key: str) -> None:
        self._vectors.pop(key, None)
        self._fresh.discard(key)
        self._changed.discard(key)

    def similarity(self, vector: Vector, key: str) -> float:
        """Cosine; 0 for a key that is not here."""
        known = self._vectors.get(key)
        return 0.0 if known is None else _dot(vector, known)

    def search(self, vector: Vector, count: int) -> list[tuple[str, float]]:
        """The ``count`` nearest keys with their cosine similarity, best first; equal ones in order of their keys."""
        candidates = set(self._fresh)
        if self._annoy is not None:
            found = self._annoy.get_nns_by_vector(vector, 2 * count, SEARCH_NODES)
            candidates.update(self._keys[item] for item in found)
        scored = ((-_dot(vector, self._vectors[k]), k) for k in candidates if k in self._vectors)
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
        wanted = len(self._fresh) > max(EXACT_UP_TO, len(self._vectors) // 400)
        if wanted and self._building is None and not self._held:
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
            await asyncio.to_thread(index.build, TREES)
            self._annoy, self._keys = index, keys
            self._fresh, self._changed = self._changed, set()
        finally:
            self._building = None
        self._catch_up()


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def exact(vectors: Mapping[str, Vector], vector: Vector, count: int) -> list[str]:
    """The nearest keys by looking at every vector: what ``search`` is measured against."""
    return heapq.nsmallest(count, vectors, key=lambda key: (-_dot(vector, vectors[key]), key))
