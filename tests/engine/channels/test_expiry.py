"""The edges of a channel's life, to the microsecond: when its payer stops, until when its payee takes what comes, and clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.channels.puppet import Puppet
from tests.engine.channels.rig import Node, line, until
from zstui.engine.channels import closing, model
from zstui.engine.channels.messages import Ack, Settle
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.clock import US, ManualClock
from zstui.engine.errors import ChannelError
from zstui.engine.net.memory import MemoryHub

pytestmark = pytest.mark.usefixtures("clean")

LIFE_S = 3_600
DAY_S = 86_400


@pytest.fixture(autouse=True)
def stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel closes by itself five minutes before it expires, which would hide the edges after that."""
    monkeypatch.setattr(closing, "closes_at", lambda channel: channel.expires_us + DAY_S * US)


async def opened(tmp_path: Path) -> tuple[Node, Puppet, ManualClock]:
    clock, hub = ManualClock(), MemoryHub()
    node, puppet = await Node(hub, 1, tmp_path, clock).start(), Puppet(hub, 2)
    now_ms = clock.now_us() // 1000
    await puppet.dial(node)
    await puppet.open(node, 10_000, 5_000, created_ms=now_ms, expires_ms=now_ms + LIFE_S * 1000)
    return node, puppet, clock


def record(node: Node, puppet: Puppet) -> Channel:
    return node.service.record(puppet.ch.hex())


async def test_the_payer_stops_60_s_before_expiry(tmp_path: Path) -> None:
    node, puppet, _ = await opened(tmp_path)
    channel, last_us = record(node, puppet), record(node, puppet).expires_us - 60 * US
    channel.check_payable(1, 0, last_us - 1, in_step=True)
    with pytest.raises(ChannelError, match="about to expire"):
        channel.check_payable(1, 0, last_us, in_step=True)


async def test_the_service_pays_until_60_s_before_expiry(tmp_path: Path) -> None:
    node, puppet, clock = await opened(tmp_path)
    await clock.advance(LIFE_S - 61)
    await puppet.take_pay(node, 100)
    await clock.advance(1)
    with pytest.raises(ChannelError, match="about to expire"):
        await node.service.pay(puppet.ch.hex(), line(100))


@pytest.mark.parametrize(
    ("issued_before_ms", "arrives_after_s", "taken"),
    [
        (1, 0, True),
        (1, 300, True),
        (1, 301, False),
        (0, 0, False),
        (0, 300, False),
    ],
)
async def test_the_payee_takes_what_was_issued_before_expiry_for_300_s(
    tmp_path: Path, issued_before_ms: int, arrives_after_s: int, taken: bool
) -> None:
    node, puppet, clock = await opened(tmp_path)
    expires_ms = record(node, puppet).expires_us // 1000
    await clock.advance(LIFE_S + arrives_after_s)
    await puppet.send(puppet.pay(100, issued_ms=expires_ms - issued_before_ms))
    if taken:
        assert (await puppet.receive(Ack))[1].seq == 1
        assert record(node, puppet).inn.cum == 100
    else:
        assert await puppet.dropped()
        assert record(node, puppet).inn.cum == 0
        assert record(node, puppet).state is State.ACTIVE


@pytest.mark.parametrize("wrong_s", [-DAY_S, DAY_S])
async def test_a_payers_clock_off_by_a_day(tmp_path: Path, wrong_s: int) -> None:
    """Set wrong after opening: a payment from the past counts, one from after the channel's end does not; nobody is accused."""
    node, puppet, clock = await opened(tmp_path)
    await puppet.send(puppet.pay(100, issued_ms=(clock.now_us() // US + wrong_s) * 1000))
    if wrong_s < 0:
        assert (await puppet.receive(Ack))[1].cum == 100
    else:
        assert await puppet.dropped()
    assert record(node, puppet).state is State.ACTIVE
    assert not await node.evidence(puppet.ch.hex())


async def test_my_own_clock_a_day_ahead_closes_and_forfeits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "closes_at", model.closes_at)
    node, puppet, clock = await opened(tmp_path)
    await puppet.send(puppet.pay(100))
    await puppet.receive(Ack)
    await clock.advance(DAY_S)
    with pytest.raises(ChannelError):
        await node.service.pay(puppet.ch.hex(), line(1))
    await until(lambda: record(node, puppet).state in (State.CLOSING, State.DISPUTED))
    assert record(node, puppet).inn.cum == 100
    await puppet.send(puppet.close())
    await puppet.send((await puppet.receive(Settle))[1])
    await until(lambda: record(node, puppet).state is State.CLOSED)
    assert (record(node, puppet).reason, node.service.owed()) == ("cooperative", (100, 0))
