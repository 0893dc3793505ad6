"""The executor's side of debit notes: bills a run slice by slice, and holds it still where its payer does not keep up."""

from __future__ import annotations

import asyncio
import hashlib

from zstui.engine.clock import US
from zstui.engine.errors import ProtocolError
from zstui.engine.events import Notice
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs import notes_store
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.notes import (
    ASKED_PATIENCE_US,
    MARGIN_US,
    UNPAID_PERIODS,
    DebitNote,
    open_reply,
    time_until_u,
)
from zstui.engine.jobs.notes_meter import Meter, Metered
from zstui.engine.jobs.notes_store import Note
from zstui.engine.jobs.receipt import Agreement, Evidence, amount_due
from zstui.engine.jobs.room import Room
from zstui.engine.money import format_amount


class Biller:
    """Bills one run. ``open_note`` is what its payer has to answer now."""

    def __init__(self, room: Room, job_id: str, m: Manifest, evidence: Evidence) -> None:
        self._room = room
        self._job_id = job_id
        self._m = m
        self._a = open_envelope(evidence.agreements[0]).decode(Agreement)
        self._agreement = hashlib.sha256(open_envelope(evidence.agreements[0]).body).digest()
        self.meter = Meter(room.clock.monotonic_us)
        self.open_note: Note | None = None
        self.noted_us = 0
        """Active time of the latest note: the receipt bills no less."""
        self.noted_bytes = 0
        """Memory of the latest note: the same holds for it."""
        self._noted_u = 0
        self._asked = False
        self._refused = ""
        self._until_us = 0
        """Monotonic time at which an unpaid note ends the run."""

    @property
    def terms(self) -> Agreement:
        return self._a

    def metered(self) -> Metered:
        active_us = self.meter.active_us()
        due_u = amount_due(self._m, self._a, "none", active_us, self.noted_bytes).total_u
        return Metered(active_us, due_u, self.meter.paused, self._why() if self.meter.paused else "")

    async def bill(self) -> Ended | None:
        """Until cancelled, or until a note stays unpaid: then how the run has to end."""
        if not self._a.note_ms:
            return None
        while True:
            await self._until_due()
            note = await self._issue()
            now = self._room.clock.monotonic_us
            accept_us = self._a.accept_ms * 1000
            self._until_us = now() + UNPAID_PERIODS * accept_us
            if not await self._paid(min(now() + accept_us, now() + self._us_left())):
                self._hold(True)
                paid = await self._paid(None)
                if not paid:
                    return self._unpaid(note)
                self._hold(False)
            self.open_note = None

    async def answered(self, raw: bytes) -> None:
        """The payer's word on the open note. Raises ProtocolError."""
        reply = open_reply(raw, self._room.records[self._job_id].submitter, self._agreement)
        note = self.open_note
        if note is None or reply.note.hex() != note.note_id:
            return
        if reply.word == "asked":
            if not self._asked:
                self._asked = True
                self._until_us = max(self._until_us, self._room.clock.monotonic_us() + ASKED_PATIENCE_US)
        elif reply.accepted_u > self._noted_u:
            raise ProtocolError("An answer that accepts more than was asked for.")
        else:
            dispute = reply.reason if reply.word == "disputed" else ""
            await self._room.db.write(
                lambda tx: notes_store.set_reply(tx, note.note_id, raw, reply.accepted_u, dispute)
            )
            self._refused = f"{reply.word}: {reply.reason}"
        self._room.records.touch(self._job_id)

    # --- one note ----------------------------------------------------------------------------------------------------

    async def _until_due(self) -> None:
        """Sleep until the next slice is due: by the clock, or because half of what may be unpaid is."""
        await self.meter.began.wait()
        job = self._room.records[self._job_id]
        half_us = time_until_u(self._m, self._a, job.paid_u + self._a.exposure_max_u // 2, self.noted_bytes)
        due_us = min(self.noted_us + self._a.note_ms * 1000, half_us)
        least_us = time_until_u(self._m, self._a, self._noted_u + 1, self.noted_bytes) + 1
        await asyncio.sleep(max(0, max(due_us, least_us) - self.meter.active_us()) / US)

    async def _issue(self) -> Note:
        room, job_id = self._room, self._job_id
        last = await room.db.read(lambda tx: notes_store.last(tx, job_id))
        memory_bytes = min(await self.meter.measure(), self._m.resources.memory_bytes)
        active_us = min(self.meter.active_us(), self._m.resources.timeout_us)
        body = DebitNote(
            agreement=self._agreement,
            no=1 if last is None else last.no + 1,
            prev=self._agreement if last is None else bytes.fromhex(last.note_id),
            total_due_u=amount_due(self._m, self._a, "none", active_us, memory_bytes).total_u,
            active_us=active_us,
            memory_bytes=memory_bytes,
        )
        raw = seal(room.identity, body)
        note = Note(
            job_id=job_id,
            no=body.no,
            note_id=hashlib.sha256(raw).hexdigest(),
            raw=raw,
            accepted_u=body.total_due_u,
            at_us=room.clock.now_us(),
        )
        await room.db.write(lambda tx: notes_store.add(tx, note))
        self.noted_us, self.noted_bytes, self._noted_u = active_us, memory_bytes, body.total_due_u
        self._asked, self._refused, self.open_note = False, "", note
        room.records.touch(job_id)
        return note

    async def _paid(self, until_us: int | None) -> bool:
        """Whether all that was noted is paid by then (None: by when an unpaid note ends the run)."""
        records, now = self._room.records, self._room.clock.monotonic_us
        while records[self._job_id].paid_u < self._noted_u:
            left_us = (self._until_us if until_us is None else until_us) - now()
            if self._refused or left_us <= 0:
                return False
            await records.changed(self._job_id, left_us / US)
        return True

    def _us_left(self) -> int:
        """How much longer it may run before its exposure would reach the cap."""
        cap_u = self._room.records[self._job_id].paid_u + self._a.exposure_max_u
        at_us = time_until_u(self._m, self._a, cap_u, self._m.resources.memory_bytes)
        return max(0, at_us - self.meter.active_us() - MARGIN_US)

    def _hold(self, still: bool) -> None:
        if still:
            self.meter.pause()
        else:
            self.meter.resume()
        self._room.records.touch(self._job_id)

    def _unpaid(self, note: Note) -> Ended:
        room = self._room
        short_u = self._noted_u - room.records[self._job_id].paid_u
        waited_s = (room.clock.now_us() - note.at_us) / US
        why = self._refused or f"not paid within {waited_s:.0f} s"
        name = room.name_of(room.records[self._job_id].submitter)
        text = f"Stopped: {format_amount(short_u)} of debit note {note.no} was {why}."
        room.bus.publish(Notice("warning", "jobs", f"{name} did not pay. {text}", self._job_id))
        return Ended(status="cancelled", fault="payer", reason=text)

    def _why(self) -> str:
        job = self._room.records[self._job_id]
        left_s = max(0, self._until_us - self._room.clock.monotonic_us()) / US
        who = self._room.name_of(job.submitter)
        return f"paused: {who} must pay {format_amount(self._noted_u - job.paid_u)} within {left_s:.0f} s, or it is stopped"


async def biller_of(room: Room, job_id: str, m: Manifest) -> Biller:
    job = room.records[job_id]
    return Biller(room, job_id, m, await room.records.papers.signed(job))
