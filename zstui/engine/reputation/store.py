"""Tables of reputation: one row for each outcome, for each tally, for each block, and the highest time ever seen.

An outcome stands for one finished job of mine, so the table grows as the receipts do and no stranger can fill it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.reputation.score import BLACKLIST_US, Outcome, Tally, blacklist_reason, score
from zstui.engine.store.database import Migration, Tx

RECENT = 20
"""Latest outcomes of a peer that views show."""
MAX_CATEGORIES = 64
"""Categories kept apart for one peer; what comes after counts overall only."""

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "reputation",
        1,
        """
        CREATE TABLE reputation_outcome (
            number INTEGER PRIMARY KEY,
            receipt_id TEXT NOT NULL UNIQUE,
            peer_id TEXT NOT NULL,
            category TEXT NOT NULL,
            success INTEGER NOT NULL,
            duration_us INTEGER NOT NULL,
            cost_u INTEGER NOT NULL,
            at_us INTEGER NOT NULL,
            score REAL NOT NULL
        ) STRICT;
        CREATE INDEX reputation_outcome_by_peer ON reputation_outcome (peer_id, number);
        CREATE TABLE reputation_tally (
            peer_id TEXT NOT NULL,
            category TEXT NOT NULL,
            tasks INTEGER NOT NULL,
            successes INTEGER NOT NULL,
            duration_us INTEGER NOT NULL,
            cost_u INTEGER NOT NULL,
            first_us INTEGER NOT NULL,
            updated_us INTEGER NOT NULL,
            good REAL NOT NULL,
            bad REAL NOT NULL,
            PRIMARY KEY (peer_id, category)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE reputation_block (
            peer_id TEXT PRIMARY KEY,
            until_us INTEGER NOT NULL,
            reason TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE reputation_clock (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            high_water_us INTEGER NOT NULL
        ) STRICT;
        """,
    ),
    Migration(
        "reputation",
        2,
        """
        CREATE TABLE reputation_guild_block (
            guild_id TEXT NOT NULL,
            peer_id TEXT NOT NULL,
            until_us INTEGER NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (guild_id, peer_id)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)

OVERALL = ""
"""Category of the tally over all tasks."""


class Block(msgspec.Struct, frozen=True):
    until_us: int
    reason: str


class Recorded(msgspec.Struct, frozen=True):
    """What an outcome changed."""

    tallies: dict[str, Tally]
    """The changed ones, by category."""
    score: float
    block: Block | None
    """Set if the peer is to be blacklisted for it."""


_COLUMNS = "tasks, successes, duration_us, cost_u, first_us, updated_us, good, bad"


def _tally(tx: Tx, peer: PeerId, category: str) -> Tally | None:
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM reputation_tally WHERE peer_id = ? AND category = ?", (peer, category)
    ).fetchone()
    return None if row is None else Tally(*row)


def record(tx: Tx, outcome: Outcome, now_us: int, now_block_us: int) -> Recorded | None:
    """Count one outcome; None if its receipt was counted before.

    ``now_us`` is the time scores are read at, ``now_block_us`` the wall clock from which a block runs.
    """
    if tx.execute("SELECT 1 FROM reputation_outcome WHERE receipt_id = ?", (outcome.receipt_id,)).fetchone():
        return None
    peer, at_us = outcome.peer_id, min(outcome.at_us, now_us)
    changed: dict[str, Tally] = {}
    for category in dict.fromkeys((OVERALL, outcome.category)):
        before = _tally(tx, peer, category)
        if before is None and category != OVERALL and _categories(tx, peer) >= MAX_CATEGORIES:
            continue
        tally = (before or Tally()).add(outcome.success, outcome.duration_us, outcome.cost_u, at_us)
        tx.execute(
            f"INSERT OR REPLACE INTO reputation_tally (peer_id, category, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (peer, category, *msgspec.structs.astuple(tally)),
        )
        changed[category] = tally
    after = score(changed[OVERALL], now_us)
    tx.execute(
        "INSERT INTO reputation_outcome (receipt_id, peer_id, category, success, duration_us, cost_u, at_us, score)"
        " VALUES (?,?,?,?,?,?,?,?)",
        (
            outcome.receipt_id,
            peer,
            outcome.category,
            int(outcome.success),
            outcome.duration_us,
            outcome.cost_u,
            at_us,
            after,
        ),
    )
    raise_high_water(tx, now_us)
    block = None
    if reason := blacklist_reason(changed[OVERALL]):
        block = Block(now_block_us + BLACKLIST_US, reason)
        standing = tx.execute("SELECT until_us FROM reputation_block WHERE peer_id = ?", (peer,)).fetchone()
        if standing is not None and standing[0] >= block.until_us:
            block = None
        else:
            put_block(tx, peer, block)
    return Recorded(changed, after, block)


def _categories(tx: Tx, peer: PeerId) -> int:
    count: int = tx.execute(
        "SELECT count(*) FROM reputation_tally WHERE peer_id = ? AND category != ''", (peer,)
    ).fetchone()[0]
    return count


def tallies(tx: Tx) -> Iterator[tuple[PeerId, str, Tally]]:
    for peer, category, *row in tx.execute(f"SELECT peer_id, category, {_COLUMNS} FROM reputation_tally"):
        yield peer, category, Tally(*row)


def recent(tx: Tx) -> Iterator[tuple[PeerId, str, float]]:
    """(peer, receipt, score after it) of the latest ``RECENT`` outcomes of every peer, oldest first."""
    yield from tx.execute(
        "SELECT peer_id, receipt_id, score FROM ("
        "  SELECT *, row_number() OVER (PARTITION BY peer_id ORDER BY number DESC) AS back FROM reputation_outcome"
        ") WHERE back <= ? ORDER BY number",
        (RECENT,),
    )


def prune(tx: Tx, before_us: int, limit: int) -> int:
    """Delete the oldest outcomes, at most ``limit``, that are from before a time; how many went. They stay counted."""
    return tx.execute(
        "DELETE FROM reputation_outcome WHERE number IN (SELECT number FROM"
        " (SELECT number, at_us FROM reputation_outcome ORDER BY number LIMIT ?) WHERE at_us < ?)",
        (limit, before_us),
    ).rowcount


def put_block(tx: Tx, peer: PeerId, block: Block) -> None:
    tx.execute("INSERT OR REPLACE INTO reputation_block VALUES (?, ?, ?)", (peer, block.until_us, block.reason))


def drop_block(tx: Tx, peer: PeerId, until_us: int) -> None:
    """Take away the block that ends at ``until_us``; one that took its place stays."""
    tx.execute("DELETE FROM reputation_block WHERE peer_id = ? AND until_us = ?", (peer, until_us))


def blocks(tx: Tx) -> dict[PeerId, Block]:
    return {peer: Block(until, reason) for peer, until, reason in tx.execute("SELECT * FROM reputation_block")}


def put_guild_block(tx: Tx, guild_id: str, peer: PeerId, block: Block, now_us: int) -> None:
    """Those that have ended are forgotten with it."""
    tx.execute("DELETE FROM reputation_guild_block WHERE until_us <= ?", (now_us,))
    tx.execute(
        "INSERT OR REPLACE INTO reputation_guild_block VALUES (?, ?, ?, ?)",
        (guild_id, peer, block.until_us, block.reason),
    )


def drop_guild_blocks(tx: Tx, peer: PeerId) -> None:
    tx.execute("DELETE FROM reputation_guild_block WHERE peer_id = ?", (peer,))


def guild_blocks(tx: Tx) -> dict[tuple[str, PeerId], Block]:
    rows = tx.execute("SELECT guild_id, peer_id, until_us, reason FROM reputation_guild_block")
    return {(guild_id, peer): Block(until, reason) for guild_id, peer, until, reason in rows}


def raise_high_water(tx: Tx, now_us: int) -> None:
    tx.execute(
        "INSERT INTO reputation_clock VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET high_water_us = max(high_water_us, excluded.high_water_us)",
        (now_us,),
    )


def high_water(tx: Tx) -> int:
    row = tx.execute("SELECT high_water_us FROM reputation_clock").fetchone()
    return 0 if row is None else int(row[0])
