"""Approval over real channels: two nodes, their databases, the wire between them, and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.approvals.support import UNIT, Approvals, Rig
from tests.engine.channels.rig import Node, until
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.channels.approvals.schema import SCHEMA
from zstui.engine.config import Settings
from zstui.engine.errors import ChannelError
from zstui.engine.net.memory import MemoryHub


class Payer(Node):
    """A node that also approves payments, in the same database."""

    approvals: Approvals

    async def start(self) -> Payer:
        self.schema = (*channel_schema.SCHEMA, *SCHEMA)
        await super().start()
        self.on_acknowledged = lambda tx, channel, peer, line: self.approvals.acknowledged(tx, peer, line)
        self.on_undone = lambda tx, channel, peer, line: self.approvals.undone(tx, peer, line)
        context = Rig(self.path).context
        self.approvals = Approvals(
            self.db,
            self.bus,
            self.clock,
            channel=self.service.active_with,
            pay=self.service.pay,
            context=context,
            due=lambda request: request.amount_u,
            settings=Settings(home=self.path.parent),
        )
        await self.approvals.start()
        return self

    async def stop(self) -> None:
        await self.memory.stop()
        await self.approvals.stop()
        await super().stop()


class World:
    def __init__(self, folder: Path) -> None:
        hub = MemoryHub()
        self.payer, self.payee = Payer(hub, 1, folder), Node(hub, 2, folder)
        self.requests = Rig(folder / "unused")

    def request(self, amount_u: int) -> PaymentRequest:
        return self.requests.request(amount_u, self.payee.id)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.payer.start()
    await world.payee.start()
    await world.payer.service.open(world.payee.id, 100 * UNIT, 0, 86_400)
    yield world
    await world.payer.stop()
    await world.payee.stop()


async def test_an_approved_payment_reaches_the_payee_and_is_acknowledged(world: World) -> None:
    request = world.request(12 * UNIT)
    asked = await world.payer.approvals.add(request)
    assert (asked.before_u, asked.after_u) == (100 * UNIT, 88 * UNIT)
    paid = await world.payer.approvals.pay(request.request_id, 12 * UNIT, True)
    assert (paid.state, paid.sequence, paid.channel_id) == ("paid", asked.sequence, asked.channel_id)
    channel = world.payer.service.active_with(world.payee.id)
    assert channel is not None
    assert (channel.mine_u, channel.theirs_u) == (paid.after_u, paid.peer_after_u)
    assert await world.payee.count("credited") == (1, 12 * UNIT)


async def test_many_in_a_grant_at_once_share_pays_and_stop_at_the_limit(world: World) -> None:
    approvals = world.payer.approvals
    await approvals.set_grant("node", per_payment_u=UNIT, per_day_u=30 * UNIT, total_u=100 * UNIT)
    views = await asyncio.gather(*(approvals.add(world.request(UNIT)) for _ in range(40)))
    assert [view.state for view in views].count("paid") == 30
    assert await world.payee.count("credited") == (30, 30 * UNIT)
    assert approvals.policy().grants[0].spent_day_u == 30 * UNIT


async def test_what_was_signed_while_the_payee_was_away_is_paid_once_after_a_restart(world: World) -> None:
    request = world.request(UNIT)
    await world.payer.approvals.add(request)
    await world.payee.stop()
    assert (await world.payer.approvals.pay(request.request_id, UNIT, False)).state == "paying"
    await world.payer.stop()
    await world.payer.start()
    assert [view.state for view in world.payer.approvals.views()] == ["paying"]
    await world.payee.start()
    await until(lambda: world.payer.approvals.view(request.request_id).state == "paid")
    assert await world.payee.count("credited") == (1, UNIT)


async def test_together_they_cannot_spend_more_than_the_channel_holds(world: World) -> None:
    approvals = world.payer.approvals
    requests = [world.request(60 * UNIT) for _ in range(2)]
    for request in requests:
        assert (await approvals.add(request)).urgency == "typed"
    results = await asyncio.gather(
        *(approvals.pay(request.request_id, 60 * UNIT, True) for request in requests), return_exceptions=True
    )
    assert sum(isinstance(result, ChannelError) for result in results) == 1
    assert await world.payee.count("credited") == (1, 60 * UNIT)
    (owed,) = approvals.views()
    assert owed.state in ("failed", "waiting")
    assert (owed.urgency, owed.why) == ("blocked", "the channel holds only 40.000")


async def test_a_closed_channel_settles_what_was_approved(world: World) -> None:
    request = world.request(UNIT)
    await world.payer.approvals.add(request)
    await world.payer.approvals.pay(request.request_id, UNIT, False)
    channel = world.payer.service.active_with(world.payee.id)
    assert channel is not None
    await world.payer.service.close(channel.channel_id)
    late = await world.payer.approvals.add(world.request(UNIT))
    assert (late.urgency, late.why) == ("blocked", "no open channel with this peer")
    assert world.payer.approvals.view(request.request_id).state == "paid"


@pytest.mark.parametrize("counted", [0, 1])
async def test_what_a_verdict_does_not_count_is_owed_again(world: World, counted: int) -> None:
    """Two payments on their way when the witnesses decide; ``counted`` of them are in the verdict."""
    payer, approvals = world.payer, world.payer.approvals
    channel = payer.service.views()[0].channel_id
    payer.hub.cut(payer.id, world.payee.id)
    requests = [world.request(UNIT) for _ in range(2)]
    for request in requests:
        await approvals.add(request)
        assert (await approvals.pay(request.request_id, UNIT, True)).state == "paying"
    await payer.service.decide(channel, counted * UNIT, 0)
    states = ["paid"] * counted + ["failed"] * (2 - counted)
    ids = [request.request_id for request in requests]
    await until(lambda: [approvals.view(i).state for i in ids] == states)
    assert payer.service.owed() == (0, counted * UNIT)
    payer.hub.link(payer.id, world.payee.id)
    await world.payee.service.decide(channel, 0, counted * UNIT)
    await payer.service.open(world.payee.id, 100 * UNIT, 0, 86_400)
    for i in ids[counted:]:
        await approvals.reopen(i)
        assert (await approvals.pay(i, UNIT, True)).state == "paid"
