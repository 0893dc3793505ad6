"""The database shrinks again, and only by what is old enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zstui.engine.channels import schema, store
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.settlement import post
from zstui.engine.clock import US, ManualClock
from zstui.engine.node import SCHEMA as NODE_SCHEMA
from zstui.engine.reputation.score import Outcome
from zstui.engine.reputation.store import record as record_outcome
from zstui.engine.store import upkeep
from zstui.engine.store.database import Database, Tx
from zstui.engine.store.upkeep import KEPT_US, Upkeep
from zstui.engine.wiring import PRUNES

DAY_US = 86_400 * US
PAYS = 1_200


def _fill(tx: Tx, number: int, state: str, since_us: int, pays: int = PAYS) -> None:
    id = bytes([number]) * 32
    columns = [r[1] for r in tx.execute("PRAGMA table_info(channels)")]
    values: dict[str, object] = dict.fromkeys(columns, 0)
    values |= {c: b"" for c in ("params", "out_head", "in_head", "close_head")}
    values |= {"id": id, "peer": f"p{number}", "state": state, "reason": "", "since_us": since_us}
    values |= {"out_seq": pays, "in_seq": 0}
    tx.execute(
        f"INSERT INTO channels ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})", [*values.values()]
    )
    for seq in range(1, pays + 1):
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


BOUNDED = {
    "a row for each of a few names": "meta setting schema_version job_owner job_watch reputation_clock vault_own",
    "what a person set or may undo": "approval_grant approval_limit channel_credit guild_invite guild_knocking",
    "a row for each peer, channel or debt; no more is kept of them": "channels channel_documents channel_epochs vault_mark"
    " ledger_postings discharge reputation_tally reputation_block reputation_guild_block",
    "a limited number, or an age": "net_peers dht_contacts routing_estimate approval_decision vault_kept guild guild_entry"
    " guild_message guild_floor guild_seen guild_knock job_presence dispute_cases dispute_submissions dispute_receipts"
    " dispute_ready dispute_verdicts dispute_mail dispute_consents dispute_faults complaint_case complaint_heard"
    " complaint_verdict",
    "goes with its job or batch, of which a limited number is kept": "job job_evidence job_note job_output job_batch"
    " job_batch_item",
    "pruned by upkeep": "channel_envelopes channel_lines channel_evidence ledger_reservations approval_request"
    " reputation_outcome",
}
"""Why no table of a node grows for ever."""


async def test_no_table_grows_without_a_bound(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "db", NODE_SCHEMA)
    tables = await db.read(
        lambda tx: tx.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    )
    await db.close()
    assert sorted(name for (name,) in tables) == sorted(" ".join(BOUNDED.values()).split())


async def test_what_is_pruned_is_old_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PAUSE_S", 0)
    clock = ManualClock()
    old, new = clock.now_us() - KEPT_US - DAY_US, clock.now_us() - 300 * DAY_US
    db = await Database.open(tmp_path / "db", NODE_SCHEMA)

    def fill(tx: Tx) -> None:
        for number, (state, since) in enumerate([("closed", old), ("closed", new), ("disputed", old)]):
            id = bytes([number]) * 32
            _fill(tx, number, state, since, pays=2)
            for no in range(2):
                store.add_line(tx, id, no + 1, 0, PayLine(5, id, 1, no, id))
            store.add_evidence(tx, id, "fork", (b"a", b"b"), since)
            tx.execute("INSERT INTO ledger_reservations VALUES (?, 7, ?)", (id, int(state == "closed")))
            post(tx, id, "peer", 5, 0, "settled", since)
        for number, (state, at) in enumerate([("paid", old), ("superseded", old), ("declined", old), ("paid", new)]):
            tx.execute(
                "INSERT INTO approval_request (request_id, peer_id, guild_id, job_id, agreement_id, amount_u, state,"
                " created_us, expires_us, request) VALUES (?, 'p', 'g', 'j', 'a', 5, ?, ?, 0, x'')",
                (f"{number} {state}", state, at),
            )
        for number, at in enumerate([old, old, new]):
            record_outcome(tx, Outcome(f"r{number}", "peer", "work", True, 1, 1, at), clock.now_us(), clock.now_us())

    def left(tx: Tx) -> dict[str, int]:
        tables = (
            "channel_envelopes channel_lines channel_evidence ledger_reservations ledger_postings reputation_outcome"
        )
        return {table: tx.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables.split()}

    try:
        await db.write(fill)
        assert await Upkeep(db, tmp_path / "db", clock, PRUNES).tidy() == 1 + 2 + 2 + 1 + 2 + 2
        assert await db.read(left) == {
            "channel_envelopes": 5,
            "channel_lines": 4,
            "channel_evidence": 4,
            "ledger_reservations": 2,
            "ledger_postings": 9,
            "reputation_outcome": 1,
        }
        requests = await db.read(lambda tx: tx.execute("SELECT request_id FROM approval_request ORDER BY 1").fetchall())
        assert requests == [("2 declined",), ("3 paid",)]
        tallies = await db.read(lambda tx: tx.execute("SELECT tasks FROM reputation_tally").fetchall())
        assert tallies == [(3,), (3,)], "what went stays counted"
    finally:
        await db.close()
