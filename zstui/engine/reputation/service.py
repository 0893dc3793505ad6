"""Scores, ranking and blacklist of the peers this node dealt with, from its own outcomes only.

Reads are synchronous and come from memory, which mirrors the tables: every change is committed first, then applied here,
then published. Scores are read at the highest time this node has ever seen, so that a clock set back cannot revive an old
score. Blocks run on the wall clock as it is, so that one wrong reading cannot make them last for years.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from sortedcontainers import SortedList

from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock
from zstui.engine.errors import BadInput, StoreError
from zstui.engine.events import Notice, OutcomeRecorded, ReputationChanged, TrustEvent
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.reputation import store
from zstui.engine.reputation.guild_blocks import GuildBlocks
from zstui.engine.reputation.ranking import Ranking
from zstui.engine.reputation.score import MAX_SAMPLE, MIN_TASKS, Outcome, Tally, order_key, parts, score
from zstui.engine.reputation.store import OVERALL, RECENT, Block, Recorded
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import GuildBlockView, RankView

__all__ = ["Outcome", "ReputationService"]

HIGH_WATER_STEP_US = 3600 * US
"""How far the clock runs between two savings of the highest time while nothing else is written."""
SWEEP_S = 60.0
"""Longest time until an expired block is noticed by the sweep; readers never see it as standing."""
MAX_BLOCK_HOURS = 24 * 365
MAX_ROWS = 1_000
"""Rows that ``rank`` gives unless asked for another number."""


class ReputationService:
    """Call ``start`` before anything else."""

    def __init__(self, db: Database, bus: Bus, clock: Clock, *, name_of: Callable[[PeerId], str]) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name_of = name_of
        self._tallies: dict[PeerId, dict[str, Tally]] = {}
        self._recent: dict[PeerId, deque[tuple[str, float]]] = {}
        self._rankings: dict[str, Ranking] = {OVERALL: Ranking()}
        self._blocks: dict[PeerId, Block] = {}
        self._in_guilds = GuildBlocks(db, clock)
        self._expiries: SortedList = SortedList()
        """(until_us, peer) of every block."""
        self._lapsed: list[tuple[PeerId, Block]] = []
        """Expired in memory, not yet in the database."""
        self.revision = 0
        """Another number after every change of tallies and blocks."""
        self._high_water_us = 0
        self._saved_us = 0
        """High water in the database, at least."""
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load everything and begin to sweep."""
        tallies, recent, blocks, in_guilds, high_water = await self._db.read(
            lambda tx: (
                list(store.tallies(tx)),
                list(store.recent(tx)),
                store.blocks(tx),
                store.guild_blocks(tx),
                store.high_water(tx),
            )
        )
        self._in_guilds.load(in_guilds)
        self._high_water_us = self._saved_us = high_water
        for peer, category, tally in tallies:
            self._tallies.setdefault(peer, {})[category] = tally
        for peer, receipt, after in recent:
            self._recent.setdefault(peer, deque(maxlen=RECENT)).append((receipt, after))
        for peer, block in blocks.items():
            self._set_block(peer, block)
        for peer in self._tallies:
            self._index(peer)
        self._sweeper = asyncio.create_task(self._sweep(), name="reputation sweep")

    async def stop(self) -> None:
        """Idempotent."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None

    # --- changes -----------------------------------------------------------------------------------------------------

    async def record(self, outcome: Outcome) -> None:
        """Count one finished job, once for each receipt id. Raises BadInput for negative figures, StoreError."""
        if outcome.duration_us < 0 or outcome.cost_u < 0 or not outcome.receipt_id:
            raise BadInput("An outcome needs a receipt and no negative figures.")
        await asyncio.shield(self._record(outcome))

    async def _record(self, outcome: Outcome) -> None:
        now_us = self._now()
        cleaned = Outcome(
            receipt_id=outcome.receipt_id,
            peer_id=outcome.peer_id,
            category=clean_text(outcome.category, 64),
            success=outcome.success,
            duration_us=min(outcome.duration_us, MAX_SAMPLE),
            cost_u=min(outcome.cost_u, MAX_SAMPLE),
            at_us=max(outcome.at_us, 0),
        )
        wall_us = self._clock.now_us()
        recorded = await self._db.write(lambda tx: store.record(tx, cleaned, now_us, wall_us))
        if recorded is not None:
            self._apply(cleaned, recorded)

    def _apply(self, outcome: Outcome, recorded: Recorded) -> None:
        peer = outcome.peer_id
        self._tallies.setdefault(peer, {}).update(recorded.tallies)
        self._recent.setdefault(peer, deque(maxlen=RECENT)).append((outcome.receipt_id, recorded.score))
        newly_blocked = recorded.block is not None and self._standing(peer) is None
        if recorded.block is not None:
            self._set_block(peer, recorded.block)
        self._index(peer)
        self._bus.publish(OutcomeRecorded(peer, outcome.success, recorded.score))
        if newly_blocked and recorded.block is not None:
            self._bus.publish(TrustEvent(peer, "blacklisted"))
            self._bus.publish(
                Notice(
                    "warning",
                    "reputation",
                    f"{self._name_of(peer)} is blacklisted for 24 hours: {recorded.block.reason}.",
                    peer,
                )
            )
        self._bus.publish(ReputationChanged(peer))

    async def block(self, peer: PeerId, hours: int, reason: str = "blocked by you") -> RankView:
        """Blacklist ``peer`` for so many hours from now, whatever stood before. Raises BadInput, StoreError."""
        if not 1 <= hours <= MAX_BLOCK_HOURS:
            raise BadInput(f"A peer is blocked for 1 to {MAX_BLOCK_HOURS} hours.")
        await asyncio.shield(self._block(peer, Block(self._clock.now_us() + hours * 3600 * US, reason)))
        return self.view(peer)

    async def _block(self, peer: PeerId, block: Block) -> None:
        await self._db.write(lambda tx: store.put_block(tx, peer, block))
        fresh = self._standing(peer) is None
        self._set_block(peer, block)
        self._index(peer)
        if fresh:
            self._bus.publish(TrustEvent(peer, "blacklisted"))
        self._bus.publish(ReputationChanged(peer))

    async def block_within(self, guild_id: str, peer: PeerId, hours: int, reason: str) -> None:
        """Blacklist ``peer`` in one guild for so many hours from now; never shortens what stands. Raises BadInput, StoreError."""
        if not 1 <= hours <= MAX_BLOCK_HOURS:
            raise BadInput(f"A peer is blocked for 1 to {MAX_BLOCK_HOURS} hours.")
        block = Block(self._clock.now_us() + hours * 3600 * US, reason)
        await asyncio.shield(self._in_guilds.put(guild_id, peer, block))
        self._bus.publish(ReputationChanged(peer))

    async def unblock(self, peer: PeerId) -> RankView:
        """End all blocks now. The peer's next outcome is judged as any other. No effect if there is none."""
        if await asyncio.shield(self._in_guilds.clear(peer)):
            self._bus.publish(ReputationChanged(peer))
        standing = self._standing(peer)
        if standing is not None:
            await asyncio.shield(self._unblock(peer, standing))
        return self.view(peer)

    async def _unblock(self, peer: PeerId, block: Block) -> None:
        await self._db.write(lambda tx: store.drop_block(tx, peer, block.until_us))
        if self._blocks.get(peer) != block:
            return
        self._clear_block(peer)
        self._bus.publish(TrustEvent(peer, "blacklist_removed"))
        self._bus.publish(ReputationChanged(peer))

    # --- reads -------------------------------------------------------------------------------------------------------

    def score(self, peer: PeerId, category: str = OVERALL) -> float:
        """In [0, 1]; 0.5 for a peer with fewer than five outcomes."""
        tallies = self._tallies.get(peer, {})
        return score(tallies.get(OVERALL, Tally()), self._now(), tallies.get(category) if category else None)

    def completed(self, peer: PeerId) -> int:
        """Jobs it finished successfully for me."""
        return self._tallies.get(peer, {}).get(OVERALL, Tally()).successes

    def failed(self, peer: PeerId) -> int:
        """Jobs that failed through the fault of ``peer``."""
        tally = self._tallies.get(peer, {}).get(OVERALL, Tally())
        return tally.tasks - tally.successes

    def overall(self) -> dict[PeerId, Tally]:
        """All that is remembered of each peer, over all its jobs."""
        return {peer: tallies[OVERALL] for peer, tallies in self._tallies.items() if OVERALL in tallies}

    def first_hand(self) -> dict[PeerId, float]:
        """Peers that did more good work for me than bad, and by how many jobs."""
        self._lapse()
        good = {peer: tally.successes - tally.failures for peer, tally in self.overall().items()}
        return {peer: float(value) for peer, value in good.items() if value > 0 and peer not in self._blocks}

    def blocked_until(self, peer: PeerId, guild_id: str = "") -> int | None:
        """Unix seconds at which the block ends, everywhere or in one guild; None if the peer is not blocked."""
        blocks = (self._standing(peer), self._in_guilds.of(peer).get(guild_id))
        return max((block.until_us // US for block in blocks if block is not None), default=None)

    def blocked(self) -> int:
        """How many peers are blocked."""
        self._lapse()
        return len(self._blocks)

    def top(self, n: int, category: str = OVERALL) -> list[PeerId]:
        """The best ``n`` ranked peers, best first, in O(log N + n)."""
        self._lapse()
        ranking = self._rankings.get(category)
        return ranking.top(n) if ranking else []

    def rank(self, category: str | None = None, *, limit: int = MAX_ROWS) -> list[RankView]:
        """Ranked peers, best first, then those not ranked: too few jobs, then blocked. At most ``limit``.

        In a category only peers with outcomes in it are listed.
        """
        self._lapse()
        wanted = category or OVERALL
        ranked = self.top(limit, wanted)
        rows = [self._view(peer, wanted, rank) for rank, peer in enumerate(ranked, 1)]
        unranked = (p for p, t in self._tallies.items() if wanted in t and p not in self._blocks and not _ranks(t))
        blocked = (p for p in self._blocks if wanted == OVERALL or wanted in self._tallies.get(p, {}))
        in_guilds = (p for p in self._in_guilds.peers() if wanted == OVERALL and not self._tallies.get(p))
        for others in (unranked, blocked, (p for p in in_guilds if p not in self._blocks)):
            chosen: Iterable[PeerId] = islice(others, limit - len(rows))
            rows += [self._view(peer, wanted, None) for peer in chosen]
        return rows

    def view(self, peer: PeerId) -> RankView:
        """The overall record of any peer, known or not."""
        self._lapse()
        return self._view(peer, OVERALL, self._rankings[OVERALL].position(peer))

    def _view(self, peer: PeerId, category: str, rank: int | None) -> RankView:
        tallies = self._tallies.get(peer, {})
        tally = tallies.get(category, Tally())
        overall = tallies.get(OVERALL, Tally())
        four = parts(tally)
        block = self._blocks.get(peer)
        recent = self._recent.get(peer, ())
        return RankView(
            rank=rank,
            peer_id=peer,
            name=self._name_of(peer),
            score=score(overall, self._now(), tally if category else None),
            completed=tally.successes,
            failed=tally.failures,
            avg_duration_us=tally.avg_duration_us,
            avg_cost_u=tally.avg_cost_u,
            blacklisted_until=None if block is None else block.until_us // US,
            blacklist_reason="" if block is None else block.reason,
            success_part=four.success,
            speed_part=four.speed,
            cost_part=four.cost,
            longevity_part=four.longevity,
            first_seen_at=tally.first_us // US,
            last_seen_at=tally.updated_us // US,
            trend=tuple(after for _, after in recent),
            receipts=tuple(receipt for receipt, _ in recent),
            guild_blocks=tuple(
                GuildBlockView(guild_id=guild_id, until=block.until_us // US, reason=block.reason)
                for guild_id, block in sorted(self._in_guilds.of(peer).items())
            ),
        )

    # --- state -------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        self._high_water_us = max(self._high_water_us, self._clock.now_us())
        return self._high_water_us

    def _standing(self, peer: PeerId) -> Block | None:
        self._lapse()
        return self._blocks.get(peer)

    def _index(self, peer: PeerId) -> None:
        """Put the peer where its record says in every ranking it belongs to, or nowhere while it is blocked or unknown."""
        self.revision += 1
        tallies = self._tallies.get(peer, {})
        ranks = _ranks(tallies) and peer not in self._blocks
        for category, tally in tallies.items():
            ranking = self._rankings.setdefault(category, Ranking())
            if ranks:
                ranking.put(peer, order_key(tallies[OVERALL], tally if category else None))
            else:
                ranking.drop(peer)

    def _set_block(self, peer: PeerId, block: Block) -> None:
        old = self._blocks.get(peer)
        if old is not None:
            self._expiries.remove((old.until_us, peer))
        self._blocks[peer] = block
        self._expiries.add((block.until_us, peer))

    def _clear_block(self, peer: PeerId) -> Block:
        block = self._blocks.pop(peer)
        self._expiries.remove((block.until_us, peer))
        self._index(peer)
        return block

    def _lapse(self) -> None:
        """Take blocks that have ended out of memory; the sweep tells and forgets them."""
        now_us = self._clock.now_us()
        while self._expiries and self._expiries[0][0] <= now_us:
            peer = self._expiries[0][1]
            self._lapsed.append((peer, self._clear_block(peer)))

    async def _sweep(self) -> None:
        while True:
            try:
                await self._sweep_once()
            except StoreError:
                return
            except Exception as error:  # noqa: BLE001  the sweep must outlive one bad round
                self._bus.publish(Notice("error", "reputation", f"Sweeping the blacklist failed: {error!r}."))
            pause_s = SWEEP_S
            if self._expiries:
                pause_s = min(pause_s, max((self._expiries[0][0] - self._clock.now_us()) / US, 0.01))
            await self._clock.sleep(pause_s)

    async def _sweep_once(self) -> None:
        self._lapse()
        lapsed, self._lapsed = self._lapsed, []
        now_us = self._now()
        if not lapsed and now_us - self._saved_us < HIGH_WATER_STEP_US:
            return

        def forget(tx: Tx) -> None:
            for peer, block in lapsed:
                store.drop_block(tx, peer, block.until_us)
            store.raise_high_water(tx, now_us)

        await self._db.write(forget)
        self._saved_us = now_us
        for peer, _ in lapsed:
            if peer not in self._blocks:
                self._bus.publish(TrustEvent(peer, "blacklist_expired"))
            self._bus.publish(ReputationChanged(peer))


def _ranks(tallies: dict[str, Tally]) -> bool:
    return tallies.get(OVERALL, Tally()).tasks >= MIN_TASKS
