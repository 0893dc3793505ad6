"""The sample jobs that come with zstui."""

from __future__ import annotations

from pathlib import Path

import zstui

_PACKAGE = Path(zstui.__file__).resolve().parent
_PLACES = (_PACKAGE / "assets", _PACKAGE.parent / "assets")
"""In an installed wheel, and in a checkout."""


def samples() -> dict[str, Path]:
    """The shipped modules by name, such as "primes"; empty where they were not installed."""
    for place in _PLACES:
        found = {path.stem: path for path in sorted(place.glob("*.wasm"))}
        if found:
            return found
    return {}
