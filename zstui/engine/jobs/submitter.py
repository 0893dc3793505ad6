"""The submitter's side: offer, agree, follow, verify the receipt, have it witnessed, ask for the payment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from zstui.engine.clock import US
from zstui.engine.errors import GuildError, InvalidReceipt, JobError, NetError, ProtocolError, Refused
from zstui.engine.events import JobOutputReceived
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import store
from zstui.engine.jobs.manifest import Manifest, Terms, open_manifest, price
from zstui.engine.jobs.messages import (
    Accept,
    Ack,
    Agreed,
    Attach,
    Bidding,
    Cancel,
    Done,
    Note,
    Offer,
    Output,
    Progress,
    Refusal,
)
from zstui.engine.jobs.model import Job, agreed_changes, new_job
from zstui.engine.jobs.notes import NoteTerms, check_terms
from zstui.engine.jobs.notes_meter import Metered
from zstui.engine.jobs.notes_payer import NotePayer
from zstui.engine.jobs.outputs import StreamName
from zstui.engine.jobs.ports import PaymentState, RequestPayment
from zstui.engine.jobs.protocol import RefusedByPeer, SealedStream, open_sealed
from zstui.engine.jobs.receipt import (
    MAX_REASON,
    Agreement,
    Bid,
    open_agreement,
    receipt_of,
)
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.settling import Settler
from zstui.engine.jobs.witness import Auditor
from zstui.engine.money import format_amount
from zstui.engine.net.link import JOB_PROTOCOL
from zstui.engine.store.database import Tx
from zstui.engine.views import Fault, JobState

MAX_PROTOCOL_ERRORS = 3
"""After that many violations an executor is given up."""
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
        self._live: dict[str, SealedStream] = {}
        self._driving: set[str] = set()
        self._contact: dict[str, int] = {}
        """Monotonic time of the last word from each job's executor."""
        self._away: set[str] = set()
        """Jobs whose executor has been reported unreachable."""
        self._agreed: dict[str, int] = {}
        """Monotonic time just before each agreement of this process left."""
        self._sizes: dict[tuple[str, StreamName], int] = {}
        self._pledged: dict[str, int] = {}
        """What was promised in agreements that I signed and whose executor has not yet."""
        self.linked = Signal()
        """Fired when any peer connects."""

    # --- verbs -------------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """At start: go on with every job of mine that has something to come."""
        for job in self._room.records.open():
            if job.mine and not job.final:
                self._drive(job.job_id)
            elif job.mine:
                self._settler.settle(job.job_id)

    async def begin(self, raw: bytes, executor: PeerId) -> Job:
        """Keep a signed manifest as a new job and start to offer it."""
        room = self._room
        signed, m = open_manifest(raw, room.me)
        job_id = signed.digest.hex()
        job = new_job(job_id, m, executor, mine=True, terms=m.terms, now_us=room.clock.now_us())
        await room.records.add(job, lambda tx: store.put_evidence(tx, job_id, "manifest", room.me, raw))
        self._drive(job_id)
        return job

    async def cancel(self, job_id: str) -> None:
        """Ask the executor to stop; a job that nobody has agreed to ends at once."""
        room = self._room
        job = await room.records.change(job_id, cancel=True)
        stream = self._live.get(job_id)
        mine = await room.db.read(lambda tx: store.raw(tx, job_id, "agreement", room.me))
        if not mine:
            await self._give_up(job, "cancelled", "none", "Cancelled by you before anybody had agreed to run it.")
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

    def take_late(self, peer: PeerId) -> None:
        """``peer`` is back: fetch receipts of jobs that were given up while it was away."""
        since = self._room.clock.now_us() - LATE_US
        for job in self._room.records.given_up(peer):
            if job.finished_us > since:
                self._drive(job.job_id)

    # --- one job -----------------------------------------------------------------------------------------------------

    def _drive(self, job_id: str) -> None:
        if job_id not in self._driving:
            self._driving.add(job_id)
            self._room.spawn(self._run(job_id), "a submitted job", job_id)

    async def _run(self, job_id: str) -> None:
        """Sessions with the executor until there is a receipt, or a reason why there never will be."""
        room = self._room
        try:
            raw = await room.db.read(lambda tx: store.raw(tx, job_id, "manifest"))
            _, m = open_manifest(raw, room.me)
            late = room.records[job_id].final
            self._contact[job_id] = room.clock.monotonic_us()
            wrong, busy_us, pause = 0, 0, room.timing.retry
            while room.records[job_id].state in ("queued", "running") or late:
                heard = self._contact[job_id]
                try:
                    await self._session(room.records[job_id], m, raw)
                    reason = ""
                except RefusedByPeer as error:
                    busy_us = busy_us or room.clock.monotonic_us()
                    patient = room.clock.monotonic_us() - busy_us < room.timing.grace * US
                    await self._refused(room.records[job_id], error, final=not patient)
                    await asyncio.sleep(pause)
                    pause, reason = min(pause * 2, room.timing.retry_most), ""
                except (ProtocolError, InvalidReceipt) as error:
                    wrong, reason = wrong + 1, str(error)
                except (NetError, GuildError, Refused, JobError) as error:
                    reason = str(error)
                job = room.records[job_id]
                if job.receipt_id or late or job.final:
                    return
                if wrong >= MAX_PROTOCOL_ERRORS:
                    why = f"{room.name_of(job.executor)} does not keep to the protocol: {reason}"
                    await self._give_up(job, "failed", "executor", why)
                elif reason and not await self._wait(job, m, reason):
                    return
                elif reason:
                    pause = room.timing.retry if self._contact[job_id] != heard else pause * 2
                    pause = min(pause, room.timing.retry_most)
                    await self.linked.wait(pause)
        finally:
            self._driving.discard(job_id)
            self._pledged.pop(job_id, None)
            self._contact.pop(job_id, None)
            self._away.discard(job_id)

    async def _wait(self, job: Job, m: Manifest, reason: str) -> bool:
        """Say that the executor is away; False once it has been away for too long and the job is given up."""
        room = self._room
        name = room.name_of(job.executor)
        away = room.clock.monotonic_us() - self._contact[job.job_id]
        patience = m.resources.timeout_us + round(room.timing.grace * US)
        if away > patience:
            await self._give_up(
                job, "failed", "network", f"{name} did not come back within {patience // US} s: {reason}"
            )
            return False
        if job.job_id not in self._away:
            self._away.add(job.job_id)
            since = time.strftime("%H:%M:%S", time.localtime((room.clock.now_us() - away) / US))
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
        mine = await room.db.read(lambda tx: store.raw(tx, job_id, "agreement", room.me))
        s = await open_sealed(room.network, room.guilds, job.executor, JOB_PROTOCOL, job.guild_id, job_id)
        self._live[job_id] = s
        try:
            agreed = await (self._attach(s, job, mine) if mine else self._offer(s, job, m, raw))
            if agreed:
                if room.records[job_id].cancel:
                    await s.send(Cancel())
                await self._follow(s, m)
        finally:
            self._live.pop(job_id, None)
            s.reset()

    async def _offer(self, s: SealedStream, job: Job, m: Manifest, raw: bytes) -> bool:
        room, job_id = self._room, job.job_id
        await s.send(Offer(raw))
        try:
            raw_bid = (await s.expect(Bidding, room.timing.answer)).bid
            self._heard(job_id)
            opened = open_envelope(raw_bid, job.executor)
            bid = opened.decode(Bid)
            a = self._agreement(job, m, bid, opened.digest)
            self._pledge(job, a)
            mine = seal(room.identity, a)

            def keep(tx: Tx) -> None:
                store.put_evidence(tx, job_id, "bid", job.executor, raw_bid)
                store.put_evidence(tx, job_id, "agreement", room.me, mine)

            await room.records.change(job_id, keep)
            if room.records[job_id].final:
                return False
            self._agreed[job_id] = room.clock.monotonic_us()
            await s.send(Accept(mine))
            theirs = (await s.expect(Agreed, room.timing.answer)).agreement
        except RefusedByPeer as error:
            self._pledged.pop(job_id, None)
            if error.kind == "busy":
                raise
            await self._refused(job, error, final=True)
            return False
        await self._both_signed(job, mine, theirs)
        self._pledged.pop(job_id, None)
        return True

    def reserved(self, peer: PeerId, but: str = "") -> int:
        """µ that I have promised ``peer`` for jobs that it runs, or that are not paid yet, apart from the job ``but``."""
        jobs = [j for j in self._room.records.open() if j.mine and j.executor == peer and j.job_id != but]
        return sum(j.promised_u if j.agreed else self._pledged.get(j.job_id, 0) for j in jobs)

    def _pledge(self, job: Job, a: Agreement) -> None:
        """Promise the job what it may cost, out of what the channel holds and no other job is promised. Raises RefusedByPeer
        ("busy") while there is too little: another job may come to cost less."""
        channel = self._room.channels.active_with(job.executor) if a.exposure_u else None
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
        self._pledged[job.job_id] = a.exposure_u

    async def _refused(self, job: Job, refusal: RefusedByPeer, *, final: bool) -> None:
        """Say why the executor does not take the job; one that is only busy is asked again until ``final``."""
        why = f"{self._room.name_of(job.executor)}: {clean_text(str(refusal), MAX_REASON)}"
        if final:
            await self._give_up(job, "failed", "payment" if refusal.kind == "payment" else "none", why)
        elif not self._room.records[job.job_id].final:
            await self._room.records.change(job.job_id, why=why)

    def _agreement(self, job: Job, m: Manifest, bid: Bid, bid_hash: bytes) -> Agreement:
        """My terms for this bid. Raises ProtocolError for a bid that is not an answer to my offer."""
        room = self._room
        rates = Terms(bid.price_per_second_nano, bid.price_per_mib_nano, m.terms.max_total_u)
        if (bid.manifest.hex(), bid.executor) != (job.job_id, job.executor) or len(bid.channel) != 32:
            raise ProtocolError("A bid for another job.")
        if not (
            0 <= rates.price_per_second_nano <= m.terms.price_per_second_nano
            and 0 <= rates.price_per_mib_nano <= m.terms.price_per_mib_nano
        ):
            raise ProtocolError("A bid above the offered prices.")
        check_terms(NoteTerms(bid.note_ms, bid.accept_ms, bid.exposure_max_u))
        return Agreement(
            manifest=bid.manifest,
            bid=bid_hash,
            submitter=room.me,
            executor=job.executor,
            channel=bid.channel,
            price_per_second_nano=rates.price_per_second_nano,
            price_per_mib_nano=rates.price_per_mib_nano,
            max_total_u=rates.max_total_u,
            exposure_u=price(m, rates.price_per_second_nano, rates.price_per_mib_nano).total_u,
            created_us=room.clock.now_us(),
            nonce=os.urandom(16),
            note_ms=bid.note_ms,
            accept_ms=bid.accept_ms,
            exposure_max_u=bid.exposure_max_u,
        )

    async def _attach(self, s: SealedStream, job: Job, mine: bytes) -> bool:
        room, job_id = self._room, job.job_id
        await s.send(Attach(self._size(job_id, "stdout"), self._size(job_id, "stderr")))
        message = await s.receive(room.timing.answer)
        self._heard(job_id)
        if isinstance(message, Refusal):
            name = room.name_of(job.executor)
            if job.agreed:
                await self._give_up(job, "failed", "executor", f"{name} has lost the job: {message.reason}")
            else:
                await room.records.change(job_id, lambda tx: store.drop_evidence(tx, job_id, "agreement"))
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
            lambda tx: store.put_evidence(tx, job_id, "agreement", job.executor, theirs),
            **agreed_changes(agreed, a, room.clock.now_us()),
        )
        self._heard(job_id)

    def _heard(self, job_id: str) -> None:
        self._contact[job_id] = self._room.clock.monotonic_us()

    # --- following ---------------------------------------------------------------------------------------------------

    async def _follow(self, s: SealedStream, m: Manifest) -> None:
        room, job_id = self._room, s.job_id
        while True:
            message = await s.receive(room.timing.silence)
            self._heard(job_id)
            job = room.records[job_id]
            match message:
                case Progress():
                    await self._progress(job, message)
                case Output(stream=name, offset=offset, data=data):
                    at = self._size(job_id, name)
                    if offset != at or not data or at + len(data) > m.resources.output_bytes:
                        raise ProtocolError("Output out of order or over its cap.")
                    room.outputs.append(job_id, name, data)
                    self._sizes[job_id, name] = at + len(data)
                    room.bus.publish(JobOutputReceived(job_id, name, offset, data))
                case Note(note=raw):
                    await self._notes.take(job, m, raw, self._elapsed(job_id))
                case Done(receipt=raw):
                    if not job.receipt_id:
                        elapsed = self._elapsed(job_id)
                        await self._bring_files(job, raw)
                        await self._settler.finish(room.records[job_id], m, raw, elapsed)
                        self._agreed.pop(job_id, None)
                    await s.send(Ack())
                    await s.close()
                    await self._drain(s)
                    return
                case _:
                    raise ProtocolError(f"A {type(message).__name__} while a job runs.")

    def _elapsed(self, job_id: str) -> int | None:
        """µs since just before my agreement left; None where that was before this process began."""
        since = self._agreed.get(job_id)
        return None if since is None else self._room.clock.monotonic_us() - since

    async def _bring_files(self, job: Job, raw: bytes) -> None:
        """Fetch what the job left in /out, before its receipt is accepted."""
        room = self._room
        _, r = receipt_of(raw, job.executor, bytes.fromhex(job.agreement_id), bytes.fromhex(job.job_id))
        for file in r.outputs:
            await room.artifacts.fetch(job.executor, job.guild_id, job.job_id, file.cid, file.size)
            content = await room.artifacts.cache.get(file.cid)
            if content is None:
                raise JobError("A file of the job is no longer stored here.")
            await room.outputs.keep_file(job.job_id, file.name, content)
            self._heard(job.job_id)

    async def _drain(self, s: SealedStream) -> None:
        """Let the acknowledgement leave before the stream is dropped."""
        with contextlib.suppress(NetError, GuildError, ProtocolError):
            await s.receive(2.0)

    def _size(self, job_id: str, name: StreamName) -> int:
        if (job_id, name) not in self._sizes:
            self._sizes[job_id, name] = self._room.outputs.size(job_id, name)
        return self._sizes[job_id, name]

    async def _progress(self, job: Job, message: Progress) -> None:
        room = self._room
        changes: dict[str, object] = {}
        self._away.discard(job.job_id)
        if not job.final:
            why = "" if message.running or not message.waiting else f"{message.waiting} jobs wait before it."
            if job.why != why:
                changes["why"] = why
            if message.running and job.state == "queued":
                changes |= {"state": "running", "started_us": room.clock.now_us()}
            if changes:
                await room.records.change(job.job_id, **changes)
        due_u = min(max(0, message.due_u), job.exposure_u)
        room.records.set_metered(job.job_id, Metered(max(0, message.active_us), due_u, message.paused))
        if 0 <= message.thousandths <= 1000:
            room.records.set_progress(job.job_id, message.thousandths / 1000)
