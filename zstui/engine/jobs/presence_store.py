"""SQL of how much of the time peers were online."""

from __future__ import annotations

from zstui.engine.jobs.presence import Presence, Seen
from zstui.engine.store.database import Database, Migration, Tx

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "job_presence",
        1,
        """
        CREATE TABLE job_watch (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), watched_us INTEGER NOT NULL) STRICT;
        CREATE TABLE job_presence (
            peer_id TEXT PRIMARY KEY, first_us INTEGER NOT NULL, online_us INTEGER NOT NULL, last_us INTEGER NOT NULL
        ) STRICT
        """,
    ),
)


async def restore(db: Database, presence: Presence) -> None:
    def read(tx: Tx) -> tuple[int, list[Seen]]:
        watched = tx.execute("SELECT watched_us FROM job_watch").fetchone()
        rows = tx.execute("SELECT peer_id, first_us, online_us, last_us FROM job_presence ORDER BY last_us")
        return watched[0] if watched else 0, [Seen(*row) for row in rows]

    presence.restore(*await db.read(read))


async def save(db: Database, presence: Presence, now: int) -> None:
    """``now``: monotonic µs."""
    watched, changed, gone = presence.unsaved(now)
    if not changed and not gone:
        return

    def write(tx: Tx) -> None:
        tx.execute("INSERT OR REPLACE INTO job_watch VALUES (1, ?)", (watched,))
        tx.executemany(
            "INSERT OR REPLACE INTO job_presence VALUES (?, ?, ?, ?)",
            [(s.peer, s.first_us, s.online_us, s.last_us) for s in changed],
        )
        tx.executemany("DELETE FROM job_presence WHERE peer_id = ?", [(peer,) for peer in gone])

    await db.write(write)
