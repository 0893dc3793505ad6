"""A job needs a channel that covers it: open one where there is none. A deposit is a promise; nobody is paid by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from zstui.engine.errors import InsufficientBalance
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.views import ChannelView, Funds

JOBS_COVERED = 10
"""A channel opened for a job could pay for this many like it."""
LEAST_U = 10_000_000
"""Smallest deposit made this way, unless the peer's usual credit is smaller."""
LASTS_S = 86_400


class Channels(Protocol):
    def funds_with(self, peer: PeerId) -> Funds | None: ...
    async def open(self, peer: PeerId, mine_u: int, theirs_u: int, expires_s: int) -> ChannelView: ...


class Funding:
    """``usual_credit_u`` is what a fellow guild member grants by default: a larger promise is made only where a job needs it.
    ``reserved`` tells what is promised to other jobs at a peer: the same money is not promised twice."""

    def __init__(
        self,
        channels: Channels,
        name_of: Callable[[PeerId], str],
        usual_credit_u: int,
        reserved: Callable[[PeerId], int] = lambda peer: 0,
    ) -> None:
        self._reserved = reserved
        self._channels = channels
        self._name_of = name_of
        self._usual_credit_u = usual_credit_u
        self._opening: dict[PeerId, asyncio.Lock] = {}

    async def __call__(self, executor: PeerId, amount_u: int) -> None:
        """Return once a channel with ``executor`` holds ``amount_u`` that no other job is promised.

        Raises InsufficientBalance, ChannelError, NetError."""
        if amount_u == 0:
            return
        lock = self._opening.setdefault(executor, asyncio.Lock())
        try:
            async with lock:
                await self._cover(executor, amount_u)
        finally:
            if not lock.locked():
                self._opening.pop(executor, None)

    async def _cover(self, executor: PeerId, amount_u: int) -> None:
        channel = self._channels.funds_with(executor)
        if channel is None:
            deposit = min(max(JOBS_COVERED * amount_u, LEAST_U), self._usual_credit_u)
            await self._channels.open(executor, max(deposit, amount_u), 0, LASTS_S)
        elif channel.mine_u - (reserved_u := self._reserved(executor)) < amount_u:
            promised = f", of which {format_amount(reserved_u)} is promised to other jobs," if reserved_u else ""
            raise InsufficientBalance(
                f"The channel with {self._name_of(executor)} holds {format_amount(channel.mine_u)}{promised} and the job may "
                f"cost {format_amount(amount_u)}: lower its limits, or close the channel and open a larger one."
            )
