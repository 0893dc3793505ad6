"""Untrusted text is cleaned once, where it enters the engine."""

from __future__ import annotations

import unicodedata


def clean_text(text: str, limit: int) -> str:
    """``text`` without control, format (bidi, zero-width), surrogate and private characters, at most ``limit`` long.

    Newlines and tabs become spaces. Characters that a markup language gives a meaning are kept: screens escape them.
    """
    if text.isascii() and text.isprintable():
        return text.strip()[:limit].rstrip()
    out: list[str] = []
    for c in text[: limit * 4]:
        if c in "\n\r\t":
            c = " "
        elif unicodedata.category(c)[0] == "C":
            continue
        out.append(c)
    return "".join(out).strip()[:limit].rstrip()
