"""Guild services of several peers in one process: ``python -m tests.support.guild_process HOME NAME...``.

Every peer has a QUIC endpoint and a database of its own. A request is a JSON list on a line of stdin, [verb, peer, argument,
...], its answer an object on a line of stdout with how long it took and when it ended (``CLOCK_MONOTONIC``, which all
processes of a machine share).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.engine.guilds.test_over_quic import member
from zstui.engine.guilds.service import GuildService
from zstui.engine.store.database import Tx


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.0005)


def stored(tx: Tx, guild_id: bytes) -> int:
    """Bytes of all values that one guild has in the database."""
    total = 0
    tables = [
        row[0] for row in tx.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'guild%'")
    ]
    for table in tables:
        for row in tx.execute(f"SELECT * FROM {table} WHERE guild_id = ?", (guild_id,)):
            total += sum(len(v) if isinstance(v, bytes | str) else 8 for v in row)
    return total


class Peers:
    def __init__(self, services: list[GuildService], ids: list[str]) -> None:
        self.services = services
        self.ids = ids

    async def run(self, verb: str, peer: int, *args: Any) -> object:
        guilds = self.services[peer]
        match verb:
            case "ids":
                return self.ids
            case "create":
                return (await guilds.create(args[0])).guild_id
            case "create many":
                made = await asyncio.gather(*(guilds.create(f"many {n}") for n in range(args[0])))
                return [view.guild_id for view in made]
            case "invite":
                return (await guilds.office.invite(args[0], args[1])).invite
            case "join":
                return (await guilds.join(args[0])).epoch
            case "join all":
                return [(await guilds.join(args[0])).epoch for guilds in self.services[peer:]]
            case "leave":
                return (await guilds.leave(args[0])).state
            case "dissolve":
                return (await guilds.office.dissolve(args[0])).state
            case "send":
                return (await guilds.send(args[0], args[1])).text
            case "kick":
                return (await guilds.office.kick(args[0], args[1])).epoch
            case "unread":
                await until(lambda: guilds.view(args[0]).unread >= args[1])
            case "epoch":
                for service in self.services[peer:]:
                    held = service._registry.get(bytes.fromhex(args[0]))
                    await until(lambda held=held: held.membership.epoch >= args[1] and held.has_key())  # type: ignore[misc]
            case "bytes":
                return await guilds._db.read(lambda tx: stored(tx, bytes.fromhex(args[0])))
        return None


async def main(home: Path, names: list[str]) -> None:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(member(home, name)) for name in names]
        peers = Peers([guilds for _, guilds in nodes], [node.id for node, _ in nodes])
        print(json.dumps({"ready": True}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            began = time.monotonic()
            result = await peers.run(*json.loads(line))
            ended = time.monotonic()
            print(
                json.dumps({"result": result, "ms": (ended - began) * 1000, "began": began, "ended": ended}), flush=True
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
