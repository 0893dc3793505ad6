"""What this node has learned about time through its peers: until a job's result is here, or a packet at its goal.

A job's destination is its module: the same work takes a different time at each executor, for its speed and its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.errors import StoreError
from zstui.engine.events import BidReceived, JobMoved
from zstui.engine.identity.keys import PeerId
from zstui.engine.routing import store
from zstui.engine.routing.model import Learned, Result, Way
from zstui.engine.routing.qtable import QTable
from zstui.engine.store.database import Database

HALF_LIFE_US = 3600 * US
"""A queue that was long an hour ago says half as much."""
MAX_DESTINATIONS = 256
MAX_NEIGHBOURS = 32
MAX_WAITING = 10_000
"""More jobs ahead than this are not believed."""
MAX_US = 30 * 86_400 * US
SAVE_S = 60.0
_ANY = ""
"""Destination of a peer's run times alone, of whatever it ran."""


class Routing:
    """``start`` before use. ``result_of(job_id)``: how a job of mine went, None where it says nothing."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        result_of: Callable[[str], Result | None],
        typical_us: Callable[[str], int | None],
        cores_of: Callable[[PeerId], int],
        known: Callable[[], Collection[PeerId]],
    ) -> None:
        """``typical_us(module)``: run time of it anywhere. Peers that are not among the ``known`` are forgotten."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._result_of = result_of
        self._typical_us = typical_us
        self._cores_of = cores_of
        self._known = known
        self._table = QTable(half_life=HALF_LIFE_US, max_destinations=MAX_DESTINATIONS, max_neighbours=MAX_NEIGHBOURS)
        self._waiting: dict[PeerId, int] = {}
        self._changed = False
        self._news: Subscription[BidReceived | JobMoved] | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        for destination, neighbour, estimate in await self._db.read(lambda tx: list(store.load(tx))):
            self._table.start_at(destination, neighbour, estimate)
        self._news = self._bus.subscribe(BidReceived, JobMoved)
        self._tasks = (
            asyncio.create_task(self._follow(self._news), name="routing"),
            asyncio.create_task(self._keep(), name="routing table"),
        )

    async def stop(self) -> None:
        """Idempotent."""
        if self._news is None:
            return
        self._news.close()
        self._news = None
        follower, keeper = self._tasks
        await follower
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._save()

    # --- questions ---------------------------------------------------------------------------------------------------

    def learned(self, module_cid: str, executor: PeerId) -> Learned | None:
        """What is expected for a job with this module, or of anything with another destination; None where nothing is."""
        known = self._table.get(module_cid, executor)
        if known is None:
            return None
        weighed = self._table.expected(module_cid, executor, self._clock.now_us())
        return Learned(round(known.q), round(weighed), known.samples, self._waiting.get(executor, 0))

    def in_order(self, destination: str, neighbours: Iterable[PeerId]) -> list[PeerId]:
        """``neighbours`` by the time until ``destination`` is reached through each; equal ones as they were given."""
        now = self._clock.now_us()
        return sorted(neighbours, key=lambda neighbour: self._table.expected(destination, neighbour, now))

    def why(self, destination: str, neighbour: PeerId) -> str:
        """What is expected of the way through ``neighbour``, "" if nothing was learned."""
        known = self._table.get(destination, neighbour)
        if known is None:
            return ""
        times = "one dial" if known.samples == 1 else f"{known.samples} dials"
        return f"reached in {known.q / US:.2f} s that way, learned from {times}"

    def ways(self, destination: str, also: Iterable[PeerId] = ()) -> list[Way]:
        """Those through whom something was learned and ``also``, the first choice first."""
        neighbours = dict.fromkeys((*also, *self._table.neighbours(destination)))
        return [self._way(destination, neighbour) for neighbour in self.in_order(destination, neighbours)]

    def destinations(self) -> list[str]:
        """Of which something was learned, the latest last."""
        return self._table.destinations()

    def through(self, neighbour: PeerId) -> list[str]:
        """Destinations of which something was learned through ``neighbour``, the latest first."""
        known = [d for d in self._table.destinations() if self._table.get(d, neighbour) is not None]
        return known[::-1]

    def _way(self, destination: str, neighbour: PeerId) -> Way:
        waiting = self._waiting.get(neighbour, 0)
        known = self._table.get(destination, neighbour)
        if known is None:
            return Way(destination, neighbour, 0, 0, 0, 0, waiting)
        weighed = self._table.expected(destination, neighbour, self._clock.now_us())
        return Way(destination, neighbour, round(known.q), round(weighed), known.samples, known.at, waiting)

    # --- learning ----------------------------------------------------------------------------------------------------

    def observe(self, destination: str, neighbour: PeerId, waited_us: int, took_us: int, ahead_us: int = 0) -> None:
        """Something went to ``neighbour``, which expects it to take ``ahead_us`` more."""
        waited, took, ahead = (float(min(max(0, us), MAX_US)) for us in (waited_us, took_us, ahead_us))
        self._table.update(destination, neighbour, q=waited, s=took, t=ahead, at=self._clock.now_us())
        self._changed = True

    def tried(self, destination: str, neighbour: PeerId, took_us: int) -> None:
        """It took so long to reach ``destination`` through ``neighbour``."""
        self.observe(destination, neighbour, 0, took_us)

    async def _follow(self, news: Subscription[BidReceived | JobMoved]) -> None:
        async for event in news:
            if isinstance(event, BidReceived):
                self._take_bid(event)
            elif event.mine and event.state == "done":
                result = self._result_of(event.job_id)
                if result is not None:
                    self._take_result(result)

    def _take_bid(self, bid: BidReceived) -> None:
        """An executor told how many jobs are ahead: its own estimate, in jobs; how long it takes for one is known here."""
        waiting = min(max(0, bid.waiting), MAX_WAITING)
        self._waiting.pop(bid.peer_id, None)
        self._waiting[bid.peer_id] = waiting
        if len(self._waiting) > MAX_DESTINATIONS:
            del self._waiting[next(iter(self._waiting))]
        each = self._table.get(_ANY, bid.peer_id)
        if each is None or self._table.get(bid.module_cid, bid.peer_id) is None:
            return
        run_us = self._typical_us(bid.module_cid)
        ahead_us = waiting * each.q / max(1, self._cores_of(bid.peer_id))
        self.observe(bid.module_cid, bid.peer_id, 0, round(each.q) if run_us is None else run_us, round(ahead_us))

    def _take_result(self, result: Result) -> None:
        self.observe(_ANY, result.executor, 0, result.run_us)
        self.observe(result.module_cid, result.executor, result.total_us - result.run_us, result.run_us)

    # --- keeping -----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            with contextlib.suppress(StoreError):
                await self._save()

    async def _save(self) -> None:
        for neighbour in {neighbour for _, neighbour, _ in self._table.items()}.difference(self._known()):
            self._table.forget(neighbour)
            self._waiting.pop(neighbour, None)
            self._changed = True
        if self._changed:
            self._changed = False
            rows = list(self._table.items())
            await self._db.write(lambda tx: store.save(tx, rows))
