"""Known peers on disk: every statement that touches ``net_peers``."""

from __future__ import annotations

from collections.abc import Iterable

from zstui.engine.identity.keys import PeerId
from zstui.engine.net.peers import PeerRecord
from zstui.engine.store.database import Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "net",
        1,
        """
        CREATE TABLE net_peers (
            peer_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            address TEXT NOT NULL,
            first_seen_us INTEGER NOT NULL,
            last_seen_us INTEGER NOT NULL,
            agent TEXT NOT NULL,
            card BLOB
        ) STRICT
        """,
    ),
)


def load(tx: Tx, limit: int) -> list[PeerRecord]:
    """The ``limit`` most recently seen peers, with those I named first."""
    rows = tx.execute(
        "SELECT peer_id, name, address, first_seen_us, last_seen_us, agent, card FROM net_peers"
        " ORDER BY name = '', last_seen_us DESC LIMIT ?",
        (limit,),
    )
    return [PeerRecord(*row) for row in rows]


def save(tx: Tx, records: Iterable[PeerRecord]) -> None:
    tx.executemany(
        "INSERT INTO net_peers (peer_id, name, address, first_seen_us, last_seen_us, agent, card)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (peer_id) DO UPDATE SET name = excluded.name,"
        " address = excluded.address, last_seen_us = excluded.last_seen_us, agent = excluded.agent, card = excluded.card",
        [(r.peer_id, r.name, r.address, r.first_seen_us, r.last_seen_us, r.agent, r.card) for r in records],
    )


def delete(tx: Tx, peers: Iterable[PeerId]) -> None:
    tx.executemany("DELETE FROM net_peers WHERE peer_id = ?", [(p,) for p in peers])
