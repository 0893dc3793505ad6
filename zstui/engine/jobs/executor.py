"""The executor's side: consent, bids, the bounded queue, runs, signed receipts and their delivery until acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import logging

from zstui.engine.clock import US
from zstui.engine.errors import InvalidManifest, JobError, ProtocolError
from zstui.engine.events import ExecutionFinished, ExecutionStarted
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.execution import Ended, fetch, run
from zstui.engine.jobs.manifest import Manifest, Terms, can_execute, open_manifest, price
from zstui.engine.jobs.messages import (
    CHUNK,
    Accept,
    Ack,
    Agreed,
    Attach,
    Attested,
    Bidding,
    Cancel,
    Done,
    Offer,
    Output,
    Progress,
    Refusal,
    RefusalCode,
)
from zstui.engine.jobs.model import Job, agreed_changes, finished_changes, new_job
from zstui.engine.jobs.outputs import STREAMS, StreamName
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.receipt import (
    MAX_ATTESTATIONS,
    MAX_REASON,
    NO_CHANNEL,
    Agreement,
    Bid,
    Receipt,
    agreement_id,
    amount_due,
    attestation_check,
)
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room, cancel
from zstui.engine.money import format_amount
from zstui.engine.store.database import Tx

log = logging.getLogger(__name__)

BID_TTL_US = 60 * US
MAX_NEGOTIATIONS = 32
"""Offers of one peer under negotiation at the same time."""


class Run:
    """One accepted job that has no receipt yet."""

    def __init__(self, job_id: str, manifest: Manifest) -> None:
        self.job_id = job_id
        self.manifest = manifest
        self.output: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.changed = Signal()
        self.work: asyncio.Task[Ended] | None = None
        self.carry: asyncio.Task[None] | None = None
        self.began_us = 0
        """Monotonic; 0 while it has not begun."""
        self.ended_by: Ended | None = None
        """Set by whoever cancels it."""
        self.stop = asyncio.Event()

    def end(self, how: Ended) -> None:
        """Cancel it; ``how`` says by whom."""
        if self.ended_by is None:
            self.ended_by = how
            self.stop.set()
            if self.work is not None and not self.began_us:
                self.work.cancel()


class Executor:
    def __init__(self, room: Room) -> None:
        self._room = room
        self._runs: dict[str, Run] = {}
        self._accepting: dict[str, tuple[PeerId, int]] = {}
        """Exposure of agreements that are being committed."""
        self._negotiating: dict[PeerId, int] = {}
        self._feeds: dict[str, SealedStream] = {}
        self._stopping = False

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what waited, and own up to what a crash interrupted: its receipt says so and costs nothing."""
        for job in self._room.records.open():
            if job.mine or job.final:
                continue
            raw = await self._room.db.read(lambda tx, j=job: store.raw(tx, j.job_id, "manifest"))  # type: ignore[misc]
            _, manifest = open_manifest(raw)
            if job.state == "queued":
                self._begin(job.job_id, manifest)
            else:
                how = Ended(status="error", fault="executor", reason="The executor was interrupted while the job ran.")
                await self._sign_off(Run(job.job_id, manifest), how)

    async def stop(self) -> None:
        """Let what runs end for a moment, hand the rest back with a receipt that costs nothing, deliver what can be."""
        self._stopping = True
        carries = [r.carry for r in self._runs.values() if r.carry is not None]
        if carries:
            await asyncio.wait(carries, timeout=self._room.timing.drain)
        for r in tuple(self._runs.values()):
            begun = bool(r.began_us)
            r.end(
                Ended(
                    status="cancelled",
                    fault="executor" if begun else "network",
                    reason=f"The executor was stopped {'while' if begun else 'before'} the job ran.",
                )
            )
        if carries:
            await asyncio.wait(carries, timeout=self._room.timing.drain)
        deadline = asyncio.get_running_loop().time() + self._room.timing.drain
        while any(not self._room.records[j].delivered for j in self._feeds if self._room.records.get(j)):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)

    # --- what it takes -----------------------------------------------------------------------------------------------

    def at_risk(self, peer: PeerId) -> int:
        """Work for ``peer`` that is under way or unpaid, at its dearest, in µ."""
        kept = sum(j.at_risk_u for j in self._room.records.open() if not j.mine and j.submitter == peer)
        return kept + sum(u for p, u in self._accepting.values() if p == peer)

    def refusal(self, peer: PeerId, m: Manifest) -> tuple[RefusalCode, str] | None:
        """Why this job is not taken, None if it is."""
        room = self._room
        reason = room.refuses_peer(peer, m.guild_id)
        if not reason and self._stopping:
            reason = "the executor is stopping"
        reason = reason or can_execute(m, room.offer(m.guild_id)) or self._full(peer)
        if reason:
            return "refused", reason
        reason = self._short(peer, m)
        return ("payment", reason) if reason else None

    def _full(self, peer: PeerId) -> str:
        limit = self._room.settings.max_queue
        share = max(1, limit // 2)
        waiting = [r.job_id for r in self._runs.values() if not r.began_us]
        total = len(waiting) + len(self._accepting)
        if total >= max(1, limit):
            return f"queue full: {total} jobs wait"
        theirs = sum(self._room.records[j].submitter == peer for j in waiting)
        theirs += sum(p == peer for p, _ in self._accepting.values())
        return f"queue full: {theirs} jobs of yours wait" if theirs >= share else ""

    def _short(self, peer: PeerId, m: Manifest) -> str:
        need = self._exposure(m)
        if not need:
            return ""
        channel = self._room.channels.active_with(peer)
        if channel is None:
            return f"no channel with enough balance: none is open, the job may cost {format_amount(need)}"
        if channel.expires_at * US < self._room.clock.now_us() + m.resources.timeout_us:
            return "the payment channel expires before the job would end"
        at_risk = self.at_risk(peer)
        if channel.theirs_u - at_risk < need:
            return (
                f"no channel with enough balance: it holds {format_amount(channel.theirs_u)}, of which "
                f"{format_amount(at_risk)} for work under way or unpaid, and the job may cost {format_amount(need)}"
            )
        return ""

    def _exposure(self, m: Manifest) -> int:
        settings = self._room.settings
        return price(m, settings.price_per_second_nano, settings.price_per_mib_nano).total_u

    # --- protocol ----------------------------------------------------------------------------------------------------

    async def offer(self, s: SealedStream, offer: Offer) -> None:
        peer = s.peer
        if self._negotiating.get(peer, 0) >= MAX_NEGOTIATIONS:
            raise ProtocolError("Too many offers at once.")
        self._negotiating[peer] = self._negotiating.get(peer, 0) + 1
        try:
            agreed = await self._negotiate(s, offer)
        finally:
            self._negotiating[peer] -= 1
            if not self._negotiating[peer]:
                del self._negotiating[peer]
        if agreed:
            await self._feed(s, 0, 0)

    async def _negotiate(self, s: SealedStream, offer: Offer) -> bool:
        room = self._room
        try:
            signed, m = open_manifest(offer.manifest, s.peer)
        except InvalidManifest as error:
            await s.send(Refusal("invalid", str(error)))
            return False
        if (signed.digest.hex(), m.guild_id) != (s.job_id, s.guild_id):
            raise ProtocolError("An offer whose head names another job or guild.")
        if room.records.get(s.job_id) is not None:
            await s.send(Refusal("refused", "the job is already agreed"))
            return False
        refused = self.refusal(s.peer, m)
        if refused:
            await s.send(Refusal(*refused))
            return False
        bid = self._bid(signed.digest, s.peer, m)
        raw_bid = seal(room.identity, bid)
        await s.send(Bidding(raw_bid))
        accept = await s.expect(Accept, room.timing.answer)
        theirs = open_envelope(accept.agreement, s.peer)
        a = theirs.decode(Agreement)
        self._check_agreement(a, m, bid, open_envelope(raw_bid).digest, s)
        refused = self.refusal(s.peer, m)
        if refused or room.records.get(s.job_id) is not None or s.job_id in self._accepting:
            await s.send(Refusal(*(refused or ("refused", "the job is already agreed"))))
            return False
        mine = seal(room.identity, a)
        if open_envelope(mine).body != theirs.body:
            raise ProtocolError("An agreement that is not in its one canonical encoding.")
        self._accepting[s.job_id] = (s.peer, a.exposure_u)
        try:
            await self._keep(s, m, a, agreement_id(theirs), (offer.manifest, raw_bid, accept.agreement, mine))
        finally:
            del self._accepting[s.job_id]
        self._begin(s.job_id, m)
        await s.send(Agreed(mine))
        return True

    def _bid(self, manifest: bytes, peer: PeerId, m: Manifest) -> Bid:
        room = self._room
        channel = room.channels.active_with(peer)
        return Bid(
            manifest=manifest,
            executor=room.me,
            price_per_second_nano=room.settings.price_per_second_nano,
            price_per_mib_nano=room.settings.price_per_mib_nano,
            channel=bytes.fromhex(channel.channel_id) if channel is not None and self._exposure(m) else NO_CHANNEL,
            waiting=self._waiting(""),
            expires_us=room.clock.now_us() + BID_TTL_US,
        )

    def _check_agreement(self, a: Agreement, m: Manifest, bid: Bid, bid_hash: bytes, s: SealedStream) -> None:
        asked = (
            bid.manifest,
            bid_hash,
            s.peer,
            self._room.me,
            bid.channel,
            bid.price_per_second_nano,
            bid.price_per_mib_nano,
            m.terms.max_total_u,
            price(m, bid.price_per_second_nano, bid.price_per_mib_nano).total_u,
        )
        got = (
            a.manifest,
            a.bid,
            a.submitter,
            a.executor,
            a.channel,
            a.price_per_second_nano,
            a.price_per_mib_nano,
            a.max_total_u,
            a.exposure_u,
        )
        if got != asked or len(a.nonce) != 16:
            raise ProtocolError("An agreement on other terms than the bid's.")
        if self._room.clock.now_us() > bid.expires_us:
            raise ProtocolError("The bid has expired.")

    async def _keep(
        self, s: SealedStream, m: Manifest, a: Agreement, agreed: bytes, raws: tuple[bytes, bytes, bytes, bytes]
    ) -> None:
        """Commit the agreement before the executor's signature leaves."""
        room, now = self._room, self._room.clock.now_us()
        terms = Terms(a.price_per_second_nano, a.price_per_mib_nano, a.max_total_u)
        job = new_job(s.job_id, m, room.me, mine=False, terms=terms, now_us=now)
        row = {**{f: getattr(job, f) for f in job.__struct_fields__}, **agreed_changes(agreed, a, now)}
        manifest, bid, theirs, mine = raws

        def also(tx: Tx) -> None:
            store.put_evidence(tx, s.job_id, "manifest", s.peer, manifest)
            store.put_evidence(tx, s.job_id, "bid", room.me, bid)
            store.put_evidence(tx, s.job_id, "agreement", s.peer, theirs)
            store.put_evidence(tx, s.job_id, "agreement", room.me, mine)

        await room.records.add(Job(**row), also)

    async def attach(self, s: SealedStream, attach: Attach) -> None:
        """Take up a job again after a lost stream or a restart of either side."""
        room = self._room
        job = room.records.get(s.job_id)
        if job is None or job.mine or job.submitter != s.peer or job.guild_id != s.guild_id:
            await s.send(Refusal("unknown", "the job is not known here"))
            return
        mine = await room.db.read(lambda tx: store.raw(tx, s.job_id, "agreement", room.me))
        await s.send(Agreed(mine))
        await self._feed(s, attach.stdout, attach.stderr)

    async def attested(self, s: SealedStream, message: Attested) -> None:
        """Keep what a witness said about a job that ran here."""
        room = self._room
        job = room.records.get(s.job_id)
        if job is None or job.mine or job.submitter != s.peer or not job.receipt_id:
            await s.send(Refusal("unknown", "the job is not known here"))
            return
        raw = await room.db.read(lambda tx: store.raw(tx, s.job_id, "receipt"))
        receipt = open_envelope(raw)
        check, witness = attestation_check(message.attestation, receipt.digest, receipt.decode(Receipt))
        if room.guilds.role_of(job.guild_id, witness) is None:
            raise ProtocolError("An attestation by a stranger.")

        def keep(tx: Tx) -> None:
            if store.attestation_count(tx, s.job_id) < MAX_ATTESTATIONS:
                store.put_evidence(tx, s.job_id, "attestation", witness, message.attestation)

        await room.records.attest(s.job_id, witness, match=check.ok, keep=keep)
        await s.send(Ack())

    async def _feed(self, s: SealedStream, stdout: int, stderr: int) -> None:
        """Send output and progress as they come, then the receipt; return once it is acknowledged."""
        room, job_id = self._room, s.job_id
        previous = self._feeds.pop(job_id, None)
        if previous is not None:
            previous.reset()
        self._feeds[job_id] = s
        acked = asyncio.Event()
        listener = asyncio.create_task(self._listen(s, acked))
        at: dict[StreamName, int] = {"stdout": max(0, stdout), "stderr": max(0, stderr)}
        live = self._runs.get(job_id)
        try:
            while not listener.done():
                job = room.records[job_id]
                if not job.final:
                    await s.send(self._status(job))
                for name in STREAMS:
                    data = live.output[name] if live is not None else await room.outputs.read(job_id, name)
                    while at[name] < len(data):
                        chunk = bytes(data[at[name] : at[name] + CHUNK])
                        await s.send(Output(name, at[name], chunk))
                        at[name] += len(chunk)
                if job.final:
                    raw = await room.db.read(lambda tx: store.raw(tx, job_id, "receipt"))
                    await s.send(Done(raw))
                    await asyncio.wait({listener}, timeout=room.timing.answer)
                    break
                await self._pause(job_id, live, listener)
            if acked.is_set():
                await room.records.change(job_id, delivered=True)
                await s.close()
            elif listener.done():
                listener.result()
        finally:
            if self._feeds.get(job_id) is s:
                del self._feeds[job_id]
            await cancel(listener)
            if not listener.cancelled():
                listener.exception()

    async def _pause(self, job_id: str, live: Run | None, listener: asyncio.Task[None]) -> None:
        """Until there is news of the run or from the submitter: at most a heartbeat, at least the pause between sends."""
        beat = self._room.timing.heartbeat
        news = asyncio.create_task(live.changed.wait(beat) if live else self._room.records.changed(job_id, beat))
        try:
            await asyncio.wait({news, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        await asyncio.sleep(self._room.timing.coalesce)

    async def _listen(self, s: SealedStream, acked: asyncio.Event) -> None:
        while True:
            message = await s.receive(None)
            if isinstance(message, Ack):
                acked.set()
                return
            if not isinstance(message, Cancel):
                raise ProtocolError(f"A {type(message).__name__} while a job runs.")
            self.cancel(s.job_id, Ended(status="cancelled", fault="payer", reason="Cancelled by its submitter."))

    def _status(self, job: Job) -> Progress:
        progress = self._room.records.progress(job.job_id)
        return Progress(
            job.state == "running",
            self._waiting(job.job_id),
            -1 if progress is None else round(progress * 1000),
        )

    def _waiting(self, job_id: str) -> int:
        """Accepted jobs before this one that have not begun."""
        count = 0
        for r in self._runs.values():
            if r.job_id == job_id:
                break
            count += not r.began_us
        return count

    # --- running -----------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, how: Ended) -> None:
        live = self._runs.get(job_id)
        if live is not None:
            live.end(how)

    def _begin(self, job_id: str, m: Manifest) -> None:
        live = self._runs[job_id] = Run(job_id, m)
        live.carry = self._room.spawn(self._carry(live), "a job", job_id)

    async def _carry(self, live: Run) -> None:
        live.work = asyncio.create_task(self._work(live))
        try:
            await asyncio.wait({live.work})
            if not live.work.cancelled():
                how = self._result(live.work)
                if live.ended_by is not None and how.status == "cancelled":
                    how = self._metered(live, how)
            else:
                how = self._metered(live, None)
            await self._sign_off(live, how)
        finally:
            await cancel(live.work)
            self._runs.pop(live.job_id, None)
            live.changed.fire()

    def _result(self, work: asyncio.Task[Ended]) -> Ended:
        error = work.exception()
        if error is None:
            return work.result()
        log.error("a run failed", exc_info=error)
        return Ended(status="error", fault="executor", reason="The executor failed while it ran the job.")

    def _metered(self, live: Run, how: Ended | None) -> Ended:
        """A cancelled run: whose doing it was, with what it used so far."""
        active = self._room.clock.monotonic_us() - live.began_us if live.began_us else 0
        by = live.ended_by or Ended(status="cancelled", fault="executor", reason="The run was cancelled.")
        return Ended(
            status="cancelled",
            fault=by.fault,
            reason=by.reason,
            gas=how.gas if how else 0,
            active_us=how.active_us if how else active,
            memory_bytes=how.memory_bytes if how else 0,
        )

    async def _work(self, live: Run) -> Ended:
        room, job_id = self._room, live.job_id
        missing = await fetch(room, room.records[job_id].submitter, job_id, live.manifest)
        if missing is not None:
            return missing
        async with room.slots:
            live.began_us = room.clock.monotonic_us()
            await room.records.change(job_id, state="running", started_us=room.clock.now_us())
            room.bus.publish(ExecutionStarted(job_id))
            live.changed.fire()

            def on_output(name: StreamName, data: bytes) -> None:
                space = live.manifest.resources.output_bytes - len(live.output[name])
                live.output[name] += data[: max(0, space)]
                live.changed.fire()

            def on_progress(fraction: float) -> None:
                room.records.set_progress(job_id, min(1.0, max(0.0, fraction)))
                live.changed.fire()

            return await run(room, live.manifest, on_output=on_output, on_progress=on_progress, stop=live.stop)

    async def _sign_off(self, live: Run, how: Ended) -> None:
        """Keep output and receipt durably; the feed sends them after that."""
        room, job_id = self._room, live.job_id
        job = room.records[job_id]
        try:
            for name in STREAMS:
                await room.outputs.replace(job_id, name, bytes(live.output[name]))
            stdout, stderr = bytes(live.output["stdout"]), bytes(live.output["stderr"])
        except JobError as error:
            how, stdout, stderr = Ended(status="error", fault="executor", reason=str(error)[:MAX_REASON]), b"", b""
        evidence = await room.db.read(lambda tx: store.evidence(tx, job))
        a = open_envelope(evidence.agreements[0]).decode(Agreement)
        now = room.clock.now_us()
        m = live.manifest
        receipt = Receipt(
            agreement=bytes.fromhex(job.agreement_id),
            manifest=bytes.fromhex(job_id),
            submitter=job.submitter,
            executor=room.me,
            module_cid=m.module_cid,
            engine=room.engine,
            ok=how.status == "success",
            status=how.status,
            exit_code=how.exit_code,
            fault=how.fault,
            reason=how.reason,
            output_hash=hashlib.sha256(stdout).digest(),
            output_bytes=len(stdout),
            stderr_bytes=len(stderr),
            results=how.results,
            active_us=how.active_us,
            memory_bytes=min(how.memory_bytes, m.resources.memory_bytes),
            gas=how.gas,
            gas_exact=how.gas_exact,
            total_due_u=amount_due(m, a, how.fault, how.active_us, how.memory_bytes).total_u,
            started_us=job.started_us,
            finished_us=now,
        )
        raw = seal(room.identity, receipt)
        await room.records.change(
            job_id,
            lambda tx: store.put_evidence(tx, job_id, "receipt", room.me, raw),
            **finished_changes(open_envelope(raw).digest, receipt, now),
        )
        if job.started_us:
            room.bus.publish(
                ExecutionFinished(job_id, m.module_cid, how.status, receipt.active_us, receipt.memory_bytes)
            )
