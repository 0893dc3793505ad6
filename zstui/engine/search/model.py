"""How well one peer's card fits what is looked for."""

from __future__ import annotations

import re

import msgspec

_FIGURE = re.compile(r"(cores|memory)(\d+)\Z")


class Fit(msgspec.Struct, frozen=True):
    said: tuple[str, ...] = ()
    """Words looked for that the card says."""
    near: float = 0.0
    """Cosine of its vector with that of all words looked for, 0 to 1."""


def in_words(word: str) -> str:
    """A word of a card or query as a person says it: "cores8" is "8 cores"."""
    if match := _FIGURE.match(word):
        return f"{match[2]} cores" if match[1] == "cores" else f"{match[2]} MiB"
    return word
