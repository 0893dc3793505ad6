"""All jobs in memory, mirrored from the table: every change is committed first, then applied here, then published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from msgspec.structs import replace

from zstui.engine.bus import Bus
from zstui.engine.errors import BadInput, UnknownJob
from zstui.engine.events import JobChanged, JobMoved
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.notes_meter import Metered
from zstui.engine.jobs.open_jobs import OpenJobs
from zstui.engine.jobs.papers import Paper, Papers, write
from zstui.engine.jobs.receipt import MAX_ATTESTATIONS
from zstui.engine.store.database import Database, Tx

MAX_MODULES = 256
"""Modules whose typical duration is known."""
Also = Callable[[Tx], None]


class Signal:
    """Wakes all who wait; unlike an Event it needs no clearing."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def fire(self) -> None:
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """Whether it fired before ``timeout`` seconds were over."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({self._future}, timeout=timeout)
        return bool(done)


class Records:
    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self.papers = Papers(db)
        self._jobs: dict[str, Job] = {}
        self._receipts: dict[str, str] = {}
        self.unsettled = OpenJobs()
        self.confirmations = 0
        """Grows whenever a job that witnesses spoke of changes."""
        self._typical_us: dict[str, int] = {}
        """By module: a running mean of how long my jobs with it ran."""
        self._signals: dict[str, Signal] = {}
        self._progress: dict[str, float] = {}
        self._metered: dict[str, Callable[[], Metered]] = {}
        self._attesting = asyncio.Lock()

    async def load(self) -> None:
        for job in await self._db.read(store.load):
            self._apply(job)

    def __iter__(self) -> Iterator[Job]:
        """Newest first."""
        return iter(reversed(list(self._jobs.values())))

    def __len__(self) -> int:
        return len(self._jobs)

    def open(self) -> list[Job]:
        """Jobs of which something is still to come, oldest first."""
        return sorted(self.unsettled, key=lambda j: (j.created_us, j.job_id))

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def __getitem__(self, job_id: str) -> Job:
        """Raises UnknownJob."""
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id[:16]!r} here.")
        return job

    def by_receipt(self, receipt_id: str) -> Job | None:
        job_id = self._receipts.get(receipt_id)
        return None if job_id is None else self._jobs[job_id]

    def resolve(self, text: str) -> str:
        """Job id for a job or receipt id or an unambiguous prefix of at least four digits. Raises UnknownJob, BadInput."""
        text = text.strip().lower()
        if text in self._jobs:
            return text
        if text in self._receipts:
            return self._receipts[text]
        if len(text) >= 4:
            found = {j for j in self._jobs if j.startswith(text)}
            found |= {j for r, j in self._receipts.items() if r.startswith(text)}
            if len(found) == 1:
                return found.pop()
            if found:
                raise BadInput(f"{text[:64]!r} fits {len(found)} jobs; give more of the id.")
        raise UnknownJob(f"There is no job {text[:64]!r} here.")

    async def add(self, job: Job, papers: Sequence[Paper], also: Also = lambda tx: None) -> None:
        """Keep a fresh job with its first documents. Raises StoreError if it is known."""

        def keep(tx: Tx) -> None:
            store.insert(tx, job)
            write(tx, job.job_id, papers)
            also(tx)

        await self._db.write(keep)
        self.papers.begun(job.job_id, papers)
        self._apply(job)
        self._bus.publish(JobChanged(job.job_id))
        self._bus.publish(_moved(job))

    async def change(
        self, job_id: str, also: Also | None = None, papers: Sequence[Paper] = (), /, **changes: object
    ) -> Job:
        """Commit, with further documents of the job; then apply and publish. Returns the row as it now is."""

        def keep(tx: Tx) -> None:
            store.update(tx, job_id, changes)
            write(tx, job_id, papers)
            if also is not None:
                also(tx)

        if also is not None or papers or any(getattr(self[job_id], c) != v for c, v in changes.items()):
            before = self[job_id].state
            await self._db.write(keep)
            self.papers.added(job_id, papers)
            self._apply(replace(self[job_id], **changes))
            self.touch(job_id)
            if self[job_id].state != before:
                self._bus.publish(_moved(self[job_id]))
        return self[job_id]

    async def withdraw(self, job_id: str) -> None:
        """Drop my signature under an agreement that the executor did not sign, and the bid that it answers."""
        await self.change(job_id, lambda tx: store.drop_evidence(tx, job_id, "agreement", "bid"))
        self.papers.dropped(job_id, "agreement", "bid")

    async def attest(self, job_id: str, witness: PeerId, *, match: bool, keep: Also) -> Job:
        """Keep a witness's word with ``keep``; if it matches, the witness is named in the job."""
        async with self._attesting:
            named = set(self[job_id].attestations) | ({witness} if match else set())
            return await self.change(job_id, keep, attestations=tuple(sorted(named)[:MAX_ATTESTATIONS]))

    async def reload(self, job_id: str) -> Job | None:
        """Take over what another feature's transaction changed. Runs through the writer, so that the transaction is decided."""
        job = await self._db.write(lambda tx: store.get(tx, job_id))
        if job is not None and job_id in self._jobs and job != self._jobs[job_id]:
            self._apply(job)
            self.touch(job_id)
        return job

    async def cover(self, job_id: str) -> Job | None:
        """Take a finished job whose slices have paid it all as paid. The table decides: a slice may have been paid just now."""
        if self[job_id].paid == "unpaid":
            await self._db.write(lambda tx: store.cover(tx, job_id))
        return await self.reload(job_id)

    def artifacts(self) -> frozenset[str]:
        """Content ids that unfinished jobs still need."""
        return frozenset(chain.from_iterable(job.artifacts for job in self.unsettled))

    def given_up(self, peer: PeerId) -> list[Job]:
        """Jobs of mine that ``peer`` agreed to and that ended only because it was away."""
        return [
            j
            for j in self._jobs.values()
            if j.mine and j.executor == peer and j.agreed and j.fault == "network" and not j.receipt_id and j.final
        ]

    def beyond(self, limit: int, before_us: int) -> list[str]:
        """The oldest finished jobs above ``limit``: settled ones first, and the others once there are twice as many. None that
        ended after ``before_us``."""
        finished = [j for j in self._jobs.values() if j.final]
        finished.sort(key=lambda j: j.finished_us)
        settled = [j.job_id for j in finished if j.settled]
        gone = settled[: max(0, len(finished) - limit)]
        if len(finished) - len(gone) > 2 * limit:
            dropped = set(gone)
            rest = [j.job_id for j in finished if j.job_id not in dropped]
            gone += rest[: len(rest) - 2 * limit]
        return [job_id for job_id in gone if self._jobs[job_id].finished_us < before_us]

    async def drop(self, job_ids: list[str]) -> None:
        await self._db.write(lambda tx: store.drop(tx, job_ids))
        for job_id in job_ids:
            job = self._jobs.pop(job_id, None)
            self.papers.forget(job_id)
            self.unsettled.drop(job_id)
            if job is not None:
                self._receipts.pop(job.receipt_id, None)
                self._progress.pop(job_id, None)
                self._metered.pop(job_id, None)
                self._signals.pop(job_id, None)

    def progress(self, job_id: str) -> float | None:
        return self._progress.get(job_id)

    def set_progress(self, job_id: str, progress: float) -> None:
        if self._progress.get(job_id) != progress:
            self._progress[job_id] = progress
            self._bus.publish(JobChanged(job_id))

    def metered(self, job_id: str) -> Metered | None:
        """What a running job has cost so far, as its executor meters it."""
        found = self._metered.get(job_id)
        return None if found is None else found()

    def set_metered(self, job_id: str, metered: Metered) -> None:
        if self.metered(job_id) != metered:
            self.meter(job_id, lambda: metered)
            self._bus.publish(JobChanged(job_id))

    def meter(self, job_id: str, metered: Callable[[], Metered]) -> None:
        """From now on ``metered`` tells what the job has cost."""
        if job_id in self.unsettled:
            self._metered[job_id] = metered

    def touch(self, job_id: str) -> None:
        """Publish the change and wake who waits for this job."""
        self._bus.publish(JobChanged(job_id))
        signal = self._signals.pop(job_id, None)
        if signal is not None:
            signal.fire()

    async def changed(self, job_id: str, timeout: float | None = None) -> None:
        """Return at the next change of this job."""
        await self._signals.setdefault(job_id, Signal()).wait(timeout)

    def typical_us(self, module_cid: str) -> int | None:
        """How long my latest jobs with this module ran."""
        return self._typical_us.get(module_cid)

    def _learn(self, job: Job) -> None:
        before = self._typical_us.pop(job.module_cid, job.duration_us)
        self._typical_us[job.module_cid] = (3 * before + job.duration_us) // 4
        if len(self._typical_us) > MAX_MODULES:
            del self._typical_us[next(iter(self._typical_us))]

    def _apply(self, job: Job) -> None:
        known = self._jobs.get(job.job_id)
        if job.mine and job.state == "done" and (known is None or known.state != "done"):
            self._learn(job)
        self.confirmations += bool(job.attestations)
        self._jobs[job.job_id] = job
        if job.receipt_id:
            self._receipts[job.receipt_id] = job.job_id
        self.unsettled.put(job)
        if job.settled:
            self._progress.pop(job.job_id, None)
            self._metered.pop(job.job_id, None)
            self.papers.forget(job.job_id)


def _moved(job: Job) -> JobMoved:
    other = job.executor if job.mine else job.submitter
    return JobMoved(job.job_id, job.mine, job.module, other, job.state, job.why)
