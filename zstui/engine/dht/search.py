"""Runs a look-up over the network: a few questions at a time, each with a deadline, and one for them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from zstui.engine.dht.lookup import Lookup
from zstui.engine.dht.messages import Message
from zstui.engine.errors import NetError, ProtocolError, Refused
from zstui.engine.identity.keys import PeerId

SEARCH_S = 20.0

Ask = Callable[[PeerId], Awaitable[Message]]
"""One question to one peer. Raises NetError, Refused, ProtocolError."""


async def search(lookup: Lookup, ask: Ask, learned: Callable[[PeerId, Message | None], bool]) -> None:
    """Until nobody is left to ask, ``learned`` says that it is enough, or time is up.

    ``learned(peer, answer)`` is told of every answer, None for a peer that gave none, before it counts.
    """
    tasks: dict[asyncio.Task[Message], PeerId] = {}
    try:
        async with asyncio.timeout(SEARCH_S):
            while not lookup.done:
                for peer in lookup.next():
                    tasks[asyncio.ensure_future(ask(peer))] = peer
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    peer = tasks.pop(task)
                    try:
                        answer = task.result()
                    except (NetError, Refused, ProtocolError):
                        learned(peer, None)
                        lookup.failed(peer)
                        continue
                    enough = learned(peer, answer)
                    lookup.answered(peer, [node.peer for node in answer.closer])
                    if enough:
                        return
    except TimeoutError:
        return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
