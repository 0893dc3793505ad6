"""Capability cards and queries as vectors: signed feature hashing of words and character 3-grams.

Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning". The same text gives the same vector on every
machine, so that peers could exchange vectors; nothing is learned.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from zstui.engine.identity.card import Card

DIMENSIONS = 32
"""So few that the index finds nearly all neighbours in time; which words are said exactly, ``words`` knows."""
MAX_WORDS = 64
CID_LENGTH = 59
SHORT = 12
"""Characters of a module's CID that tell it from others: cards and queries are compared by them."""
_WORD = re.compile(r"[^\W_]+")
_GRAM_WEIGHT = 0.25
"""A shared 3-gram counts less than a shared word, and catches typing errors and inflections. Words with digits are names of
models and ids, and figures: a part of them means nothing."""


def card_words(card: Card) -> tuple[str, ...]:
    """What a card says, as words: name, tags, hardware, region, modules, and its figures in steps of powers of two."""
    words = [*_WORD.findall(card.name.casefold())]
    for tag in card.tags:
        words += _WORD.findall(tag.casefold())
    words += _WORD.findall(card.hardware.casefold()) + _WORD.findall(card.region.casefold())
    words += [f"cores{_step(card.cores)}", f"memory{_step(card.memory_mib)}"]
    if card.executor:
        words.append("executor")
    words += [_short(module.casefold()) for module in card.modules]
    return tuple(words[:MAX_WORDS])


def query_words(text: str) -> tuple[str, ...]:
    """Words of a person's query; "8 cores" and "128 MiB" become the figures that cards speak of."""
    text = re.sub(r"(\d{1,9})\s*cores?\b", lambda m: f"cores{_step(int(m[1]))}", text.casefold())
    text = re.sub(r"(\d{1,9})\s*mi?b\b", lambda m: f"memory{_step(int(m[1]))}", text)
    return tuple(_short(word) for word in _WORD.findall(text)[:MAX_WORDS])


def embed(words: Iterable[str]) -> tuple[float, ...]:
    """A vector of length 1 in ``DIMENSIONS`` dimensions; all zeros for no words."""
    vector = [0.0] * DIMENSIONS
    for word in words:
        for place, weight in _hashed(word):
            vector[place] += weight
    length = math.sqrt(sum(x * x for x in vector))
    return tuple(x / length for x in vector) if length else tuple(vector)


@lru_cache(4096)
def _hashed(word: str) -> tuple[tuple[int, float], ...]:
    """Places in a vector and what the word and its 3-grams add there."""
    found = []
    for feature, weight in _features(word):
        digest = hashlib.blake2b(feature.encode(), digest_size=4).digest()
        sign = 1.0 if digest[3] & 1 else -1.0
        found.append((int.from_bytes(digest[:3], "big") % DIMENSIONS, sign * weight))
    return tuple(found)


def _features(word: str) -> Iterator[tuple[str, float]]:
    yield word, 1.0
    if word.isalpha():
        padded = f"^{word}$"
        for start in range(len(padded) - 2):
            yield padded[start : start + 3], _GRAM_WEIGHT


def _short(word: str) -> str:
    """A CID by its last characters: its first ones are the same for all."""
    return word[-SHORT:] if len(word) >= CID_LENGTH else word


def _step(figure: int) -> int:
    return 1 << max(0, figure).bit_length() - 1 if figure > 0 else 0
