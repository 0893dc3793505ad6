"""Payments that wait for a person, and the few that a person allowed beforehand.

A request is paid at most once: it turns from waiting to paying in the transaction that commits the signed payment, so that
of two attempts one finds it gone, and a crash leaves either both or neither. What is declined, late or failed stays owed and
can be asked again. Nothing is ever paid because time passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals import journal, store
from zstui.engine.channels.approvals.desk import Committed, Desk
from zstui.engine.channels.approvals.journal import LoggedDecision
from zstui.engine.channels.approvals.model import (
    DAY_US,
    JOB_GRANT_US,
    LINE_KINDS,
    Decision,
    Grant,
    PaymentRequest,
    PeerContext,
    Scope,
    typed_for,
)
from zstui.engine.channels.approvals.policy import SpendingPolicy
from zstui.engine.channels.approvals.rehearsal import Rehearsal, rehearse
from zstui.engine.channels.approvals.store import Signing
from zstui.engine.channels.messages import PayLine
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import ApprovalError, BadInput, StoreError, ZsError
from zstui.engine.events import ApprovalAsked, ApprovalChanged
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import MAX_AMOUNT_U, format_amount
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import ApprovalState, ApprovalView, Funds, PolicyView

__all__ = ["ApprovalService", "LoggedDecision", "PaymentRequest", "PeerContext"]

MAX_REHEARSED_DAYS = 366


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

    ``channel`` gives the open channel with a peer, ``due`` the amount that the cost rule leaves to pay of a request,
    ``context`` what else is known about its payee.
    """

    def __init__(
        self,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        channel: Callable[[PeerId], Funds | None],
        pay: Pay,
        context: Callable[[PaymentRequest], PeerContext],
        due: Callable[[PaymentRequest], int],
        settings: Settings,
        signed: Callable[[Tx, bytes], int] = lambda tx, agreement: 0,
    ) -> None:
        """``signed`` tells what the channels' own books say was ever signed under an agreement."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._channel = channel
        self._pay = pay
        self._signed = signed
        self._policy = SpendingPolicy(db, clock, settings)
        self._desk = Desk(db, bus, clock, self._policy, channel=channel, context=context, due=due)

    async def start(self) -> None:
        """Load everything. What was being paid stays so until the payee acknowledges it; what is late expires."""
        await self._desk.start()

    async def stop(self) -> None:
        """Idempotent. Payments under way are the channel's to finish."""
        await self._desk.stop()

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def bill(self, request: PaymentRequest) -> ApprovalView | None:
        """Keep a request, and pay it at once if a grant covers it. A known id changes nothing.

        ``amount_u`` is all that is due under its agreement; what was paid before comes off, and earlier requests that it
        includes end; so they do for a job that came to cost nothing. None where nothing is left to pay.

        Raises BadInput, StoreError.
        """
        _check(request)
        return await asyncio.shield(self._bill(request))

    async def _bill(self, request: PaymentRequest) -> ApprovalView | None:
        desk, request_id, now_us = self._desk, request.request_id, self._clock.now_us()

        def keep(tx: Tx) -> tuple[store.Added, Committed]:
            signed_u = self._signed(tx, bytes.fromhex(request.agreement_id))
            return store.insert(tx, request, now_us, signed_u), desk.read(tx, request_id)

        added, committed = await self._db.write(keep)
        for old in added.gone:
            await desk.refresh(old)
        if added.request is None:
            return None
        desk.take(request_id, committed)
        if not added.fresh:
            return self.view(request_id)
        request = added.request
        desk.watch_time()
        decision = desk.decide(desk.book.get(request_id))
        if decision.action == "auto":
            try:
                await self._sign(request_id, automatic=True, why=f"paid {decision.why}")
            except StoreError:
                raise
            except ZsError as error:
                await desk.refresh(request_id)
                if desk.book.get(request_id).state != "waiting":
                    return self.view(request_id)
                desk.notice("warning", f"{desk.title(request)} was not paid automatically: {error}", request_id)
                decision = desk.decide(desk.book.get(request_id))
                if decision.action == "auto":
                    decision = Decision("ask", "failed", "paying automatically failed")
            else:
                return self.view(request_id)
        await self._db.write(lambda tx: journal.log(tx, request, decision.action, decision.rule, decision.why, now_us))
        if decision.action == "block":
            desk.notice("warning", f"{desk.title(request)} cannot be paid: {decision.why}.", request_id)
        else:
            desk.notice("info", f"{desk.title(request)} waits for you: {decision.why}.", request_id)
        self._bus.publish(ApprovalAsked(request_id))
        return self.view(request_id)

    async def pay(
        self, request_id: str, amount_u: int | None, typed: bool, job_up_to_u: int | None = None
    ) -> ApprovalView:
        """Sign one payment, on a person's word for exactly ``amount_u`` (None: whatever is asked).

        ``job_up_to_u``: and let what else this job asks for be paid without asking, up to so much in all with this one.

        Returns once the payee acknowledged it, or with state "paying" if it is away: the payment is then sent again until
        it does. Raises ApprovalError if it is late, already decided, blocked, of another amount, or to be typed and was not;
        or what the channel raised: the request has then failed and is still owed.
        """
        return await asyncio.shield(self._pay_by_hand(request_id, amount_u, typed, job_up_to_u))

    async def _pay_by_hand(
        self, request_id: str, amount_u: int | None, typed: bool, job_up_to_u: int | None
    ) -> ApprovalView:
        desk = self._desk
        record, now_us = desk.book.get(request_id), self._clock.now_us()
        if record.state == "waiting" and now_us >= record.expires_us:
            await desk.expire()
            record = desk.book.get(request_id)
        store.require_waiting(record, now_us)
        request = record.request
        decision = desk.decide(record)
        if decision.action == "block":
            raise ApprovalError(f"This payment is blocked: {decision.why}.")
        if amount_u is not None and amount_u != request.amount_u:
            raise ApprovalError(
                f"This payment asks for {format_amount(request.amount_u)}, not {format_amount(amount_u)}; nothing was paid."
            )
        if decision.urgency == "typed" and not typed:
            raise ApprovalError(f"Type the amount {format_amount(request.amount_u)} to pay: {decision.why}.")
        grant = None if job_up_to_u is None else self._job_grant(request, job_up_to_u, typed)
        try:
            await self._sign(request_id, automatic=False, why="approved by you", grant=grant)
        except StoreError:
            raise
        except ZsError as error:
            await self._fail(request, str(error))
            raise
        return self.view(request_id)

    def _job_grant(self, request: PaymentRequest, up_to_u: int, typed: bool) -> Grant:
        """Leave for the rest of one job, finite in amount and time. Raises ApprovalError, BadInput."""
        if request.kind != "note":
            raise ApprovalError("This job has ended and asks for nothing more; approve the payment alone.")
        spent_u = request.paid_before_u + request.amount_u
        if not spent_u < up_to_u <= request.max_cost_u:
            raise ApprovalError(
                f"This job can be allowed more than {format_amount(spent_u)} and at most {format_amount(request.max_cost_u)}."
            )
        channel = self._channel(request.peer_id)
        why = typed_for(up_to_u - request.paid_before_u, channel, self._policy.limits["typed_above_u"])
        if why and not typed:
            raise ApprovalError(f"Type the amount to allow this job {format_amount(up_to_u)}: {why}.")
        rest_u = up_to_u - spent_u
        return self._policy.checked(
            "job", request.submitted_as, (rest_u, request.max_cost_u, rest_u), JOB_GRANT_US // US
        )

    async def _sign(self, request_id: str, *, automatic: bool, why: str, grant: Grant | None = None) -> None:
        """Commit one payment. What it raises means that nothing was committed."""
        request = self._desk.book.get(request_id).request
        channel = self._channel(request.peer_id)
        if channel is None:
            raise ApprovalError("No channel is open with this peer.")
        signing = Signing(
            automatic=automatic,
            why=why,
            now_us=self._clock.now_us(),
            channel_id=channel.channel_id,
            sequence=channel.sequence + 1,
            before_u=channel.mine_u,
            peer_before_u=channel.theirs_u,
            grant=grant,
        )
        line = PayLine(
            amount_u=request.amount_u,
            agreement=bytes.fromhex(request.agreement_id),
            kind=LINE_KINDS[request.kind],
            no=request.no,
            ref=bytes.fromhex(request.receipt_id),
        )

        def also(tx: Tx) -> None:
            store.begin(tx, request_id, signing)
            self._desk.refresh_soon(request_id)

        sent = await self._pay(channel.channel_id, line, also=also)
        if sent.sequence != signing.sequence:
            await self._db.write(lambda tx: store.set_sequence(tx, request_id, sent.sequence))
        await self._desk.refresh(request_id)

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
            self._desk.notice(
                "warning", f"{self._desk.title(request)} failed and is still owed: {why}", request.request_id
            )
        await self._desk.refresh(request.request_id)

    async def reject(self, request_id: str) -> ApprovalView:
        """Decline; it stays owed. Raises ApprovalError if it is being paid or was."""
        return await asyncio.shield(
            self._move(request_id, "declined", "declined by you", "waiting", "expired", "failed", "declined")
        )

    async def reopen(self, request_id: str) -> ApprovalView:
        """Ask again, with a new time limit. Never pays by itself. Raises ApprovalError if it is not owed or waits already."""
        if self._desk.late(self._desk.book.get(request_id)):
            await self._desk.expire()
        return await asyncio.shield(self._move(request_id, "waiting", "", "declined", "expired", "failed"))

    async def _move(self, request_id: str, state: ApprovalState, why: str, *sources: ApprovalState) -> ApprovalView:
        request, now_us = self._desk.book.get(request_id).request, self._clock.now_us()
        await self._db.write(lambda tx: store.move(tx, request_id, state, why, now_us, *sources, rule="person"))
        await self._desk.refresh(request_id)
        self._desk.watch_time()
        did = "was declined and is still owed" if state == "declined" else "is asked again"
        self._desk.notice("info", f"{self._desk.title(request)} {did}.", request_id)
        return self.view(request_id)

    def acknowledged(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """The payee holds my payment: mark what it pays as paid, in the channel's transaction. Other lines are ignored."""
        if store.settle(tx, peer, line, self._clock.now_us()):
            self._desk.refresh_soon(line.ref.hex())

    def undone(self, tx: Tx, peer: PeerId, line: PayLine) -> None:
        """A payment that I signed counts for nothing after all: it is owed again. In the channel's transaction."""
        if store.undo(tx, peer, line, self._clock.now_us()):
            self._desk.refresh_soon(line.ref.hex())

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
        grant = self._policy.checked(scope, subject, (per_payment_u, per_day_u, total_u), expires_s)
        await asyncio.shield(self._policy.set_grant(grant))
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
        self._desk.notice("info", said, "")
        for record in self._desk.book.waiting():
            self._bus.publish(ApprovalChanged(record.request.request_id))
        return self.policy()

    def credit_limit(self, is_member: bool) -> int:
        """µ that a peer may owe me: a member of a guild we share, or a stranger."""
        return self._policy.limits["credit_member_u" if is_member else "credit_stranger_u"]

    # --- reads -------------------------------------------------------------------------------------------------------

    def views(self) -> list[ApprovalView]:
        """Every request that is not paid, oldest first, as things stand now."""
        return [self._desk.view(record) for record in self._desk.book.owed.values()]

    def view(self, request_id: str) -> ApprovalView:
        """One request, also one paid lately. Raises ApprovalError."""
        return self._desk.view(self._desk.book.get(request_id))

    def state(self, request_id: str) -> ApprovalState | None:
        """How one request stands; None where it is not known, or was paid long ago."""
        record = self._desk.book.find(request_id)
        if record is None:
            return None
        return "expired" if self._desk.late(record) else record.state

    def waiting(self) -> int:
        """How many wait for a person."""
        return len(self._desk.book.waiting(lambda record: not self._desk.late(record)))

    def resolve(self, text: str) -> str:
        """A request id from an unambiguous prefix of at least four digits. Raises ApprovalError."""
        return self._desk.book.resolve(text)

    async def decisions(self, limit: int = 100) -> list[LoggedDecision]:
        """The latest decisions and the rule behind each, newest first."""
        return await self._db.read(lambda tx: journal.decisions(tx, limit))

    async def rehearse(
        self,
        scope: Scope,
        subject: str,
        limits: tuple[int, int, int],
        expires_s: int | None,
        days: int,
    ) -> Rehearsal:
        """What the policy, with this one grant set (or taken away by all-zero limits), would have done with the payments of
        the last ``days``. Changes nothing. Raises BadInput."""
        if not 1 <= days <= MAX_REHEARSED_DAYS:
            raise BadInput(f"A rehearsal looks at the last 1 to {MAX_REHEARSED_DAYS} days.")
        grant = self._policy.checked(scope, subject, limits, expires_s)
        grants = [msgspec.structs.replace(g, spent_total_u=0) for g in self._policy.live() if g.key != grant.key]
        since_us = self._clock.now_us() - days * DAY_US
        past = await self._db.read(lambda tx: journal.history(tx, since_us))
        return rehearse(past, [*grants, *([grant] if grant.total_u else [])], days)


def _check(request: PaymentRequest) -> None:
    """Raises BadInput for a request that no payment could be made from."""
    if not 0 <= request.amount_u <= MAX_AMOUNT_U:
        raise BadInput("A payment request asks for an amount that is out of range.")
    try:
        lengths = [len(bytes.fromhex(text)) for text in (request.receipt_id, request.agreement_id)]
    except ValueError as error:
        raise BadInput("A payment request needs the ids of its receipt and agreement.") from error
    if (
        lengths != [32, 32]
        or request.request_id != request.receipt_id
        or request.receipt_id != request.receipt_id.lower()
        or (request.kind == "note") != (request.no > 0)
    ):
        raise BadInput("A payment request needs the ids of its receipt and agreement.")
