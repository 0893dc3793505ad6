"""Taking a backup of a running node: a consistent copy of its database, its key and its settings, in one encrypted file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from zstui import __version__
from zstui.engine.backup import archive
from zstui.engine.backup.archive import ChannelThen, Cost, Manifest
from zstui.engine.channels import store as channel_store
from zstui.engine.channels.settlement import accounts
from zstui.engine.errors import BackupError
from zstui.engine.home import Home
from zstui.engine.identity.keys import PeerId
from zstui.engine.store import meta
from zstui.engine.store.database import Tx


async def take(
    home: Home,
    to: Path,
    passphrase: str,
    *,
    peer_id: PeerId,
    name: str,
    name_of: Callable[[PeerId], str],
    now_us: int,
    cost: Cost | None = None,
) -> tuple[Manifest, int]:
    """Write a backup of ``home`` to ``to``; returns what it holds and its size in bytes. The node goes on meanwhile.

    Raises BadInput, BackupError.
    """
    archive.check_passphrase(passphrase)

    def work() -> tuple[Manifest, int]:
        try:
            with tempfile.TemporaryDirectory(prefix="backup-", dir=home.path) as folder:
                copy = Path(folder) / home.database.name
                _copy(home.database, copy)
                files = {"key": home.key, home.database.name: copy}
                if home.config.exists():
                    files[home.config.name] = home.config
                manifest = _describe(copy, files, peer_id, name, now_us, name_of)
                return manifest, archive.write(to, passphrase, manifest, files, cost)
        except (OSError, sqlite3.Error) as error:
            raise BackupError(f"Cannot copy the database: {error}.") from error

    return await asyncio.to_thread(work)


def _copy(database: Path, to: Path) -> None:
    """All that is committed at one moment, while others write. The copy is compact and of mode 0600."""
    os.close(os.open(to, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA busy_timeout=5000")
        connection.execute("VACUUM INTO ?", (str(to),))
    finally:
        connection.close()


def _describe(
    copy: Path, files: dict[str, Path], peer_id: PeerId, name: str, now_us: int, name_of: Callable[[PeerId], str]
) -> Manifest:
    connection = sqlite3.connect(copy)
    try:
        owed = accounts(connection).values()
        return Manifest(
            version=__version__,
            peer_id=peer_id,
            name=name,
            taken_us=now_us,
            boots=meta.boots(connection),
            channels=channels_then(connection, name_of),
            owed_to_me_u=sum(u for u in owed if u > 0),
            i_owe_u=-sum(u for u in owed if u < 0),
            files=tuple((file, path.stat().st_size) for file, path in files.items()),
        )
    finally:
        connection.close()


def channels_then(tx: Tx, name_of: Callable[[PeerId], str]) -> tuple[ChannelThen, ...]:
    """Every channel in ``tx`` that is agreed and not closed."""
    return tuple(
        ChannelThen(
            channel_id=c.id.hex(),
            peer_id=c.peer,
            peer_name=name_of(c.peer),
            state=c.state.value,
            mine_u=c.balance,
            theirs_u=c.peer_balance,
            sequence=c.out.seq,
            sequence_theirs=c.inn.seq,
            expires_at=c.expires_us // 1_000_000,
        )
        for c in channel_store.load_recent(tx, 0)
        if c.agreed
    )
