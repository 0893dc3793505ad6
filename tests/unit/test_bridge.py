"""The bridge: current views, coalesced calls, and a word when the node is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tests.support import samples
from tests.support.fake_engine import FakeEngine
from zstui.bridge import LOG_LINES, MAX_HZ, MESSAGES, OUTPUT_TAIL, OUTPUTS, TURN, Bridge
from zstui.engine import views as v


@asynccontextmanager
async def started() -> AsyncIterator[tuple[FakeEngine, Bridge]]:
    engine = FakeEngine()
    bridge = Bridge(engine)
    await bridge.start()
    try:
        yield engine, bridge
    finally:
        await bridge.stop()


async def _flushed(engine: FakeEngine) -> None:
    await engine.taken()
    await asyncio.sleep(1.5 / MAX_HZ)


async def test_a_burst_is_one_call_with_the_ids_that_changed() -> None:
    async with started() as (engine, bridge):
        calls: list[set[str]] = []
        bridge.watch("peers", lambda: calls.append(set(bridge.changed["peers"])))
        north = engine.peers[samples.NORTH]
        for n in range(1000):
            engine.push(v.PeerUpdated(view=msgspec.structs.replace(north, rtt_ms=float(n))))
        engine.push(v.Removed(area="peers", key=samples.WEST))
        await _flushed(engine)
        assert calls == [{samples.NORTH, samples.WEST}]
        assert bridge.peers[samples.NORTH].rtt_ms == 999.0
        assert samples.WEST not in bridge.peers
        assert bridge.changed == {}


async def test_calls_come_at_most_ten_times_a_second() -> None:
    async with started() as (engine, bridge):
        calls = 0

        def called() -> None:
            nonlocal calls
            calls += 1

        bridge.watch("peers", called)
        began = time.monotonic()
        while time.monotonic() - began < 0.6:
            engine.push(v.PeerUpdated(view=engine.peers[samples.NORTH]))
            await asyncio.sleep(0.002)
        assert 1 <= calls <= MAX_HZ * (time.monotonic() - began) + 1


async def test_a_flood_leaves_turns_to_others() -> None:
    async with started() as (engine, bridge):
        north = engine.peers[samples.NORTH]
        for n in range(5000):
            engine.push(v.PeerUpdated(view=msgspec.structs.replace(north, rtt_ms=float(n))))
        seen: set[float | None] = set()
        while bridge.peers[samples.NORTH].rtt_ms != 4999.0:
            await asyncio.sleep(0)
            seen.add(bridge.peers[samples.NORTH].rtt_ms)
        assert len(seen) >= 5000 // TURN


async def test_an_ended_watch_is_not_called() -> None:
    async with started() as (engine, bridge):
        calls: list[int] = []
        stop = bridge.watch("jobs", lambda: calls.append(1))
        stop()
        stop()
        engine.push(v.JobUpdated(view=samples.job("x", "x.wasm", "queued")))
        await _flushed(engine)
        assert not calls


async def test_what_a_stranger_can_grow_is_bounded() -> None:
    async with started() as (engine, bridge):
        for n in range(OUTPUTS + 5):
            engine.push(v.JobOutput(job_id=f"job{n}", stream="stdout", offset=0, data=b"x" * OUTPUT_TAIL))
            engine.push(v.JobOutput(job_id=f"job{n}", stream="stdout", offset=0, data=b"end"))
        message = v.GuildMessageView(guild_id="g", sender="p", sender_name="p", text="hi", sent_at=0)
        for _ in range(MESSAGES + 5):
            engine.push(v.GuildMessage(view=message))
        line = v.LogLine(at_us=0, level="info", area="net", text="x")
        dropped = LOG_LINES - len(bridge.log)
        for _ in range(LOG_LINES + 5):
            engine.push(v.Logged(line=line))
        await _flushed(engine)
        assert len(bridge.output) == OUTPUTS
        assert "job0" not in bridge.output
        assert all(len(tail) == OUTPUT_TAIL and tail.endswith(b"end") for tail in bridge.output.values())
        assert len(bridge.messages["g"]) == MESSAGES
        assert len(bridge.log) == LOG_LINES
        assert bridge.log_dropped == LOG_LINES + 5 - dropped


async def test_the_end_of_the_feed_is_told() -> None:
    async with started() as (engine, bridge):
        told = asyncio.Event()
        bridge.watch("status", told.set)
        engine.lose()
        await asyncio.wait_for(told.wait(), 20)
        assert bridge.lost == "the node stopped"


class Breaking(FakeEngine):
    """A feed that fails as a broken control socket does."""

    def events(self) -> AsyncIterator[v.Feed]:
        async def stream() -> AsyncIterator[v.Feed]:
            if self.executed:
                yield v.StatusUpdated(view=self.status)
            raise ConnectionResetError("the socket closed")

        return stream()


async def test_a_broken_feed_is_told_with_its_reason() -> None:
    engine = Breaking()
    bridge = Bridge(engine)
    await bridge.start()
    await _flushed(engine)
    assert bridge.lost == "the socket closed"
    await bridge.stop()
