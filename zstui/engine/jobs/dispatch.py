"""The submitter's queue: which of my waiting jobs goes to which executor, and why the others wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from zstui.engine.clock import US
from zstui.engine.commands import JobSpec
from zstui.engine.errors import ZsError
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.messages import RefusalCode
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.records import Records, Signal
from zstui.engine.jobs.room import Room
from zstui.engine.views import ExecutorView

Candidates = Callable[[JobSpec], Sequence[ExecutorView]]
"""Who could run a job, best first, the unable with their reason. Raises GuildError."""
LOOK_S = 5.0
"""Longest pause between two looks at who is free."""
SAY_US = US
"""A waiting job's reasons are written anew at most this often."""
SAID_PEERS = 8
"""Peers named in one sentence."""
AHEAD_US = US // 4
MOST_AHEAD = 16
"""An executor is given no more than this much work, and so many jobs, beyond its places."""
NOBODY = "Nobody else in the guild runs jobs for others."
FULL = "all its places are taken by jobs of yours"


def depth(cores: int, typical_us: int | None) -> int:
    """Jobs that an executor is given at once: one a place and one to follow; of short ones so many that it stays busy."""
    following = 1 if typical_us is None else AHEAD_US * cores // max(1, typical_us)
    return cores + max(1, min(MOST_AHEAD, following))


class Held(msgspec.Struct, frozen=True):
    """A peer that is not asked for a while, and why."""

    until_us: int
    why: str
    pause_us: int


class Ticket:
    """One job that waits for an executor."""

    def __init__(self, job_id: str, spec: JobSpec, tried: frozenset[PeerId]) -> None:
        self.job_id = job_id
        self.spec = spec
        self.tried = tried
        self.chosen: asyncio.Future[PeerId | None] = asyncio.get_running_loop().create_future()
        self.said_us = 0


def tried(records: Records, job: Job) -> frozenset[PeerId]:
    """Executors of earlier attempts at the same work."""
    found = set()
    earlier = records.get(job.retry_of)
    while earlier is not None:
        found.add(earlier.executor)
        earlier = records.get(earlier.retry_of)
    return frozenset(found)


def sentence(reasons: Sequence[tuple[str, str]]) -> str:
    """Each peer's name and reason, as one sentence."""
    if not reasons:
        return NOBODY
    said = "; ".join(f"{name}: {reason}" for name, reason in reasons[:SAID_PEERS])
    more = f"; and {len(reasons) - SAID_PEERS} more" if len(reasons) > SAID_PEERS else ""
    return f"Waiting for an executor: {said}{more}."


class Dispatch:
    def __init__(self, room: Room, candidates: Candidates, give_up: Callable[[Job, str], object]) -> None:
        """``give_up(job, why)`` ends a job that has waited for too long."""
        self._room = room
        self._candidates = candidates
        self._give_up = give_up
        self._tickets: dict[str, Ticket] = {}
        self._busy: dict[PeerId, Held] = {}
        """Peers that take nothing at the moment."""
        self._refused: dict[str, dict[PeerId, Held]] = {}
        """By job: peers that do not take this one."""
        self._news = Signal()

    def start(self) -> None:
        self._room.spawn(self._work(), "finding executors")

    def wake(self) -> None:
        """Somebody may be free now."""
        self._news.fire()

    async def choose(self, job: Job, spec: JobSpec) -> PeerId | None:
        """Wait for an executor that can take the job; None once the job has ended without one."""
        ticket = self._tickets[job.job_id] = Ticket(job.job_id, spec, tried(self._room.records, job))
        self.wake()
        try:
            chosen = await ticket.chosen
            if chosen is None:
                self._refused.pop(job.job_id, None)
            return chosen
        finally:
            self._tickets.pop(job.job_id, None)

    def refused(self, job_id: str, peer: PeerId, why: str, code: RefusalCode) -> None:
        """``peer`` did not take the job: ask it again later, the later the oftener it was asked in vain."""
        held = self._busy if code == "busy" else self._refused.setdefault(job_id, {})
        timing = self._room.timing
        last = held.get(peer)
        pause = round(timing.retry * US) if last is None else min(last.pause_us * 2, round(timing.retry_most * US))
        if code == "refused":
            pause = round(timing.grace * US)
        held[peer] = Held(self._now() + pause, why, pause)

    def agreed(self, job: Job) -> None:
        self._busy.pop(job.executor, None)
        self._refused.pop(job.job_id, None)

    def other(self, job: Job, spec: JobSpec) -> bool:
        """Whether somebody other than its executor could take the job right now."""
        flying = self._flying()
        return any(c.peer_id != job.executor and not self._reason(job, c, flying) for c in self._views(spec))

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._news.wait(self._assign())
            await asyncio.sleep(0)

    def _assign(self) -> float:
        """Give each waiting job to whom it may go; the pause until the next look, in seconds."""
        records, now = self._room.records, self._now()
        known: dict[JobSpec, Sequence[ExecutorView]] = {}
        flying = self._flying()
        waiting = [(t, records.get(t.job_id)) for t in self._tickets.values()]
        until = now + round(LOOK_S * US)
        for ticket, job in sorted(waiting, key=lambda w: (-w[1].priority, w[1].created_us) if w[1] else (0, 0)):
            if ticket.chosen.done():
                continue
            if job is None or job.final:
                ticket.chosen.set_result(None)
                continue
            if ticket.spec not in known:
                known[ticket.spec] = self._views(ticket.spec)
            peer = self._best(ticket, job, known[ticket.spec], flying)
            if peer is not None:
                flying[peer] += 1
                ticket.chosen.set_result(peer)
            else:
                left = job.queued_until_us - self._room.clock.now_us()
                self._wait(ticket, job, known[ticket.spec], flying, left)
                until = min(until, now + max(0, left))
        holds = (h.until_us for h in (*self._busy.values(), *(h for r in self._refused.values() for h in r.values())))
        until = min([until, *(u for u in holds if u > now)]) if self._tickets else until
        return max(0.005, (until - now) / US)

    def _best(self, ticket: Ticket, job: Job, views: Sequence[ExecutorView], flying: Counter[PeerId]) -> PeerId | None:
        """Of those able, one that was not tried, with the most places free for its number; then the best ranked."""
        able = [c for c in views if not self._reason(job, c, flying)]
        able.sort(key=lambda c: (c.peer_id in ticket.tried, flying[c.peer_id] / max(1, c.cores), c.rank))
        return able[0].peer_id if able else None

    def _reason(self, job: Job, c: ExecutorView, flying: Counter[PeerId]) -> str:
        if c.refusal:
            return c.refusal
        for held in (self._busy.get(c.peer_id), self._refused.get(job.job_id, {}).get(c.peer_id)):
            if held is not None and held.until_us > self._now():
                return held.why
        return FULL if flying[c.peer_id] >= depth(c.cores, self._room.records.typical_us(job.module_cid)) else ""

    def _wait(
        self, ticket: Ticket, job: Job, views: Sequence[ExecutorView], flying: Counter[PeerId], left_us: int
    ) -> None:
        why = sentence([(c.name, self._reason(job, c, flying)) for c in views])
        if left_us <= 0:
            ticket.chosen.set_result(None)
            self._give_up(job, f"No executor took it in time. {why}")
        elif why != job.why and self._now() - ticket.said_us >= SAY_US:
            ticket.said_us = self._now()
            self._room.spawn(self._say(job.job_id, why), "saying why a job waits", job.job_id)

    async def _say(self, job_id: str, why: str) -> None:
        job = self._room.records.get(job_id)
        if job is not None and not job.final and not job.executor:
            await self._room.records.change(job_id, why=why[:1000])

    def _views(self, spec: JobSpec) -> Sequence[ExecutorView]:
        try:
            return self._candidates(spec)
        except ZsError:
            return ()

    def _flying(self) -> Counter[PeerId]:
        """My unfinished jobs by executor."""
        return Counter(j.executor for j in self._room.records.unsettled.unfinished() if j.mine and j.executor)

    def _now(self) -> int:
        return self._room.clock.monotonic_us()
