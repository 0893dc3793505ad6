"""Money is an ``int`` of micro-units (µ); 1 unit = 1,000,000 µ. No float ever touches a balance.

Rates are integer nano-units per second and per MiB, so that a price of 0.000000001 units is exact.
"""

from __future__ import annotations

import re

from zstui.engine.errors import BadInput

MICRO = 1_000_000
"""Micro-units in one unit."""
NANO = 1_000_000_000
"""Nano-units in one unit."""
MAX_AMOUNT_U = 2**53 - 1
"""Largest amount accepted anywhere: exact in every JSON reader."""

_DECIMAL = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?\Z", re.ASCII)


def _parse(text: str, scale: int, what: str) -> int:
    match = _DECIMAL.match(text.strip())
    digits = len(str(scale)) - 1
    if match is None or len(match[2] or "") > digits:
        raise BadInput(f"{what} {text[:40]!r} is not a decimal number such as 1.25 (at most {digits} decimals).")
    value = int(match[1]) * scale + int((match[2] or "").ljust(digits, "0"))
    if value > MAX_AMOUNT_U:
        raise BadInput(f"{what} {text[:40]!r} is too large.")
    return value


def parse_amount(text: str) -> int:
    """Decimal units ("1.25") to micro-units (1250000). Raises BadInput."""
    return _parse(text, MICRO, "Amount")


def parse_rate(text: str) -> int:
    """Decimal units per second or MiB to nano-units. Raises BadInput."""
    return _parse(text, NANO, "Price")


def _format(value: int, scale: int, least: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), scale)
    digits = str(rest).rjust(len(str(scale)) - 1, "0").rstrip("0").ljust(least, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def format_amount(micro: int) -> str:
    """Micro-units as decimal units, exact, at least three decimals: 12500000 -> "12.500"."""
    return _format(micro, MICRO, 3)


def format_rate(nano: int) -> str:
    """Nano-units as decimal units, exact, at least three decimals."""
    return _format(nano, NANO, 3)
