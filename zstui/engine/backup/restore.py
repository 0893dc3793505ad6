"""Restoring a home from a backup. No node runs there meanwhile; what was there before is kept beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from zstui.engine.backup import archive
from zstui.engine.backup.archive import Manifest
from zstui.engine.errors import BackupError, BadInput, DatabaseTooNew, HomeError
from zstui.engine.home import Home
from zstui.engine.identity.keys import Identity
from zstui.engine.money import format_amount
from zstui.engine.store import meta
from zstui.engine.store.database import Database, Migration
from zstui.engine.views import BackupChannelView, BackupView, RestoreView

KEPT = ".before-restore"
"""What files are called that a restore put aside."""
LOST = (
    "job outputs, logs and the compile cache: they are not part of a backup",
    "guilds that ended since, and what was said in guilds since",
    "jobs, receipts and approvals since; payments that were made are fetched back, what they were for is not",
    "payments with peers that never come back",
)


def backup_view(manifest: Manifest, path: Path, size: int) -> BackupView:
    m = manifest
    return BackupView(
        path=str(path),
        size_bytes=size,
        taken_at=m.taken_us // 1_000_000,
        peer_id=m.peer_id,
        name=m.name,
        starts=m.boots,
        owed_to_me_u=m.owed_to_me_u,
        i_owe_u=m.i_owe_u,
        channels=tuple(
            BackupChannelView(
                channel_id=c.channel_id,
                peer_id=c.peer_id,
                peer_name=c.peer_name,
                state=c.state,
                mine_u=c.mine_u,
                theirs_u=c.theirs_u,
                sequence=c.sequence,
                sequence_theirs=c.sequence_theirs,
                expires_at=c.expires_at,
            )
            for c in m.channels
        ),
    )


def preview(path: Path, passphrase: str, home: Home) -> RestoreView:
    """What restoring ``path`` into ``home`` would do, before anything is done. Raises BackupError, BadInput."""
    manifest = archive.peek(path, passphrase)
    warnings = []
    if home.key.exists() and Identity.load_or_create(home.key).peer_id != manifest.peer_id:
        raise BadInput(f"{home.path} belongs to another identity than the backup; give another --home.")
    now = _boots_inside(home.database)
    if now is not None:
        warnings.append(
            f"{home.path} has a database already, which counts {now} starts (the backup: {manifest.boots}); it is put aside"
            f" as {home.database.name}{KEPT}. Restore over it only if it is damaged."
        )
    warnings.append(
        "If the node this was taken from still runs elsewhere, stop it first: two nodes with one key contradict each other,"
        " and a peer can prove that."
    )
    peers = sorted({(c.peer_name, c.peer_id) for c in manifest.channels})
    return RestoreView(
        backup=backup_view(manifest, path, path.stat().st_size),
        home=str(home.path),
        up_to_date_from=tuple(f"{name} ({peer})" for name, peer in peers),
        not_recovered=LOST,
        warnings=tuple(warnings),
    )


async def restore(path: Path, passphrase: str, home: Home, migrations: Iterable[Migration]) -> Manifest:
    """Put a backup into ``home``, marked so that its next start signs nothing in a channel before the peer was heard.

    Raises HomeLocked (a node runs there), BackupError, BadInput; the home is then as it was.
    """
    home.acquire()
    try:
        with _folder(home.path) as folder:
            manifest = archive.extract(path, passphrase, folder)
            if Identity.load_or_create(folder / "key").peer_id != manifest.peer_id:
                raise BackupError(f"{path} holds another key than it says.")
            await _check(folder / home.database.name, path, migrations)
            for suffix in ("", "-wal", "-shm"):
                _put_aside(home.path / (home.database.name + suffix))
            mark(home, manifest.boots)
            for name, _ in manifest.files:
                if name == home.config.name and home.config.exists():
                    _put_aside(home.config)
                (folder / name).replace(home.path / name)
            _sync(home.path)
            return manifest
    except OSError as error:
        raise BackupError(f"Cannot restore into {home.path}: {error.strerror or error}.") from error
    finally:
        home.release()


def forget_database(home: Home) -> None:
    """Put a lost database aside: the next start begins with the key alone and asks the peers.

    Raises BadInput, HomeLocked, BackupError.
    """
    if not home.key.exists():
        raise BadInput(f"There is no key in {home.path}; put it there first, with mode 0600.")
    Identity.load_or_create(home.key)
    home.acquire()
    try:
        for suffix in ("", "-wal", "-shm"):
            _put_aside(home.path / (home.database.name + suffix))
        mark(home, 0)
        _sync(home.path)
    except OSError as error:
        raise BackupError(f"Cannot change {home.path}: {error.strerror or error}.") from error
    finally:
        home.release()


def from_peers_words(home: Home) -> str:
    """What ``forget_database`` leads to, for a person."""
    return (
        f"The database in {home.path} is put aside as {home.database.name}{KEPT}; the key stays.\n"
        "The next start asks every peer it meets for the channels with it and for the latest state it keeps for you.\n"
        "Not recovered: jobs, receipts, approvals, grants, guild memberships, chat, and channels with peers that never"
        " come back."
    )


def mark(home: Home, boots: int) -> None:
    """Count more starts outside the database than it will count inside: the next start knows that it was restored."""
    try:
        outside = home.read_boots()
    except HomeError:
        outside = 0
    home.write_boots(max(outside, boots) + 1)


def words(view: RestoreView) -> str:
    """The preview for a person."""
    b = view.backup
    taken = datetime.fromtimestamp(b.taken_at)
    lines = [
        f"Taken at {taken:%Y-%m-%d %H:%M:%S}.",
        f"Backup of {b.name or b.peer_id} ({b.peer_id}), start {b.starts}.",
        f"Owed to you {format_amount(b.owed_to_me_u)}, you owe {format_amount(b.i_owe_u)}.",
    ]
    for c in b.channels:
        lines.append(
            f"  channel {c.channel_id[:8]} with {c.peer_name}: {c.state}, yours {format_amount(c.mine_u)},"
            f" theirs {format_amount(c.theirs_u)}, after payment {c.sequence} of yours and {c.sequence_theirs} of theirs"
        )
    if view.up_to_date_from:
        lines.append("Since then payments may have been made; these peers bring them back: ")
        lines += [f"  {peer}" for peer in view.up_to_date_from]
        lines.append("Nothing is signed in a channel before its peer has shown the latest state.")
    lines.append("Not recovered:")
    lines += [f"  {text}" for text in view.not_recovered]
    lines += [f"WARNING: {text}" for text in view.warnings]
    return "\n".join(lines)


async def _check(database: Path, path: Path, migrations: Iterable[Migration]) -> None:
    """The database is whole, and of a version that this program reads."""
    connection = sqlite3.connect(database)
    try:
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise BackupError(f"The database in {path} is damaged.")
    except sqlite3.Error as error:
        raise BackupError(f"The database in {path} is damaged: {error}.") from error
    finally:
        connection.close()
    try:
        await (await Database.open(database, migrations)).close()
    except DatabaseTooNew:
        raise BackupError(f"{path} was written by a newer zstui; update zstui to restore it.") from None


def _boots_inside(database: Path) -> int | None:
    """Starts counted in a database that may be damaged; None if there is none."""
    if not database.exists():
        return None
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return meta.boots(connection)
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


@contextmanager
def _folder(inside: Path) -> Iterator[Path]:
    """A temporary directory of mode 0700 on the home's file system."""
    folder = Path(tempfile.mkdtemp(prefix="restore-", dir=inside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_aside(path: Path) -> None:
    if path.exists():
        path.replace(path.with_name(path.name + KEPT))


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
