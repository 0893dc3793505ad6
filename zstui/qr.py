"""QR codes as text: two rows of modules a line of half blocks."""

from __future__ import annotations

from collections.abc import Sequence

MARGIN = 2
"""Light modules at the sides and below, so that a camera finds the edge; above it is one, which saves a line."""
_HALVES = {("0", "0"): "█", ("0", "1"): "▀", ("1", "0"): "▄", ("1", "1"): " "}


def half_blocks(matrix: Sequence[str]) -> list[str]:
    """Lines for a terminal with light text on dark ground: rows of "1" (dark) and "0", an odd number, with a margin."""
    if not matrix:
        return []
    side = "0" * MARGIN
    blank = "0" * (len(matrix[0]) + 2 * MARGIN)
    rows = [blank, *(side + row + side for row in matrix), blank, blank]
    return ["".join(_HALVES[pair] for pair in zip(*rows[i : i + 2], strict=True)) for i in range(0, len(rows) - 1, 2)]
