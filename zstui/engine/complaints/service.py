"""Complaints about outputs: this node as the payer who files one, as the executor who may owe a refund, and as a witness that
runs the job again. Only the refund waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from zstui.engine import events
from zstui.engine.bus import Bus, Subscription
from zstui.engine.channels.approvals.model import LINE_KINDS, PaymentRequest
from zstui.engine.channels.disputes.messages import OutputVerdict
from zstui.engine.channels.disputes.model import witnesses_of
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import PayLine
from zstui.engine.clock import US, Clock
from zstui.engine.complaints import docket, filing, portable, present, store
from zstui.engine.complaints.judging import Judge
from zstui.engine.complaints.messages import KINDS
from zstui.engine.complaints.model import complainable
from zstui.engine.complaints.present import File, Presenter
from zstui.engine.complaints.store import Case
from zstui.engine.errors import BadInput, StoreError, UnknownChannel, UnknownJob
from zstui.engine.identity.envelope import Body, Signed, open_envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.ports import RecordOutcome, RequestPayment
from zstui.engine.jobs.receipt import Receipt
from zstui.engine.jobs.reruns import Reruns
from zstui.engine.jobs.room import cancel
from zstui.engine.money import format_amount
from zstui.engine.reputation.score import Outcome
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import CheckView, DisputeView, VerdictView

T = TypeVar("T")

SHOWN_ENDED = 200
"""Ended cases kept in memory."""
TICK_S = 15.0
SWEEP_US = 3600 * US
CASES_KEPT_US = 400 * 86_400 * US
"""As disputes: a witness must know what it has signed."""


class ComplaintService:
    """``start`` after the disputes, whose streams and mail it uses."""

    def __init__(
        self,
        me: PeerId,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        disputes: DisputeService,
        reruns: Reruns,
        request_payment: RequestPayment,
        record_outcome: RecordOutcome,
        name_of: Callable[[PeerId], str],
        guild_name: Callable[[str], str],
        runs_jobs: Callable[[PeerId, str], bool],
        tainted: bool = False,
    ) -> None:
        """``runs_jobs(peer, guild_id)``: whether it is known to run jobs for others there. ``tainted``: the database is an older
        copy; this node then abstains as a witness."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._disputes = disputes
        self._reruns = reruns
        self._request_payment = request_payment
        self._record_outcome = record_outcome
        self._name_of = name_of
        self._runs_jobs = runs_jobs
        self._tainted = tainted
        self._presenter = Presenter(me, name_of, guild_name)
        self._files: dict[bytes, File] = {}
        self._judge = Judge(db, clock, reruns, self._sign)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._swept_us = 0
        disputes.also(KINDS, self)

    # -- life

    async def start(self) -> None:
        """Load everything and go on where the last run stopped."""
        self._loop = asyncio.get_running_loop()
        changes: Subscription[events.ApprovalChanged | events.PeerConnected] = self._bus.subscribe(
            events.ApprovalChanged, events.PeerConnected
        )

        def read(unit: Unit) -> list[File | None]:
            if self._tainted:
                store.abstain(unit.tx)
            return [present.load(unit, case.id) for case in store.cases(unit.tx, SHOWN_ENDED)]

        files = await self._disputes.commit(read)
        self._files = {file.case.id: file for file in files if file is not None}
        for file in tuple(self._files.values()):
            await self._drive(file)
        self._loops = [
            asyncio.create_task(self._follow(changes), name="complaints"),
            asyncio.create_task(self._tick(), name="complaint clock"),
        ]

    async def stop(self) -> None:
        """What is under way goes on at the next start. Idempotent."""
        self._loop = None
        await cancel(*self._loops, *self._tasks)

    # -- verbs

    async def complain(self, job_id: str) -> DisputeView:
        """Have the witnesses of the channel on which a job was paid run it again. Raises UnknownJob, BadInput where they could
        not judge it, or nothing was paid."""
        job = self._reruns.job(job_id)
        held = next((f for f in self._files.values() if f.case.job_id == job_id), None)
        if held is not None:
            return self._view(held)
        if not job.mine:
            raise BadInput("Only who submitted a job can dispute its output.")
        if not job.receipt_id:
            raise BadInput("The job has no receipt, so there is no output to dispute.")
        evidence = await self._reruns.evidence(job)
        if not complainable(open_envelope(evidence.receipt).decode(Receipt)):
            raise BadInput(
                "This output cannot be disputed: such a run cannot be repeated, or nothing was due for it; a payment that waits "
                "can be rejected."
            )
        if not await self._reruns.kept(job):
            raise BadInput("The job's module or input is no longer stored here, so no witness could run it again.")
        agreement = bytes.fromhex(job.agreement_id)

        def work(unit: Unit) -> bytes:
            return docket.file(unit, filing.draw_up(unit, agreement, evidence, job.executor)).id

        id = await self._commit(work)
        return self._view(self._files[id])

    def chances(self, view: DisputeView) -> str:
        """A sentence where too few witnesses run jobs for others; "" else."""
        file = self._files[bytes.fromhex(view.case_id)]
        peers = witnesses_of(file.case.params)
        able = sum(self._runs_jobs(peer, file.case.guild_id) for peer in peers)
        if able >= file.case.params.m:
            return ""
        return f"Only {able} of {len(peers)} witnesses are known to run jobs for others; {file.case.params.m} must run it again."

    # -- views

    def views(self) -> list[DisputeView]:
        """Those in which something is still to be done first, the latest first."""
        files = sorted(self._files.values(), key=lambda f: (f.case.state not in store.OPEN, -f.case.filed_us))
        return [self._view(file) for file in files]

    def find(self, text: str) -> str | None:
        """The id of the one case that begins with at least 4 digits, or is about this job; None if there is none."""
        wanted = text.strip().lower()
        if len(wanted) < 4:
            return None
        found = {
            file.case.id.hex()
            for file in self._files.values()
            if file.case.id.hex().startswith(wanted) or file.case.job_id == wanted
        }
        if len(found) > 1:
            raise UnknownChannel(f"{text[:70]!r} fits {len(found)} disputes; give more digits.")
        return found.pop() if found else None

    def view(self, case_id: str) -> DisputeView:
        """Raises UnknownChannel."""
        return self._view(self._file(case_id))

    async def verdict(self, case_id: str) -> VerdictView:
        """What was decided, with its portable file, or what the first witnesses say. Raises UnknownChannel, BadInput."""
        file = self._file(case_id)
        case = file.case

        def read(tx: Tx) -> tuple[bytes, list[tuple[PeerId, bytes, bytes]]]:
            return store.raw_of(tx, case.id), store.verdicts(tx, case.id)

        content = None
        if case.verdict:
            complaint, rows = await self._db.read(read)
            content = portable.as_file(complaint, tuple(raw for _, digest, raw in rows if digest == case.verdict))
        found = self._presenter.verdict(file, content)
        if found is None:
            raise BadInput("No witness has run the job again yet, so there is no verdict.")
        return found

    def _file(self, case_id: str) -> File:
        try:
            return self._files[bytes.fromhex(case_id)]
        except (ValueError, KeyError):
            raise UnknownChannel(f"There is no dispute {case_id[:70]!r}.") from None

    def _view(self, file: File) -> DisputeView:
        return self._presenter.view(file, self._clock.now_us())

    # -- inside the channel's transactions

    def credited(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """A payment to me came in: a refund for a wrong output, if it says so."""
        if line.kind != LINE_KINDS["refund"]:
            return
        case = store.load(tx, line.agreement)
        if case is None or case.seat != "payer" or case.executor != peer:
            return
        store.add_returned(tx, case, line.amount_u)
        self._reruns.returned(tx, case.job_id, line.amount_u)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._returned(case)))

    async def _returned(self, case: Case) -> None:
        await self._commit(lambda unit: unit.out.changed.add(case.id))
        await self._reruns.reload(case.job_id)
        self._bus.publish(
            events.Notice("info", "channels", f"{self._name_of(case.executor)} returned what you paid.", case.id.hex())
        )

    # -- protocol.Desk

    async def handle(self, sender: PeerId, signed: Signed, body: Body) -> Body:
        return await self._commit(lambda unit: docket.carry_out(unit, sender, signed, body))

    # -- inside

    async def _commit(self, work: Callable[[Unit], T]) -> T:
        """Run ``work`` in one transaction; then show what changed and do what follows from it."""

        def operation(unit: Unit) -> tuple[T, list[File | None]]:
            result = work(unit)
            return result, [present.load(unit, id) for id in unit.out.changed]

        result, files = await self._disputes.commit(operation)
        for file in files:
            if file is not None:
                self._files[file.case.id] = file
                self._bus.publish(events.DisputeChanged(file.case.id.hex()))
                await self._drive(file)
        self._forget()
        return result

    def _forget(self) -> None:
        if len(self._files) > 2 * SHOWN_ENDED:
            ended = sorted(
                (f for f in self._files.values() if f.case.state not in store.OPEN), key=lambda f: f.case.filed_us
            )
            for file in ended[:-SHOWN_ENDED]:
                del self._files[file.case.id]

    async def _drive(self, file: File) -> None:
        """See to it that what a case asks of this node is under way. Doing it twice changes nothing."""
        case = file.case
        if case.seat == "payer":
            self._reruns.lend(case.job_id, witnesses_of(case.params) if case.state == "open" else ())
            if case.state in ("upheld", "refunded", "unpaid"):
                self._spawn(self._hold_against(case))
        elif case.seat == "executor" and case.state in ("upheld", "unpaid"):
            self._spawn(self._ask_for_refund(file))
        elif case.seat == "witness" and not self._signed(file) and self._judge.take(case):
            self._spawn(self._judge.judge(case))

    async def _sign(self, case: Case, verdict: OutputVerdict) -> None:
        await self._commit(lambda unit: docket.sign(unit, case.id, verdict))

    def _signed(self, file: File) -> bool:
        return file.case.state != "open" or any(w == self._presenter.me for w, _, _ in file.verdicts)

    async def _hold_against(self, case: Case) -> None:
        """A wrong output counts as one more failure of its executor; under the case's id, so once."""
        try:
            job = self._reruns.job(case.job_id)
        except UnknownJob:
            return  # forgotten since, and so counted long ago
        await self._record_outcome(
            Outcome(
                receipt_id=case.id.hex(),
                peer_id=case.executor,
                category=job.module.removesuffix(".wasm")[:64],
                success=False,
                duration_us=job.duration_us,
                cost_u=job.cost_u,
                at_us=case.decided_us,
            )
        )

    # -- at the executor

    async def _ask_for_refund(self, file: File) -> None:
        """Ask the owner, unless the refund is signed already. What was asked for before changes nothing."""
        case = file.case
        await self._commit(lambda unit: docket.show_refund(unit, case.id))
        if self._files[case.id].case.state != "refunded":
            await self._request_payment(self._request(file))

    def _request(self, file: File) -> PaymentRequest:
        case, id = file.case, file.case.verdict.hex()
        agree = sum(digest == case.verdict for _, digest, _ in file.verdicts)
        detail = f"{agree} of {len(case.params.witnesses)} witnesses ran it again and got another result"
        return PaymentRequest(
            request_id=id,
            peer_id=case.payer,
            job_id=case.job_id,
            guild_id=case.guild_id,
            module=case.module,
            exit_code=None,
            fault="executor",
            duration_us=0,
            memory_bytes=0,
            price_per_second_nano=0,
            price_per_mib_nano=0,
            amount_u=case.refund_u,
            max_cost_u=case.refund_u,
            receipt_id=id,
            agreement_id=case.id.hex(),
            checks=(
                CheckView(name="refund", ok=True, detail=f"{format_amount(case.paid_u)} was paid for a wrong output"),
                CheckView(name="verdict", ok=True, detail=detail),
            ),
            created_us=case.decided_us,
            kind="refund",
        )

    # -- time and events

    async def _follow(self, changes: Subscription[events.ApprovalChanged | events.PeerConnected]) -> None:
        try:
            async for event in changes:
                if isinstance(event, events.PeerConnected):
                    self._judge.connected(event.peer_id)
                else:
                    await self._refund_changed(event.request_id)
        except StoreError:
            return
        finally:
            changes.close()

    async def _refund_changed(self, request_id: str) -> None:
        """Show a refund once it is signed."""
        for file in tuple(self._files.values()):
            case = file.case
            if case.seat == "executor" and case.verdict.hex() == request_id:
                await self._commit(lambda unit, id=case.id: docket.show_refund(unit, id))  # type: ignore[misc]

    async def _tick(self) -> None:
        while True:
            now = self._clock.now_us()
            due = [at for f in self._files.values() if (at := docket.next_deadline(f.case)) is not None]
            await self._clock.sleep(max(0.05, min([TICK_S, *((at - now) / US for at in due)])))
            try:
                await self._expire()
            except StoreError:
                return

    async def _expire(self) -> None:
        now = self._clock.now_us()
        for file in tuple(self._files.values()):
            at = docket.next_deadline(file.case)
            if at is not None and now >= at:
                await self._commit(lambda unit, id=file.case.id: docket.expire(unit, id))  # type: ignore[misc]
        if now - self._swept_us >= SWEEP_US:
            self._swept_us = now
            await self._db.write(lambda tx: store.drop_old(tx, now - CASES_KEPT_US))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bus.publish(events.Notice("warning", "channels", f"A complaint could not go on: {error}"))
