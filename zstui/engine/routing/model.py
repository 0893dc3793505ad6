"""What goes into the table from jobs, and what comes out of it."""

from __future__ import annotations

import msgspec

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
