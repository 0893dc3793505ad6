"""Everything about one guild, as lines for the detail column and the detail window."""

from __future__ import annotations

from collections.abc import Sequence

from zstui.engine.views import GuildMemberView, GuildMessageView, GuildView
from zstui.screens.guild_rows import ADMISSIONS, ORDER, STATES, is_over, needs_words, runs
from zstui.screens.widgets.lines import field, heading, paragraph
from zstui.screens.widgets.text import (
    Line,
    Span,
    clip,
    clock_time,
    countdown,
    duration,
    fit,
    now,
    plain,
    short_peer,
    until,
)

LATEST = 8
"""Messages shown below the members."""
WIDE = 50
"""Cells from which a member's office has room beside its role; with less it stands for it."""


def guild_details(guild: GuildView, messages: Sequence[GuildMessageView], width: int) -> list[Line]:
    lines: list[Line] = [
        *field("Guild", guild.name, "strong", width),
        *field("State", _state(guild), STATES[guild.state], width),
        *_alarms(guild, width),
        *field("Creator", f"{plain(guild.creator_name) or '-'}  {short_peer(guild.creator)}", "", width),
        *field("My role", *_role(guild), width),
    ]
    if guild.state == "joined":
        lines += field("Keeper", *keeper(guild), width)
    lines += field("Joining", ADMISSIONS[guild.admission], "", width)
    if needs := needs_words(guild.needs):
        lines += field("Executors", f"need {needs}", "", width)
    left = guild.expires_at - now()
    lines += field("Ends", "over" if is_over(guild) else f"{until(guild.expires_at)}, in {countdown(left)}", "", width)
    key = f"{guild.fingerprint}  epoch {guild.epoch}" if guild.fingerprint else "only members have it"
    lines += field("Group key", key, "", width)
    lines += field("Id", guild.guild_id, "muted", width)
    lines += _waiting(guild, width)
    lines += _members(guild, width)
    if messages:
        lines += heading("Latest messages", width)
        for message in messages[-LATEST:]:
            who = "" if message.system else f"{message.sender_name}: "
            style = "muted" if message.system else ""
            lines += field(clock_time(message.sent_at)[:5], who + message.text, style, width, 6)
    return lines


def _state(guild: GuildView) -> str:
    if guild.state != "seen" or guild.heard_at is None:
        return guild.state
    return f"seen: heard from the network {duration(now() - guild.heard_at)} ago, signed by who runs it"


def note(guild: GuildView) -> tuple[str, str]:
    """The most urgent sentence about a guild, and its style."""
    if guild.warning:
        return (guild.warning, "error")
    if guild.knocks:
        return (f"{_who_asks(guild)} to be let into {guild.name}. w answers.", "warn")
    if guild.state == "knocking":
        return (f"You asked to be let into {guild.name} and wait for an answer. x takes it back.", "warn")
    if guild.state == "seen":
        return _joining(guild)
    if is_over(guild):
        return (guild.why or f"{guild.name} is over; its keys are gone.", "muted")
    if not guild.settled:
        return (f"Two halves of {guild.name} have just met; their common key is being made.", "warn")
    if guild.unread:
        return (f"{guild.unread} new message{'' if guild.unread == 1 else 's'} in {guild.name}. m reads.", "accent")
    if not guild.acting:
        return (
            f"Nobody who can let members into {guild.name} is there now. It goes on until its time is over.",
            "muted",
        )
    return ("", "")


def keeper(guild: GuildView) -> tuple[str, str]:
    """Who admits members and changes keys now, and how that looks."""
    who = plain(guild.acting_name) or short_peer(guild.acting)
    if not guild.acting:
        return ("nobody: creator and officers are away", "warn")
    if guild.acting == guild.creator:
        return (f"{who}, the creator", "")
    return (f"{who}, an officer, while the creator is away", "warn")


def presence(member: GuildMemberView) -> tuple[str, str]:
    """Whether it is there, in words, and how that looks."""
    if member.online:
        return ("online", "ok")
    if member.last_seen_at is None:
        return ("not seen yet", "muted")
    return (f"seen {duration(now() - member.last_seen_at)} ago", "muted")


def _joining(guild: GuildView) -> tuple[str, str]:
    if guild.member_count >= guild.max_members:
        return (f"{guild.name} is full ({guild.member_count}/{guild.max_members}).", "warn")
    how = {"open": "J joins it", "knock": "J asks to be let in", "invite": "it takes an invite: J, then paste it"}
    return (f"You are not in {guild.name}: {how[guild.admission]}.", "info")


def _who_asks(guild: GuildView) -> str:
    first = plain(guild.knocks[0].name) or short_peer(guild.knocks[0].peer_id)
    more = len(guild.knocks) - 1
    return f"{clip(first, 24)} and {more} more ask" if more else f"{clip(first, 24)} asks"


def _alarms(guild: GuildView, width: int) -> list[Line]:
    lines: list[Line] = []
    if guild.warning:
        lines += field("Warning", guild.warning, "error", width)
    if guild.why:
        lines += field("Why", guild.why, "warn", width)
    if guild.state == "joined" and not guild.settled:
        lines += field("Key", "two halves have just met; their common key is being made", "warn", width)
    return lines


def _role(guild: GuildView) -> tuple[str, str]:
    if guild.role is None:
        return ("none yet: waiting for an answer" if guild.state == "knocking" else "none: J joins", "info")
    return (f"{guild.role}, officer" if guild.officer else guild.role, "")


def _waiting(guild: GuildView, width: int) -> list[Line]:
    if not guild.knocks:
        return []
    lines = heading(f"Asking to be let in: {len(guild.knocks)}, w answers", width)
    for knock in guild.knocks[:5]:
        name = fit(plain(knock.name) or short_peer(knock.peer_id), 16)
        since = duration(now() - knock.asked_at)
        lines.append((Span(name + " ", "warn"), Span(f"as {knock.role}", ""), Span(f"  for {since}", "muted")))
    if len(guild.knocks) > 5:
        lines.append((Span(f"and {len(guild.knocks) - 5} more", "muted"),))
    return lines


def _members(guild: GuildView, width: int) -> list[Line]:
    lines = heading(f"Members {guild.member_count}/{guild.max_members}", width)
    if not guild.members:
        told = (
            "Whoever joins sees the members." if ORDER[guild.state] < ORDER["left"] else "They are not known any more."
        )
        return [*lines, *paragraph(told, "muted", width)]
    role_room = 18 if width >= WIDE else 9
    room = max(8, min(20, width - role_room - 15))
    for member in guild.members:
        name = fit(plain(member.name) or short_peer(member.peer_id), room)
        office = f"{member.role}, officer" if width >= WIDE else "officer"
        role = office if member.officer else member.role
        word, style = presence(member)
        lines.append(
            (
                Span(name + " "),
                Span(role.ljust(role_room), "accent" if member.officer else "muted"),
                Span(clip(word, max(6, width - room - role_room - 1)), style),
            )
        )
    if runs(guild):
        lines += paragraph("o shows and manages members.", "muted", width)
    return lines
