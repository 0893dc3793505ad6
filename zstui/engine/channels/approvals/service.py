"""Payments that wait for a person, and the few that a person allowed beforehand.

A request is paid at most once: it turns from waiting to paying in the transaction that commits the signed payment, so that
of two attempts one finds it gone, and a crash leaves either both or neither. What is declined, late or failed stays owed and
can be asked again. Nothing is ever paid because time passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals import store
from zstui.engine.channels.approvals.book import PAID_SHOWN, Book
from zstui.engine.channels.approvals.model import (
    ASK_US,
    PAY_KIND,
    Decision,
    PaymentRequest,
    PeerContext,
    Scope,
    decide,
    limit_lines,
)
from zstui.engine.channels.approvals.policy import SpendingPolicy
from zstui.engine.channels.approvals.present import present
from zstui.engine.channels.approvals.store import LoggedDecision, Record, Signing
from zstui.engine.channels.messages import PayLine
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import ApprovalError, BadInput, StoreError, ZsError
from zstui.engine.events import ApprovalAsked, ApprovalChanged, Notice
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import MAX_AMOUNT_U, format_amount
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import ApprovalState, ApprovalView, ChannelView, LogLevel, PolicyView

__all__ = ["ApprovalService", "LoggedDecision", "PaymentRequest", "PeerContext"]


class Sent(Protocol):
    """What the channel says of a committed payment."""

    @property
    def sequence(self) -> int: ...

    @property
    def acknowledged(self) -> bool: ...


class Pay(Protocol):
    """The channel's ``pay``: commits ``line`` together with ``also``, then sends it."""

    async def __call__(self, channel_id: str, line: PayLine, *, also: Callable[[Tx], None] | None = None) -> Sent: ...


class ApprovalService:
    """Call ``start`` before anything else.

    ``channel`` gives the open channel with a peer, ``due`` the amount that the cost rule gives for a request, ``context``
    what else is known about its payee.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        channel: Callable[[PeerId], ChannelView | None],
        pay: Pay,
        context: Callable[[PaymentRequest], PeerContext],
        due: Callable[[PaymentRequest], int],
        settings: Settings,
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._channel = channel
        self._pay = pay
        self._context = context
        self._due = due
        self._policy = SpendingPolicy(db, clock, settings)
        self._book = Book()
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

        self._book = await self._db.write(load)
        await self._policy.load()
        self._watch_time()

    async def stop(self) -> None:
        """Idempotent. Payments under way are the channel's to finish."""
        self._loop = None
        tasks = [*self._tasks, *([self._timer] if self._timer else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._timer = None

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def add(self, request: PaymentRequest) -> ApprovalView:
        """Keep a request, and pay it at once if a grant covers it. A known id changes nothing. Raises BadInput, StoreError."""
        _check(request)
        return await asyncio.shield(self._add(request))

    async def _add(self, request: PaymentRequest) -> ApprovalView:
        request_id, now_us = request.request_id, self._clock.now_us()
        fresh, crowded = await self._db.write(lambda tx: store.insert(tx, request, now_us))
        if not fresh:
            await self._refresh(request_id)
            return self.view(request_id)
        for old in (*crowded, request_id):
            await self._refresh(old)
        self._watch_time()
        decision, _ = self._decide(self._book.get(request_id))
        if decision.action == "auto":
            try:
                await self._sign(request_id, automatic=True)
            except StoreError:
                raise
            except ZsError as error:
                await self._refresh(request_id)
                if self._book.get(request_id).state != "waiting":
                    return self.view(request_id)
                self._notice("warning", f"{self._title(request)} was not paid automatically: {error}", request_id)
                decision, _ = self._decide(self._book.get(request_id))
                if decision.action == "auto":
                    decision = Decision("ask", "failed", "paying automatically failed")
            else:
                return self.view(request_id)
        await self._db.write(lambda tx: store.log(tx, request, decision.action, decision.rule, decision.why, now_us))
        if decision.action == "block":
            self._notice("warning", f"{self._title(request)} cannot be paid: {decision.why}.", request_id)
        else:
            self._notice("info", f"{self._title(request)} waits for you: {decision.why}.", request_id)
        self._bus.publish(ApprovalAsked(request_id))
        return self.view(request_id)

    async def pay(self, request_id: str, amount_u: int | None, typed: bool) -> ApprovalView:
        """Sign one payment, on a person's word for exactly ``amount_u`` (None: whatever is asked).

        Returns once the payee acknowledged it, or with state "paying" if it is away: the payment is then sent again until
        it does. Raises ApprovalError if it is late, already decided, blocked, of another amount, or to be typed and was not;
        or what the channel raised: the request has then failed and is still owed.
        """
        return await asyncio.shield(self._pay_by_hand(request_id, amount_u, typed))

    async def _pay_by_hand(self, request_id: str, amount_u: int | None, typed: bool) -> ApprovalView:
        record, now_us = self._book.get(request_id), self._clock.now_us()
        if record.state == "waiting" and now_us >= record.expires_us:
            await self._expire()
            record = self._book.get(request_id)
        store.require_waiting(record, now_us)
        request = record.request
        decision, _ = self._decide(record)
        if decision.action == "block":
            raise ApprovalError(f"This payment is blocked: {decision.why}.")
        if amount_u is not None and amount_u != request.amount_u:
            raise ApprovalError(
                f"This payment asks for {format_amount(request.amount_u)}, not {format_amount(amount_u)}; nothing was paid."
            )
        if decision.urgency == "typed" and not typed:
            raise ApprovalError(f"Type the amount {format_amount(request.amount_u)} to pay: {decision.why}.")
        try:
            await self._sign(request_id, automatic=False)
        except StoreError:
            raise
        except ZsError as error:
            await self._fail(request, str(error))
            raise
        return self.view(request_id)

    async def _sign(self, request_id: str, *, automatic: bool) -> None:
        """Commit one payment. What it raises means that nothing was committed."""
        request = self._book.get(request_id).request
        channel = self._channel(request.peer_id)
        if channel is None:
            raise ApprovalError("No channel is open with this peer.")
        signing = Signing(
            automatic=automatic,
            why="paid inside your grant" if automatic else "approved by you",
            now_us=self._clock.now_us(),
            channel_id=channel.channel_id,
            sequence=channel.sequence + 1,
            before_u=channel.mine_u,
            peer_before_u=channel.theirs_u,
        )
        line = PayLine(
            amount_u=request.amount_u,
            agreement=bytes.fromhex(request.agreement_id),
            kind=PAY_KIND,
            no=0,
            ref=bytes.fromhex(request.receipt_id),
        )

        def also(tx: Tx) -> None:
            store.begin(tx, request_id, signing)
            self._refresh_soon(request_id)

        sent = await self._pay(channel.channel_id, line, also=also)
        if sent.sequence != signing.sequence:
            await self._db.write(lambda tx: store.set_sequence(tx, request_id, sent.sequence))
        await self._refresh(request_id)

    async def _fail(self, request: PaymentRequest, why: str) -> None:
        """After a payment that was not committed. Leaves alone what another attempt has moved on meanwhile."""
        now_us = self._clock.now_us()
        try:
            await self._db.write(
                lambda tx: store.move(tx, request.request_id, "failed", why, now_us, "waiting", rule="channel")
            )
        except ApprovalError:
            pass
        else:
            self._notice("warning", f"{self._title(request)} failed and is still owed: {why}", request.request_id)
        await self._refresh(request.request_id)

    async def reject(self, request_id: str) -> ApprovalView:
        """Decline; it stays owed. Raises ApprovalError if it is being paid or was."""
        return await asyncio.shield(
            self._move(request_id, "declined", "declined by you", "waiting", "expired", "failed", "declined")
        )

    async def reopen(self, request_id: str) -> ApprovalView:
        """Ask again, with a new time limit. Never pays by itself. Raises ApprovalError if it is not owed or waits already."""
        if self._late(self._book.get(request_id)):
            await self._expire()
        return await asyncio.shield(self._move(request_id, "waiting", "", "declined", "expired", "failed"))

    async def _move(self, request_id: str, state: ApprovalState, why: str, *sources: ApprovalState) -> ApprovalView:
        request, now_us = self._book.get(request_id).request, self._clock.now_us()
        await self._db.write(lambda tx: store.move(tx, request_id, state, why, now_us, *sources, rule="person"))
        await self._refresh(request_id)
        self._watch_time()
        did = "was declined and is still owed" if state == "declined" else "is asked again"
        self._notice("info", f"{self._title(request)} {did}.", request_id)
        return self.view(request_id)

    def acknowledged(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """The payee holds my payment: mark what it pays as paid, in the channel's transaction. Other lines are ignored."""
        request_id = line.ref.hex()
        if line.kind == PAY_KIND and store.settle(
            tx, request_id, peer, line.agreement.hex(), line.amount_u, self._clock.now_us()
        ):
            self._refresh_soon(request_id)

    # --- policy ------------------------------------------------------------------------------------------------------

    def policy(self) -> PolicyView:
        """Grants in force, with their use, and limits."""
        return self._policy.view()

    async def set_grant(
        self,
        scope: Scope,
        subject: str = "",
        *,
        per_payment_u: int = 0,
        per_day_u: int = 0,
        total_u: int = 0,
        expires_s: int | None = None,
    ) -> PolicyView:
        """Set the one grant of this scope and subject, or take it away with all-zero limits. Raises BadInput, StoreError.

        Setting starts its total anew; what was paid in the last 24 hours still counts. Requests that already wait are not
        paid by it.
        """
        await asyncio.shield(self._policy.set_grant(scope, subject, (per_payment_u, per_day_u, total_u), expires_s))
        return self._policy_changed(f"The grant for {subject or 'this node'} was changed.")

    async def set_limits(
        self,
        *,
        typed_above_u: int | None = None,
        credit_member_u: int | None = None,
        credit_stranger_u: int | None = None,
    ) -> PolicyView:
        """Change limits; None leaves one as it is. Raises BadInput, StoreError."""
        await asyncio.shield(self._policy.set_limits((typed_above_u, credit_member_u, credit_stranger_u)))
        return self._policy_changed("The payment limits were changed.")

    def _policy_changed(self, said: str) -> PolicyView:
        self._notice("info", said, "")
        for record in self._book.waiting():
            self._bus.publish(ApprovalChanged(record.request.request_id))
        return self.policy()

    def credit_limit(self, is_member: bool) -> int:
        """µ that a peer may owe me: a member of a guild we share, or a stranger."""
        return self._policy.limits["credit_member_u" if is_member else "credit_stranger_u"]

    # --- reads -------------------------------------------------------------------------------------------------------

    def views(self) -> list[ApprovalView]:
        """Every request that is not paid, oldest first, as things stand now."""
        return [self._view(record) for record in self._book.owed.values()]

    def view(self, request_id: str) -> ApprovalView:
        """One request, also one paid lately. Raises ApprovalError."""
        return self._view(self._book.get(request_id))

    def waiting(self) -> int:
        """How many wait for a person."""
        return len(self._book.waiting(lambda record: not self._late(record)))

    def resolve(self, text: str) -> str:
        """A request id from an unambiguous prefix of at least four digits. Raises ApprovalError."""
        return self._book.resolve(text)

    async def decisions(self, limit: int = 100) -> list[LoggedDecision]:
        """The latest decisions and the rule behind each, newest first."""
        return await self._db.read(lambda tx: store.decisions(tx, limit))

    # --- state -------------------------------------------------------------------------------------------------------

    def _late(self, record: Record) -> bool:
        return record.state == "waiting" and self._clock.now_us() >= record.expires_us

    def _decide(self, record: Record) -> tuple[Decision, tuple[str, ...]]:
        """The policy for one request as things stand, and the limits in force for it."""
        request, now_us = record.request, self._clock.now_us()
        context = self._context(request)
        grants, spent = self._policy.covering(request)
        typed_above_u = self._policy.limits["typed_above_u"]
        decision = decide(
            request,
            due_u=self._due(request),
            blacklisted=context.blacklisted,
            channel=self._channel(request.peer_id),
            grants=grants,
            spent_day_u=spent,
            typed_above_u=typed_above_u,
            first_payment=request.peer_id not in self._book.payees,
            now_us=now_us,
        )
        return decision, limit_lines(request, context, grants, spent, typed_above_u, now_us)

    def _view(self, record: Record) -> ApprovalView:
        decision, limits = self._decide(record)
        request = record.request
        return present(
            record, self._context(request), self._channel(request.peer_id), decision, limits, self._late(record)
        )

    def _title(self, request: PaymentRequest) -> str:
        return f"Payment of {format_amount(request.amount_u)} to {self._context(request).peer_name}"

    def _notice(self, level: LogLevel, text: str, subject: str) -> None:
        self._bus.publish(Notice(level, "approvals", text if text.endswith(".") else f"{text}.", subject))

    def _refresh_soon(self, request_id: str) -> None:
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
            await self._refresh(request_id)
        except StoreError as error:
            self._notice("error", str(error), request_id)

    async def _refresh(self, request_id: str) -> None:
        """Take over the committed record, and tell if it changed.

        Read in the writer's order: whatever transaction asked for this refresh has ended by then.
        """
        record, grants = await self._db.write(lambda tx: (store.get(tx, request_id), store.grants(tx)))
        before = self._book.find(request_id)
        if record is None or record == before:
            return
        self._book.put(record)
        if before is not None and before.debited_us is None and record.debited_us is not None:
            if record.automatic:
                self._policy.debited(record, grants)
            self._notice("info", f"{self._title(record.request)} was signed: {record.why}.", request_id)
        if before is not None and before.state != "paid" and record.state == "paid":
            self._notice("info", f"{self._title(record.request)} was acknowledged.", request_id)
        self._bus.publish(ApprovalChanged(request_id))

    # --- time --------------------------------------------------------------------------------------------------------

    def _watch_time(self) -> None:
        if (self._timer is None or self._timer.done()) and self._book.waiting():
            self._timer = asyncio.create_task(self._expire_in_time(), name="approval time limit")

    async def _expire_in_time(self) -> None:
        """Runs while anything waits."""
        while True:
            waiting = [record.expires_us for record in self._book.waiting()]
            if not waiting:
                return
            pause_us = min(min(waiting) - self._clock.now_us(), ASK_US)
            if pause_us > 0:
                await self._clock.sleep(pause_us / US)
                continue
            try:
                await self._expire()
            except StoreError as error:
                self._notice("error", str(error), "")
                return

    async def _expire(self) -> None:
        now_us = self._clock.now_us()
        late = self._book.waiting(self._late)
        for record in await self._db.write(lambda tx: store.expire(tx, now_us)):
            self._notice("info", f"{self._title(record.request)} was not approved in time.", record.request.request_id)
        for record in late:
            await self._refresh(record.request.request_id)


def _check(request: PaymentRequest) -> None:
    """Raises BadInput for a request that no payment could be made from."""
    if not 0 < request.amount_u <= MAX_AMOUNT_U:
        raise BadInput("A payment request asks for more than nothing.")
    try:
        lengths = [len(bytes.fromhex(text)) for text in (request.receipt_id, request.agreement_id)]
    except ValueError as error:
        raise BadInput("A payment request needs the ids of its receipt and agreement.") from error
    if (
        lengths != [32, 32]
        or request.request_id != request.receipt_id
        or request.receipt_id != request.receipt_id.lower()
    ):
        raise BadInput("A payment request needs the ids of its receipt and agreement.")
