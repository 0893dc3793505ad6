"""What another spending policy would have done with the payments of the past. Pure.

Each payment that was asked for is held against the grants in the order of asking, with what they would have spent by then over
any 24 hours and in total. What was blocked in truth stays blocked: no policy pays what does not verify.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from zstui.engine.channels.approvals.journal import Past
from zstui.engine.channels.approvals.model import DAY_US, Grant, GrantKey, grants_refuse, inside
from zstui.engine.views import RehearsedAction, RehearsedCount

EXAMPLES = 5
"""Payments shown of each action."""


class Rehearsed(msgspec.Struct, frozen=True):
    past: Past
    action: RehearsedAction
    rule: str
    why: str


class Rehearsal(msgspec.Struct, frozen=True):
    days: int
    payments: tuple[Rehearsed, ...]
    """Oldest first."""
    grants: tuple[tuple[Grant, int], ...]
    """With what each would have spent in all, and in the last 24 hours up to the latest payment."""

    def count(self, action: RehearsedAction, test: Callable[[Past], bool] = lambda _: True) -> RehearsedCount:
        amounts = [r.past.request.amount_u for r in self.payments if r.action == action and test(r.past)]
        return RehearsedCount(number=len(amounts), amount_u=sum(amounts))

    def truly_automatic(self) -> RehearsedCount:
        """What was paid without a keypress in truth."""
        amounts = [r.past.request.amount_u for r in self.payments if r.past.automatic]
        return RehearsedCount(number=len(amounts), amount_u=sum(amounts))

    def examples(self) -> tuple[Rehearsed, ...]:
        """The first few of each action, oldest first."""
        shown: dict[RehearsedAction, int] = {"auto": 0, "ask": 0, "block": 0}
        found = []
        for r in self.payments:
            shown[r.action] += 1
            if shown[r.action] <= EXAMPLES:
                found.append(r)
        return tuple(found)


def rehearse(past: Sequence[Past], grants: Sequence[Grant], days: int) -> Rehearsal:
    """``past`` oldest first; ``grants`` with nothing spent yet. A grant's end is left aside: it lies in the future."""
    held: dict[GrantKey, Grant] = {g.key: msgspec.structs.replace(g, expires_us=None) for g in grants}
    day: dict[GrantKey, deque[tuple[int, int]]] = {key: deque() for key in held}
    done = [_one(p, held, day) for p in past]
    last_us = past[-1].request.created_us if past else 0
    return Rehearsal(days, tuple(done), tuple((g, _spent(day[g.key], last_us)) for g in held.values()))


def _one(past: Past, held: dict[GrantKey, Grant], day: dict[GrantKey, deque[tuple[int, int]]]) -> Rehearsed:
    request, now_us = past.request, past.request.created_us
    if past.blocked is not None:
        return Rehearsed(past, "block", *past.blocked)
    covering = [g for g in held.values() if g.covers(request)]
    spent = {g.key: _spent(day[g.key], now_us) for g in covering}
    refusal = grants_refuse(request, covering, spent, now_us)
    if refusal is not None:
        return Rehearsed(past, "ask", *refusal)
    for g in covering:
        held[g.key] = msgspec.structs.replace(g, spent_total_u=g.spent_total_u + request.amount_u)
        day[g.key].append((now_us, request.amount_u))
    return Rehearsed(past, "auto", "grant", inside(request, covering, now_us))


def _spent(debits: deque[tuple[int, int]], now_us: int) -> int:
    """Sum over the last 24 hours; what is older is dropped."""
    while debits and debits[0][0] <= now_us - DAY_US:
        debits.popleft()
    return sum(amount_u for _, amount_u in debits)
