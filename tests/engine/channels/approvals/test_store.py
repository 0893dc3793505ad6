"""What a payment is held against in the transaction that commits it, whatever memory thought before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.approvals.support import UNIT, Rig
from zstui.engine.channels.approvals import grant_store, store
from zstui.engine.channels.approvals.model import ASK_US, DAY_US, Grant, PaymentRequest
from zstui.engine.channels.approvals.schema import SCHEMA
from zstui.engine.errors import ApprovalError
from zstui.engine.store.database import Database, Tx

T0 = 1_700_000_000_000_000


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "z.db")
    rig.db = await Database.open(rig.path, SCHEMA)
    yield rig
    await rig.db.close()


async def begin(rig: Rig, request: PaymentRequest, at_us: int, automatic: bool = True) -> None:
    signing = store.Signing(
        automatic=automatic, why="", now_us=at_us, channel_id="c", sequence=1, before_u=0, peer_before_u=0
    )
    await rig.db.write(lambda tx: store.begin(tx, request.request_id, signing))


async def ask(rig: Rig, amount_u: int, at_us: int, peer: str = "south") -> PaymentRequest:
    request = rig.request(amount_u, peer)
    await rig.db.write(lambda tx: store.insert(tx, request, at_us))
    return request


def grant(tx: Tx, day: int = 10, total: int = 100, scope: str = "node", subject: str = "") -> None:
    values = Grant(
        scope=scope,  # type: ignore[arg-type]
        subject=subject,
        per_payment_u=10 * UNIT,
        per_day_u=day * UNIT,
        total_u=total * UNIT,
        expires_us=None,
    )
    grant_store.put_grant(tx, values, 0)


async def test_a_request_begins_once_and_only_in_its_time(rig: Rig) -> None:
    request = await ask(rig, UNIT, T0)
    with pytest.raises(ApprovalError, match="nothing was paid"):
        await begin(rig, request, T0 + ASK_US, automatic=False)
    await begin(rig, request, T0 + ASK_US - 1, automatic=False)
    with pytest.raises(ApprovalError, match="signed already"):
        await begin(rig, request, T0, automatic=False)
    with pytest.raises(ApprovalError, match="No such"):
        await begin(rig, rig.request(), T0, automatic=False)


async def test_without_a_grant_nothing_begins_automatically(rig: Rig) -> None:
    request = await ask(rig, 1, T0)
    with pytest.raises(ApprovalError, match="no grant"):
        await begin(rig, request, T0)


@pytest.mark.parametrize("later_us", [0, DAY_US // 2, DAY_US - 1])
async def test_the_day_is_any_24_hours(rig: Rig, later_us: int) -> None:
    await rig.db.write(grant)
    await begin(rig, await ask(rig, 10 * UNIT, T0), T0)
    with pytest.raises(ApprovalError, match="24 hours"):
        await begin(rig, await ask(rig, 1, T0 + later_us), T0 + later_us)
    await begin(rig, await ask(rig, 10 * UNIT, T0 + DAY_US), T0 + DAY_US)


async def test_every_covering_grant_counts_the_payments_of_its_own_scope(rig: Rig) -> None:
    await rig.db.write(grant)
    await rig.db.write(lambda tx: grant(tx, day=4, scope="peer", subject="south"))
    await begin(rig, await ask(rig, 4 * UNIT, T0), T0)
    with pytest.raises(ApprovalError, match="24 hours"):
        await begin(rig, await ask(rig, UNIT, T0), T0)
    await begin(rig, await ask(rig, 6 * UNIT, T0, "north"), T0)
    with pytest.raises(ApprovalError, match="24 hours"):
        await begin(rig, await ask(rig, 1, T0, "north"), T0)
    spent = {g.key: g.spent_total_u for g in await rig.db.read(grant_store.grants)}
    assert spent == {("node", ""): 10 * UNIT, ("peer", "south"): 4 * UNIT}


async def test_one_allowance_holds_for_a_whole_batch_and_nothing_else(rig: Rig) -> None:
    await rig.db.write(lambda tx: grant(tx, day=3, total=3, scope="job", subject="batch"))

    async def asked(submission: str) -> PaymentRequest:
        request = rig.request(UNIT, submission=submission)
        await rig.db.write(lambda tx: store.insert(tx, request, T0))
        return request

    for _ in range(3):
        await begin(rig, await asked("batch"), T0)
    with pytest.raises(ApprovalError, match=r"24 hours|used up"):
        await begin(rig, await asked("batch"), T0)
    with pytest.raises(ApprovalError, match="no grant"):
        await begin(rig, await asked(""), T0)


async def test_the_total_is_used_up_for_good(rig: Rig) -> None:
    await rig.db.write(lambda tx: grant(tx, day=10, total=15))
    await begin(rig, await ask(rig, 10 * UNIT, T0), T0)
    later_us = T0 + 2 * DAY_US
    with pytest.raises(ApprovalError, match="used up"):
        await begin(rig, await ask(rig, 5 * UNIT + 1, later_us), later_us)
    await begin(rig, await ask(rig, 5 * UNIT, later_us), later_us)


async def test_a_refused_beginning_changes_nothing(rig: Rig) -> None:
    await rig.db.write(lambda tx: grant(tx, day=1))
    request = await ask(rig, 2 * UNIT, T0)
    with pytest.raises(ApprovalError):
        await begin(rig, request, T0)
    record = await rig.db.read(lambda tx: store.get(tx, request.request_id))
    assert record is not None
    assert (record.state, record.debited_us) == ("waiting", None)
    assert [g.spent_total_u for g in await rig.db.read(grant_store.grants)] == [0]
