"""How this node stands with its peers over jobs, and what it learned from those that are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from statistics import median_low

from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.describe import at_risk_u
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.presence import Presence
from zstui.engine.jobs.promises import Promises
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.speed import proven_speed
from zstui.engine.routing.model import Result

TYPICAL_OF = 50
"""Finished jobs that an estimate looks at."""
USUAL_OF = 500
"""Jobs run for others that tell which modules are usual here."""


class Standing:
    def __init__(self, room: Room, promises: Promises, committed: Callable[[PeerId], int], presence: Presence) -> None:
        """``committed(peer)``: µ that work for that peer may yet cost."""
        self._room = room
        self._promises = promises
        self._committed = committed
        self._presence = presence
        self._speeds: dict[PeerId, tuple[int, float | None]] = {}
        """By member of a guild: as of so many confirmations."""

    # --- money -------------------------------------------------------------------------------------------------------

    def at_risk(self, peer: PeerId) -> int:
        """µ that ``peer`` owes me: receipts not paid, and what was metered of work under way and is not paid."""
        return self._unpaid(False, peer)

    def owed(self, peer: PeerId) -> int:
        """µ that I owe ``peer`` for its work, as far as this node knows: receipts not paid, and notes of what runs there."""
        return self._unpaid(True, peer)

    def _unpaid(self, mine: bool, peer: PeerId) -> int:
        jobs = self._room.records.unsettled
        running = (j for j in jobs.unfinished() if (j.mine, j.peer) == (mine, peer))
        return jobs.due_u(mine, peer) + sum(at_risk_u(self._room, j) for j in running)

    def committed(self, peer: PeerId) -> int:
        """µ that ``peer`` may yet owe me: receipts not paid, and work under way at its dearest."""
        return self._committed(peer)

    def reserved(self, peer: PeerId) -> int:
        """µ that I have promised ``peer`` for jobs that it runs, or that are not paid yet."""
        return self._promises.reserved(peer)

    def uptime(self, peer: PeerId) -> float:
        """Share of the time since this node first saw ``peer``, and while it ran, that it was online."""
        return self._presence.share(peer, self._room.clock.monotonic_us())

    def speed(self, peer: PeerId) -> float | None:
        """Of ``peer`` over the reference machine, from runs that a witness confirmed; None without any."""
        records = self._room.records
        known = self._speeds.get(peer)
        if known is None or known[0] != records.confirmations:
            known = self._speeds[peer] = records.confirmations, proven_speed(records, peer)
        return known[1]

    def typical_gas(self, module_cid: str) -> int | None:
        """Median gas of my latest finished jobs with this module."""
        latest_gas = [j.gas for j in islice(self._finished(module_cid), TYPICAL_OF) if j.gas_exact]
        return median_low(latest_gas) if latest_gas else None

    def typical_us(self, module_cid: str) -> int | None:
        """A running mean of how long my jobs with this module ran."""
        return self._room.records.typical_us(module_cid)

    def result(self, job_id: str) -> Result | None:
        """How long a job of mine took from its agreement to its receipt; None where it is not one or was not done."""
        job = self._room.records.get(job_id)
        if job is None or not (job.mine and job.state == "done" and job.agreed_us):
            return None
        return Result(job.module_cid, job.executor, job.finished_us - job.agreed_us, job.duration_us)

    def usual_modules(self, count: int) -> tuple[str, ...]:
        """CIDs of the modules that were run most here for others lately, most first; they are compiled already."""
        latest_runs = islice((j for j in self._room.records if not j.mine and j.state == "done"), USUAL_OF)
        runs = Counter(j.module_cid for j in latest_runs)
        return tuple(cid for cid, _ in runs.most_common(count))

    def module_names(self, cids: Iterable[str]) -> dict[str, str]:
        """What jobs called these modules, the latest of each; those that no job here had are left out."""
        wanted, found = set(cids), dict[str, str]()
        for job in self._room.records if wanted else ():
            if job.module_cid in wanted:
                wanted.discard(job.module_cid)
                found[job.module_cid] = job.module
                if not wanted:
                    break
        return found

    def _finished(self, module_cid: str) -> Iterator[Job]:
        return (j for j in self._room.records if j.mine and j.state == "done" and j.module_cid == module_cid)

    def typical(self, module_cid: str) -> tuple[int, int] | None:
        """Median duration (µs) and memory (bytes) of my latest finished jobs with this module, None if there are none."""
        known = list(islice(self._finished(module_cid), TYPICAL_OF))
        if not known:
            return None
        return median_low(j.duration_us for j in known), median_low(j.memory_bytes for j in known)
