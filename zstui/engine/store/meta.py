"""Facts about the database itself: how often a node started on it."""

from __future__ import annotations

from zstui.engine.store.database import Migration, Tx

SCHEMA = (Migration("meta", 1, "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"),)


def boots(tx: Tx) -> int:
    """Starts counted in this database."""
    row = tx.execute("SELECT value FROM meta WHERE name = 'boots'").fetchone()
    return int(row[0]) if row else 0


def set_boots(tx: Tx, count: int) -> None:
    tx.execute("INSERT INTO meta VALUES ('boots', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (count,))
