"""The grants and limits in force, kept in memory as the tables have them, and how much of each grant is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from zstui.engine.channels.approvals import grant_store, store
from zstui.engine.channels.approvals.model import DAY_US, Grant, GrantKey, PaymentRequest, Scope, scope_subject
from zstui.engine.channels.approvals.present import grant_view
from zstui.engine.channels.approvals.store import Record
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import BadInput
from zstui.engine.money import MAX_AMOUNT_U
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import PolicyView

LIMITS = ("typed_above_u", "credit_member_u", "credit_stranger_u")
SCOPES: tuple[Scope, ...] = ("node", "guild", "peer", "job")
MAX_GRANT_S = 10 * 365 * 86_400


class SpendingPolicy:
    """Memory is for showing and for a first answer; a payment is held against the tables themselves when it is committed."""

    def __init__(self, db: Database, clock: Clock, settings: Settings) -> None:
        self._db = db
        self._clock = clock
        self._grants: dict[GrantKey, Grant] = {}
        self._debits: deque[Record] = deque()
        """Automatic payments of the last 24 hours, oldest first."""
        self.limits: dict[str, int] = {name: getattr(settings, name) for name in LIMITS}
        """By name, µ. What was never set is as the settings have it."""

    async def load(self) -> None:
        now_us = self._clock.now_us()
        grants, limits, debits = await self._db.read(
            lambda tx: (grant_store.grants(tx), grant_store.limits(tx), store.debits(tx, now_us))
        )
        self._take(grants, limits)
        self._debits = deque(debits)

    def _take(self, grants: Sequence[Grant], limits: dict[str, int]) -> None:
        self._grants = {grant.key: grant for grant in grants}
        self.limits |= {name: value for name, value in limits.items() if name in LIMITS}

    def debited(self, record: Record, grants: Sequence[Grant]) -> None:
        """A payment was committed, which left the grants so."""
        if record.automatic:
            self._debits.append(record)
        self._grants = {grant.key: grant for grant in grants}

    def covering(self, request: PaymentRequest) -> tuple[list[Grant], dict[GrantKey, int]]:
        """Grants in whose scope the request is, and what each paid in the last 24 hours."""
        keys = [(scope, scope_subject(scope, request)) for scope in SCOPES]
        grants = [self._grants[key] for key in keys if key in self._grants]
        return grants, self._spent(grants)

    def _spent(self, grants: Sequence[Grant]) -> dict[GrantKey, int]:
        since_us = self._clock.now_us() - DAY_US
        while self._debits and (self._debits[0].debited_us or 0) <= since_us:
            self._debits.popleft()
        return {g.key: sum(d.request.amount_u for d in self._debits if g.covers(d.request)) for g in grants}

    def view(self) -> PolicyView:
        live = self.live()
        spent = self._spent(live)
        return PolicyView(grants=tuple(grant_view(g, spent[g.key]) for g in live), **self.limits)

    def live(self) -> list[Grant]:
        now_us = self._clock.now_us()
        return sorted((g for g in self._grants.values() if g.live(now_us)), key=lambda g: g.key)

    def checked(self, scope: Scope, subject: str, limits: tuple[int, int, int], expires_s: int | None) -> Grant:
        """A grant as a person asks for it. ``limits``: for one payment, for 24 hours, in total. Raises BadInput."""
        if scope not in SCOPES or (scope == "node") != (subject == ""):
            raise BadInput("A grant for the node has no subject; one for a guild, peer or job names it.")
        if any(not 0 <= limit <= MAX_AMOUNT_U for limit in limits):
            raise BadInput("A limit is out of range.")
        if any(limits) and not all(limits):
            raise BadInput("A grant needs all three limits: for one payment, for 24 hours and in total.")
        if expires_s is not None and not 0 < expires_s <= MAX_GRANT_S:
            raise BadInput("A grant ends after more than 0 seconds and within ten years.")
        per_payment_u, per_day_u, total_u = limits
        return Grant(
            scope=scope,
            subject=subject,
            per_payment_u=per_payment_u,
            per_day_u=per_day_u,
            total_u=total_u,
            expires_us=None if expires_s is None else self._clock.now_us() + expires_s * US,
        )

    async def set_grant(self, grant: Grant) -> None:
        """With all-zero limits: take it away. Raises BadInput, StoreError."""
        now_us = self._clock.now_us()
        if grant.total_u:
            await self._write(lambda tx: grant_store.put_grant(tx, grant, now_us))
        else:
            await self._write(lambda tx: grant_store.drop_grant(tx, grant.key))

    async def set_limits(self, values: tuple[int | None, int | None, int | None]) -> None:
        """In the order of ``LIMITS``; None leaves one as it is. Raises BadInput, StoreError."""
        changes = {name: value for name, value in zip(LIMITS, values, strict=True) if value is not None}
        if any(not 0 <= value <= MAX_AMOUNT_U for value in changes.values()):
            raise BadInput("A limit is out of range.")

        def write(tx: Tx) -> None:
            for name, value in changes.items():
                grant_store.put_limit(tx, name, value)

        await self._write(write)

    async def _write(self, change: Callable[[Tx], None]) -> None:
        def operation(tx: Tx) -> tuple[list[Grant], dict[str, int]]:
            change(tx)
            return grant_store.grants(tx), grant_store.limits(tx)

        self._take(*await self._db.write(operation))
