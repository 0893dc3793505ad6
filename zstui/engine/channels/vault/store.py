"""SQL of the vault: what I keep for others, which version of mine went out, and what my own deposits say of my channels."""

from __future__ import annotations

import msgspec

from zstui.engine.channels.vault.model import ChannelKept
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx

MAX_KEPT = 512
"""Peers that I keep a deposit for; past that the one refreshed longest ago goes."""

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "vault",
        1,
        """
        CREATE TABLE vault_kept (
            owner TEXT PRIMARY KEY,
            version INTEGER NOT NULL,
            box BLOB NOT NULL,
            at_us INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX vault_kept_at ON vault_kept (at_us);
        CREATE TABLE vault_own (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL) STRICT;
        CREATE TABLE vault_mark (channel BLOB PRIMARY KEY, kept BLOB NOT NULL) STRICT, WITHOUT ROWID
        """,
    ),
)


def keep(tx: Tx, owner: PeerId, version: int, box: bytes, at_us: int) -> tuple[int, bool]:
    """Keep a newer version; returns the version that is held afterwards, and whether it is this one."""
    held, same = kept(tx, owner)
    if version <= held:
        return held, (version, box) == (held, same)
    tx.execute("INSERT OR REPLACE INTO vault_kept VALUES (?, ?, ?, ?)", (owner, version, box, at_us))
    tx.execute(
        "DELETE FROM vault_kept WHERE owner IN (SELECT owner FROM vault_kept ORDER BY at_us DESC LIMIT -1 OFFSET ?)",
        (MAX_KEPT,),
    )
    return version, True


def kept_version(tx: Tx, owner: PeerId) -> int:
    row = tx.execute("SELECT version FROM vault_kept WHERE owner = ?", (owner,)).fetchone()
    return int(row[0]) if row else 0


def kept(tx: Tx, owner: PeerId) -> tuple[int, bytes]:
    """(version, box), or (0, b"")."""
    row = tx.execute("SELECT version, box FROM vault_kept WHERE owner = ?", (owner,)).fetchone()
    return (int(row[0]), row[1]) if row else (0, b"")


def own_version(tx: Tx) -> int:
    """The latest version of mine that I know of."""
    row = tx.execute("SELECT version FROM vault_own").fetchone()
    return int(row[0]) if row else 0


def raise_own(tx: Tx, version: int) -> None:
    tx.execute(
        "INSERT INTO vault_own VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET version = max(version, excluded.version)",
        (version,),
    )


def mark(tx: Tx, channel: bytes) -> ChannelKept | None:
    """The latest that a deposit of mine said of a channel, if it was read back."""
    row = tx.execute("SELECT kept FROM vault_mark WHERE channel = ?", (channel,)).fetchone()
    return msgspec.msgpack.decode(row[0], type=ChannelKept) if row else None


def put_mark(tx: Tx, channel: bytes, kept: ChannelKept) -> None:
    tx.execute("INSERT OR REPLACE INTO vault_mark VALUES (?, ?)", (channel, msgspec.msgpack.encode(kept)))


def drop_mark(tx: Tx, channel: bytes) -> None:
    tx.execute("DELETE FROM vault_mark WHERE channel = ?", (channel,))
