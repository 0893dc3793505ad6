"""Latency of the guild verbs between services on one loop, without a network in between."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from tests.engine.guilds.world import World
from zstui.engine.clock import SystemClock
from zstui.engine.events import GuildChanged, GuildMessageReceived

ROUNDS = 40


async def _ms(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000


async def measure() -> dict[str, float]:
    """Medians in milliseconds; a message is timed from ``send`` to being stored by the other member."""
    times: dict[str, list[float]] = {"create": [], "join": [], "leave": [], "message": []}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), SystemClock())
        try:
            creator, member = await world.add("creator", "member")
            for number in range(ROUNDS):
                name = f"bench {number}"
                seen = member.events(GuildChanged)
                times["create"].append(await _ms(creator.guilds.create(name, 3600, 50, False)))
                guild_id = creator.guilds.resolve(name)
                async for change in seen:
                    if change.guild_id == guild_id:
                        break
                seen.close()
                times["join"].append(await _ms(member.guilds.join(guild_id, "member")))
                arrived = member.events(GuildMessageReceived)
                started = time.perf_counter()
                await creator.guilds.send(guild_id, "hello")
                async for event in arrived:
                    if not (await member.guilds.message(event.guild_id, event.number)).system:
                        break
                times["message"].append((time.perf_counter() - started) * 1000)
                arrived.close()
                times["leave"].append(await _ms(member.guilds.leave(guild_id)))
                await creator.guilds.dissolve(guild_id)
        finally:
            await world.stop()
    return {f"{verb}_ms_p50": round(statistics.median(values), 3) for verb, values in times.items()}


if __name__ == "__main__":
    print(asyncio.run(measure()))
