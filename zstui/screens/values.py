"""How values read in a window, exactly where a column rounds; and what a person types, read."""

from __future__ import annotations

import re
import time
import unicodedata

from zstui.engine.errors import BadInput
from zstui.engine.money import MICRO
from zstui.screens.widgets.text import PEER_PREFIX, clip, plain, short_peer

MIB = 1 << 20
_DURATION = re.compile(r"(\d{1,6})\s*([smhd]?)\Z", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def safe(text: str, width: int = 40) -> str:
    """A peer's words on one line of at most ``width`` cells; "(no name)" where nothing printable is left.

    Words are cleaned where they enter the engine; a window that signs does not rely on that.
    """
    return clip(plain(text[: width * 8]).strip()[: width * 2], width) or "(no name)"


def safe_lines(text: str) -> str:
    """Text of several lines without control and bidi characters; tabs become spaces."""
    return "".join(c for c in text.expandtabs(4) if c == "\n" or unicodedata.category(c) not in _HIDDEN)


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def long_key(peer_id: str) -> str:
    """Sixteen characters of a peer id, from the start and the end of what differs, in fours."""
    rest = plain(peer_id[:80]).removeprefix(PEER_PREFIX)
    return " ".join((rest[:4], rest[4:8], rest[-8:-4], rest[-4:])) if len(rest) >= 16 else rest


def named(name: str, peer_id: str, width: int = 24) -> str:
    """A peer's name with its short key."""
    return f"{safe(name, width)}  {short_peer(peer_id)}"


def _trim(value: int, scale: int, least: int) -> str:
    """``value / scale`` exactly, without needless zeros; ``scale`` is a power of ten."""
    whole, rest = divmod(value, scale)
    digits = str(rest).rjust(len(str(scale)) - 1, "0").rstrip("0").ljust(least, "0")
    return f"{whole}.{digits}" if digits else str(whole)


def exact_seconds(duration_us: int) -> str:
    """20400000 -> "20.4 s"."""
    return f"{_trim(duration_us, MICRO, 1)} s"


def exact_mebibytes(size: int) -> str:
    """Exact for whole WebAssembly pages: 54525952 -> "52 MiB"."""
    return f"{_trim(size * 10_000 // MIB, 10_000, 0)} MiB"


def ago(at: int, now: float | None = None) -> str:
    """How long a Unix second lies back, in words."""
    if at <= 0:
        return "never"
    past = max(0, int((time.time() if now is None else now) - at))
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if past >= size:
            count = past // size
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return "just now"


def parse_duration(text: str) -> int:
    """ "90s", "30m", "1h", "2d" or plain seconds, to seconds. Raises BadInput."""
    match = _DURATION.match(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise BadInput(f"{text[:20]!r} is not a time such as 30m, 1h or 2d.")
    return int(match[1]) * _SECONDS[match[2]]


def parse_count(text: str, least: int, most: int) -> int:
    """A whole number within bounds. Raises BadInput."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise BadInput(f"{text[:20]!r} is not a whole number from {least} to {most}.")
    return int(text)
