"""The database shrinks again, and only by what is old enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zstui.engine.channels import schema, store
from zstui.engine.clock import US, ManualClock
from zstui.engine.store import upkeep
from zstui.engine.store.database import Database, Tx
from zstui.engine.store.upkeep import KEPT_US, Upkeep

DAY_US = 86_400 * US
PAYS = 1_200


def _fill(tx: Tx, number: int, state: str, since_us: int) -> None:
    id = bytes([number]) * 32
    columns = [r[1] for r in tx.execute("PRAGMA table_info(channels)")]
    values: dict[str, object] = dict.fromkeys(columns, 0)
    values |= {c: b"" for c in ("params", "out_head", "in_head", "close_head")}
    values |= {"id": id, "peer": f"p{number}", "state": state, "reason": "", "since_us": since_us}
    values |= {"out_seq": PAYS, "in_seq": 0}
    tx.execute(
        f"INSERT INTO channels ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})", [*values.values()]
    )
    for seq in range(1, PAYS + 1):
        tx.execute("INSERT INTO channel_envelopes VALUES (?, 0, ?, ?, ?, ?)", (id, seq, seq, id, os.urandom(400)))
    store.put_document(tx, id, "settle", 0, b"both signed")


async def test_old_payments_go_and_the_file_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PAUSE_S", 0)
    monkeypatch.setattr(upkeep, "PAGES", 32)
    clock = ManualClock()
    now, old = clock.now_us(), clock.now_us() - KEPT_US
    db = await Database.open(tmp_path / "db", schema.SCHEMA)
    try:
        for number, (state, since) in enumerate(
            [("closed", old - DAY_US), ("closed", now - 380 * DAY_US), ("active", old - DAY_US)]
        ):
            await db.write(lambda tx, n=number, st=state, at=since: _fill(tx, n, st, at))  # type: ignore[misc]
        keeper = Upkeep(db, tmp_path / "db", clock, (store.prune,))
        pages = await db.read(lambda tx: int(tx.execute("PRAGMA page_count").fetchone()[0]))
        assert keeper.size_bytes() > 3 * PAYS * 400
        assert await keeper.tidy() == PAYS - 1
        left = await db.read(
            lambda tx: tx.execute(
                "SELECT count(*), max(seq) FROM channel_envelopes GROUP BY channel ORDER BY 1"
            ).fetchall()
        )
        assert left == [(1, PAYS), (PAYS, PAYS), (PAYS, PAYS)]
        assert await db.read(lambda tx: store.document(tx, bytes(32), "settle", 0)) == b"both signed"
        after = await db.read(lambda tx: int(tx.execute("PRAGMA page_count").fetchone()[0]))
        assert after < pages * 0.75
        assert await keeper.tidy() == 0
    finally:
        await db.close()
