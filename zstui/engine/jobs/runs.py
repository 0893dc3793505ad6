"""What runs here for others, and what waits to: each accepted job is carried to a signed receipt, whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator

from msgspec.structs import replace

from zstui.engine.errors import JobError
from zstui.engine.events import ExecutionFinished, ExecutionStarted
from zstui.engine.identity.envelope import open_envelope, sign
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.execution import PARTIAL, Ended, fetch, run
from zstui.engine.jobs.manifest import Manifest, open_manifest
from zstui.engine.jobs.model import finished_changes
from zstui.engine.jobs.notes_biller import Biller, biller_of
from zstui.engine.jobs.output_journal import store_small
from zstui.engine.jobs.outputs import StreamName
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.receipt import MAX_REASON, Agreement, Receipt, amount_due
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room, cancel

log = logging.getLogger(__name__)

SHORT_S = 0.03
"""A run that ends sooner is not marked as running."""


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
        self.started_us = 0
        """The same in Unix microseconds."""
        self.marking: asyncio.Task[None] | None = None
        """Has its row say, or about to say, that it runs."""
        self.ended_by: Ended | None = None
        """Set by whoever cancels it."""
        self.stop = asyncio.Event()
        self.biller: Biller | None = None
        """While it runs."""

    def end(self, how: Ended) -> None:
        """Cancel it; ``how`` says by whom."""
        if self.ended_by is None:
            self.ended_by = how
            self.stop.set()
            if self.work is not None and not self.began_us:
                self.work.cancel()


class Runs:
    """Accepted jobs without a receipt, in the order of acceptance."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._runs: dict[str, Run] = {}

    async def start(self) -> None:
        """Take up what waited, and own up to what a crash interrupted: its receipt says so and costs nothing."""
        for job in self._room.records.open():
            if job.mine or job.final:
                continue
            raw = await self._room.db.read(lambda tx, j=job: store.raw(tx, j.job_id, "manifest"))  # type: ignore[misc]
            _, manifest = open_manifest(raw)
            if job.state == "queued":
                self.begin(job.job_id, manifest)
            else:
                how = Ended(status="error", fault="executor", reason="The executor was interrupted while the job ran.")
                await self._sign_off(Run(job.job_id, manifest), how)

    async def stop(self) -> None:
        """Let what runs end for a moment, then hand the rest back with a receipt that costs nothing."""
        carries = [r.carry for r in self._runs.values() if r.carry is not None]
        if not carries:
            return
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
        await asyncio.wait(carries, timeout=self._room.timing.drain)

    def get(self, job_id: str) -> Run | None:
        return self._runs.get(job_id)

    def waiting(self) -> Iterator[str]:
        """Jobs that have not begun."""
        return (r.job_id for r in self._runs.values() if not r.began_us)

    def ahead(self, job_id: str) -> int:
        """How many wait before this one; all that wait, if it is not here."""
        count = 0
        for r in self._runs.values():
            if r.job_id == job_id:
                break
            count += not r.began_us
        return count

    def submitter_left(self, peer: PeerId) -> None:
        """Say so at each of its jobs, which go on: their receipts are kept for it."""
        if theirs := self._of(peer):
            self._room.away[peer] = self._room.clock.now_us()
            for job_id in theirs:
                self._room.records.touch(job_id)

    def submitter_back(self, peer: PeerId) -> None:
        if self._room.away.pop(peer, None) is not None:
            for job_id in self._of(peer):
                self._room.records.touch(job_id)

    def _of(self, peer: PeerId) -> list[str]:
        return [job_id for job_id in self._runs if self._room.records[job_id].submitter == peer]

    def cancel(self, job_id: str, how: Ended) -> None:
        """End a job if it has not ended; ``how`` says by whom."""
        live = self._runs.get(job_id)
        if live is not None:
            live.end(how)

    async def end_all(self, how: Ended) -> None:
        """End everything that runs or waits; returns once each has its receipt, or after a moment."""
        for live in tuple(self._runs.values()):
            live.end(how)
        carries = [r.carry for r in self._runs.values() if r.carry is not None]
        if carries:
            await asyncio.wait(carries, timeout=self._room.timing.drain)

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, job_id: str, m: Manifest) -> None:
        """Carry an agreed job to its receipt."""
        live = self._runs[job_id] = Run(job_id, m)
        live.carry = self._room.spawn(self._carry(live), "a job", job_id)

    async def _carry(self, live: Run) -> None:
        live.work = asyncio.create_task(self._work(live))
        try:
            await asyncio.wait({live.work})
            if not live.work.cancelled():
                how = self._result(live.work)
                if how.status == "cancelled":
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
        left = how.outputs if how and by.hand_over else ()
        return Ended(
            status="cancelled",
            fault=by.fault,
            reason=f"{by.reason} {PARTIAL}" if left else by.reason,
            gas=how.gas if how else 0,
            active_us=how.active_us if how else active,
            memory_bytes=how.memory_bytes if how else 0,
            outputs=left,
        )

    async def _work(self, live: Run) -> Ended:
        room, job_id = self._room, live.job_id
        missing = await fetch(room, room.records[job_id].submitter, job_id, live.manifest)
        if missing is not None:
            return missing
        biller = await biller_of(room, job_id, live.manifest)
        async with room.slots.hold(room.records[job_id].submitter, live.manifest.priority):
            live.began_us, live.started_us = room.clock.monotonic_us(), room.clock.now_us()
            room.bus.publish(ExecutionStarted(job_id))
            marking = asyncio.get_running_loop().call_later(SHORT_S, self._mark_soon, live)

            def on_output(name: StreamName, data: bytes) -> None:
                space = live.manifest.resources.output_bytes - len(live.output[name])
                live.output[name] += data[: max(0, space)]
                live.changed.fire()

            def on_progress(fraction: float) -> None:
                room.records.set_progress(job_id, min(1.0, max(0.0, fraction)))
                live.changed.fire()

            live.biller = biller
            room.records.meter(job_id, biller.metered)
            billing = [room.spawn(self._bill(live, biller), "billing a job", job_id)] if biller.terms.note_ms else []
            try:
                return await run(
                    room,
                    live.manifest,
                    on_output=on_output,
                    on_progress=on_progress,
                    stop=live.stop,
                    control=biller.meter,
                    keep=True,
                    owner=room.records[job_id].submitter,
                )
            finally:
                await cancel(*billing)
                marking.cancel()
                if live.marking is not None:
                    await asyncio.wait({live.marking})

    def _mark_soon(self, live: Run) -> None:
        live.marking = self._room.spawn(self._mark_running(live), "marking a job as running", live.job_id)

    async def _mark_running(self, live: Run) -> None:
        """The run need not wait for this commit, and a short one does without: a restart then runs the job again, and no
        receipt has left."""
        await self._room.records.change(live.job_id, state="running", started_us=live.started_us)
        live.changed.fire()

    async def _bill(self, live: Run, biller: Biller) -> None:
        unpaid = await biller.bill()
        if unpaid is not None:
            live.end(unpaid)

    async def _sign_off(self, live: Run, how: Ended) -> None:
        """Keep output and receipt durably; the feed sends them after that."""
        room, job_id = self._room, live.job_id
        job = room.records[job_id]
        try:
            stdout, stderr = bytes(live.output["stdout"]), bytes(live.output["stderr"])
            small = await room.outputs.keep(job_id, {"stdout": stdout, "stderr": stderr})
        except JobError as error:
            how, stdout, stderr = Ended(status="error", fault="executor", reason=str(error)[:MAX_REASON]), b"", b""
            small = {}
        evidence = await room.records.papers.signed(job)
        a = open_envelope(evidence.agreements[0]).decode(Agreement)
        now = room.clock.now_us()
        m = live.manifest
        if live.biller is not None and how.fault in ("none", "payer"):
            how = replace(
                how,
                active_us=max(how.active_us, live.biller.noted_us),
                memory_bytes=max(how.memory_bytes, live.biller.noted_bytes),
            )
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
            started_us=job.started_us or live.started_us,
            finished_us=now,
            outputs=how.outputs,
        )
        signed = sign(room.identity, receipt)
        await room.records.change(
            job_id,
            lambda tx: store_small(tx, job_id, small),
            [Paper("receipt", room.me, signed.raw)],
            started_us=receipt.started_us,
            **finished_changes(signed.digest, receipt, now),
        )
        if live.biller is None or live.biller.noted_us:
            await room.records.cover(job_id)  # slices may have been paid
        if receipt.started_us:
            room.bus.publish(
                ExecutionFinished(job_id, m.module_cid, how.status, receipt.active_us, receipt.memory_bytes)
            )
