"""What goes into the table from jobs, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId


class Result(msgspec.Struct, frozen=True):
    """A job of mine that is done."""

    module_cid: str
    executor: PeerId
    total_us: int
    """From the agreement to its receipt."""
    run_us: int


class Learned(msgspec.Struct, frozen=True):
    """What is expected of one executor for one module."""

    expected_us: int
    """As last learned."""
    weighed_us: int
    """As it has faded since: what executors are compared by."""
    samples: int
    """Bids and results that it was learned from."""
    waiting: int
    """Jobs that waited there as it last said."""


class Way(msgspec.Struct, frozen=True):
    """Towards ``destination`` through ``neighbour``."""

    destination: str
    neighbour: PeerId
    expected_us: int
    """As last learned, 0 for a way that was never tried."""
    weighed_us: int
    samples: int
    at_us: int
    """Time of the latest observation, 0 for none."""
    waiting: int
    """Jobs that waited at the neighbour as it last said."""


def comparison(place: int, ways: Sequence[Way]) -> str:
    """Why the way at ``place`` of ``ways``, best first, has it: "least of 3", "2.4 s more than the first"."""
    way, first = ways[place], ways[0]
    if len(ways) == 1:
        return "the only way known" if way.samples else "the only way known, never tried"
    if not way.samples:
        return "never tried, so it is tried first" if place == 0 else "never tried"
    if place == 0:
        return f"the least of {len(ways)}"
    more = way.weighed_us - first.weighed_us
    return f"{more / US:.1f} s more than the first" if more >= US // 20 else "about as long as the first"
