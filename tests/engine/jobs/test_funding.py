from __future__ import annotations

import pytest

from zstui.engine.errors import InsufficientBalance
from zstui.engine.jobs.funding import Funding
from zstui.engine.views import ChannelView


class Channels:
    def __init__(self, mine_u: int | None) -> None:
        self.mine_u = mine_u
        self.opened: list[tuple[str, int, int]] = []

    def funds_with(self, peer: str) -> ChannelView | None:
        if self.mine_u is None:
            return None
        return ChannelView(
            channel_id="c",
            peer_id=peer,
            state="active",
            epoch=1,
            mine_u=self.mine_u,
            theirs_u=0,
            deposit_mine_u=self.mine_u,
            deposit_theirs_u=0,
            sequence=0,
            expires_at=0,
        )

    async def open(self, peer: str, mine_u: int, theirs_u: int, expires_s: int) -> ChannelView:
        self.opened.append((peer, mine_u, theirs_u))
        self.mine_u = mine_u
        view = self.funds_with(peer)
        assert view is not None
        return view


@pytest.mark.parametrize(
    ("amount", "deposit"),
    [(300_000, 10_000_000), (5_000_000, 50_000_000), (20_000_000, 100_000_000), (300_000_000, 300_000_000)],
)
async def test_a_channel_is_opened_that_holds_several_such_jobs(amount: int, deposit: int) -> None:
    channels = Channels(None)
    await Funding(channels, lambda peer: peer, 100_000_000)("south", amount)
    assert channels.opened == [("south", deposit, 0)]


async def test_a_channel_that_covers_the_job_is_used() -> None:
    channels = Channels(300_000)
    await Funding(channels, lambda peer: peer, 100_000_000)("south", 300_000)
    assert channels.opened == []


async def test_too_little_balance_says_how_much_is_there_and_needed() -> None:
    channels = Channels(299_999)
    with pytest.raises(InsufficientBalance, match=r"south holds 0\.299999 .* 0\.300"):
        await Funding(channels, lambda peer: peer, 100_000_000)("south", 300_000)


async def test_a_free_job_needs_no_channel() -> None:
    channels = Channels(None)
    await Funding(channels, lambda peer: peer, 100_000_000)("south", 0)
    assert channels.opened == []
