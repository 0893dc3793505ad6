"""Payment requests in memory as the tables have them: what the policy says of each, and which time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals import grant_store, store
from zstui.engine.channels.approvals.book import PAID_SHOWN, Book
from zstui.engine.channels.approvals.model import (
    ASK_US,
    Decision,
    Grant,
    PaymentRequest,
    PeerContext,
    decide,
    limit_lines,
)
from zstui.engine.channels.approvals.policy import SpendingPolicy
from zstui.engine.channels.approvals.present import present
from zstui.engine.channels.approvals.store import Record
from zstui.engine.clock import US, Clock
from zstui.engine.errors import StoreError
from zstui.engine.events import ApprovalChanged, Notice
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import ApprovalView, Funds, LogLevel

Committed = tuple[Record | None, list[Grant]]


class Desk:
    """``channel`` gives the open channel with a peer, ``due`` what the cost rule leaves to pay of a request, ``context`` what
    else is known about its payee."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        clock: Clock,
        policy: SpendingPolicy,
        *,
        channel: Callable[[PeerId], Funds | None],
        context: Callable[[PaymentRequest], PeerContext],
        due: Callable[[PaymentRequest], int],
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._channel = channel
        self._context = context
        self._due = due
        self.book = Book()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Load everything. What was being paid stays so until the payee acknowledges it; what is late expires."""
        self._loop = asyncio.get_running_loop()
        now_us = self._clock.now_us()

        def load(tx: Tx) -> Book:
            store.expire(tx, now_us)
            return Book(store.owed(tx), store.paid(tx, PAID_SHOWN), store.payees(tx))

        self.book = await self._db.write(load)
        await self._policy.load()
        self.watch_time()

    async def stop(self) -> None:
        """Idempotent."""
        self._loop = None
        tasks = [*self._tasks, *([self._timer] if self._timer else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._timer = None

    # --- what the policy says ----------------------------------------------------------------------------------------

    def late(self, record: Record) -> bool:
        return record.state == "waiting" and self._clock.now_us() >= record.expires_us

    def decide(self, record: Record) -> Decision:
        """The policy for one request as things stand."""
        request = record.request
        return self._decide(request, self._context(request), self._channel(request.peer_id))[0]

    def _decide(
        self, request: PaymentRequest, context: PeerContext, channel: Funds | None
    ) -> tuple[Decision, tuple[str, ...]]:
        """With the limits in force for it."""
        now_us = self._clock.now_us()
        grants, spent = self._policy.covering(request)
        typed_above_u = self._policy.limits["typed_above_u"]
        decision = decide(
            request,
            due_u=self._due(request),
            blacklisted=context.blacklisted,
            channel=channel,
            grants=grants,
            spent_day_u=spent,
            typed_above_u=typed_above_u,
            first_payment=request.peer_id not in self.book.payees,
            now_us=now_us,
        )
        return decision, limit_lines(request, context, grants, spent, typed_above_u, now_us)

    def view(self, record: Record) -> ApprovalView:
        request = record.request
        context, channel = self._context(request), self._channel(request.peer_id)
        decision, limits = self._decide(request, context, channel)
        return present(record, context, channel, decision, limits, self.late(record))

    def title(self, request: PaymentRequest) -> str:
        return f"Payment of {format_amount(request.amount_u)} to {self._context(request).peer_name}"

    def notice(self, level: LogLevel, text: str, subject: str) -> None:
        self._bus.publish(Notice(level, "approvals", text if text.endswith(".") else f"{text}.", subject))

    # --- memory as the tables ----------------------------------------------------------------------------------------

    def refresh_soon(self, request_id: str) -> None:
        """From the database's thread, inside a transaction: read the record again once that is over."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._spawn_refresh, request_id)

    def _spawn_refresh(self, request_id: str) -> None:
        if self._loop is None:
            return
        task = asyncio.create_task(self._refresh_quietly(request_id), name="approval refresh")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh_quietly(self, request_id: str) -> None:
        try:
            await self.refresh(request_id)
        except StoreError as error:
            self.notice("error", str(error), request_id)

    async def refresh(self, request_id: str) -> None:
        """Take over the committed record, and tell if it changed.

        Read in the writer's order: whatever transaction asked for this refresh has ended by then.
        """
        self.take(request_id, await self._db.write(lambda tx: self.read(tx, request_id)))

    @staticmethod
    def read(tx: Tx, request_id: str) -> Committed:
        return store.get(tx, request_id), grant_store.grants(tx)

    def take(self, request_id: str, committed: Committed) -> None:
        """Take over what ``read`` found in a transaction that has been committed, and tell if it changed."""
        record, grants = committed
        before = self.book.find(request_id)
        if record is None or record == before:
            return
        self.book.put(record)
        if before is not None and before.debited_us is None and record.debited_us is not None:
            self._policy.debited(record, grants)
            self.notice("info", f"{self.title(record.request)} was signed: {record.why}.", request_id)
        if before is not None and before.state != "paid" and record.state == "paid":
            self.notice("info", f"{self.title(record.request)} was acknowledged.", request_id)
        self._bus.publish(ApprovalChanged(request_id))

    # --- time --------------------------------------------------------------------------------------------------------

    def watch_time(self) -> None:
        if (self._timer is None or self._timer.done()) and self.book.waiting():
            self._timer = asyncio.create_task(self._expire_in_time(), name="approval time limit")

    async def _expire_in_time(self) -> None:
        """Runs while anything waits."""
        while True:
            waiting = [record.expires_us for record in self.book.waiting()]
            if not waiting:
                return
            pause_us = min(min(waiting) - self._clock.now_us(), ASK_US)
            if pause_us > 0:
                await self._clock.sleep(pause_us / US)
                continue
            try:
                await self.expire()
            except StoreError as error:
                self.notice("error", str(error), "")
                return

    async def expire(self) -> None:
        now_us = self._clock.now_us()
        late = self.book.waiting(self.late)
        for record in await self._db.write(lambda tx: store.expire(tx, now_us)):
            self.notice("info", f"{self.title(record.request)} was not approved in time.", record.request.request_id)
        for record in late:
            await self.refresh(record.request.request_id)
