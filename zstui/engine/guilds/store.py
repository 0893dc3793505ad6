"""SQL of the guilds."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx

MAX_MESSAGES = 1_000
"""Kept of one guild, chat and system lines together."""

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "guilds",
        1,
        """
        CREATE TABLE guild (
            guild_id BLOB PRIMARY KEY,
            charter BLOB NOT NULL,
            state TEXT NOT NULL,
            role TEXT NOT NULL,
            box_secret BLOB,
            grants BLOB NOT NULL,
            counter INTEGER NOT NULL DEFAULT 0,
            read_number INTEGER NOT NULL DEFAULT 0,
            entered_us INTEGER NOT NULL,
            ended_us INTEGER,
            pending_leave BLOB
        ) STRICT;
        CREATE TABLE guild_entry (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            version INTEGER NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (guild_id, version)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE guild_message (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            sender TEXT NOT NULL,
            text TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            counter INTEGER,
            version INTEGER,
            raw BLOB
        ) STRICT;
        CREATE INDEX guild_message_of ON guild_message (guild_id, number);
        CREATE TABLE guild_floor (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            author TEXT NOT NULL,
            since INTEGER NOT NULL,
            floor INTEGER NOT NULL,
            PRIMARY KEY (guild_id, author, since)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)


class GuildRow(msgspec.Struct, frozen=True):
    guild_id: bytes
    charter: bytes
    state: str
    role: str
    box_secret: bytes | None
    grants: bytes
    counter: int
    read_number: int
    entered_us: int
    ended_us: int | None
    pending_leave: bytes | None


class NewMessage(msgspec.Struct, frozen=True):
    """A line to store; ``raw`` is the signed line, None for a system line."""

    sender: PeerId
    text: str
    at_us: int
    counter: int | None = None
    version: int | None = None
    raw: bytes | None = None


class MessageRow(msgspec.Struct, frozen=True):
    number: int
    sender: PeerId
    text: str
    at_us: int
    system: bool


class History(msgspec.Struct, frozen=True):
    """What a guild's memory is rebuilt from."""

    entries: list[bytes]
    floors: list[tuple[PeerId, int, int]]
    """Author, first version of the membership, floor."""
    lines: list[tuple[PeerId, int, int]]
    """Author, log version and counter of every stored chat line, oldest first."""
    unread: int


_COLUMNS = (
    "guild_id, charter, state, role, box_secret, grants, counter, read_number, entered_us, ended_us, pending_leave"
)


def load(tx: Tx) -> list[GuildRow]:
    return [GuildRow(*row) for row in tx.execute(f"SELECT {_COLUMNS} FROM guild ORDER BY entered_us")]


def enter(tx: Tx, guild_id: bytes, charter: bytes, role: str, box_secret: bytes, now_us: int) -> None:
    """I am in, or in again: the messages of an earlier membership stay, its log is replaced."""
    tx.execute(
        "INSERT INTO guild (guild_id, charter, state, role, box_secret, grants, entered_us)"
        " VALUES (?, ?, 'joined', ?, ?, x'', ?) ON CONFLICT (guild_id) DO UPDATE SET state = 'joined',"
        " role = excluded.role, box_secret = excluded.box_secret, grants = x'', counter = 0, entered_us = excluded.entered_us,"
        " ended_us = NULL, pending_leave = NULL",
        (guild_id, charter, role, box_secret, now_us),
    )
    tx.execute("DELETE FROM guild_entry WHERE guild_id = ?", (guild_id,))


def add_entries(tx: Tx, guild_id: bytes, entries: Iterable[tuple[int, bytes]]) -> None:
    tx.executemany("INSERT INTO guild_entry VALUES (?, ?, ?)", [(guild_id, v, raw) for v, raw in entries])


def set_keys(tx: Tx, guild_id: bytes, role: str, grants: bytes) -> None:
    tx.execute("UPDATE guild SET role = ?, grants = ? WHERE guild_id = ?", (role, grants, guild_id))


def entries_after(tx: Tx, guild_id: bytes, version: int, limit: int) -> list[bytes]:
    rows = tx.execute(
        "SELECT raw FROM guild_entry WHERE guild_id = ? AND version > ? ORDER BY version LIMIT ?",
        (guild_id, version, limit),
    )
    return [row[0] for row in rows]


def end(tx: Tx, guild_id: bytes, state: str, now_us: int, pending_leave: bytes | None) -> None:
    """I am out; no secret stays behind."""
    tx.execute(
        "UPDATE guild SET state = ?, box_secret = NULL, grants = x'', ended_us = ?, pending_leave = ? WHERE guild_id = ?",
        (state, now_us, pending_leave, guild_id),
    )


def leave_delivered(tx: Tx, guild_id: bytes) -> None:
    tx.execute("UPDATE guild SET pending_leave = NULL WHERE guild_id = ?", (guild_id,))


def forget(tx: Tx, guild_id: bytes) -> None:
    tx.execute("DELETE FROM guild WHERE guild_id = ?", (guild_id,))


def add_message(tx: Tx, guild_id: bytes, message: NewMessage) -> int:
    """Returns its number. The oldest beyond ``MAX_MESSAGES`` go."""
    number: int = tx.execute(
        "INSERT INTO guild_message (guild_id, sender, text, at_us, counter, version, raw) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " RETURNING number",
        (guild_id, message.sender, message.text, message.at_us, message.counter, message.version, message.raw),
    ).fetchone()[0]
    tx.execute(
        "DELETE FROM guild_message WHERE guild_id = ? AND number <= (SELECT number FROM guild_message"
        " WHERE guild_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (guild_id, guild_id, MAX_MESSAGES),
    )
    return number


def set_counter(tx: Tx, guild_id: bytes, counter: int) -> None:
    tx.execute("UPDATE guild SET counter = ? WHERE guild_id = ?", (counter, guild_id))


def set_floor(tx: Tx, guild_id: bytes, author: PeerId, since: int, floor: int) -> None:
    tx.execute(
        "INSERT INTO guild_floor VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET floor = excluded.floor",
        (guild_id, author, since, floor),
    )


def lines_since(tx: Tx, guild_id: bytes, version: int) -> list[tuple[PeerId, int, int, bytes]]:
    """Author, version, counter and bytes of the chat lines written at log version ``version`` or later, oldest first."""
    return tx.execute(
        "SELECT sender, version, counter, raw FROM guild_message WHERE guild_id = ? AND version >= ? AND raw IS NOT NULL"
        " ORDER BY number",
        (guild_id, version),
    ).fetchall()


_MESSAGE = "SELECT number, sender, text, at_us, counter IS NULL FROM guild_message WHERE guild_id = ?"


def messages(tx: Tx, guild_id: bytes) -> list[MessageRow]:
    rows = tx.execute(f"{_MESSAGE} ORDER BY number", (guild_id,)).fetchall()
    return [MessageRow(n, s, t, a, bool(y)) for n, s, t, a, y in rows]


def message(tx: Tx, guild_id: bytes, number: int) -> MessageRow | None:
    row = tx.execute(f"{_MESSAGE} AND number = ?", (guild_id, number)).fetchone()
    return None if row is None else MessageRow(row[0], row[1], row[2], row[3], bool(row[4]))


def mark_read(tx: Tx, guild_id: bytes) -> None:
    tx.execute(
        "UPDATE guild SET read_number = (SELECT COALESCE(MAX(number), 0) FROM guild_message WHERE guild_id = ?)"
        " WHERE guild_id = ?",
        (guild_id, guild_id),
    )


def history(tx: Tx, guild_id: bytes, me: PeerId) -> History:
    entries = tx.execute("SELECT raw FROM guild_entry WHERE guild_id = ? ORDER BY version", (guild_id,))
    floors = tx.execute("SELECT author, since, floor FROM guild_floor WHERE guild_id = ?", (guild_id,))
    lines = tx.execute(
        "SELECT sender, version, counter FROM guild_message WHERE guild_id = ? AND counter IS NOT NULL ORDER BY number",
        (guild_id,),
    )
    unread = tx.execute(
        "SELECT COUNT(*) FROM guild_message WHERE guild_id = ? AND counter IS NOT NULL AND sender <> ?"
        " AND number > (SELECT read_number FROM guild WHERE guild_id = ?)",
        (guild_id, me, guild_id),
    )
    return History([row[0] for row in entries], floors.fetchall(), lines.fetchall(), unread.fetchone()[0])
