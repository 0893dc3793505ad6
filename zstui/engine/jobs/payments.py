"""What channels say of payments, taken over into the jobs that they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from zstui.engine.channels.approvals.model import LINE_KINDS
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.model import Paid
from zstui.engine.jobs.ports import PayLine, PaymentState
from zstui.engine.jobs.room import Room
from zstui.engine.store.database import Tx
from zstui.engine.views import ApprovalState

_PAID_BY_STATE: dict[ApprovalState, Paid] = {
    "waiting": "unpaid",
    "paying": "paying",
    "declined": "declined",
    "expired": "declined",
    "failed": "unpaid",
}


class Payments:
    def __init__(
        self,
        room: Room,
        payment_state: PaymentState | None,
        slice_decided: Callable[[str], Awaitable[bool]],
        book: Callable[[str], Awaitable[None]],
    ) -> None:
        """``slice_decided(request_id)`` is told of payments for running jobs; ``book(job_id)`` enters a due outcome."""
        self._room = room
        self._payment_state = payment_state
        self._slice_decided = slice_decided
        self._book = book
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """From now on changes in the channel's transactions are taken over, in the running loop."""
        self._loop = asyncio.get_running_loop()

    async def changed(self, request_id: str) -> None:
        """The state of a payment that was asked for changed."""
        job = self._room.records.by_receipt(request_id)
        if job is None:
            await self._slice_decided(request_id)
        if job is None or not job.mine or self._payment_state is None or job.paid == "paid":
            return
        state = self._payment_state(request_id)
        paid = None if state is None else _PAID_BY_STATE.get(state)
        if paid is not None and paid != job.paid:
            await self._room.db.write(lambda tx: store.set_owed(tx, job.job_id, paid))
            await self._room.records.reload(job.job_id)

    # --- inside the channel's transaction ----------------------------------------------------------------------------

    def credited(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """A payment to me came in: the receipt that it names exactly is paid. Anything else is not for a job."""
        self._paid(tx, peer, line, mine=False)

    def acknowledged(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """A payment of mine is in the peer's hands: the job is paid, and its outcome becomes due in the same transaction."""
        self._paid(tx, peer, line, mine=True)

    def _paid(self, tx: Tx, peer: PeerId, line: PayLine, *, mine: bool) -> None:
        back = line.kind == LINE_KINDS["refund"]
        job_id = store.credit(
            tx,
            mine=mine != back,
            peer=peer,
            agreement_id=line.agreement.hex(),
            ref=line.ref.hex(),
            amount_u=line.amount_u,
            back=back,
        )
        if job_id is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._after_payment, job_id)

    def _after_payment(self, job_id: str) -> None:
        self._room.spawn(self._take_over(job_id), "booking a payment", job_id)

    async def _take_over(self, job_id: str) -> None:
        job = await self._room.records.reload(job_id)
        if job is not None and job.mine:
            await self._book(job_id)
