"""QR codes as text: two rows of modules a line of half blocks."""

from __future__ import annotations

from collections.abc import Sequence

MARGIN = 2
"""Light modules around the code, so that a camera finds its edge."""
_HALVES = {("0", "0"): "█", ("0", "1"): "▀", ("1", "0"): "▄", ("1", "1"): " "}


def half_blocks(matrix: Sequence[str]) -> list[str]:
    """Lines for a terminal with light text on dark ground: rows of "1" (dark) and "0" with a light margin."""
    if not matrix:
        return []
    side = "0" * MARGIN
    blank = "0" * (len(matrix[0]) + 2 * MARGIN)
    rows = [blank] * MARGIN + [side + row + side for row in matrix] + [blank] * MARGIN
    if len(rows) % 2:
        rows.append("1" * len(blank))
    return [
        "".join(_HALVES[upper, lower] for upper, lower in zip(rows[i], rows[i + 1], strict=True))
        for i in range(0, len(rows), 2)
    ]
