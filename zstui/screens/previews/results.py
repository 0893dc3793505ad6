"""Which results a job and a batch have, and how they are fetched from the node."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from pathlib import Path
from time import monotonic

from zstui.bridge import OUTPUT_TAIL, Bridge
from zstui.engine.commands import GetOutput
from zstui.engine.errors import ZsError
from zstui.engine.views import BatchView, FileView, JobView
from zstui.screens.previews.content import MAX_READ, Content, Problem, Rows, Space, recognise
from zstui.screens.previews.gallery import Gallery
from zstui.screens.previews.picture import Canvas, Picture
from zstui.screens.previews.ppm import is_ppm
from zstui.screens.widgets.text import Line, Span, clip, plain

STDOUT = ""
"""The name of what the job printed, which no file has."""
FIRST = 3
"""Results of a batch that are looked at to find out whether they are tiles of a picture."""
AT_ONCE = 32
"""Results of a batch that are fetched before the picture is drawn again."""
LATEST = 16
"""Results of a batch that are listed where they are no picture."""


def result_names(job: JobView) -> list[str]:
    """What there is to look at, best first: files where the job wrote some, and what it printed."""
    return [*(file.name for file in job.outputs), STDOUT]


def file_of(job: JobView, name: str) -> FileView | None:
    """The file of that name that the job wrote to /out."""
    return next((file for file in job.outputs if file.name == name), None)


class Results:
    """Results of jobs and batches as lines to show. ``gallery`` holds what was read."""

    def __init__(self, bridge: Bridge, gallery: Gallery) -> None:
        self._bridge = bridge
        self.gallery = gallery
        self._collected: dict[str, _Collected] = {}

    # --- one job ------------------------------------------------------------------------------------------------------

    def job_lines(self, job: JobView, name: str, space: Space) -> list[Line]:
        live = name == STDOUT and job.state == "running"
        tail = bytes(self._bridge.output.get(job.job_id, b"")) if live else b""
        cut = len(tail) >= OUTPUT_TAIL
        # What is at hand has lost its beginning then: all of it is read, but not more than once a second.
        version: Hashable = (job.state, int(monotonic()) if cut else len(tail), file_of(job, name))

        async def load() -> Content:
            return await recognise(tail, live=True) if live and not cut else await self._read(job, name, live)

        return self.gallery.lines((job.job_id, name), version, space, load)

    def kind(self, job: JobView, name: str) -> str:
        return self.gallery.kind((job.job_id, name))

    def _length(self, job_id: str) -> int:
        return len(self._bridge.output.get(job_id, b""))

    async def _read(self, job: JobView, name: str, live: bool) -> Content:
        if name == STDOUT:
            view = await self._bridge.execute(GetOutput(job=job.job_id))
            return await recognise(view.stdout, live=live)
        file = file_of(job, name)
        if file is None or not file.path:
            return Problem("The file is not here yet.")
        return await recognise(await asyncio.to_thread(_head, file.path))

    async def path(self, job: JobView, name: str) -> str:
        """The file that holds a result; "" while there is none. Raises ZsError."""
        if name != STDOUT:
            file = file_of(job, name)
            return file.path if file is not None else ""
        return (await self._bridge.execute(GetOutput(job=job.job_id))).path

    # --- a batch ------------------------------------------------------------------------------------------------------

    def batch_lines(self, batch: BatchView, space: Space) -> list[Line]:
        """The picture that its tiles make as far as they are there, else what each of the latest jobs printed."""
        jobs = batch_jobs(self._bridge, batch.batch_id)
        collected = self._collected.setdefault(batch.batch_id, _Collected(self._bridge))
        while len(self._collected) > 8:
            del self._collected[next(iter(self._collected))]
        ended = sum(job.state == "done" for job in jobs)
        live = sum(self._length(job.job_id) for job in jobs if job.state == "running")

        async def load() -> Content:
            return await collected.update(jobs)

        return self.gallery.lines((batch.batch_id, "batch"), (ended, live, collected.behind), space, load)

    def batch_kind(self, batch: BatchView) -> str:
        return self.gallery.kind((batch.batch_id, "batch"))


def batch_jobs(bridge: Bridge, batch_id: str) -> list[JobView]:
    """The latest attempt of each job of a batch that has begun, by index."""
    found = (job for job in bridge.jobs.values() if job.batch_id == batch_id and not job.retried_as)
    return sorted(found, key=lambda job: job.batch_index or 0)


def _head(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_READ)


class _Collected:
    """What a batch's jobs have printed so far."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._canvas = Canvas()
        self._seen: set[str] = set()
        self._tiles = 0
        self._words: dict[str, str] = {}
        self.behind = 0
        """Counts the rounds after which there was more to fetch."""

    async def update(self, jobs: list[JobView]) -> Content:
        done = [job for job in jobs if job.state == "done"]
        if len(self._seen) >= FIRST and not self._tiles:
            return await self._list(done)
        fresh = [job for job in done if job.job_id not in self._seen][:AT_ONCE]
        for job in fresh:
            self._tiles += await self._paste(await self._printed(job))
            self._seen.add(job.job_id)
        self.behind += len(fresh) == AT_ONCE
        for job in jobs:
            if job.state == "running":
                await self._paste(bytes(self._bridge.output.get(job.job_id, b"")))
        return self._canvas.picture() or await self._list(done)

    async def _paste(self, data: bytes) -> bool:
        """Whether it is a tile."""
        if not is_ppm(data):
            return False
        tile = await recognise(data)
        return isinstance(tile, Picture) and self._canvas.paste(tile)

    async def _list(self, done: Iterable[JobView]) -> Content:
        """One line a job: its place, what it was given, and the first line that it printed."""
        latest = sorted(done, key=lambda job: job.finished_at or 0)[-LATEST:]
        words: dict[str, str] = {}
        lines: list[Line] = []
        for job in sorted(latest, key=lambda job: job.batch_index or 0):
            words[job.job_id] = self._words.get(job.job_id) or await self._first_line(job)
            given = clip(plain(" ".join(job.args)), 18)
            head = (Span(f"{job.batch_index or 0:>4} ", "muted"), Span(f"{given}  " if given else "", "accent"))
            lines.append((*head, Span(words[job.job_id])))
        self._words = words
        return Rows(tuple(lines) or ((Span("No result yet.", "muted"),),))

    async def _printed(self, job: JobView) -> bytes:
        """What it printed; nothing where that is not kept any more."""
        try:
            return (await self._bridge.execute(GetOutput(job=job.job_id))).stdout
        except ZsError:
            return b""

    async def _first_line(self, job: JobView) -> str:
        data = await self._printed(job)
        return clip(plain(data[:400].decode(errors="replace").strip().partition("\n")[0]), 200)
