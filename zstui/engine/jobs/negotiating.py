"""What a submitter says to an executor until both have signed: an offer and its agreement, or that they had signed before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zstui.engine.errors import InvalidReceipt, ProtocolError
from zstui.engine.events import BidReceived
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs.following import Follower
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.messages import Accept, Agreed, Attach, Bidding, Completed, Offer, Refusal
from zstui.engine.jobs.model import Job, agreed_changes
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.promises import Promises
from zstui.engine.jobs.protocol import RefusedByPeer, SealedStream
from zstui.engine.jobs.receipt import Agreement, Bid, agreement_id, open_agreement
from zstui.engine.jobs.room import Room


class Negotiator:
    def __init__(
        self,
        room: Room,
        promises: Promises,
        follower: Follower,
        *,
        heard: Callable[[str], None],
        agreed: Callable[[Job], None],
        lost: Callable[[Job, str], Awaitable[None]],
    ) -> None:
        """``heard(job_id)``: its executor said something; ``agreed(job)``: it has signed; ``lost(job, why)``: it signed and has
        forgotten the job."""
        self._room = room
        self._promises = promises
        self._follower = follower
        self._heard = heard
        self._agreed = agreed
        self._lost = lost
        self._unsent: set[str] = set()
        """Jobs whose executor has not been sent what I signed."""

    # --- before there is a stream ------------------------------------------------------------------------------------

    def sign_ahead(self, job: Job, m: Manifest) -> tuple[Paper, ...]:
        """My signature under an agreement, to be committed together with the job or with the choice of its executor; none
        where nothing can be proposed, or the executor is not there."""
        a = self._promises.proposal(job, m) if job.executor in self._room.network.connected() else None
        if a is None:
            return ()
        self._unsent.add(job.job_id)
        return (self._promise(job, a),)

    def is_unsent(self, job_id: str) -> bool:
        """Whether the executor cannot know of the agreement that I signed."""
        return job_id in self._unsent

    async def take_back(self, job_id: str) -> None:
        """Drop such a signature, if there is one."""
        if job_id in self._unsent:
            self.forget(job_id)
            self._promises.release(job_id)
            await self._room.records.withdraw(job_id)

    def forget(self, job_id: str) -> None:
        """Nobody is working on the job any more: from now on its executor is asked whether it knows the agreement."""
        self._unsent.discard(job_id)

    def _promise(self, job: Job, a: Agreement) -> Paper:
        """Promise what the job may cost, and sign. Raises RefusedByPeer."""
        self._promises.pledge(job, a)
        return Paper("agreement", self._room.me, seal(self._room.identity, a))

    # --- over a stream -----------------------------------------------------------------------------------------------

    async def offer(self, s: SealedStream, job: Job, m: Manifest, raw: bytes) -> bool:
        """Whether the job is agreed, so that it can be followed; one that has ended already is not."""
        room, job_id = self._room, job.job_id
        try:
            mine = await self._proposed(job, m)
            if room.records[job_id].final:
                return False
            self._unsent.discard(job_id)
            await s.send(Offer(raw, mine))
            answer = await s.answer(room.timing.answer)
            if isinstance(answer, Bidding):
                self._heard(job_id)
                mine = await self._sign_bid(job, m, answer.bid)
                if room.records[job_id].final:
                    return False
                await s.send(Accept(mine))
                answer = await s.answer(room.timing.answer)
        except RefusedByPeer:
            self._promises.release(job_id)
            await room.records.withdraw(job_id)
            raise
        if not mine or not isinstance(answer, Agreed | Completed):
            raise ProtocolError(f"A {type(answer).__name__} as the answer to an offer.")
        waiting = answer.waiting if isinstance(answer, Agreed) else 0
        room.bus.publish(BidReceived(job_id, job.executor, job.module_cid, waiting))
        if isinstance(answer, Agreed):
            await self._both_signed(job, mine, answer.agreement)
        else:
            await self._completed(s, job, m, mine, answer)
        self._promises.release(job_id)
        self._agreed(job)
        return isinstance(answer, Agreed)

    async def _proposed(self, job: Job, m: Manifest) -> bytes:
        """What I signed ahead, or sign now; b"" where a bid has to be asked for. Raises RefusedByPeer."""
        mine = await self._room.records.papers.raw(job.job_id, "agreement", self._room.me)
        if mine:
            self._follower.agreeing(job.job_id)
            return mine
        a = self._promises.proposal(job, m)
        return b"" if a is None else await self._sign(job, a)

    async def _sign(self, job: Job, a: Agreement, *papers: Paper) -> bytes:
        """Keep my signature, with ``papers``, before it leaves. Raises RefusedByPeer."""
        mine = self._promise(job, a)
        await self._room.records.change(job.job_id, None, [*papers, mine])
        self._follower.agreeing(job.job_id)
        return mine.raw

    async def _sign_bid(self, job: Job, m: Manifest, raw: bytes) -> bytes:
        """My signature under the terms of a bid. Raises RefusedByPeer, ProtocolError."""
        opened = open_envelope(raw, job.executor)
        bid = opened.decode(Bid)
        a = self._promises.agreement(job, m, bid, opened.digest)
        return await self._sign(job, a, Paper("bid", job.executor, raw))

    async def _completed(self, s: SealedStream, job: Job, m: Manifest, mine: bytes, message: Completed) -> None:
        """The job was run and its receipt came with the agreement; if only that is good, it is kept: the executor is bound."""
        agreed, _ = open_agreement(mine, message.agreement, self._room.me, job.executor)
        self._heard(job.job_id)
        try:
            await self._follower.completed(s, m, message, agreed)
        except (ProtocolError, InvalidReceipt):
            await self._both_signed(job, mine, message.agreement)
            raise

    async def attach(self, s: SealedStream, job: Job, mine: bytes) -> bool:
        room, job_id = self._room, job.job_id
        received = self._follower.received
        sizes = received.size(job_id, "stdout"), received.size(job_id, "stderr")
        await s.send(Attach(*sizes, agreement_id(open_envelope(mine))))
        message = await s.receive(room.timing.answer)
        self._heard(job_id)
        if isinstance(message, Refusal):
            name = room.name_of(job.executor)
            if job.agreed:
                await self._lost(job, f"{name} has lost the job: {message.reason}")
            else:
                await room.records.withdraw(job_id)
            return False
        if not isinstance(message, Agreed):
            raise ProtocolError(f"Expected Agreed, got {type(message).__name__}.")
        if not job.agreed:
            await self._both_signed(job, mine, message.agreement)
        return True

    async def _both_signed(self, job: Job, mine: bytes, theirs: bytes) -> None:
        room, job_id = self._room, job.job_id
        agreed, a = open_agreement(mine, theirs, room.me, job.executor)
        await room.records.change(
            job_id,
            None,
            [Paper("agreement", job.executor, theirs)],
            **agreed_changes(agreed, a, room.clock.now_us()),
        )
        self._heard(job_id)
