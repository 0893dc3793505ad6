"""The system lines of a guild's feed: what changes of its log mean to a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zstui.engine.clock import US
from zstui.engine.guilds.entries import SignedEntry
from zstui.engine.guilds.membership import Membership
from zstui.engine.identity.keys import PeerId

Told = tuple[PeerId, str]


def told(
    me: PeerId,
    name_of: Callable[[PeerId], str],
    before: Membership,
    after: Membership,
    entries: Sequence[SignedEntry],
) -> list[tuple[Told, int]]:
    """A line and its time for each entry worth one, and for members who are out without one."""
    lines = []
    for signed in entries:
        text = _line(me, name_of, after, signed)
        if text:
            lines.append(((signed.peer or signed.signer, text), signed.entry.at_us))
    removed = {signed.peer for signed in entries if signed.entry.kind in ("leave", "kick")}
    at_us = max((signed.entry.at_us for signed in entries), default=0)
    for peer in before.members.keys() - after.members.keys() - removed:
        who = "Your" if peer == me else f"{name_of(peer)}'s"
        lines.append(((peer, f"{who} admission does not count: it was signed by an officer who was dismissed."), at_us))
    return lines


def _line(me: PeerId, name_of: Callable[[PeerId], str], after: Membership, signed: SignedEntry) -> str:
    entry, creator = signed.entry, after.charter.creator
    who = _who(me, name_of, signed.peer)
    by = "you" if signed.signer == me else "the creator" if signed.signer == creator else name_of(signed.signer)
    were = "were" if signed.peer == me else "was"
    match entry.kind:
        case "join" if signed.peer in after.members:
            hand = "" if signed.signer == creator else f", let in by {by}"
            invited = " with an invite" if entry.token else ""
            return f"{who} joined as {entry.role}{invited}{hand}."
        case "leave":
            return f"{who} left."
        case "kick":
            return f"{who} {were} removed by {by}."
        case "officer":
            return f"{who} {were} named an officer."
        case "demote":
            return f"{who} {'are' if signed.peer == me else 'is'} no officer any more."
        case "extend":
            return f"{_who(me, name_of, creator)} extended the guild; it ends in {_span(signed)}."
        case "dissolve":
            return f"{_who(me, name_of, creator)} dissolved {after.charter.name}."
        case _:
            return ""


def _who(me: PeerId, name_of: Callable[[PeerId], str], peer: PeerId) -> str:
    return "You" if peer == me else name_of(peer)


def _span(signed: SignedEntry) -> str:
    minutes = max(1, round((signed.entry.until_us - signed.entry.at_us) / (60 * US)))
    hours, rest = divmod(minutes, 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{rest} min" if rest else "") if part)
