"""Who may do what in a guild: the one table that every message and every log entry is checked against."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views import Role

Standing = Literal["stranger", "observer", "member", "executor", "officer", "creator"]
"""What a peer is in a guild. An officer is a member or executor whom the creator named."""
Action = Literal[
    # frames
    "ask to join",
    "leave",
    "update",
    "sync",
    "beat",
    "chat",
    "welcome",
    "announce",
    # log entries
    "admit",
    "record a leave",
    "kick",
    "rekey",
    "invite",
    "revoke",
    "appoint",
    "demote",
    "extend",
    "dissolve",
    # what other rooms ask about
    "submit jobs",
    "run jobs",
]

_MEMBERS: frozenset[Standing] = frozenset(("observer", "member", "executor", "officer", "creator"))
_AUTHORITIES: frozenset[Standing] = frozenset(("officer", "creator"))
_VOICES: frozenset[Standing] = frozenset(("member", "executor", "officer", "creator"))
_CREATOR: frozenset[Standing] = frozenset(("creator",))

MAY: dict[Action, frozenset[Standing]] = {
    "ask to join": _MEMBERS - _CREATOR | {"stranger"},
    "leave": _MEMBERS - _CREATOR,
    "update": _MEMBERS,
    "sync": _MEMBERS,
    "beat": _MEMBERS,
    "chat": _VOICES,
    "welcome": _AUTHORITIES,
    "announce": _AUTHORITIES,
    "admit": _AUTHORITIES,
    "record a leave": _AUTHORITIES,
    "kick": _AUTHORITIES,
    "rekey": _AUTHORITIES,
    "invite": _AUTHORITIES,
    "revoke": _AUTHORITIES,
    "appoint": _CREATOR,
    "demote": _CREATOR,
    "extend": _CREATOR,
    "dissolve": _CREATOR,
    "submit jobs": _VOICES,
    "run jobs": _VOICES,
}
"""Former members may still ``sync`` the log, so that they learn of their end; they are given neither keys nor lines."""

SPEAKERS: tuple[Role, ...] = ("creator", "executor", "member")
"""Roles that may write; observers read."""


def standing(role: Role | None, officer: bool) -> Standing:
    """``officer``: whether the creator has named this peer one."""
    if role is None:
        return "stranger"
    return "officer" if officer and role in ("member", "executor") else role
