"""Guilds, their members, messages and invites."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View

Role = Literal["creator", "executor", "member", "observer"]
GuildStateName = Literal["seen", "joined", "left", "expired", "dissolved"]


class GuildMemberView(View, frozen=True, kw_only=True):
    peer_id: str
    role: Role
    name: str = ""
    online: bool = False


class GuildView(View, frozen=True, kw_only=True):
    guild_id: str
    name: str
    creator: str
    creator_name: str = ""
    role: Role | None
    """My role; None while only seen."""
    members: tuple[GuildMemberView, ...]
    """Known members; empty for a guild only seen."""
    member_count: int
    max_members: int
    expires_at: int
    state: GuildStateName
    private: bool = False
    fingerprint: str = ""
    """Short form of the current group key's public fingerprint, e.g. "77ab·90c1"."""
    epoch: int = 0
    jobs: int = 0
    unread: int = 0


class GuildMessageView(View, frozen=True, kw_only=True):
    guild_id: str
    sender: str
    sender_name: str
    text: str
    sent_at: int
    system: bool = False


class InviteView(View, frozen=True, kw_only=True):
    invite: str
    """One string that carries guild, addresses and the creator's key."""
    code: str
    """Short confirmation words that both sides can read aloud."""
    expires_at: int
