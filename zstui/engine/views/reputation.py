"""The leaderboard."""

from __future__ import annotations

from zstui.engine.views.base import View


class GuildBlockView(View, frozen=True, kw_only=True):
    """A peer is blacklisted in one guild only, by a verdict of its witnesses."""

    guild_id: str
    until: int
    reason: str


class HeardView(View, frozen=True, kw_only=True):
    """What other peers say of one, from their own jobs. It changes neither its score nor its rank."""

    standing: float
    """In [0, 1], 0.5 for nothing that counts: the share of good jobs, weighted by how far trust leads to who says so."""
    issuers: int
    """Peers whose word counts: good work that I know leads to them."""
    uncounted: int
    """Peers whose word does not."""
    done: int
    """Jobs that those who count say it did."""
    failed: int


class RankView(View, frozen=True, kw_only=True):
    rank: int | None
    """None: fewer than five jobs, or blacklisted."""
    peer_id: str
    name: str
    score: float
    """After decay, in [0, 1]."""
    completed: int
    failed: int
    avg_duration_us: int
    avg_cost_u: int
    blacklisted_until: int | None
    blacklist_reason: str = ""
    success_part: float = 0.0
    """This and the next three, weighted, add up to the score before decay."""
    speed_part: float = 0.0
    cost_part: float = 0.0
    longevity_part: float = 0.0
    first_seen_at: int = 0
    last_seen_at: int = 0
    trend: tuple[float, ...] = ()
    """Scores after each of the last outcomes, oldest first."""
    receipts: tuple[str, ...] = ()
    """Receipt ids behind the latest outcomes."""
    guild_blocks: tuple[GuildBlockView, ...] = ()
