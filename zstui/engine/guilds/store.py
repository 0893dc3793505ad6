"""SQL of the guilds."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from zstui.engine.guilds.messages import GuildJoin, JoinRole
from zstui.engine.identity.envelope import Envelope
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
    Migration(
        "guilds",
        2,
        """
        DELETE FROM guild;
        DROP TABLE guild_entry;
        DROP TABLE guild_message;
        DROP TABLE guild_floor;
        ALTER TABLE guild ADD COLUMN ended_why TEXT NOT NULL DEFAULT '';
        CREATE TABLE guild_entry (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            place INTEGER NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (guild_id, place)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE guild_message (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            sender TEXT NOT NULL,
            text TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            counter INTEGER,
            member BLOB,
            epoch BLOB,
            raw BLOB
        ) STRICT;
        CREATE INDEX guild_message_of ON guild_message (guild_id, number);
        CREATE TABLE guild_floor (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            member BLOB NOT NULL,
            floor INTEGER NOT NULL,
            PRIMARY KEY (guild_id, member)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE guild_seen (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            peer TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (guild_id, peer)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE guild_knock (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            peer TEXT NOT NULL,
            request BLOB NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (guild_id, peer)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE guild_knocking (
            guild_id BLOB PRIMARY KEY,
            charter BLOB NOT NULL,
            role TEXT NOT NULL,
            box_secret BLOB NOT NULL,
            at_us INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE guild_invite (
            guild_id BLOB NOT NULL REFERENCES guild ON DELETE CASCADE,
            token BLOB NOT NULL,
            text TEXT NOT NULL,
            PRIMARY KEY (guild_id, token)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
"""Guilds live for hours: version 2, whose log is signed by officers too, begins without those of version 1."""


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
    ended_why: str


class NewMessage(msgspec.Struct, frozen=True):
    """A line to store; ``raw`` is the signed line, None for a system line."""

    sender: PeerId
    text: str
    at_us: int
    counter: int | None = None
    member: bytes | None = None
    """The author's membership."""
    epoch: bytes | None = None
    """The log entry whose key was in force for the author."""
    raw: bytes | None = None


class MessageRow(msgspec.Struct, frozen=True):
    number: int
    sender: PeerId
    text: str
    at_us: int
    counter: int | None
    member: bytes | None

    @property
    def system(self) -> bool:
        return self.counter is None


class Knock(msgspec.Struct, frozen=True):
    """A peer that waits for an answer."""

    peer: PeerId
    request: bytes
    """Signed ``GuildJoin``."""
    at_us: int

    @property
    def role(self) -> JoinRole:
        """Asked for; the request was verified when it came."""
        return msgspec.msgpack.decode(msgspec.msgpack.decode(self.request, type=Envelope).body, type=GuildJoin).role


class Knocking(msgspec.Struct, frozen=True):
    """A guild where I wait for an answer."""

    guild_id: bytes
    charter: bytes
    role: str
    box_secret: bytes
    at_us: int


class History(msgspec.Struct, frozen=True):
    """What a guild's memory is rebuilt from."""

    entries: list[bytes]
    floors: list[tuple[bytes, int]]
    """Membership, floor."""
    lines: list[tuple[bytes, int]]
    """Membership and counter of every stored chat line, oldest first."""
    seen: list[tuple[PeerId, int]]
    knocks: list[Knock]
    unread: int


_COLUMNS = (
    "guild_id, charter, state, role, box_secret, grants, counter, read_number, entered_us, ended_us, pending_leave,"
    " ended_why"
)


def load(tx: Tx) -> list[GuildRow]:
    return [GuildRow(*row) for row in tx.execute(f"SELECT {_COLUMNS} FROM guild ORDER BY entered_us")]


def enter(tx: Tx, guild_id: bytes, charter: bytes, role: str, box_secret: bytes, now_us: int) -> None:
    """I am in, or in again: the messages of an earlier membership stay, its log is replaced."""
    tx.execute(
        "INSERT INTO guild (guild_id, charter, state, role, box_secret, grants, entered_us)"
        " VALUES (?, ?, 'joined', ?, ?, x'', ?) ON CONFLICT (guild_id) DO UPDATE SET state = 'joined',"
        " role = excluded.role, box_secret = excluded.box_secret, grants = x'', counter = 0, entered_us = excluded.entered_us,"
        " ended_us = NULL, pending_leave = NULL, ended_why = ''",
        (guild_id, charter, role, box_secret, now_us),
    )
    tx.execute("DELETE FROM guild_entry WHERE guild_id = ?", (guild_id,))


def add_entries(tx: Tx, guild_id: bytes, entries: Iterable[tuple[int, bytes]]) -> None:
    """Entries and their places in the log."""
    tx.executemany("INSERT INTO guild_entry VALUES (?, ?, ?)", [(guild_id, place, raw) for place, raw in entries])


def set_keys(tx: Tx, guild_id: bytes, role: str, grants: bytes) -> None:
    tx.execute("UPDATE guild SET role = ?, grants = ? WHERE guild_id = ?", (role, grants, guild_id))


def end(tx: Tx, guild_id: bytes, state: str, why: str, now_us: int, pending_leave: bytes | None) -> None:
    """I am out; no secret stays behind."""
    tx.execute(
        "UPDATE guild SET state = ?, box_secret = NULL, grants = x'', ended_us = ?, pending_leave = ?, ended_why = ?"
        " WHERE guild_id = ?",
        (state, now_us, pending_leave, why, guild_id),
    )
    for table in ("guild_knock", "guild_invite"):
        tx.execute(f"DELETE FROM {table} WHERE guild_id = ?", (guild_id,))


def leave_delivered(tx: Tx, guild_id: bytes) -> None:
    tx.execute("UPDATE guild SET pending_leave = NULL WHERE guild_id = ?", (guild_id,))


def forget(tx: Tx, guild_id: bytes) -> None:
    tx.execute("DELETE FROM guild WHERE guild_id = ?", (guild_id,))


def add_message(tx: Tx, guild_id: bytes, message: NewMessage) -> int:
    """Returns its number. The oldest beyond ``MAX_MESSAGES`` go."""
    m = message
    number: int = tx.execute(
        "INSERT INTO guild_message (guild_id, sender, text, at_us, counter, member, epoch, raw)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (guild_id, m.sender, m.text, m.at_us, m.counter, m.member, m.epoch, m.raw),
    ).fetchone()[0]
    tx.execute(
        "DELETE FROM guild_message WHERE guild_id = ? AND number <= (SELECT number FROM guild_message"
        " WHERE guild_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (guild_id, guild_id, MAX_MESSAGES),
    )
    return number


def set_counter(tx: Tx, guild_id: bytes, counter: int) -> None:
    tx.execute("UPDATE guild SET counter = ? WHERE guild_id = ?", (counter, guild_id))


def set_floor(tx: Tx, guild_id: bytes, member: bytes, floor: int) -> None:
    tx.execute(
        "INSERT INTO guild_floor VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET floor = excluded.floor",
        (guild_id, member, floor),
    )


def lines(tx: Tx, guild_id: bytes) -> list[tuple[bytes, bytes, int, bytes]]:
    """Membership, epoch, counter and bytes of the chat lines, oldest first."""
    return tx.execute(
        "SELECT member, epoch, counter, raw FROM guild_message WHERE guild_id = ? AND raw IS NOT NULL ORDER BY number",
        (guild_id,),
    ).fetchall()


_MESSAGE = "SELECT number, sender, text, at_us, counter, member FROM guild_message WHERE guild_id = ?"


def messages(tx: Tx, guild_id: bytes) -> list[MessageRow]:
    return [MessageRow(*row) for row in tx.execute(f"{_MESSAGE} ORDER BY number", (guild_id,))]


def message(tx: Tx, guild_id: bytes, number: int) -> MessageRow | None:
    row = tx.execute(f"{_MESSAGE} AND number = ?", (guild_id, number)).fetchone()
    return None if row is None else MessageRow(*row)


def mark_read(tx: Tx, guild_id: bytes) -> None:
    tx.execute(
        "UPDATE guild SET read_number = (SELECT COALESCE(MAX(number), 0) FROM guild_message WHERE guild_id = ?)"
        " WHERE guild_id = ?",
        (guild_id, guild_id),
    )


def set_seen(tx: Tx, seen: Iterable[tuple[bytes, PeerId, int]]) -> None:
    """When each peer was last heard of in a guild that is still here."""
    tx.executemany(
        "INSERT INTO guild_seen SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM guild WHERE guild_id = ?1)"
        " ON CONFLICT DO UPDATE SET at_us = excluded.at_us",
        list(seen),
    )


def put_knock(tx: Tx, guild_id: bytes, knock: Knock) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO guild_knock VALUES (?, ?, ?, ?)", (guild_id, knock.peer, knock.request, knock.at_us)
    )


def drop_knocks(tx: Tx, guild_id: bytes, peers: Iterable[PeerId]) -> None:
    tx.executemany("DELETE FROM guild_knock WHERE guild_id = ? AND peer = ?", [(guild_id, peer) for peer in peers])


def knocking(tx: Tx) -> list[Knocking]:
    rows = tx.execute("SELECT guild_id, charter, role, box_secret, at_us FROM guild_knocking ORDER BY at_us")
    return [Knocking(*row) for row in rows]


def put_knocking(tx: Tx, k: Knocking) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO guild_knocking VALUES (?, ?, ?, ?, ?)",
        (k.guild_id, k.charter, k.role, k.box_secret, k.at_us),
    )


def drop_knocking(tx: Tx, guild_id: bytes) -> None:
    tx.execute("DELETE FROM guild_knocking WHERE guild_id = ?", (guild_id,))


def put_invite(tx: Tx, guild_id: bytes, token: bytes, text: str) -> None:
    tx.execute("INSERT OR REPLACE INTO guild_invite VALUES (?, ?, ?)", (guild_id, token, text))


def invites(tx: Tx, guild_id: bytes) -> dict[bytes, str]:
    """The strings of invites that I made, by token."""
    return dict(tx.execute("SELECT token, text FROM guild_invite WHERE guild_id = ?", (guild_id,)).fetchall())


def history(tx: Tx, guild_id: bytes, me: PeerId) -> History:
    entries = tx.execute("SELECT raw FROM guild_entry WHERE guild_id = ? ORDER BY place", (guild_id,))
    floors = tx.execute("SELECT member, floor FROM guild_floor WHERE guild_id = ?", (guild_id,))
    lines = tx.execute(
        "SELECT member, counter FROM guild_message WHERE guild_id = ? AND counter IS NOT NULL ORDER BY number",
        (guild_id,),
    )
    seen = tx.execute("SELECT peer, at_us FROM guild_seen WHERE guild_id = ?", (guild_id,))
    knocks = tx.execute("SELECT peer, request, at_us FROM guild_knock WHERE guild_id = ? ORDER BY at_us", (guild_id,))
    unread = tx.execute(
        "SELECT COUNT(*) FROM guild_message WHERE guild_id = ? AND counter IS NOT NULL AND sender <> ?"
        " AND number > (SELECT read_number FROM guild WHERE guild_id = ?)",
        (guild_id, me, guild_id),
    )
    return History(
        [row[0] for row in entries],
        floors.fetchall(),
        lines.fetchall(),
        seen.fetchall(),
        [Knock(*row) for row in knocks],
        unread.fetchone()[0],
    )
