"""What a job costs: one integer rule that both sides and any third party compute alike.

``N = price_per_s * duration_us * 2^20 + price_per_mib * memory_bytes * 10^6``, ``total = min(N // (10^6 * 2^20 * 10^3), max)``:
one rounding down, at the end, over cumulative counters. Prices are nano-units, amounts micro-units.
"""

from __future__ import annotations

import msgspec

_US_PER_S = 10**6
_BYTES_PER_MIB = 2**20
_NANO_PER_MICRO = 10**3


class Cost(msgspec.Struct, frozen=True):
    """Micro-units. ``time_u + memory_u == total_u`` always."""

    total_u: int
    time_u: int
    memory_u: int


def cost(
    price_per_second_nano: int, price_per_mib_nano: int, duration_us: int, memory_bytes: int, max_total_u: int
) -> Cost:
    """The amount due, never above ``max_total_u``. Raises ValueError for a negative argument."""
    if min(price_per_second_nano, price_per_mib_nano, duration_us, memory_bytes, max_total_u) < 0:
        raise ValueError("prices, usage and cap are not negative")
    numerator = price_per_second_nano * duration_us * _BYTES_PER_MIB + price_per_mib_nano * memory_bytes * _US_PER_S
    total = min(numerator // (_US_PER_S * _BYTES_PER_MIB * _NANO_PER_MICRO), max_total_u)
    time = min(price_per_second_nano * duration_us // (_US_PER_S * _NANO_PER_MICRO), total)
    return Cost(total, time, total - time)
