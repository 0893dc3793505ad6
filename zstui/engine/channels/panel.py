"""How many witnesses a channel has, who names them, and how many decide. Pure."""

from __future__ import annotations

from zstui.engine.channels.messages import Params

SIZES = (10, 7, 4, 1)
"""Numbers of witnesses that are used: 3f + 1, of which f may lie or be away and the rest still decide."""
USUAL = 4


def panel_size(wanted: int, there: int) -> int:
    """The largest usable number of witnesses of at most ``wanted`` with ``there`` candidates; 0: none."""
    return next((n for n in SIZES if n <= min(wanted, there)), 0)


def quorum(n: int) -> int:
    """m = 2f + 1 of n = 3f + 1: how many equal verdicts decide. A single witness decides alone."""
    return 2 * ((n - 1) // 3) + 1 if n else 0


def nominated_by_proposer(n: int) -> int:
    """How many of ``n`` the proposer names; the responder, whose credit is at stake, names the rest: the only one of one."""
    return n // 2


def check_panel(params: Params) -> bool:
    """Whether the witnesses in ``params`` are a set of a used size, sorted, without the parties, and ``m`` fits."""
    keys = params.witnesses
    if not keys:
        return params.m == 0
    return (
        len(keys) in SIZES
        and list(keys) == sorted(set(keys))
        and params.m == quorum(len(keys))
        and params.pk_lo not in keys
        and params.pk_hi not in keys
    )
