"""A statement verifies offline, and any change to it is found and named."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.engine.channels.discharges.test_discharges import Pair, Trader, pair
from tests.engine.channels.rig import line, until
from zstui.engine.channels.statements.build import build
from zstui.engine.errors import BadInput
from zstui.engine.verification import verify_document
from zstui.engine.views import StatementView
from zstui.statement_file import csv_of

DAY = 86_400
__all__ = ["pair"]


async def statement(node: Trader, **chosen: Any) -> StatementView:
    return await node.db.read(lambda tx: build(tx, node.id, node.clock.now_us(), **chosen))


def wrong(document: Any) -> list[str]:
    return [check.detail for check in verify_document(document) if not check.ok]


async def busy(a: Trader, b: Trader) -> dict[str, Any]:
    """One channel closed, one open with payments both ways, one discharge; a's statement as decoded JSON."""
    view = await a.discharges.propose(b.id, 12, "cash")
    await b.discharges.confirm(bytes.fromhex(view.discharge_id))
    await until(lambda: a.service.owed() == (0, 18))
    id = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    for _ in range(3):
        await a.service.pay(id, line(10))
        await b.service.pay(id, line(4))
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(await statement(a)))
    return document


async def test_both_sides_statements_verify_and_agree(pair: Pair) -> None:
    a, b = pair
    document = await busy(a, b)
    assert wrong(document) == []
    assert document["moved_u"] == {b.id: -18}
    theirs = await statement(b)
    assert wrong(msgspec.json.decode(msgspec.json.encode(theirs))) == []
    assert theirs.moved_u == {a.id: 18}
    assert [c.paid_u for c in theirs.channels] == [0, 12]
    assert sum(r.amount_u for r in theirs.payments if r.direction == "received") == 30 + 30 + 12
    rows = csv_of(theirs).splitlines()
    assert len(rows) == 1 + len(theirs.payments)
    assert rows[0].startswith("time_utc,peer,channel")


async def test_the_history_of_a_balance_is_what_was_signed(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 1_000_000, 1_000_000, DAY)).channel_id
    for _ in range(5):
        await a.service.pay(id, line(10))
        await b.service.pay(id, line(4))
    here, there = await a.service.balances(id, 100), await b.service.balances(id, 100)
    assert (here.payments, len(here.points)) == (10, 11)
    assert here.points[0].mine_u == 1_000_000
    assert (here.points[-1].mine_u, here.mine_u) == (1_000_000 - 30, 1_000_000 - 30)
    assert there.mine_u == 1_000_000 + 30
    few = await a.service.balances(id, 4)
    assert len(few.points) == 5
    assert few.points[-1].mine_u == here.mine_u
    with pytest.raises(BadInput):
        await a.service.balances(id, 1)


def _flip(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(bytes(raw)).decode()


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a payment left out": lambda d: d["channels"][1]["pays_mine"].pop(1),
    "the last payment left out": lambda d: d["channels"][1]["pays_mine"].pop(),
    "a payment changed": lambda d: d["channels"][1]["pays_theirs"].__setitem__(
        0, _flip(d["channels"][1]["pays_theirs"][0])
    ),
    "another total": lambda d: d["channels"][1].update(paid_u=29),
    "another deposit": lambda d: d["channels"][1].update(deposit_mine_u=1),
    "a foreign channel": lambda d: d["channels"][1].update(peer_id=d["owner"]),
    "no opening": lambda d: d["channels"][1]["documents"].pop("accept"),
    "no settlement": lambda d: d["channels"][0]["documents"].pop("settle_theirs"),
    "a changed settlement": lambda d: d["channels"][0]["documents"].update(
        settle_theirs=_flip(d["channels"][0]["documents"]["settle_theirs"])
    ),
    "somebody else's owner": lambda d: d.update(owner=d["channels"][0]["peer_id"]),
    "another debt": lambda d: d["moved_u"].update({d["channels"][0]["peer_id"]: 0}),
    "an entry that nobody signed": lambda d: d["payments"][0].update(amount_u=10**6),
    "an entry left out": lambda d: d["payments"].pop(),
    "a larger discharge": lambda d: d["discharges"][0].update(amount_u=30),
    "a discharge turned round": lambda d: d["discharges"][0].update(owed_to_me=True),
    "an unsigned discharge": lambda d: d["discharges"][0].update(theirs=d["discharges"][0]["mine"]),
    "another version": lambda d: d.update(zerostate_statement=2),
    "nonsense": lambda d: d.update(channels=7),
}


async def test_every_forgery_is_found(pair: Pair) -> None:
    document = await busy(*pair)
    for name, forge in FORGERIES.items():
        forged = msgspec.json.decode(msgspec.json.encode(document))
        forge(forged)
        found = wrong(forged)
        assert found, name
        assert all(found), name


async def test_after_pruning_the_co_signed_end_is_still_proven(pair: Pair) -> None:
    a, _ = pair
    await a.db.write(lambda tx: tx.execute("DELETE FROM channel_envelopes"))
    document = msgspec.json.decode(msgspec.json.encode(await statement(a)))
    assert wrong(document) == []
    checks = verify_document(document)
    assert "payments of the owner are not in the file" in checks[0].detail
    document["channels"][0]["paid_u"] = 29
    assert wrong(document)


async def test_one_peer_one_channel_and_a_time(pair: Pair) -> None:
    a, b = pair
    await busy(a, b)
    now = a.clock.now_us() // 1_000_000
    assert len((await statement(a, peer=b.id)).channels) == 2
    alone = await statement(a, channel=bytes.fromhex(a.service.views()[0].channel_id))
    assert (len(alone.channels), alone.discharges) == (1, ())
    with pytest.raises(BadInput, match="nothing on record"):
        await statement(a, to_at=now - DAY)
    with pytest.raises(BadInput):
        await statement(a, peer="nobody")
    later = await statement(a, from_at=now + DAY)
    assert (later.payments, [c.state for c in later.channels]) == ((), ["active"])


def test_other_files_are_told_apart() -> None:
    for content in (7, "x", [], {}, {"zerostate_fraud_proof": 9}, [{"zerostate_statement": 1}]):
        checks = verify_document(content)
        assert not checks or not all(check.ok for check in checks)
