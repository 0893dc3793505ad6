"""The submitter's side: offer, agree, follow, verify the receipt, have it witnessed, ask for the payment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from zstui.engine.clock import US
from zstui.engine.errors import GuildError, InvalidReceipt, JobError, NetError, ProtocolError, Refused, ZsError
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.attempts import FRESH_US, may_move, try_again, worth_another
from zstui.engine.jobs.describe import time_of_day
from zstui.engine.jobs.dispatch import Candidates, Dispatch
from zstui.engine.jobs.following import Follower
from zstui.engine.jobs.manifest import Manifest, manifest_hash, open_manifest
from zstui.engine.jobs.messages import (
    Cancel,
)
from zstui.engine.jobs.model import Job, new_job
from zstui.engine.jobs.negotiating import Negotiator
from zstui.engine.jobs.notes_payer import NotePayer
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.ports import FundingPort, PaymentState, RequestPayment
from zstui.engine.jobs.promises import Promises
from zstui.engine.jobs.protocol import RefusedByPeer, SealedStream, open_sealed
from zstui.engine.jobs.receipt import (
    MAX_REASON,
)
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.settling import Settler
from zstui.engine.jobs.submission import wanted_spec
from zstui.engine.jobs.witness import Auditor
from zstui.engine.net.link import JOB_PROTOCOL
from zstui.engine.store.database import Tx
from zstui.engine.views import Fault, JobState

AlsoOf = Callable[[Tx, str], None]
CANCELLED_EARLY = "Cancelled by you before anybody had agreed to run it."
MAX_PROTOCOL_ERRORS = 3
"""After that many violations an executor is given up."""
LATE_TRIES = 3
"""Times that a peer which is back is asked for such a receipt."""
LATE_US = 7 * 86_400 * US
"""How long a job given up for lack of a network still takes its receipt."""


class Submitter:
    def __init__(
        self,
        room: Room,
        auditor: Auditor,
        settler: Settler,
        *,
        request_payment: RequestPayment,
        payment_state: PaymentState | None,
        candidates: Candidates,
        fund: FundingPort | None,
    ) -> None:
        self._room = room
        self._notes = NotePayer(
            room,
            request_payment=request_payment,
            payment_state=payment_state,
            stream=lambda job_id: self._live.get(job_id),
        )
        self._auditor = auditor
        self._settler = settler
        self.promises = Promises(room, fund)
        self._follower = Follower(room, self._notes, settler, heard=self._heard, there=lambda j: self._away.discard(j))
        self._dispatch = Dispatch(
            room,
            candidates,
            lambda job, why: room.spawn(self._give_up(job, "failed", "none", why), "giving up a job", job.job_id),
        )
        self._negotiator = Negotiator(
            room,
            self.promises,
            self._follower,
            heard=self._heard,
            agreed=self._dispatch.agreed,
            lost=lambda job, why: self._give_up(job, "failed", "executor", why),
        )
        self._live: dict[str, SealedStream] = {}
        self._driving: set[str] = set()
        self._contact: dict[str, int] = {}
        """Monotonic time of the last word from each job's executor."""
        self._away: set[str] = set()
        """Jobs whose executor has been reported unreachable."""
        self.linked = Signal()
        """Fired when any peer connects."""

    # --- verbs -------------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """At start: go on with every job of mine that has something to come."""
        self._dispatch.start()
        since = self._room.clock.now_us() - FRESH_US
        for job in self._room.records:
            if job.settled and job.finished_us > since and worth_another(job):
                self._settler.settle(job.job_id)
        for job in self._room.records.open():
            if job.mine and not job.final:
                self._drive(job.job_id)
            elif job.mine:
                self._settler.settle(job.job_id)

    async def begin(
        self, m: Manifest, executor: PeerId, also: AlsoOf = lambda tx, job_id: None, /, **fields: object
    ) -> Job:
        """Sign and keep a valid manifest as a new job and start to offer it: to ``executor``, or where "" to whom it may go.

        ``fields`` of the row, and what ``also(tx, job_id)`` writes, are kept with it.
        """
        room = self._room
        raw = seal(room.identity, m)
        job_id = manifest_hash(raw).hex()
        job = new_job(job_id, m, executor, mine=True, terms=m.terms, now_us=room.clock.now_us())
        job = replace(job, **fields)
        papers = Paper("manifest", room.me, raw), *self._negotiator.sign_ahead(job, m)
        await room.records.add(job, papers, lambda tx: also(tx, job_id))
        self._drive(job_id, m)
        return job

    async def cancel(self, job_id: str) -> None:
        """Ask the executor to stop; a job that nobody has agreed to ends at once."""
        room = self._room
        job = await room.records.change(job_id, cancel=True)
        stream = self._live.get(job_id)
        mine = await room.records.papers.raw(job_id, "agreement", room.me)
        if not mine:
            await self._give_up(job, "cancelled", "none", CANCELLED_EARLY)
            self._dispatch.wake()
            if stream is not None:
                stream.reset()
        elif stream is not None and job.agreed:
            try:
                await stream.send(Cancel())
            except (NetError, GuildError):
                return  # sent again when the stream is back

    def entitled(self, peer: PeerId, guild_id: str, job_id: str) -> frozenset[str]:
        """Artifacts of one of my jobs that ``peer`` may have: its executor while it runs, its witnesses while they do."""
        job = self._room.records.get(job_id)
        if job is None or not job.mine or job.guild_id != guild_id:
            return frozenset()
        if (job.final or peer != job.executor) and peer not in self._auditor.asked(job_id):
            return frozenset()
        return job.artifacts

    async def payment_decided(self, request_id: str) -> bool:
        """The state of a payment changed; whether it is one for a slice of a running job."""
        return await self._notes.decided(request_id)

    async def again(self, job_id: str) -> None:
        """Try a job that ended once more, where another executor may do better."""
        fresh = await try_again(self._room, self._room.records[job_id])
        if fresh is not None:
            self._drive(fresh.job_id)

    def news(self) -> None:
        """Somebody connected, ended a job or changed what it offers."""
        self.linked.fire()
        self._dispatch.wake()

    def take_late(self, peer: PeerId) -> None:
        """``peer`` is back: fetch receipts of jobs that were given up while it was away."""
        since = self._room.clock.now_us() - LATE_US
        for job in self._room.records.given_up(peer):
            if job.finished_us > since:
                self._drive(job.job_id)

    # --- one job -----------------------------------------------------------------------------------------------------

    def _drive(self, job_id: str, m: Manifest | None = None) -> None:
        if job_id not in self._driving:
            self._driving.add(job_id)
            self._room.spawn(self._run(job_id, m), "a submitted job", job_id)

    async def _run(self, job_id: str, m: Manifest | None) -> None:
        """Sessions with the executor until there is a receipt, or a reason why there never will be."""
        room = self._room
        try:
            raw = await room.records.papers.raw(job_id, "manifest")
            m = m or open_manifest(raw, room.me)[1]
            late = LATE_TRIES if room.records[job_id].final else 0
            self._contact[job_id] = room.clock.monotonic_us()
            wrong, pause = 0, room.timing.retry
            if room.records[job_id].attempt > 1 and not room.records[job_id].executor:
                await asyncio.sleep(min(pause * 2 ** (room.records[job_id].attempt - 2), room.timing.retry_most))
            while room.records[job_id].state in ("queued", "running") or late:
                if not room.records[job_id].executor and not await self._choose(job_id, m):
                    return
                heard = self._contact[job_id]
                try:
                    await self._session(room.records[job_id], m, raw)
                    reason = ""
                except RefusedByPeer as error:
                    reason = ""
                    if await self._refused(room.records[job_id], error):
                        await asyncio.sleep(pause)
                        pause = min(pause * 2, room.timing.retry_most)
                except (ProtocolError, InvalidReceipt) as error:
                    wrong, reason = wrong + 1, str(error)
                except (NetError, GuildError, Refused, JobError) as error:
                    reason = str(error)
                job = room.records[job_id]
                if job.final:
                    late -= 1
                    if job.receipt_id or late <= 0:
                        return
                    await self.linked.wait(pause)
                    continue
                if wrong >= MAX_PROTOCOL_ERRORS:
                    why = f"{room.name_of(job.executor)} does not keep to the protocol: {reason}"
                    await self._give_up(job, "failed", "executor", why)
                elif reason and not await self._wait(job, m, reason):
                    return
                elif reason and room.records[job_id].executor:
                    pause = room.timing.retry if self._contact[job_id] != heard else pause * 2
                    pause = min(pause, room.timing.retry_most)
                    await self.linked.wait(pause)
        finally:
            self._driving.discard(job_id)
            self.promises.release(job_id)
            self._negotiator.forget(job_id)
            self._contact.pop(job_id, None)
            self._away.discard(job_id)

    async def _choose(self, job_id: str, m: Manifest) -> bool:
        """Find an executor for a job that has none; False once the job has ended without."""
        room = self._room
        job = room.records[job_id]
        peer = await self._dispatch.choose(job, wanted_spec(m, job.wanted))
        if peer is None or room.records[job_id].final:
            return False
        job = replace(room.records[job_id], executor=peer)
        await room.records.change(job_id, None, self._negotiator.sign_ahead(job, m), executor=peer, why="")
        self._heard(job_id)
        return not room.records[job_id].final

    async def _wait(self, job: Job, m: Manifest, reason: str) -> bool:
        """Say that the executor is away; False once it has been away for too long and the job is given up.

        A job that nobody has signed goes to another; one that an executor may be at is left to it while nobody else is free.
        """
        room = self._room
        name = room.name_of(job.executor)
        away = room.clock.monotonic_us() - self._contact[job.job_id]
        signed = await room.records.papers.raw(job.job_id, "agreement", room.me)
        if not signed and not job.wanted:
            self._dispatch.refused(job.job_id, job.executor, clean_text(reason, 200).rstrip("."), "busy")
            await room.records.change(job.job_id, executor="")
            return True
        patience = m.resources.timeout_us + round(room.timing.grace * US)
        if not signed:
            patience = max(patience, job.queued_until_us - job.created_us)
        elif may_move(job) and self._dispatch.other(job, wanted_spec(m, "")):
            patience = round(room.timing.away * US)
        if away > patience:
            await self._give_up(
                job, "failed", "network", f"{name} did not come back within {patience // US} s: {reason}"
            )
            return False
        if job.job_id not in self._away:
            self._away.add(job.job_id)
            since = time_of_day(room.clock.now_us() - away)
            await room.records.change(
                job.job_id,
                why=f"{name} is unreachable since {since}: {clean_text(reason, 200).rstrip('.')}. Waiting for it.",
            )
        return True

    async def _give_up(self, job: Job, state: JobState, fault: Fault, why: str) -> None:
        """End a job without a receipt. Only an executor that broke the protocol is blamed."""
        if self._room.records[job.job_id].final:
            return
        await self._room.records.change(
            job.job_id,
            state=state,
            fault=fault,
            why=clean_text(why, 1000),
            outcome="failure" if fault == "executor" and job.agreed else "",
            audit="done" if job.witnesses else "",
            finished_us=self._room.clock.now_us(),
        )
        self._settler.settle(job.job_id)

    async def _session(self, job: Job, m: Manifest, raw: bytes) -> None:
        """One stream: agree or attach, then follow to the receipt. Returns early where the next session starts otherwise."""
        room, job_id = self._room, job.job_id
        mine = await room.records.papers.raw(job_id, "agreement", room.me)
        first = not mine or self._negotiator.is_unsent(job_id)
        try:
            if first and job.cancel:
                await self._negotiator.take_back(job_id)
                await self._give_up(job, "cancelled", "none", CANCELLED_EARLY)
                return
            if not mine:
                await self.promises.cover(job, m)
            s = await open_sealed(room.network, room.guilds, job.executor, JOB_PROTOCOL, job.guild_id, job_id)
        except ZsError:
            await self._negotiator.take_back(job_id)
            raise
        self._live[job_id] = s
        try:
            negotiator = self._negotiator
            agreed = await (negotiator.offer(s, job, m, raw) if first else negotiator.attach(s, job, mine))
            if agreed:
                if room.records[job_id].cancel or room.records[job_id].retried_as:
                    await s.send(Cancel())
                await self._follower.follow(s, m)
        finally:
            self._live.pop(job_id, None)
            s.reset()

    async def _refused(self, job: Job, refusal: RefusedByPeer) -> bool:
        """The executor does not take the job: whether to ask it again after a pause.

        One that was asked for by name is asked again only while it is busy; any other job goes to another executor.
        """
        room = self._room
        reason = clean_text(str(refusal), MAX_REASON)
        if room.records[job.job_id].final:
            return False
        if room.records[job.job_id].cancel:
            await self._give_up(job, "cancelled", "none", CANCELLED_EARLY)
            return False
        if not job.wanted and refusal.kind != "invalid":
            self._dispatch.refused(job.job_id, job.executor, reason, refusal.kind)
            await room.records.change(job.job_id, executor="")
            return False
        why = f"{room.name_of(job.executor)}: {reason}"
        if refusal.kind == "busy" and room.clock.now_us() < job.queued_until_us:
            await room.records.change(job.job_id, why=why)
            return True
        await self._give_up(job, "failed", "payment" if refusal.kind == "payment" else "none", why)
        return False

    def _heard(self, job_id: str) -> None:
        self._contact[job_id] = self._room.clock.monotonic_us()
