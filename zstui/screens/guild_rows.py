"""One guild as one row: its columns, and the words for its states."""

from __future__ import annotations

from collections.abc import Sequence

from zstui.engine.views import GuildView, NeedsView
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Cell, Line, Span, countdown, duration, now, plain, short_peer

STATES = {"joined": "ok", "seen": "info", "knocking": "warn", "left": "muted", "expired": "muted", "dissolved": "muted"}
ORDER = {"joined": 0, "knocking": 1, "seen": 2, "left": 3, "expired": 4, "dissolved": 5}
ADMISSIONS = {
    "open": "open to all",
    "knock": "by asking: creator or officers let you in",
    "invite": "private, by invite only",
}
SOON = 300
"""Seconds before its end in which a guild's rest counts down."""


def is_over(guild: GuildView) -> bool:
    return guild.expires_at <= now() or guild.state in ("left", "expired", "dissolved")


def runs(guild: GuildView) -> bool:
    """Whether I am one of those who admit, invite and remove."""
    return guild.state == "joined" and (guild.role == "creator" or guild.officer)


def needs_words(needs: NeedsView) -> str:
    """What executors must offer; "" for nothing."""
    parts = (
        f"{needs.memory_mib} MiB for a job" if needs.memory_mib else "",
        f"{needs.cores} core{'' if needs.cores == 1 else 's'}" if needs.cores else "",
        *(f"tag {plain(tag)}" for tag in needs.tags),
    )
    return ", ".join(part for part in parts if part)


def _ttl(guild: GuildView) -> Cell:
    left = guild.expires_at - now()
    if left <= 0 or guild.state in ("expired", "dissolved"):
        return Span("over", "muted")
    return Span(countdown(left) if left < SOON else duration(left), "warn" if left < SOON else "")


def _members(guild: GuildView) -> Cell:
    full = guild.member_count >= guild.max_members
    return Span(f"{guild.member_count}/{guild.max_members}" + (" full" if full else ""), "warn" if full else "")


def _role(guild: GuildView) -> Cell:
    if guild.role is None:
        return Span("-", "faint")
    return Span("officer" if guild.officer else guild.role)


def _news(guild: GuildView) -> Cell:
    line: Line = ()
    if guild.knocks:
        line += (Span(f"{len(guild.knocks)} ask", "warn strong"),)
    if guild.unread:
        line += (Span((" " if line else "") + f"{guild.unread} new", "accent"),)
    return line or Span("-", "faint")


def columns() -> Sequence[Column[GuildView]]:
    return (
        Column("Guild", 14, lambda g: Span(plain(g.name), "strong"), lambda g: g.name.casefold(), flex=3, limit=32),
        Column("Role", 8, _role, lambda g: g.role or "~"),
        Column("Members", 10, _members, lambda g: -g.member_count),
        Column("Jobs", 4, lambda g: str(g.jobs), lambda g: -g.jobs, align="right"),
        Column("TTL", 5, _ttl, lambda g: g.expires_at, align="right"),
        Column("Key", 9, lambda g: Span(plain(g.fingerprint) or "-", "muted" if g.fingerprint else "faint"), above=70),
        Column("News", 11, _news, lambda g: (-len(g.knocks), -g.unread), above=70),
        Column("State", 9, lambda g: Span(g.state, STATES[g.state]), lambda g: (ORDER[g.state], g.name.casefold())),
        Column(
            "Creator",
            10,
            lambda g: plain(g.creator_name) or short_peer(g.creator),
            lambda g: g.creator_name.casefold(),
            flex=1,
            above=95,
            limit=24,
        ),
    )
