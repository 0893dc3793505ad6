"""The routing table on disk: every statement that touches ``dht_contacts``."""

from __future__ import annotations

from collections.abc import Iterable

from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration("dht", 1, "CREATE TABLE dht_contacts (peer_id TEXT PRIMARY KEY, addresses TEXT NOT NULL) STRICT"),
)


def load(tx: Tx) -> list[tuple[PeerId, list[str]]]:
    """Peers and their multiaddrs."""
    return [(peer, addresses.split()) for peer, addresses in tx.execute("SELECT peer_id, addresses FROM dht_contacts")]


def replace(tx: Tx, contacts: Iterable[tuple[PeerId, list[str]]]) -> None:
    tx.execute("DELETE FROM dht_contacts")
    tx.executemany("INSERT INTO dht_contacts VALUES (?, ?)", [(peer, " ".join(a)) for peer, a in contacts])
