"""Capability search: recall@10 against looking at every card, and time of a query, at 1,000, 10,000 and 100,000 cards.

Cards have 6 words drawn from 2,000, queries 4 of the words of a random card. ``exact_ms`` is the time of looking at every
card with the same vectors in the same run.
"""

from __future__ import annotations

import random
import statistics
import time

from zstui.engine.search.embedding import embed
from zstui.engine.search.index import CapabilityIndex, exact

SIZES = (1_000, 10_000, 100_000)
QUERIES = 40


async def measure() -> dict[str, object]:
    return {str(size): await _at(size) for size in SIZES}


async def _at(size: int) -> dict[str, float]:
    chance = random.Random(size)
    words = [f"{chance.getrandbits(40):x}" for _ in range(2_000)]
    cards = {f"k{n}": chance.sample(words, 6) for n in range(size)}
    vectors = {key: embed(said) for key, said in cards.items()}
    index = CapabilityIndex()
    begin = time.perf_counter()
    for key, vector in vectors.items():
        index.put(key, vector)
    await index.settled()
    build = time.perf_counter() - begin
    hits, times, exact_times = 0, [], []
    for _ in range(QUERIES):
        query = embed(chance.sample(cards[chance.choice(list(cards))], 4))
        begin = time.perf_counter()
        found = index.search(query, 10)
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        want = exact(vectors, query, 10)
        exact_times.append(time.perf_counter() - begin)
        hits += len(set(want) & {key for key, _ in found})
    await index.stop()
    return {
        "recall_at_10": round(hits / (10 * QUERIES), 3),
        "query_ms_p50": round(statistics.median(times) * 1000, 3),
        "exact_ms_p50": round(statistics.median(exact_times) * 1000, 2),
        "build_s": round(build, 2),
    }
