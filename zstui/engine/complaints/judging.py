"""What a witness does by itself: get the files of a disputed job, run it again, and sign what that shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from zstui.engine.channels.disputes.messages import OutputVerdict
from zstui.engine.clock import US, Clock
from zstui.engine.complaints import docket, store
from zstui.engine.complaints.model import Claim, decide, examine, never_ran, repeated
from zstui.engine.complaints.store import Case
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.reruns import Reruns
from zstui.engine.store.database import Database

RETRY_S = 0.5
RETRY_MOST_S = 600.0
"""Pauses between attempts to get the files and run the job."""
MAX_RUNS = 3
"""Runs that end otherwise than such a job can, by this node's own fault or by the clock, after which it says nothing of it."""


class Judge:
    """One job at a time is run again, within the limits that this node has for others' jobs."""

    def __init__(
        self, db: Database, clock: Clock, reruns: Reruns, sign: Callable[[Case, OutputVerdict], Awaitable[None]]
    ) -> None:
        self._db = db
        self._clock = clock
        self._reruns = reruns
        self._sign = sign
        self._cases: dict[bytes, tuple[PeerId, asyncio.Event]] = {}
        """Cases under way: their payer, and what makes the next attempt come at once."""
        self._turn = asyncio.Lock()

    def take(self, case: Case) -> bool:
        """Whether it is new; ``judge`` must follow."""
        if case.id in self._cases:
            return False
        self._cases[case.id] = (case.payer, asyncio.Event())
        return True

    def connected(self, peer: PeerId) -> None:
        """Files that were not to be had may be now."""
        for payer, woken in self._cases.values():
            if payer == peer:
                woken.set()

    async def judge(self, case: Case) -> None:
        """Run it again until that says something, or the time for it is over; then sign."""
        raw = await self._db.read(lambda tx: store.raw_of(tx, case.id))
        claim = examine(raw)
        await self._sign(case, await self._find(case, claim) or decide(claim, None))
        del self._cases[case.id]

    async def _find(self, case: Case, claim: Claim) -> OutputVerdict | None:
        _, woken = self._cases[case.id]
        runs, pause = 0, RETRY_S
        while runs < MAX_RUNS and not self._reruns.refuses(claim.manifest, claim.receipt):
            left = docket.judge_by(case) - self._clock.now_us()
            if left <= 0:
                break
            woken.clear()
            if not self._reruns.closed():
                how, output_hash = await self._run(claim)
                if repeated(how):
                    return decide(claim, how, output_hash)
                runs += not never_ran(how)
            await self._pause(min(pause, left / US), woken)
            pause = min(2 * pause, RETRY_MOST_S)
        return None

    async def _run(self, claim: Claim) -> tuple[Ended, bytes]:
        async with self._turn:
            return await self._reruns.repeat(claim.payer, claim.job_id, claim.manifest)

    async def _pause(self, seconds: float, woken: asyncio.Event) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waking = asyncio.ensure_future(woken.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
