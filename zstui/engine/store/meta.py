"""How often a node started on this database, and the few settings that are changed from inside the program."""

from __future__ import annotations

from zstui.engine.store.database import Migration, Tx

SCHEMA = (
    Migration(
        "meta",
        1,
        """
        CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
        CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
        """,
    ),
)


def boots(tx: Tx) -> int:
    """Starts counted in this database."""
    row = tx.execute("SELECT value FROM meta WHERE name = 'boots'").fetchone()
    return int(row[0]) if row else 0


def set_boots(tx: Tx, count: int) -> None:
    tx.execute("INSERT INTO meta VALUES ('boots', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (count,))


def restored_us(tx: Tx) -> int:
    """When this database was first found to be older than the node's last start, or to be new beside an old key; 0: never."""
    row = tx.execute("SELECT value FROM meta WHERE name = 'restored_us'").fetchone()
    return int(row[0]) if row else 0


def set_restored_us(tx: Tx, at_us: int) -> None:
    tx.execute(
        "INSERT INTO meta VALUES ('restored_us', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (at_us,)
    )


def backed_up_us(tx: Tx) -> int:
    """When the latest backup of this database was taken; 0: never, as far as it knows."""
    row = tx.execute("SELECT value FROM meta WHERE name = 'backed_up_us'").fetchone()
    return int(row[0]) if row else 0


def set_backed_up_us(tx: Tx, at_us: int) -> None:
    tx.execute(
        "INSERT INTO meta VALUES ('backed_up_us', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (at_us,)
    )


def name(tx: Tx) -> str:
    """The node's own name as its owner set it, or ""."""
    row = tx.execute("SELECT value FROM setting WHERE name = 'name'").fetchone()
    return str(row[0]) if row else ""


def set_name(tx: Tx, value: str) -> None:
    tx.execute(
        "INSERT INTO setting VALUES ('name', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (value,)
    )
