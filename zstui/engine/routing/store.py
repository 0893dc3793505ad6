"""The table of what routing has learned. It is saved whole: it is small, and losing its last minute costs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zstui.engine.routing.qtable import Estimate
from zstui.engine.store.database import Migration, Tx

SCHEMA = (
    Migration(
        "routing",
        1,
        """
        CREATE TABLE routing_estimate (
            destination TEXT NOT NULL,
            neighbour TEXT NOT NULL,
            q_us REAL NOT NULL,
            samples INTEGER NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (destination, neighbour)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)


def load(tx: Tx) -> Iterator[tuple[str, str, Estimate]]:
    """Oldest first."""
    rows = tx.execute("SELECT destination, neighbour, q_us, samples, at_us FROM routing_estimate ORDER BY at_us")
    return ((destination, neighbour, Estimate(q, samples, at)) for destination, neighbour, q, samples, at in rows)


def save(tx: Tx, estimates: Iterable[tuple[str, str, Estimate]]) -> None:
    tx.execute("DELETE FROM routing_estimate")
    tx.executemany(
        "INSERT INTO routing_estimate VALUES (?, ?, ?, ?, ?)", ((d, n, e.q, e.samples, e.at) for d, n, e in estimates)
    )
