"""What a submitter hears while its job waits and runs: progress, output as it comes, and the receipt until acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zstui.engine.errors import ProtocolError
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.messages import CHUNK, Ack, Agreed, Cancel, Completed, Done, Note, NoteAnswer, Output, Progress
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.notes_meter import Metered
from zstui.engine.jobs.outputs import SMALL, STREAMS, StreamName
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.room import Room, cancel
from zstui.engine.jobs.runs import Run, Runs


class Feeds:
    """One feed a job at most: a newer stream takes the place of an older one."""

    def __init__(self, room: Room, runs: Runs, delivered: Callable[[str], None]) -> None:
        """``delivered(job_id)`` is told when a submitter has acknowledged its receipt."""
        self._room = room
        self._delivered = delivered
        self._runs = runs
        self._feeds: dict[str, SealedStream] = {}

    async def drain(self) -> None:
        """Wait a moment for the receipts that are on their way to be acknowledged."""
        deadline = asyncio.get_running_loop().time() + self._room.timing.drain
        while any(not self._room.records[job_id].delivered for job_id in self._feeds):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)

    async def serve(self, s: SealedStream, stdout: int, stderr: int, agreed: Agreed | None = None) -> None:
        """Send output and progress as they come, then the receipt; return once it is acknowledged.

        ``agreed`` is what the submitter has to hear before that; of a job that ends at once it hears all in one message."""
        room, job_id = self._room, s.job_id
        previous = self._feeds.pop(job_id, None)
        if previous is not None:
            previous.reset()
        self._feeds[job_id] = s
        acked = asyncio.Event()
        listener = asyncio.create_task(self._listen(s, acked))
        at: dict[StreamName, int] = {"stdout": max(0, stdout), "stderr": max(0, stderr)}
        live = self._runs.get(job_id)
        noted = ""
        try:
            told = agreed is not None and live is not None and await self._tell_all(s, agreed, live, listener)
            if agreed is not None and not told:
                await s.send(agreed)
            while not told and not listener.done():
                job = room.records[job_id]
                if not job.final:
                    await s.send(self._status(job))
                note = live.biller.open_note if live is not None and live.biller is not None else None
                if note is not None and note.note_id != noted and not job.final:
                    await s.send(Note(note.raw))
                    noted = note.note_id
                for name in STREAMS:
                    data = live.output[name] if live is not None else await room.outputs.read(job_id, name)
                    while at[name] < len(data):
                        chunk = bytes(data[at[name] : at[name] + CHUNK])
                        await s.send(Output(name, at[name], chunk))
                        at[name] += len(chunk)
                if job.final:
                    raw = await room.records.papers.raw(job_id, "receipt")
                    await s.send(Done(raw))
                    break
                await self._pause(job_id, live, listener)
            files = room.records[job_id].outputs
            await asyncio.wait({listener}, timeout=room.timing.fetch if files else room.timing.answer)
            if acked.is_set():
                await room.records.change(job_id, delivered=True)
                self._delivered(job_id)
                await s.close()
            elif listener.done():
                listener.result()
        finally:
            if self._feeds.get(job_id) is s:
                del self._feeds[job_id]
            await cancel(listener)
            if not listener.cancelled():
                listener.exception()

    async def _tell_all(self, s: SealedStream, agreed: Agreed, live: Run, listener: asyncio.Task[None]) -> bool:
        """Whether the job ended so soon, with so little output, that all of it was said in one message."""
        assert live.carry is not None
        await asyncio.wait(
            {live.carry, listener}, timeout=self._room.timing.prompt, return_when=asyncio.FIRST_COMPLETED
        )
        stdout, stderr = bytes(live.output["stdout"]), bytes(live.output["stderr"])
        if not self._room.records[s.job_id].final or len(stdout) + len(stderr) > SMALL:
            return False
        receipt = await self._room.records.papers.raw(s.job_id, "receipt")
        await s.send(Completed(agreed.agreement, stdout, stderr, receipt))
        return True

    async def _pause(self, job_id: str, live: Run | None, listener: asyncio.Task[None]) -> None:
        """Until there is news of the run or from the submitter: at most a heartbeat, and while the job runs at least
        the pause between sends; its end is told at once."""
        beat = self._room.timing.heartbeat
        news = asyncio.create_task(live.changed.wait(beat) if live else self._room.records.changed(job_id, beat))
        try:
            await asyncio.wait({news, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        loop, records = asyncio.get_running_loop(), self._room.records
        until = loop.time() + self._room.timing.coalesce
        while not records[job_id].final and (left := until - loop.time()) > 0:
            await records.changed(job_id, left)

    async def _listen(self, s: SealedStream, acked: asyncio.Event) -> None:
        while True:
            message = await s.receive(None)
            if isinstance(message, Ack):
                acked.set()
                return
            if isinstance(message, NoteAnswer):
                live = self._runs.get(s.job_id)
                if live is not None and live.biller is not None:
                    await live.biller.answered(message.reply)
                continue
            if not isinstance(message, Cancel):
                raise ProtocolError(f"A {type(message).__name__} while a job runs.")
            by = Ended(status="cancelled", fault="payer", reason="Cancelled by its submitter.", hand_over=True)
            self._runs.cancel(s.job_id, by)

    def _status(self, job: Job) -> Progress:
        progress = self._room.records.progress(job.job_id)
        metered = self._room.records.metered(job.job_id) or Metered(0, 0)
        return Progress(
            job.state == "running",
            self._runs.ahead(job.job_id),
            -1 if progress is None else round(progress * 1000),
            metered.active_us,
            metered.due_u,
            metered.paused,
        )
