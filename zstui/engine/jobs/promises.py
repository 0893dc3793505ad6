"""What I promise an executor: the terms of an agreement, and the money in its channel that no other job is promised."""

from __future__ import annotations

import contextlib
import os

from zstui.engine.errors import ChannelError, NetError, ProtocolError
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.agreeing import Ask, agreement_on, ask_for, asked_in
from zstui.engine.jobs.manifest import Manifest, estimate_price, price
from zstui.engine.jobs.messages import Refusal
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.notes import possible
from zstui.engine.jobs.ports import FundingPort
from zstui.engine.jobs.protocol import RefusedByPeer
from zstui.engine.jobs.receipt import NO_BID, Agreement, Bid
from zstui.engine.jobs.room import Room
from zstui.engine.money import format_amount


class Promises:
    def __init__(self, room: Room, fund: FundingPort | None) -> None:
        self._room = room
        self._fund = fund
        self._pledged: dict[str, tuple[PeerId, int]] = {}
        """What was promised in agreements that I signed and whose executor has not yet."""

    async def cover_named(self, executor: PeerId, m: Manifest) -> None:
        """The same before a job for one executor is kept, at the manifest's prices; an executor that is away is tried later.

        Raises ChannelError.
        """
        if self._fund is not None:
            with contextlib.suppress(NetError):
                await self._fund(executor, estimate_price(m))

    async def cover(self, job: Job, m: Manifest) -> None:
        """See to it that a channel covers the job at what its executor asks. Raises RefusedByPeer, NetError."""
        card = self._room.card_of(job.executor)
        if self._fund is None or card is None:
            return
        most = price(
            m,
            min(card.price_per_second_nano, m.terms.price_per_second_nano),
            min(card.price_per_mib_nano, m.terms.price_per_mib_nano),
        )
        try:
            await self._fund(job.executor, most.total_u)
        except ChannelError as error:
            raise RefusedByPeer(Refusal("payment", str(error))) from error

    def reserved(self, peer: PeerId, but: str = "") -> int:
        """µ that I have promised ``peer`` for jobs that it runs, or that are not paid yet, apart from the job ``but``."""
        records = self._room.records
        total_u = records.unsettled.promised_u(True, peer)
        for job_id, (to, pledged_u) in self._pledged.items():
            job = records.get(job_id)
            if to == peer and job_id != but and not (job is not None and (job.agreed or job.settled)):
                total_u += pledged_u
        own = records.get(but)
        return total_u - (own.promised_u if own is not None and own.agreed and not own.settled else 0)

    def pledge(self, job: Job, a: Agreement) -> None:
        """Promise the job what it may cost, out of what the channel holds and no other job is promised. Raises RefusedByPeer
        ("busy") while there is too little: another job may come to cost less."""
        channel = self._room.channels.funds_with(job.executor) if a.exposure_u else None
        if channel is not None:
            reserved_u = self.reserved(job.executor, job.job_id)
            if channel.mine_u - reserved_u < a.exposure_u:
                raise RefusedByPeer(
                    Refusal(
                        "busy",
                        f"your channel holds {format_amount(channel.mine_u)}, of which {format_amount(reserved_u)} is promised "
                        f"to other jobs, and this one may cost {format_amount(a.exposure_u)}",
                    )
                )
        self._pledged[job.job_id] = job.executor, a.exposure_u

    def release(self, job_id: str) -> None:
        """The executor has signed as well, so that the job's row counts from now on; or it never will."""
        self._pledged.pop(job_id, None)

    def proposal(self, job: Job, m: Manifest) -> Agreement | None:
        """An agreement on the terms of the executor's card; None where those are not known or cannot be met: what it says
        itself decides then."""
        card = self._room.card_of(job.executor)
        if card is None:
            return None
        channel = self._room.channels.funds_with(job.executor)
        ask = ask_for(m, card, "" if channel is None else channel.channel_id)
        free_u = 0 if channel is None else channel.mine_u - self.reserved(job.executor, job.job_id)
        if not ask.is_within(m) or not possible(ask.notes) or free_u < ask.exposure_u(m):
            return None
        return self._agreement(job, m, ask, NO_BID)

    def agreement(self, job: Job, m: Manifest, bid: Bid, bid_hash: bytes) -> Agreement:
        """My terms for this bid. Raises ProtocolError for a bid that is not an answer to my offer."""
        ask = asked_in(bid)
        if (bid.manifest.hex(), bid.executor) != (job.job_id, job.executor) or len(bid.channel) != 32:
            raise ProtocolError("A bid for another job.")
        if not ask.is_within(m):
            raise ProtocolError("A bid above the offered prices.")
        if not possible(ask.notes):
            raise ProtocolError("A bid with impossible terms for debit notes.")
        card = self._room.card_of(job.executor)
        if not job.wanted and card is not None:
            asked = (
                ask.price_per_second_nano > card.price_per_second_nano,
                ask.price_per_mib_nano > card.price_per_mib_nano,
            )
            if any(asked):
                raise RefusedByPeer(Refusal("refused", "asks more than it has published"))
        return self._agreement(job, m, ask, bid_hash)

    def _agreement(self, job: Job, m: Manifest, ask: Ask, bid: bytes) -> Agreement:
        now_us = self._room.clock.now_us()
        return agreement_on(ask, m, bytes.fromhex(job.job_id), bid, job.executor, now_us, os.urandom(16))
