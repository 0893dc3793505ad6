"""One module over many inputs: what its parts are, and how far one price goes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

import msgspec
from msgspec.structs import replace

from zstui.engine.commands import JobSpec
from zstui.engine.views import BatchState

MAX_ITEMS = 4096
MARK = "{}"
"""In an argument: where an item's input goes."""

ItemState = Literal["waiting", "begun", "done", "failed", "cancelled"]
MapKind = Literal["line", "file"]


class Item(msgspec.Struct, frozen=True):
    """One input of a batch."""

    number: int
    input: str
    """A line, or a file's path."""
    state: ItemState = "waiting"
    cost_u: int = 0
    """Of its receipts once it has ended; before that, the most they can come to."""
    job_id: str = ""
    """First attempt."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    batch_id: str
    name: str
    guild_id: str
    spec: JobSpec
    kind: MapKind
    total: int
    max_cost_u: int
    state: BatchState = "running"
    why: str = ""
    created_us: int = 0
    finished_us: int = 0


def item_spec(batch: Batch, item: Item, cap_u: int) -> JobSpec:
    """The job of one item, which may cost ``cap_u``."""
    spec = replace(batch.spec, max_price_u=cap_u)
    if batch.kind == "file":
        seen = f"/in/{PurePath(item.input).name}"
        return replace(spec, inputs=(*spec.inputs, item.input), args=tuple(a.replace(MARK, seen) for a in spec.args))
    if any(MARK in a for a in spec.args):
        return replace(spec, args=tuple(a.replace(MARK, item.input) for a in spec.args))
    return replace(spec, stdin=item.input.encode() + b"\n")


def committed_u(items: Sequence[Item]) -> int:
    """What has been spent, and what jobs under way may yet cost."""
    return sum(i.cost_u for i in items)


def next_cap_u(left_u: int, full_u: int, *, waits: bool) -> int | None:
    """The price cap of the next job where ``left_u`` of the batch's price is not committed; None to wait, 0 for no more.

    ``full_u``: what it could cost at its limits. A job gets less than that only where none is under way that could free more
    (``waits``).
    """
    wanted = max(1, full_u)
    if left_u >= wanted:
        return wanted
    return None if waits else max(0, left_u)


def ended(batch: Batch, items: Sequence[Item]) -> bool:
    """Whether nothing of it goes on. A cancelled batch goes on until its jobs under way have ended, too."""
    return batch.state != "running" and bool(batch.finished_us) and all(i.state != "begun" for i in items)


def outcome(items: Sequence[Item]) -> BatchState:
    """The state of a batch whose items have all ended, and that nobody cancelled."""
    return "done" if all(i.state == "done" for i in items) else "failed"
