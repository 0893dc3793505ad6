"""One node's network in a process of its own: ``python -m tests.support.net_process HOME NAME [PEER]``.

Prints a JSON object a line: its address, then every connection event. With PEER it connects there, asks for an echo and
prints the answer. A line on stdin ends it politely.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.support.net import ECHO, net_node
from zstui.engine.events import Event, PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import Identity


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


async def main(home: Path, name: str, peer: str | None) -> None:
    identity = Identity.load_or_create(home / f"{name}.key")
    async with net_node(home, name, identity=identity) as node:
        say(address=node.address, peer_id=node.id)

        async def tell() -> None:
            async for event in node.bus.subscribe(Event):
                if isinstance(event, PeerConnected):
                    say(connected=event.peer_id)
                elif isinstance(event, PeerDisconnected):
                    say(disconnected=event.peer_id, reason=event.reason, at=time.time())

        telling = asyncio.create_task(tell())
        await asyncio.sleep(0)
        if peer is not None:
            found = await node.net.connect(peer)
            answer = await node.net.request(found, ECHO, b"hello from " + name.encode())
            say(echo=answer.decode(), peer_id=found)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        telling.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
