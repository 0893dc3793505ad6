"""Jobs of which something is still to come, with running totals a peer: no question adds them all up anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.model import Job

Side = tuple[bool, PeerId]
"""Whether they are mine, and the other side."""


class OpenJobs:
    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._with: dict[Side, dict[str, Job]] = {}
        self._unfinished: dict[str, Job] = {}
        self._promised_u: Counter[Side] = Counter()
        self._due_u: Counter[Side] = Counter()
        self._due_since_us: dict[Side, int] = {}
        """No unpaid job of a side ended before that."""

    def put(self, job: Job) -> None:
        """A job as it now is; one that is settled is left out."""
        self.drop(job.job_id)
        if job.settled:
            return
        side = (job.mine, job.peer)
        self._jobs[job.job_id] = job
        self._with.setdefault(side, {})[job.job_id] = job
        if not job.final:
            self._unfinished[job.job_id] = job
        if job.agreed:
            self._promised_u[side] += job.promised_u
        if job.final and job.promised_u:
            self._due_u[side] += job.promised_u
            self._due_since_us[side] = min(self._due_since_us.get(side, job.finished_us), job.finished_us)

    def drop(self, job_id: str) -> None:
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        side = (job.mine, job.peer)
        self._unfinished.pop(job_id, None)
        del self._with[side][job_id]
        if job.agreed:
            self._promised_u[side] -= job.promised_u
        if job.final:
            self._due_u[side] -= job.promised_u
        if not self._due_u[side]:
            self._due_since_us.pop(side, None)
        if not self._with[side]:
            del self._with[side], self._promised_u[side], self._due_u[side]

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._jobs.values()))

    def unfinished(self) -> Iterator[Job]:
        """Those that are queued or running."""
        return iter(tuple(self._unfinished.values()))

    def between(self, mine: bool, peer: PeerId) -> Iterator[Job]:
        return iter(tuple(self._with.get((mine, peer), {}).values()))

    def promised_u(self, mine: bool, peer: PeerId) -> int:
        """The most that may yet be paid for those that both sides signed."""
        return self._promised_u.get((mine, peer), 0)

    def overdue(self, mine: bool, peer: PeerId, before_us: int) -> list[Job]:
        """Those that ended before ``before_us`` and are unpaid."""
        side = (mine, peer)
        if self._due_since_us.get(side, before_us) >= before_us:
            return []
        due = [j for j in self.between(mine, peer) if j.final and j.promised_u]
        self._due_since_us[side] = min(j.finished_us for j in due)
        return [j for j in due if j.finished_us < before_us]

    def due_u(self, mine: bool, peer: PeerId) -> int:
        """What is unpaid of those that have ended."""
        return self._due_u.get((mine, peer), 0)
