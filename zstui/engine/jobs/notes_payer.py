"""The submitter's side of debit notes: holds each against what it knows itself, keeps it, and asks for its payment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.errors import GuildError, NetError, ProtocolError, ZsError
from zstui.engine.events import Notice
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs import notes_store
from zstui.engine.jobs.attempts import submission_of
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.messages import NoteAnswer
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.notes import DebitNote, Judged, NoteReply, NoteWord, check_follows, judge, open_note
from zstui.engine.jobs.notes_store import Note
from zstui.engine.jobs.ports import PaymentState, RequestPayment
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.receipt import MAX_REASON, open_agreement
from zstui.engine.jobs.room import Room
from zstui.engine.money import format_amount
from zstui.engine.views import ApprovalState

_REFUSED: dict[ApprovalState, str] = {
    "declined": "declined by the payer",
    "expired": "not approved in time",
    "failed": "the payment failed",
}


class NotePayer:
    """``stream`` gives the live stream about a job, on which answers go."""

    def __init__(
        self,
        room: Room,
        *,
        request_payment: RequestPayment,
        payment_state: PaymentState | None,
        stream: Callable[[str], SealedStream | None],
    ) -> None:
        self._room = room
        self._request_payment = request_payment
        self._payment_state = payment_state
        self._stream = stream

    async def take(self, job: Job, m: Manifest, raw: bytes, elapsed_us: int | None) -> None:
        """Keep a note that is the next one, or was kept before, and see to its payment.

        ``elapsed_us``: since just before my agreement left; None where that was before this process began. Raises
        ProtocolError, InvalidReceipt for what is no note of this job, or out of order.
        """
        room, job_id = self._room, job.job_id
        evidence = await room.records.papers.signed(job)
        mine, theirs = evidence.agreements
        agreed, a = open_agreement(mine, theirs, room.me, job.executor)
        signed, note = open_note(raw, job.executor, agreed)
        note_id = signed.digest.hex()
        now = room.clock.now_us()
        elapsed = max(0, now - a.created_us) if elapsed_us is None else elapsed_us
        judged = judge(note, m, a, elapsed)
        last = await room.db.read(lambda tx: notes_store.last(tx, job_id))
        if last is None or last.note_id != note_id:
            if not a.note_ms:
                raise ProtocolError("A debit note for a job that its receipt settles.")
            before = None if last is None else open_envelope(last.raw).decode(DebitNote)
            check_follows(note, before, agreed if last is None else bytes.fromhex(last.note_id))
            last = Note(
                job_id=job_id,
                no=note.no,
                note_id=note_id,
                raw=raw,
                accepted_u=judged.accepted_u,
                dispute=judged.dispute,
                at_us=now,
            )
            kept = last
            await room.db.write(lambda tx: notes_store.add(tx, kept))
        if not job.final:
            room.spawn(self._settle(job, note, last, judged), "paying a slice", job_id)

    async def _settle(self, job: Job, note: DebitNote, kept: Note, judged: Judged) -> None:
        """Ask for the payment of what is owed of a note, and tell the executor what is not paid at once."""
        room = self._room
        if kept.dispute:
            asked, owed = format_amount(note.total_due_u), format_amount(kept.accepted_u)
            text = f"Debit note {note.no} asks for {asked}, of which {owed} is owed: {kept.dispute}"
            room.bus.publish(Notice("warning", "jobs", f"{text}.", job.job_id))
            await self._answer(job, kept, "disputed", kept.dispute)
        if not kept.accepted_u:
            return
        try:
            view = await self._request_payment(self._request(job, note, kept, judged))
        except ZsError as error:
            await self._answer(job, kept, "refused", str(error))
            return
        if view is None or kept.dispute or view.state in ("paying", "paid"):
            return
        if view.state == "waiting" and view.urgency != "blocked":
            await self._answer(job, kept, "asked", "a person is being asked")
        else:
            await self._answer(job, kept, "refused", view.why)

    def _request(self, job: Job, note: DebitNote, kept: Note, judged: Judged) -> PaymentRequest:
        checks = judged.checks
        if kept.dispute:
            checks = tuple(c for c in checks if c.ok)
        return PaymentRequest(
            request_id=kept.note_id,
            peer_id=job.executor,
            job_id=job.job_id,
            guild_id=job.guild_id,
            module=job.module,
            exit_code=None,
            fault="none",
            duration_us=judged.billed_us,
            memory_bytes=judged.memory_bytes,
            price_per_second_nano=job.price_per_second_nano,
            price_per_mib_nano=job.price_per_mib_nano,
            amount_u=kept.accepted_u,
            max_cost_u=job.exposure_u,
            receipt_id=kept.note_id,
            agreement_id=job.agreement_id,
            checks=checks,
            created_us=kept.at_us,
            kind="note",
            no=note.no,
            submission=submission_of(self._room, job),
        )

    async def decided(self, request_id: str) -> bool:
        """A payment's state has changed: if it was for a note and will not be made, tell the executor. False for another's."""
        room = self._room
        note = await room.db.read(lambda tx: notes_store.by_id(tx, request_id))
        if note is None:
            return False
        state = self._payment_state(request_id) if self._payment_state else None
        job = room.records.get(note.job_id)
        if job is not None and job.mine and not job.final and state in _REFUSED:
            await self._answer(job, note, "refused", _REFUSED[state])
        return True

    async def _answer(self, job: Job, note: Note, word: NoteWord, reason: str) -> None:
        """Keep my signed word on a note, then say it; an executor that is away asks again when it is back."""
        room = self._room
        reply = NoteReply(
            agreement=bytes.fromhex(job.agreement_id),
            note=bytes.fromhex(note.note_id),
            word=word,
            accepted_u=note.accepted_u,
            reason=reason[:MAX_REASON],
        )
        raw = seal(room.identity, reply)
        if word != "asked":
            await room.db.write(lambda tx: notes_store.set_reply(tx, note.note_id, raw, note.accepted_u, note.dispute))
        stream = self._stream(job.job_id)
        if stream is not None:
            await _quietly(stream.send(NoteAnswer(raw)))


async def _quietly(sending: Awaitable[None]) -> None:
    try:
        await sending
    except (NetError, GuildError):
        return
