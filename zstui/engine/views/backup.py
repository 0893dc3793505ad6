"""Backups: what one holds, and what restoring it would do."""

from __future__ import annotations

from zstui.engine.views.base import View


class BackupChannelView(View, frozen=True, kw_only=True):
    """A channel that was not closed, as it was when the backup was taken."""

    channel_id: str
    peer_id: str
    peer_name: str
    state: str
    mine_u: int
    theirs_u: int
    sequence: int
    sequence_theirs: int
    expires_at: int


class BackupView(View, frozen=True, kw_only=True):
    path: str
    size_bytes: int
    taken_at: int
    peer_id: str
    name: str
    starts: int
    """How often the node had been started."""
    channels: tuple[BackupChannelView, ...]
    owed_to_me_u: int
    i_owe_u: int


class RestoreView(View, frozen=True, kw_only=True):
    """Said before anything is done."""

    backup: BackupView
    home: str
    up_to_date_from: tuple[str, ...]
    """Peers that hold what was paid since, in channels that were open."""
    not_recovered: tuple[str, ...]
    warnings: tuple[str, ...]
