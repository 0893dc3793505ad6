"""What a submitter makes of a receipt: verify it, have it witnessed, ask for its payment, book the outcome."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import msgspec

from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.clock import US
from zstui.engine.errors import InvalidReceipt, ZsError
from zstui.engine.events import Notice
from zstui.engine.identity.envelope import open_envelope
from zstui.engine.jobs import notes_store
from zstui.engine.jobs.attempts import submission_of
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.model import Job, agreed_changes, finished_changes, longest_active_us
from zstui.engine.jobs.output_journal import store_small
from zstui.engine.jobs.outputs import Printed
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.ports import RecordOutcome, RequestPayment
from zstui.engine.jobs.receipt import REPEATABLE, Agreement, Receipt, open_agreement, receipt_checks, receipt_of
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.witness import Auditor
from zstui.engine.reputation.score import Outcome
from zstui.engine.views import CheckView

OUTPUT_FORMAT = "output format"
"""Name of the check of stdout against what the manifest asks for."""


class Settler:
    def __init__(
        self,
        room: Room,
        auditor: Auditor,
        *,
        request_payment: RequestPayment,
        record_outcome: RecordOutcome,
        again: Callable[[str], Awaitable[None]],
    ) -> None:
        """``again(job_id)`` tries a failed job once more, where that may help."""
        self._again = again
        self._room = room
        self._auditor = auditor
        self._request_payment = request_payment
        self._record_outcome = record_outcome
        self._settling: set[str] = set()

    def settling(self, job_id: str) -> bool:
        """Whether witnesses are being asked, or the payment is being put to a person."""
        return job_id in self._settling

    async def finish(
        self,
        job: Job,
        m: Manifest,
        raw: bytes,
        elapsed_us: int | None,
        countersigned: bytes = b"",
        printed: Printed | None = None,
    ) -> None:
        """Verify a receipt against everything I know myself, commit it with the outcome, then see to witnesses and payment.

        ``elapsed_us``: since just before my agreement left; None where that was before this process began.
        ``countersigned``: the agreement as the executor signed it, where that came with the receipt; ``printed``: what the job
        printed, where it was kept just now. Raises InvalidReceipt, ProtocolError for what is no receipt of this job.
        """
        room, job_id = self._room, job.job_id
        mine, *kept = (await room.records.papers.signed(job)).agreements
        agreed, a = open_agreement(mine, countersigned or kept[0], room.me, job.executor)
        signed, r = receipt_of(raw, job.executor, agreed, bytes.fromhex(job_id))
        if room.records.by_receipt(signed.digest.hex()) is not None:
            raise InvalidReceipt("A receipt that was used before.")
        now = room.clock.now_us()
        elapsed = max(0, now - a.created_us) if elapsed_us is None else elapsed_us
        printed = printed or await room.outputs.settle(job_id)
        checks = (
            CheckView(name="signature", ok=True, detail=f"by {room.name_of(job.executor)}"),
            CheckView(name="agreement", ok=True, detail="signed by both sides"),
            *receipt_checks(m, a, r),
            *await self._own_checks(job, m, r, elapsed, printed),
        )
        good = all(c.ok for c in checks)
        papers = [Paper("receipt", job.executor, raw), Paper("checks", "", msgspec.json.encode(checks))]
        changes = finished_changes(signed.digest, r, now)
        if countersigned:
            papers.append(Paper("agreement", job.executor, countersigned))
            changes |= agreed_changes(agreed, a, a.created_us)
        if r.fault == "executor":
            changes["outcome"] = "failure"
        elif r.ok and not r.total_due_u:
            changes["outcome"] = "success" if good else "failure"
        if job.witnesses:
            repeatable = r.status in REPEATABLE and r.fault in ("none", "payer")
            changes["audit"] = "pending" if repeatable else "done"
        elif r.status in REPEATABLE and r.fault in ("none", "payer") and self._picked():
            changes["audit"] = "pending"
        wrong = next((c.detail for c in checks if c.name == OUTPUT_FORMAT and not c.ok), "")
        if wrong:  # the module's own doing, or a forgery: a witness shall tell
            why = f"Its output is not what was asked for: {wrong}."
            changes |= {"state": "failed", "fault": "payer", "why": why, "outcome": "", "audit": "pending"}

        self._settling.add(job_id)
        try:
            await room.records.change(job_id, lambda tx: store_small(tx, job_id, printed.small), papers, **changes)
        finally:
            self.settle(job_id)

    def _picked(self) -> bool:
        """Whether this receipt is audited: decided only now, so that no executor can know it while it works."""
        return secrets.randbelow(1_000_000) < self._room.settings.audit_share * 1_000_000

    async def _own_checks(
        self, job: Job, m: Manifest, r: Receipt, elapsed_us: int, printed: Printed
    ) -> tuple[CheckView, ...]:
        """What only the submitter can check: the output it holds, its own clock, its own books."""
        room = self._room
        size = printed.size
        billed = r.fault in ("none", "payer")
        longest = longest_active_us(elapsed_us)
        checks = [
            CheckView(
                name="output",
                ok=not billed or (printed.sha256 == r.output_hash and size == r.output_bytes),
                detail=f"{size} bytes of stdout hash to what was signed" if billed else "not billed",
            ),
            CheckView(
                name="duration",
                ok=r.active_us <= longest,
                detail=f"{r.active_us / US:.3f} s, at most {longest / US:.3f} s by my clock",
            ),
            CheckView(name="not paid yet", ok=job.paid == "" and not job.receipt_id),
        ]
        if r.ok and m.output.format != "bytes":
            wrong = await room.shapes.conforms(m.output, await room.outputs.read(job.job_id, "stdout"))
            checks.append(CheckView(name=OUTPUT_FORMAT, ok=not wrong, detail=wrong or m.output.format))
        if job.final:
            checks.append(CheckView(name="in time", ok=False, detail="the job had been given up"))
        return tuple(checks)

    def settle(self, job_id: str) -> None:
        """Do all that is still to be done about a job that has ended."""
        self._settling.add(job_id)
        self._room.spawn(self._settle(job_id), "settling a job", job_id)

    async def _settle(self, job_id: str) -> None:
        room = self._room
        try:
            job = room.records[job_id]
            if job.audit == "pending":
                await self._auditor.audit(job)
            sliced = await self._in_slices(job)
            if sliced:
                await room.records.cover(job_id)
            await self.book(job_id)
            job = room.records[job_id]
            if job.paid == "unpaid" or (job.paid == "free" and sliced and await self._was_noted(job_id)):
                await self._request(job)
            await self._again(job_id)
        finally:
            self._settling.discard(job_id)
            room.records.touch(job_id)

    async def _in_slices(self, job: Job) -> bool:
        """Whether the job's agreement lets slices of it be asked for while it runs."""
        mine = await self._room.records.papers.raw(job.job_id, "agreement", self._room.me)
        return bool(mine) and open_envelope(mine).decode(Agreement).note_ms > 0

    async def _was_noted(self, job_id: str) -> bool:
        """Whether slices of the job were asked for: its receipt ends those that are not paid."""
        return await self._room.db.read(lambda tx: notes_store.last(tx, job_id)) is not None

    async def _request(self, job: Job) -> None:
        room = self._room
        stored = await room.records.papers.raw(job.job_id, "checks")
        checks = msgspec.json.decode(stored, type=tuple[CheckView, ...])
        _, witnessed = await self._auditor.checks(job)
        request = PaymentRequest(
            request_id=job.receipt_id,
            peer_id=job.executor,
            job_id=job.job_id,
            guild_id=job.guild_id,
            module=job.module,
            exit_code=job.exit_code,
            fault=job.fault,
            duration_us=min(job.duration_us, job.timeout_us),
            memory_bytes=min(job.memory_bytes, job.max_memory_bytes),
            price_per_second_nano=job.price_per_second_nano,
            price_per_mib_nano=job.price_per_mib_nano,
            amount_u=job.cost_u,
            max_cost_u=job.exposure_u,
            receipt_id=job.receipt_id,
            agreement_id=job.agreement_id,
            checks=(*checks, *witnessed),
            created_us=job.finished_us,
            submission=submission_of(room, job),
        )
        try:
            await self._request_payment(request)
        except ZsError as error:
            room.bus.publish(Notice("warning", "jobs", f"The payment could not be asked for: {error}", job.job_id))

    async def book(self, job_id: str) -> None:
        """Enter a due outcome into the executor's score; a crash in between repeats it under the same id, which counts once."""
        room = self._room
        job = room.records[job_id]
        if job.outcome in ("success", "failure"):
            await self._record_outcome(
                Outcome(
                    receipt_id=job.receipt_id or job.job_id,
                    peer_id=job.executor,
                    category=job.module.removesuffix(".wasm")[:64],
                    success=job.outcome == "success",
                    duration_us=job.duration_us,
                    cost_u=job.cost_u,
                    at_us=job.finished_us,
                )
            )
            await room.records.change(job_id, outcome="recorded")
