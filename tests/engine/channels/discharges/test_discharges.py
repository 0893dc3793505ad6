"""A debt that was paid outside is gone once both have signed, exactly once, and never before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.engine.channels.rig import Node, identity, line, names, running, state, until
from zstui.engine.channels.discharges.messages import Discharge
from zstui.engine.channels.discharges.service import DischargeService
from zstui.engine.channels.drivers import DRIVERS
from zstui.engine.channels.messages import read, take
from zstui.engine.channels.state import State
from zstui.engine.errors import BadInput, ChannelError, ZsError
from zstui.engine.events import Notice
from zstui.engine.identity.envelope import seal
from zstui.engine.net.link import DISCHARGE_PROTOCOL
from zstui.engine.net.memory import MemoryHub

DAY = 86_400


class Trader(Node):
    async def start(self) -> Trader:
        await super().start()
        self.discharges = DischargeService(
            self.identity,
            self.memory,
            self.db,
            self.bus,
            self.clock,
            self.service.books,
            name_of=lambda peer: names.get(peer, peer[-6:]),
        )
        await self.discharges.start()
        return self

    async def stop(self) -> None:
        await self.discharges.stop()
        await super().stop()


Pair = tuple[Trader, Trader]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """a owes b 30 over a closed channel that settles manually."""
    hub = MemoryHub()
    a, b = await Trader(hub, 1, tmp_path).start(), await Trader(hub, 2, tmp_path).start()
    id = (await a.service.open(b.id, 1_000, 0, DAY, driver="manual")).channel_id
    await a.service.pay(id, line(30))
    await a.service.close(id)
    await until(lambda: state(b, id) is State.CLOSED)
    yield a, b
    for node in tuple(running):
        await node.stop()


async def status(node: Trader) -> str:
    def ask(tx: object) -> str:
        ref = next(c.id for c in node.service.books.records.values())
        return DRIVERS["manual"].status(tx, ref)  # type: ignore[arg-type]

    return await node.db.read(ask)


@pytest.mark.parametrize("proposer", ["debtor", "creditor"])
async def test_both_sign_and_the_debt_is_less(pair: Pair, proposer: str) -> None:
    a, b = pair
    one, two = (a, b) if proposer == "debtor" else (b, a)
    view = await one.discharges.propose(two.id, 12, "cash, tuesday")
    assert (view.state, view.owed_to_me) == ("proposed", one is b)
    waiting = (await two.discharges.views())[0]
    assert (waiting.state, waiting.amount_u, waiting.note) == ("waiting", 12, "cash, tuesday")
    assert (a.service.owed(), b.service.owed()) == ((0, 30), (30, 0)), "nothing before both have signed"
    await two.discharges.confirm(bytes.fromhex(waiting.discharge_id))
    await until(lambda: (a.service.owed(), b.service.owed()) == ((0, 18), (18, 0)))
    assert [(await n.discharges.views())[0].state for n in pair] == ["signed", "signed"]
    assert await status(a) == "posted"
    with pytest.raises(ChannelError):
        await two.discharges.confirm(bytes.fromhex(waiting.discharge_id))
    await one.discharges.propose(two.id, 18, "")
    await two.discharges.confirm(bytes.fromhex((await two.discharges.views())[0].discharge_id))
    await until(lambda: (a.service.owed(), b.service.owed()) == ((0, 0), (0, 0)))
    assert await status(a) == await status(b) == "discharged"
    for node in pair:
        total = await node.db.read(lambda tx: tx.execute("SELECT sum(amount_u) FROM ledger_postings").fetchone()[0])
        assert total == 0
        ref = bytes.fromhex(waiting.discharge_id)
        assert await node.db.read(lambda tx, ref=ref: DRIVERS["manual"].verify_incoming(tx, ref))  # type: ignore[misc]


async def test_declined_and_too_much(pair: Pair) -> None:
    a, b = pair
    with pytest.raises(BadInput, match=r"Only 0\.00003 "):
        await a.discharges.propose(b.id, 31, "")
    with pytest.raises(BadInput, match="above 0"):
        await a.discharges.propose(b.id, 0, "")
    view = await a.discharges.propose(b.id, 30, "")
    id = bytes.fromhex(view.discharge_id)
    assert (await b.discharges.decline(id)).state == "declined"
    a.hub.cut(a.id, b.id)
    a.hub.link(a.id, b.id)
    await until(lambda: any("did not confirm" in e.text for e in a.seen(Notice) if isinstance(e, Notice)))
    await asyncio.sleep(0.05)
    assert (await a.discharges.views())[0].state == "declined"
    with pytest.raises(ChannelError):
        await b.discharges.confirm(id)
    assert (a.service.owed(), b.service.owed()) == ((0, 30), (30, 0))


async def test_an_answer_that_was_lost_is_asked_for_again(pair: Pair) -> None:
    a, b = pair
    view = await a.discharges.propose(b.id, 30, "")
    a.hub.cut(a.id, b.id)
    await b.discharges.confirm(bytes.fromhex(view.discharge_id))
    assert b.service.owed() == (0, 0)
    assert a.service.owed() == (0, 30)
    await a.stop()
    a.hub.link(a.id, b.id)
    await a.start()
    await until(lambda: a.service.owed() == (0, 0))


async def test_forged_foreign_and_replayed_discharges_change_nothing(pair: Pair) -> None:
    a, b = pair
    view = await a.discharges.propose(b.id, 10, "")
    raw = await b.db.read(lambda tx: tx.execute("SELECT theirs FROM discharge").fetchone()[0])
    body = read(take(raw), Discharge)
    stranger = identity(5)
    for forged in (
        seal(stranger, body),
        seal(a.identity, msgspec.structs.replace(body, creditor=stranger.public_key)),
        raw[:-1] + bytes([raw[-1] ^ 1]),
    ):
        with pytest.raises(ZsError):
            await a.memory.request(b.id, DISCHARGE_PROTOCOL, forged)
    await b.discharges.confirm(bytes.fromhex(view.discharge_id))
    await until(lambda: a.service.owed() == (0, 20))
    for _ in range(3):
        await a.memory.request(b.id, DISCHARGE_PROTOCOL, raw)
    assert b.service.owed() == (20, 0)
    turned = msgspec.structs.replace(body, debtor=body.creditor, creditor=body.debtor)
    await a.memory.request(b.id, DISCHARGE_PROTOCOL, seal(a.identity, turned))
    assert len(await b.discharges.views()) == 1, "nothing is owed that way round"


async def test_a_peer_that_proposes_without_end_is_refused(pair: Pair) -> None:
    a, b = pair
    for _ in range(20):
        try:
            await a.discharges.propose(b.id, 1, "")
        except ChannelError:
            break
    assert len(await b.discharges.views()) <= 16


async def test_a_driver_that_nobody_knows(pair: Pair) -> None:
    a, b = pair
    with pytest.raises(BadInput, match="ledger or manual"):
        await a.service.open(b.id, 1_000, 0, DAY, driver="gold")
