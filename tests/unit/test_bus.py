from __future__ import annotations

import asyncio

from zstui.engine.bus import Bus
from zstui.engine.clock import ManualClock
from zstui.engine.events import Event, JobChanged, PeerChanged


async def test_types_select_and_order_is_kept() -> None:
    bus = Bus()
    jobs, everything = bus.subscribe(JobChanged), bus.subscribe(Event)
    for event in (JobChanged("a"), PeerChanged("p"), JobChanged("b")):
        bus.publish(event)
    jobs.close()
    everything.close()
    assert [e.job_id async for e in jobs] == ["a", "b"]
    assert [type(e) async for e in everything] == [JobChanged, PeerChanged, JobChanged]


async def test_a_slow_reader_loses_the_oldest_and_knows() -> None:
    bus = Bus()
    slow = bus.subscribe(JobChanged, limit=3)
    for number in range(5):
        bus.publish(JobChanged(str(number)))
    slow.close()
    assert slow.dropped == 2
    assert [e.job_id async for e in slow] == ["2", "3", "4"]


async def test_a_waiting_reader_wakes() -> None:
    bus = Bus()
    subscription = bus.subscribe(JobChanged)
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    bus.publish(JobChanged("x"))
    assert (await waiting).job_id == "x"
    subscription.close()


async def test_manual_clock_wakes_sleepers_in_order() -> None:
    clock = ManualClock()
    order: list[int] = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep(seconds)
        order.append(seconds)

    tasks = [asyncio.create_task(sleeper(s)) for s in (30, 10, 20)]
    await asyncio.sleep(0)
    await clock.advance(25)
    assert order == [10, 20]
    await clock.advance(5)
    assert order == [10, 20, 30]
    await asyncio.gather(*tasks)
