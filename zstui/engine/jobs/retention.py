"""How much of what jobs printed and left is kept: the oldest goes first, and never that of a job which is not settled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from zstui.engine.jobs.outputs import Outputs
from zstui.engine.jobs.records import Records

NEAR = 0.9
"""From this share of the limit on its owner is told; so much is left after some had to go."""
MIB = 1 << 20


class Retention:
    def __init__(self, records: Records, outputs: Outputs, limit_mib: int) -> None:
        self._records = records
        self._outputs = outputs
        self._limit = limit_mib * MIB
        self._stored = 0

    async def look(self) -> None:
        """Measure what is stored, and remove what is too much."""
        sizes = await asyncio.to_thread(self._outputs.sizes)
        self._stored = sum(sizes.values())
        if self._stored > self._limit:
            await asyncio.to_thread(self._remove, self._oldest(sizes), sizes)

    def notice(self) -> str:
        """A sentence for the owner while the limit is near, else ""."""
        if self._stored < NEAR * self._limit:
            return ""
        return (
            f"Outputs of jobs take {self._stored / MIB:.0f} of {self._limit // MIB} MiB (outputs_mib); "
            "the oldest of settled jobs are removed first."
        )

    def _oldest(self, sizes: Mapping[str, int]) -> list[str]:
        """Whose outputs may go, in that order: first those of jobs that are not even known any more."""
        known = [(job_id, self._records.get(job_id)) for job_id in sizes]
        settled = sorted((j.finished_us, j.job_id) for _, j in known if j is not None and j.settled)
        return [job_id for job_id, job in known if job is None] + [job_id for _, job_id in settled]

    def _remove(self, job_ids: list[str], sizes: Mapping[str, int]) -> None:
        for job_id in job_ids:
            if self._stored <= NEAR * self._limit:
                break
            self._outputs.remove(job_id)
            self._stored -= sizes[job_id]
