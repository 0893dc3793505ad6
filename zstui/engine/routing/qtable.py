"""Q-routing: how long a thing takes to get somewhere through each neighbour, learned from how long it took. Pure.

Boyan and Littman 1994, "Packet Routing in Dynamically Changing Networks: A Reinforcement Learning Approach". What was
never tried counts as immediate, and what was learned long ago fades towards that: so a neighbour that is new, or was slow
once, is tried again, and no other exploration is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

RATE = 0.5
"""The paper's eta: how far one observation moves an estimate."""


class Estimate(msgspec.Struct, frozen=True):
    """``q`` in the caller's unit of time, as it was at ``at``, the time of the latest of ``samples`` observations."""

    q: float
    samples: int
    at: int


class QTable:
    """Estimates Q(destination, neighbour) of one node, bounded in both.

    Times of observations never need to be ordered: an older one counts as one of the same moment.
    """

    def __init__(
        self,
        *,
        rate: float = RATE,
        half_life: int = 0,
        max_destinations: int = 256,
        max_neighbours: int = 64,
    ) -> None:
        """``half_life``: the time in which an estimate that is not confirmed falls by half; 0: never.

        ``max_neighbours`` for one destination. What was heard of least lately makes room.
        """
        if not (0 < rate <= 1 and half_life >= 0 and max_destinations > 0 and max_neighbours > 0):
            raise ValueError("A rate is in (0, 1]; bounds are positive.")
        self._rate = rate
        self._half_life = half_life
        self._max_destinations = max_destinations
        self._max_neighbours = max_neighbours
        self._rows: dict[str, dict[str, Estimate]] = {}
        """Both levels in the order of their latest change, oldest first."""

    def update(self, destination: str, neighbour: str, *, q: float, s: float, t: float = 0.0, at: int = 0) -> Estimate:
        """``Q += eta * (q + s + t - Q)``: it waited for ``q``, was under way for ``s``, and the neighbour still expects ``t``.

        The first observation is taken as it is.
        """
        row = self._rows.pop(destination, {})
        before = row.pop(neighbour, None)
        if not row and len(self._rows) >= self._max_destinations:
            del self._rows[next(iter(self._rows))]
        if len(row) >= self._max_neighbours:
            del row[next(iter(row))]
        if before is None:
            after = Estimate(q + s + t, 1, at)
        else:
            at = max(at, before.at)
            faded = before.q * self._left(at - before.at)
            after = Estimate(faded + self._rate * (q + s + t - faded), before.samples + 1, at)
        row[neighbour] = after
        self._rows[destination] = row
        return after

    def start_at(self, destination: str, neighbour: str, estimate: Estimate) -> None:
        """Take an estimate as it is, for example one that was stored, as the latest change."""
        self.update(destination, neighbour, q=0.0, s=0.0, at=estimate.at)
        self._rows[destination][neighbour] = estimate

    def get(self, destination: str, neighbour: str) -> Estimate | None:
        return self._rows.get(destination, {}).get(neighbour)

    def neighbours(self, destination: str) -> tuple[str, ...]:
        """Through which it was tried, the latest last."""
        return tuple(self._rows.get(destination, ()))

    def destinations(self) -> list[str]:
        """The latest changed last."""
        return list(self._rows)

    def expected(self, destination: str, neighbour: str, now: int = 0) -> float:
        """The estimate as it has faded; 0 for what was never tried."""
        known = self._rows.get(destination, {}).get(neighbour)
        return 0.0 if known is None else known.q * self._left(now - known.at)

    def best_via(self, destination: str, neighbours: Iterable[str], now: int = 0) -> str | None:
        """The neighbour with the least expected time, the first of equals; None of none."""
        return min(neighbours, key=lambda neighbour: self.expected(destination, neighbour, now), default=None)

    def remaining(self, destination: str, neighbours: Iterable[str], now: int = 0) -> float:
        """This node's own best estimate: the ``t`` that it tells whoever hands something to it."""
        return min((self.expected(destination, neighbour, now) for neighbour in neighbours), default=0.0)

    def forget(self, neighbour: str) -> None:
        """It is gone for good."""
        for destination in [d for d, row in self._rows.items() if row.pop(neighbour, None) is not None and not row]:
            del self._rows[destination]

    def items(self) -> Iterator[tuple[str, str, Estimate]]:
        return ((d, n, estimate) for d, row in self._rows.items() for n, estimate in row.items())

    def __len__(self) -> int:
        return sum(len(row) for row in self._rows.values())

    def _left(self, age: int) -> float:
        return 1.0 if age <= 0 or not self._half_life else 0.5 ** (age / self._half_life)
