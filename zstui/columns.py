"""Plain columns, times and ids as one-shot commands print them."""

from __future__ import annotations

import time
from collections.abc import Sequence

Row = Sequence[str]


def short(identifier: str) -> str:
    """Eight characters that tell an id apart: past the prefix that all peer ids share."""
    return identifier[8:16] if identifier.startswith("12D3KooW") else identifier[:8]


def clock(at: int | None) -> str:
    """Local wall time of a Unix time, with the date where it is not today."""
    if not at:
        return "-"
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)


def table(head: Row, rows: Sequence[Row]) -> str:
    """Columns aligned by spaces; an empty table says so."""
    if not rows:
        return "(none)"
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
