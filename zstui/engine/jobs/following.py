"""What an executor says while it has a job of mine: progress, output, debit notes, and the receipt at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from zstui.engine.errors import GuildError, NetError, ProtocolError
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.messages import Ack, Completed, Done, Note, Output, Progress
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.notes_meter import Metered
from zstui.engine.jobs.notes_payer import NotePayer
from zstui.engine.jobs.outputs import Printed
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.received import Received
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.settling import Settler


class Follower:
    def __init__(
        self,
        room: Room,
        notes: NotePayer,
        settler: Settler,
        *,
        heard: Callable[[str], None],
        there: Callable[[str], None],
    ) -> None:
        """``heard(job_id)``: its executor said something; ``there(job_id)``: it is at the job."""
        self._room = room
        self._notes = notes
        self._settler = settler
        self._heard = heard
        self._there = there
        self._agreed: dict[str, int] = {}
        """Monotonic time just before each agreement of this process left."""
        self.received = Received(room)

    def agreeing(self, job_id: str) -> None:
        """My agreement is about to leave: no run that it allows can have begun before."""
        self._agreed[job_id] = self._room.clock.monotonic_us()

    async def follow(self, s: SealedStream, m: Manifest) -> None:
        """Until the receipt is kept and acknowledged. Raises NetError, GuildError, ProtocolError, InvalidReceipt, JobError."""
        room, job_id = self._room, s.job_id
        while True:
            message = await s.receive(room.timing.silence)
            self._heard(job_id)
            job = room.records[job_id]
            match message:
                case Progress():
                    await self._progress(job, message)
                case Output():
                    self.received.take(job_id, m, message)
                case Note(note=raw):
                    await self._notes.take(job, m, raw, self._elapsed(job_id))
                case Done(receipt=raw):
                    if not job.receipt_id:
                        await self._finish(job, m, raw, bytes.fromhex(job.agreement_id))
                    await self._acknowledge(s)
                    return
                case _:
                    raise ProtocolError(f"A {type(message).__name__} while a job runs.")

    async def completed(self, s: SealedStream, m: Manifest, message: Completed, agreement: bytes) -> None:
        """All of a short job at once; ``agreement`` is the id of what ``message`` countersigns. Raises as ``follow`` does."""
        job = self._room.records[s.job_id]
        printed = await self.received.take_all(s.job_id, m, {"stdout": message.stdout, "stderr": message.stderr})
        await self._finish(job, m, message.receipt, agreement, message.agreement, printed)
        await self._acknowledge(s)

    async def _finish(
        self,
        job: Job,
        m: Manifest,
        raw: bytes,
        agreement: bytes,
        countersigned: bytes = b"",
        printed: Printed | None = None,
    ) -> None:
        job_id, elapsed = job.job_id, self._elapsed(job.job_id)
        await self.received.bring_files(job, raw, agreement)
        await self._settler.finish(self._room.records[job_id], m, raw, elapsed, countersigned, printed)
        self._agreed.pop(job_id, None)

    async def _acknowledge(self, s: SealedStream) -> None:
        await s.send(Ack())
        await s.close()
        self.received.forget(s.job_id)
        with contextlib.suppress(NetError, GuildError, ProtocolError):
            await s.receive(2.0)  # the acknowledgement leaves before the stream is dropped

    def _elapsed(self, job_id: str) -> int | None:
        """µs since just before my agreement left; None where that was before this process began."""
        since = self._agreed.get(job_id)
        return None if since is None else self._room.clock.monotonic_us() - since

    async def _progress(self, job: Job, message: Progress) -> None:
        room = self._room
        changes: dict[str, object] = {}
        self._there(job.job_id)
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
