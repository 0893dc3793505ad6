"""Guilds over loopback QUIC between three processes: the creator in one, 49 members in the two others.

Every peer has its own endpoint, key and database; both sides of each step are durable before it counts as done. A message
ends when the other process has stored it, a rekey when the last of 49 members in the other processes holds the new key.
``bytes_*`` are the values stored on the creator's disk.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROUNDS = 30
AT_ONCE = 12
MEMBERS = 50
PROCESSES = 2


class Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, home: Path, names: list[str]) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.guild_process", str(home), *names),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started = cls(process)
        await started._line()
        return started

    async def __call__(self, verb: str, peer: int = 0, *args: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, peer, *args]).encode() + b"\n")
        return await self._line()

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        shares = [[f"m{n}" for n in range(MEMBERS - 1)][i::PROCESSES] for i in range(PROCESSES)]
        for home in ("creator", *(f"members{i}" for i in range(PROCESSES))):
            (Path(folder) / home).mkdir()  # nothing else runs yet
        processes = await asyncio.gather(
            Process.start(Path(folder) / "creator", ["creator"]),
            *(Process.start(Path(folder) / f"members{i}", share) for i, share in enumerate(shares)),
        )
        try:
            creator, *members = processes
            return {**await _verbs(creator, members[0]), **await _many(creator), **await _crowd(creator, members)}
        finally:
            await asyncio.gather(*(process.stop() for process in processes))


async def _verbs(creator: Process, member: Process) -> dict[str, float]:
    times: dict[str, list[float]] = {"create": [], "join": [], "leave": [], "message": []}
    for number in range(ROUNDS):
        created = await creator("create", 0, f"bench {number}")
        guild = created["result"]
        invite = (await creator("invite", 0, guild, 1))["result"]
        joined = await member("join", 0, invite)
        waiting = asyncio.create_task(member("unread", 0, guild, 1))
        sent = await creator("send", 0, guild, "hello")
        stored = await waiting
        left = await member("leave", 0, guild)
        await creator("dissolve", 0, guild)
        if number:  # the first join also makes the link
            times["create"].append(created["ms"])
            times["join"].append(joined["ms"])
            times["leave"].append(left["ms"])
            times["message"].append((stored["ended"] - sent["began"]) * 1000)
    return {f"{verb}_ms_p50": round(statistics.median(values), 3) for verb, values in times.items()}


async def _many(creator: Process) -> dict[str, float]:
    made = await creator("create many", 0, AT_ONCE)
    for guild in made["result"]:
        await creator("dissolve", 0, guild)
    return {"creates_per_s": round(AT_ONCE / made["ms"] * 1000, 1)}


async def _crowd(creator: Process, members: list[Process]) -> dict[str, float]:
    guild = (await creator("create", 0, "crowd"))["result"]
    alone = (await creator("bytes", 0, guild))["result"]
    invite = (await creator("invite", 0, guild, MEMBERS))["result"]
    await asyncio.gather(*(process("join all", 0, invite) for process in members))
    full = (await creator("bytes", 0, guild))["result"]
    leaver = (await members[0]("ids"))["result"][0]
    await asyncio.gather(*(process("epoch", 0, guild, MEMBERS + 1) for process in members))
    kicked = asyncio.create_task(creator("kick", 0, guild, leaver))
    waits = [process("epoch", int(process is members[0]), guild, MEMBERS + 2) for process in members]
    ended = await asyncio.gather(*waits)
    began = (await kicked)["began"]
    return {
        "rekey_ms_50_members": round((max(e["ended"] for e in ended) - began) * 1000, 1),
        "bytes_per_guild": alone,
        "bytes_per_member": round((full - alone) / (MEMBERS - 1)),
    }
