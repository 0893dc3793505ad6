"""The whole workflow between two services."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.channels.rig import Node, line, state, until
from zstui.engine import events
from zstui.engine.channels import model, service
from zstui.engine.channels.state import State
from zstui.engine.errors import (
    BadInput,
    ChannelError,
    CreditExceeded,
    IllegalTransition,
    InsufficientBalance,
    UnknownChannel,
    Unreachable,
)
from zstui.engine.store.database import Tx

DAY = 86_400
Pair = tuple[Node, Node]


async def test_open_pay_close(pair: Pair) -> None:
    a, b = pair
    view = await a.service.open(b.id, 100_000, 50_000, DAY)
    id = view.channel_id
    assert (view.state, view.epoch, view.mine_u, view.theirs_u) == ("active", 1, 100_000, 50_000)
    assert view.peer_name == "node2"
    theirs = b.service.view(id)
    assert (theirs.state, theirs.mine_u, theirs.theirs_u) == ("active", 50_000, 100_000)

    payment = await a.service.pay(id, line(30_000))
    assert (payment.channel_id, payment.sequence, payment.acknowledged) == (id, 1, True)
    back = await b.service.pay(id, line(5_000))
    assert back.acknowledged
    assert a.service.view(id).mine_u == b.service.view(id).theirs_u == 75_000
    assert await b.count("credited") == (1, 30_000)
    assert await a.count("acknowledged") == (1, 30_000)
    assert await a.count("credited") == (1, 5_000)

    closed = await a.service.close(id)
    assert (closed.state, closed.reason) == ("closed", "cooperative")
    await until(lambda: state(b, id) is State.CLOSED)
    assert a.service.owed() == (0, 25_000)
    assert b.service.owed() == (25_000, 0)
    assert b.service.ledger()[0].owed_to_me_u == 25_000
    assert a.service.active_with(b.id) is None
    assert a.seen(events.ChannelClosed) == [events.ChannelClosed(id, "cooperative")]
    statuses = [e.status for e in a.seen(events.PaymentProcessed) if isinstance(e, events.PaymentProcessed)]
    assert sorted(statuses) == ["received", "sent"]


async def test_a_pair_can_open_again(pair: Pair) -> None:
    a, b = pair
    first = await a.service.open(b.id, 10_000, 0, DAY)
    await a.service.close(first.channel_id)
    await until(lambda: state(b, first.channel_id) is State.CLOSED)
    second = await b.service.open(a.id, 20_000, 0, DAY)
    assert second.epoch == 2
    assert second.channel_id != first.channel_id


async def test_many_payments_at_once_share_envelopes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    monkeypatch.setattr(service, "ACK_WAIT_S", 30.0)
    id = (await a.service.open(b.id, 1_000_000, 0, DAY)).channel_id
    payments = await asyncio.gather(*(a.service.pay(id, line(10)) for _ in range(500)))
    assert all(p.acknowledged for p in payments)
    assert a.service.view(id).sequence < 100
    assert await b.count("credited") == (500, 5_000)
    assert await a.count("acknowledged") == (500, 5_000)


async def test_what_cannot_be_paid(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    with pytest.raises(InsufficientBalance, match=r"holds 0\.010 on your side and this payment needs 0\.010001"):
        await a.service.pay(id, line(10_001))
    with pytest.raises(InsufficientBalance, match=r"holds 0\.000"):
        await b.service.pay(id, line(1))
    once = line(100, no=7, agreement=b"x" * 32)
    await a.service.pay(id, once)
    with pytest.raises(ChannelError, match="paid before"):
        await a.service.pay(id, once)
    with pytest.raises(UnknownChannel):
        await a.service.pay("00" * 32, line(1))
    with pytest.raises(UnknownChannel):
        await a.service.pay("nonsense", line(1))
    await a.service.close(id)
    with pytest.raises(IllegalTransition, match="closed"):
        await a.service.pay(id, line(1))
    with pytest.raises(IllegalTransition):
        await a.service.close(id)
    assert await b.count("credited") == (1, 100)


async def test_also_runs_in_the_payments_transaction(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id

    def refuse(tx: Tx) -> None:
        tx.execute("INSERT INTO credited VALUES ('x', x'00', 0, 1)")
        raise ChannelError("The budget is spent.")

    good, bad = line(10), line(20)
    results = await asyncio.gather(a.service.pay(id, good), a.service.pay(id, bad, also=refuse), return_exceptions=True)
    assert isinstance(results[1], ChannelError)
    assert await a.count("credited") == (0, 0)
    await a.service.pay(id, bad, also=lambda tx: None)
    assert await b.count("credited") == (2, 30)


async def test_terms_and_limits(pair: Pair) -> None:
    a, b = pair
    for mine, theirs, life in (
        (999, 0, DAY),
        (1_000_000_001, 0, DAY),
        (1_000, 999, DAY),
        (1_000, 0, 10),
        (1_000, 0, 10**9),
    ):
        with pytest.raises(BadInput):
            await a.service.open(b.id, mine, theirs, life)
    with pytest.raises(BadInput):
        await a.service.open(a.id, 1_000, 0, DAY)
    b.limit = 5_000
    with pytest.raises(CreditExceeded, match=r"0\.005"):
        await a.service.open(b.id, 5_001, 0, DAY)
    a.limit = 5_000
    with pytest.raises(CreditExceeded):
        await a.service.open(b.id, 5_000, 5_001, DAY)
    view = await a.service.open(b.id, 5_000, 0, DAY)
    with pytest.raises(ChannelError, match="active already"):
        await a.service.open(b.id, 1_000, 0, DAY)
    with pytest.raises(ChannelError, match="active already"):
        await b.service.open(a.id, 1_000, 0, DAY)
    await a.service.pay(view.channel_id, line(3_000))
    await a.service.close(view.channel_id)
    await until(lambda: state(b, view.channel_id) is State.CLOSED)
    with pytest.raises(CreditExceeded, match=r"0\.002"):
        await a.service.open(b.id, 2_001, 0, DAY)
    await a.service.open(b.id, 2_000, 0, DAY)


async def test_unreachable_peer(pair: Pair) -> None:
    a, b = pair
    a.hub.cut(a.id, b.id)
    with pytest.raises(Unreachable):
        await a.service.open(b.id, 1_000, 0, DAY)
    assert a.service.views() == []


async def test_resolve(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 1_000, 0, DAY)).channel_id
    assert a.service.resolve(id[:6]) == a.service.resolve(id.upper()) == id
    for text in (id[:3], "ffff" + id[:4], ""):
        with pytest.raises(UnknownChannel):
            a.service.resolve(text)


async def test_a_credit_limit_for_one_peer(pair: Pair) -> None:
    a, b = pair
    assert (await b.service.set_credit(a.id, 5_000)).credit_limit_u == 5_000
    with pytest.raises(CreditExceeded, match=r"0\.005"):
        await a.service.open(b.id, 5_001, 0, DAY)
    await b.stop()
    await b.start()
    assert [line.credit_limit_u for line in b.service.ledger()] == [5_000]
    assert (await b.service.set_credit(a.id, None)).credit_limit_u == b.limit
    await a.service.open(b.id, 5_001, 0, DAY)
    for wrong in (-1, 10**12):
        with pytest.raises(BadInput):
            await b.service.set_credit(a.id, wrong)


async def test_the_window_counts_payments_and_amounts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 1_000_000_000, 0, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    assert not (await a.service.pay(id, line(150_000_000))).acknowledged
    with pytest.raises(ChannelError, match=r"150\.000 wait for the peer's acknowledgement"):
        await a.service.pay(id, line(1))
    a.hub.link(a.id, b.id)
    await until(lambda: a.service.view(id).unacknowledged == 0)
    monkeypatch.setattr(model, "WINDOW", 2)
    a.hub.cut(a.id, b.id)
    for _ in range(2):
        await a.service.pay(id, line(1))
    with pytest.raises(ChannelError, match="2 payments wait"):
        await a.service.pay(id, line(1))
    a.hub.link(a.id, b.id)
    await until(lambda: a.service.view(id).unacknowledged == 0)
    assert (await a.service.pay(id, line(1))).acknowledged
