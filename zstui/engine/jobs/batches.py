"""Batches of mine: begins their jobs as executors become free, within one price, and keeps what came of each."""

from __future__ import annotations

import asyncio
import glob
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from zstui.engine.clock import US
from zstui.engine.commands import JobSpec
from zstui.engine.errors import BadInput, GuildError, JobError, UnknownJob, ZsError
from zstui.engine.events import BatchChanged
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import batch_store
from zstui.engine.jobs.attempts import latest, worth_another
from zstui.engine.jobs.batch import MAX_ITEMS, Batch, Item, MapKind, committed_u, ended, item_spec, next_cap_u, outcome
from zstui.engine.jobs.collect import collect
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.dispatch import Candidates, depth
from zstui.engine.jobs.manifest import MIB, validate
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.submission import prepare, read_module
from zstui.engine.jobs.submitter import Submitter
from zstui.engine.money import format_amount
from zstui.engine.store.database import Tx
from zstui.engine.views import BatchView, CollectedView

LEAST_BEGUN = 4
MOST_BEGUN = 256
"""Jobs of one batch that are begun at the same time: as many as executors have places, and a few to follow."""
KEPT = 200
"""Ended batches that are remembered."""
LOOK_S = 5.0
CANCEL_S = 2.0
"""How long a cancel waits for the jobs under way to end."""
CAPPED = "The price for the whole batch is used up; what is left was not begun."


class Batches:
    def __init__(self, room: Room, submitter: Submitter, candidates: Candidates) -> None:
        self._room = room
        self._submitter = submitter
        self._candidates = candidates
        self._batches: dict[str, Batch] = {}
        self._items: dict[str, list[Item]] = {}
        self._news: dict[str, Signal] = {}
        self._module: dict[str, str] = {}
        """Content id of each running batch's module."""
        self._held: dict[str, str] = {}
        """Why no more jobs are begun now although an executor may be free."""
        self._read: dict[str, tuple[Path, bytes]] = {}
        """The module of each batch under way: all its jobs run the same, whatever becomes of the file."""
        self._changing = asyncio.Lock()
        """Of one row at a time: two changes at once would undo each other."""

    async def start(self) -> None:
        """Load all, and go on with those that had not ended."""
        for batch, items in await self._room.db.read(batch_store.load):
            self._batches[batch.batch_id], self._items[batch.batch_id] = batch, items
            if not ended(batch, items):
                self._room.spawn(self._run(batch.batch_id), "a batch", batch.batch_id)

    def news(self) -> None:
        """A job ended, or somebody became free."""
        for signal in tuple(self._news.values()):
            signal.fire()

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def submit(
        self, spec: JobSpec, name: str, lines: Sequence[str] | None, files: Sequence[str] | None
    ) -> BatchView:
        """Keep a batch and begin with it. ``spec.executor`` is a peer id or None. Raises BadInput, InvalidModule, GuildError."""
        room = self._room
        if (lines is None) == (files is None):
            raise BadInput("A batch maps either lines or files.")
        guild_id = room.guilds.resolve(spec.guild)
        room.guilds.require(guild_id, room.me, "creator", "executor", "member")
        path, module = await read_module(spec.module)
        await room.sandbox.check(module, spec.function)
        inputs = list(lines) if lines is not None else await asyncio.to_thread(_expand, files or ())
        if not 1 <= len(inputs) <= MAX_ITEMS:
            raise BadInput(f"A batch has 1 to {MAX_ITEMS} inputs, not {len(inputs)}.")
        kind: MapKind = "line" if lines is not None else "file"
        batch = Batch(
            batch_id=os.urandom(32).hex(),
            name=clean_text(name or path.name, 100),
            guild_id=guild_id,
            spec=replace(spec, guild=guild_id),
            kind=kind,
            total=len(inputs),
            max_cost_u=spec.max_price_u,
            created_us=room.clock.now_us(),
        )
        items = [Item(number, text) for number, text in enumerate(inputs)]
        await room.shapes.check(spec, [item_spec(batch, item, 1).stdin for item in items])
        validate(await prepare(room, item_spec(batch, items[0], max(1, spec.max_price_u)), spec.executor or ""))
        gone = self._beyond()

        def write(tx: Tx) -> None:
            batch_store.insert(tx, batch, items)
            batch_store.drop(tx, gone)

        await room.db.write(write)
        for batch_id in gone:
            del self._batches[batch_id], self._items[batch_id]
        self._batches[batch.batch_id], self._items[batch.batch_id] = batch, items
        room.spawn(self._run(batch.batch_id), "a batch", batch.batch_id)
        return self.view(batch.batch_id)

    async def cancel(self, batch_id: str) -> BatchView:
        """Begin no more of it and cancel what is under way; what does not end within a moment ends later, as itself tells.

        Raises BadInput if it was cancelled or has ended.
        """
        batch = self[batch_id]
        if batch.state != "running":
            raise BadInput(f"The batch has ended already: it is {batch.state}.")
        await self._set(batch_id, state="cancelled", why="Cancelled by you.")
        waiting = [i for i in self._items[batch_id] if i.state == "waiting"]  # from now on none is begun
        await self._keep(batch_id, *(replace(i, state="cancelled") for i in waiting))
        self._news.setdefault(batch_id, Signal()).fire()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(batch_id), CANCEL_S)
        return self.view(batch_id)

    async def wait(self, batch_id: str) -> BatchView:
        """Return when every job of it has ended."""
        while not ended(self[batch_id], self._items[batch_id]):
            await self._news.setdefault(batch_id, Signal()).wait()
        return self.view(batch_id)

    async def collect(self, batch_id: str, directory: str) -> CollectedView:
        """Copy what has come of its jobs so far to a directory. Raises BadInput."""
        jobs = ((item.number, self._job(item)) for item in self._items[batch_id] if item.job_id)
        final = {number: job for number, job in jobs if job is not None and job.final}
        return await collect(self._room.outputs, batch_id, final, self[batch_id].total, directory)

    # --- questions ---------------------------------------------------------------------------------------------------

    def __getitem__(self, batch_id: str) -> Batch:
        """Raises UnknownJob."""
        if batch_id not in self._batches:
            raise UnknownJob(f"There is no batch {batch_id[:16]!r} here.")
        return self._batches[batch_id]

    def resolve(self, text: str) -> str:
        """Batch id for an unambiguous prefix of at least four digits. Raises UnknownJob, BadInput."""
        text = text.strip().lower()
        found = [b for b in self._batches if b.startswith(text)] if len(text) >= 4 else []
        if len(found) > 1:
            raise BadInput(f"{text[:64]!r} fits {len(found)} batches; give more of the id.")
        if not found:
            raise UnknownJob(f"There is no batch {text[:64]!r} here.")
        return found[0]

    def views(self) -> list[BatchView]:
        """Newest first, without jobs."""
        return [self.view(b, jobs=False) for b in reversed(list(self._batches))]

    def view(self, batch_id: str, *, jobs: bool = True) -> BatchView:
        batch, items = self[batch_id], self._items[batch_id]
        count = Counter(i.state for i in items)
        current = {i.number: self._job(i) for i in items if i.job_id and (jobs or i.state == "begun")}
        running = sum(1 for i in items if i.state == "begun" and (j := current.get(i.number)) and j.state == "running")
        return BatchView(
            batch_id=batch_id,
            name=batch.name,
            guild_id=batch.guild_id,
            total=batch.total,
            done=count["done"],
            failed=count["failed"],
            cancelled=count["cancelled"],
            running=running,
            queued=count["waiting"] + count["begun"] - running,
            cost_u=sum(i.cost_u for i in items if i.state != "begun"),
            max_cost_u=batch.max_cost_u,
            state=batch.state,
            jobs=tuple(j.job_id if (j := current.get(i.number)) else i.job_id for i in items) if jobs else (),
            why=batch.why or self._held.get(batch_id, ""),
            created_at=batch.created_us // US,
            finished_at=batch.finished_us // US or None,
        )

    def _job(self, item: Item) -> Job | None:
        """Its latest attempt, if it is still remembered."""
        job = self._room.records.get(item.job_id)
        return None if job is None else latest(self._room, job)

    def _beyond(self) -> list[str]:
        gone = [b.batch_id for b in self._batches.values() if ended(b, self._items[b.batch_id])]
        return gone[: max(0, len(gone) + 1 - KEPT)]

    # --- one batch ---------------------------------------------------------------------------------------------------

    async def _run(self, batch_id: str) -> None:
        news = self._news.setdefault(batch_id, Signal())
        items = self._items[batch_id]
        while not ended(self._batches[batch_id], items):
            state = self._batches[batch_id].state
            if state != "running":
                await self._stop_begun(batch_id)
            again = await self._take_in(batch_id)
            if self._batches[batch_id].state == "running":
                again |= await self._begin_more(batch_id)
            if all(i.state not in ("waiting", "begun") for i in items):
                await self._end(batch_id)
            elif not again and self._batches[batch_id].state == state:
                await news.wait(LOOK_S)

    async def _take_in(self, batch_id: str) -> bool:
        """Keep what came of jobs that have ended; whether any had."""
        came = []
        for item in [i for i in self._items[batch_id] if i.state == "begun"]:
            job = self._job(item)
            if job is None:
                came.append(replace(item, state="failed", cost_u=0))
            elif job.final and job.audit != "pending" and not worth_another(job):
                state = "done" if job.state == "done" else "cancelled" if job.cancel else "failed"
                came.append(replace(item, state=state, cost_u=self._spent(job)))
        await self._keep(batch_id, *came)
        return bool(came)

    async def _stop_begun(self, batch_id: str) -> None:
        """Cancel what is under way, and the next attempt at what failed."""
        begun = [job for i in self._items[batch_id] if i.state == "begun" and (job := self._job(i))]
        to_stop = [j for j in begun if not j.cancel and (worth_another(j) or not j.final)]
        await asyncio.gather(*(self._submitter.cancel(j.job_id) for j in to_stop))

    def _spent(self, job: Job) -> int:
        """The receipts of all attempts."""
        total, attempt = 0, self._room.records.get(job.job_id)
        while attempt is not None:
            total += max(attempt.cost_u, attempt.paid_u)
            attempt = self._room.records.get(attempt.retry_of)
        return total

    async def _begin_more(self, batch_id: str) -> bool:
        """Begin the next jobs, as many as there are and may; whether to look again at once."""
        batch, items = self._batches[batch_id], self._items[batch_id]
        self._held.pop(batch_id, None)
        places, full_u = self._market(batch)
        left_u = batch.max_cost_u - committed_u(items)
        begun = sum(i.state == "begun" for i in items)
        free = min(MOST_BEGUN, max(LEAST_BEGUN, places + 2)) - begun
        chosen = list(islice((i for i in items if i.state == "waiting"), max(0, free)))
        beginning = []
        for item in chosen:
            cap_u = next_cap_u(left_u, min(full_u, batch.max_cost_u), waits=bool(begun))
            if cap_u is None:
                self._held[batch_id] = (
                    "The price for the whole batch holds it up: "
                    f"each job may cost up to {format_amount(full_u)} until it has ended."
                )
                break
            if not cap_u:
                left = [i for i in items if i.state == "waiting"]
                await self._keep(batch_id, *(replace(i, state="failed") for i in left))
                await self._say(batch_id, CAPPED)
                break
            items[item.number] = replace(item, state="begun", cost_u=cap_u)
            beginning.append(self._begin(batch, item, cap_u))
            left_u, begun = left_u - cap_u, begun + 1
        await asyncio.gather(*beginning)
        return bool(beginning) or (bool(chosen) and batch_id not in self._held)

    async def _begin(self, batch: Batch, item: Item, cap_u: int) -> None:
        """Begin one job, or keep why it cannot be."""
        try:
            await self._submit(batch, item, cap_u)
        except (JobError, GuildError, BadInput) as error:
            await self._keep(batch.batch_id, replace(item, state="failed"))
            await self._say(batch.batch_id, f"Input {item.number}: {error}")

    async def _submit(self, batch: Batch, item: Item, cap_u: int) -> None:
        room, executor = self._room, batch.spec.executor or ""
        if batch.batch_id not in self._read:
            self._read[batch.batch_id] = await read_module(batch.spec.module)
        m = await prepare(room, item_spec(batch, item, cap_u), executor, self._read[batch.batch_id])
        validate(m)
        self._module[batch.batch_id] = m.module_cid
        if self._batches[batch.batch_id].state != "running":
            await self._keep(batch.batch_id, replace(item, state="cancelled"))
            return
        begun = replace(item, state="begun", cost_u=cap_u)

        def also(tx: Tx, job_id: str) -> None:
            batch_store.set_items(tx, batch.batch_id, [replace(begun, job_id=job_id)])

        job = await self._submitter.begin(
            m,
            executor,
            also,
            wanted=executor,
            queued_until_us=m.created_us + batch.spec.queue_s * US,
            attempts=batch.spec.attempts,
            batch_id=batch.batch_id,
            batch_index=item.number,
        )
        self._items[batch.batch_id][item.number] = replace(begun, job_id=job.job_id)
        self._changed(batch.batch_id)
        if self._batches[batch.batch_id].state != "running":
            await self._submitter.cancel(job.job_id)

    def _market(self, batch: Batch) -> tuple[int, int]:
        """Jobs that able executors are given at once, and what one could cost with the dearest of them."""
        spec = batch.spec
        try:
            able = [c for c in self._candidates(spec) if not c.refusal]
        except ZsError:
            able = []
        prices = [
            cost(
                c.price_per_second_nano if spec.price_per_second_nano is None else spec.price_per_second_nano,
                c.price_per_mib_nano if spec.price_per_mib_nano is None else spec.price_per_mib_nano,
                max(0, spec.timeout_s) * US,
                max(0, spec.memory_mib) * MIB,
                max(0, spec.max_price_u),
            ).total_u
            for c in able
        ]
        typical_us = self._room.records.typical_us(self._module.get(batch.batch_id, ""))
        return sum(depth(c.cores, typical_us) for c in able), max(prices, default=spec.max_price_u)

    async def _keep(self, batch_id: str, *items: Item) -> None:
        if not items:
            return
        await self._room.db.write(lambda tx: batch_store.set_items(tx, batch_id, items))
        for item in items:
            self._items[batch_id][item.number] = item
        self._changed(batch_id)

    async def _say(self, batch_id: str, why: str) -> None:
        if not self._batches[batch_id].why:
            await self._set(batch_id, why=clean_text(why, 300))

    async def _end(self, batch_id: str) -> None:
        batch = self._batches[batch_id]
        state = outcome(self._items[batch_id]) if batch.state == "running" else batch.state
        await self._set(batch_id, state=state, finished_us=self._room.clock.now_us())
        self._module.pop(batch_id, None)
        self._read.pop(batch_id, None)
        signal = self._news.pop(batch_id, None)
        if signal is not None:
            signal.fire()

    async def _set(self, batch_id: str, **changes: object) -> None:
        async with self._changing:
            batch = replace(self._batches[batch_id], **changes)
            await self._room.db.write(lambda tx: batch_store.update(tx, batch))
            self._batches[batch_id] = batch
        self._changed(batch_id)

    def _changed(self, batch_id: str) -> None:
        self._room.bus.publish(BatchChanged(batch_id))


def _expand(patterns: Sequence[str]) -> list[str]:
    """Existing files that the patterns name, each once, in order. Raises BadInput for a pattern that names none."""
    found: dict[str, None] = {}
    for pattern in patterns:
        text = str(Path(pattern).expanduser())
        paths = [text] if os.path.isfile(text) else sorted(p for p in glob.glob(text) if os.path.isfile(p))
        if not paths:
            raise BadInput(f"No file is called {clean_text(pattern, 200)!r}.")
        found.update(dict.fromkeys(paths))
    return list(found)
