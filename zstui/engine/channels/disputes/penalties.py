"""Faults on record and what they cost: proven ones everywhere, with no more credit; those of a verdict in the parties' guilds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from zstui.engine.channels.disputes import fault_store
from zstui.engine.channels.disputes.fault_store import FaultRow
from zstui.engine.channels.disputes.unit import Penalty
from zstui.engine.clock import US, Clock
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Database, Tx

Blacklist = Callable[[PeerId, int, str, str], Awaitable[None]]
"""(peer, hours, why, guild or "" for everywhere)."""
HOUR_US = 3600 * US


class Penalties:
    def __init__(
        self, db: Database, clock: Clock, guilds_of: Callable[[PeerId, PeerId], Iterable[str]], blacklist: Blacklist
    ) -> None:
        self._db = db
        self._clock = clock
        self._guilds_of = guilds_of
        self._blacklist = blacklist
        self._until: dict[PeerId, int] = {}
        """Until when a peer gets no credit, Unix µs."""

    async def start(self) -> None:
        """Load everything, and put in force what the last run did not get to."""
        now_us = self._clock.now_us()

        def read(tx: Tx) -> tuple[list[FaultRow], list[FaultRow]]:
            return fault_store.load(tx), fault_store.not_carried_out(tx, now_us)

        known, left = await self._db.read(read)
        for fault in known:
            self._note(fault)
        for fault in left:
            await self.carry_out(Penalty(fault, "on record"))

    def at_fault(self, peer: PeerId) -> bool:
        """Whether a proven fault keeps credit from this peer."""
        return self._until.get(peer, 0) > self._clock.now_us()

    async def carry_out(self, penalty: Penalty) -> None:
        """Blacklist whoever committed a fault, for what is left of its time; then on record as done."""
        fault = penalty.fault
        self._note(fault)
        hours = max(1, -(-(fault.until_us - self._clock.now_us()) // HOUR_US))
        why = f"{fault.kind.replace('_', ' ').lower()}: {penalty.why}"
        for guild_id in ("",) if fault.parties is None else self._guilds_of(*fault.parties):
            await self._blacklist(fault.culprit, hours, why, guild_id)
        await self._db.write(lambda tx: fault_store.set_carried_out(tx, fault))

    def _note(self, fault: FaultRow) -> None:
        if fault.proven:
            self._until[fault.culprit] = max(self._until.get(fault.culprit, 0), fault.until_us)
