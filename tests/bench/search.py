"""Capability search at 1,000, 10,000 and 100,000 cards, with what people type: see ``search_cards``.

``recall_at_10`` is of the whole search against reading every card: a peer shown is a hit if its card says as many of the
query's words as the tenth of the best does. ``vector_recall_at_10`` is of the vector index alone, against the cosine with
every card: a hit is as near as the tenth nearest. Times are of the whole search; ``loop_ms_max`` is the longest time
of the processor that the event loop spent at one go while the index was filled and built, and was asked meanwhile, with
the garbage collector set as the program sets it.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import statistics
import time
from collections.abc import Sequence

from tests.bench.search_cards import Network
from zstui.cli import GC_THRESHOLDS
from zstui.engine.bus import Bus
from zstui.engine.identity.card import Card
from zstui.engine.search.embedding import card_words, embed, query_words
from zstui.engine.search.service import PeerSearch

SIZES = (1_000, 10_000, 100_000)
QUERIES = 60
BEST = 10


async def measure() -> dict[str, object]:
    return {str(size): await _at(size) for size in SIZES}


async def _at(size: int) -> dict[str, float]:
    network = Network(size)
    cards: dict[str, Card] = {f"k{n}": network.card() for n in range(size)}
    said = {key: frozenset(card_words(card)) for key, card in cards.items()}
    gc.collect()
    gc.freeze()  # what the bench itself made is not the search's to look after
    settings = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    step = max(1, size // QUERIES)
    texts = [network.query(cards[f"k{n}"]) for n in range(0, step * QUERIES, step)]
    search = PeerSearch(Bus(), known=lambda: cards, card_of=cards.get)
    lag, asking = asyncio.create_task(_longest_pause()), asyncio.create_task(_ask(search, texts))
    begin = time.perf_counter()
    await search.start()
    await search.settled()
    build = time.perf_counter() - begin
    asking.cancel()
    lag.cancel()
    longest = await lag
    hits, times, exact_times, near = 0, [], [], 0
    for text in texts:
        begin = time.perf_counter()
        found = search.like(text, BEST)
        times.append(time.perf_counter() - begin)
        words = frozenset(query_words(text))
        begin = time.perf_counter()
        enough = min(heapq.nlargest(BEST, (len(words & spoken) for spoken in said.values())))
        exact_times.append(time.perf_counter() - begin)
        hits += sum(len(words & said[key]) >= enough for key, _ in found)
        near += _near(search, embed(query_words(text)))
    await search.stop()
    gc.unfreeze()
    gc.set_threshold(*settings)
    return {
        "recall_at_10": round(hits / (BEST * len(texts)), 3),
        "vector_recall_at_10": round(near / (BEST * len(texts)), 3),
        "query_ms_p50": round(statistics.median(times) * 1000, 3),
        "query_ms_p95": round(statistics.quantiles(times, n=20)[-1] * 1000, 3),
        "exact_ms_p50": round(statistics.median(exact_times) * 1000, 2),
        "build_s": round(build, 2),
        "loop_ms_max": round(longest * 1000, 1),
    }


def _near(search: PeerSearch, vector: tuple[float, ...]) -> int:
    index = search.index
    enough = min(heapq.nlargest(BEST, (index.similarity(vector, key) for key in index)))
    return sum(cosine >= enough - 1e-6 for _, cosine in index.search(vector, BEST))


async def _ask(search: PeerSearch, texts: Sequence[str]) -> None:
    for text in itertools.cycle(texts):
        search.like(text, BEST)
        await asyncio.sleep(0.05)


async def _longest_pause() -> float:
    longest, last = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest
