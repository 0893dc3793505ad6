"""Delivers what is on record as mail, peer by peer in order, until each message is taken, refused for good, or given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from zstui.engine.channels.disputes import store
from zstui.engine.channels.disputes.messages import Declined, Taken
from zstui.engine.channels.disputes.store import Letter
from zstui.engine.channels.messages import read, take
from zstui.engine.errors import ProtocolError, ZsError
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import DISPUTE_PROTOCOL, Network
from zstui.engine.store.database import Database

SEND_S = 10.0
BATCH = 32
MAX_AT_ONCE = 16
"""Peers written to at the same time."""

Declining = Callable[[Letter, str], Awaitable[None]]
"""Told of a message that its addressee refused for good, with the reason."""


class Post:
    def __init__(self, network: Network, db: Database, declined: Declining) -> None:
        self._network = network
        self._db = db
        self._declined = declined
        self._tasks: dict[PeerId, asyncio.Task[None]] = {}
        self._again: set[PeerId] = set()
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._stopped = False

    def wake(self, peers: Iterable[PeerId]) -> None:
        """Try to deliver what waits for these peers."""
        for peer in peers:
            if self._stopped:
                return
            if peer in self._tasks:
                self._again.add(peer)
            else:
                self._tasks[peer] = asyncio.create_task(self._run(peer), name=f"dispute mail {peer[-6:]}")

    async def wake_all(self) -> None:
        self.wake(await self._db.read(store.addressees))

    async def stop(self) -> None:
        self._stopped = True
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, peer: PeerId) -> None:
        try:
            while True:
                self._again.discard(peer)
                async with self._room:
                    await self._deliver(peer)
                if peer not in self._again:
                    return
        except ZsError:
            return  # Away, or the database is gone: the next wake tries again.
        finally:
            self._again.discard(peer)
            del self._tasks[peer]

    async def _deliver(self, peer: PeerId) -> None:
        """Send what waits, in order. Raises NetError, ProtocolError where the peer is away or talks nonsense."""
        after = 0
        while letters := await self._db.read(lambda tx, after=after: store.mail_for(tx, peer, after, BATCH)):  # type: ignore[misc]
            for letter in letters:
                after = letter.number
                why = await self._send(letter)
                if why is not None:
                    await self._db.write(lambda tx, number=letter.number: store.delivered(tx, number))  # type: ignore[misc]
                    if why:
                        await self._declined(letter, why)

    async def _send(self, letter: Letter) -> str | None:
        """ "": taken; a reason: refused for good; None: to be tried again."""
        answer = take(await self._network.request(letter.peer, DISPUTE_PROTOCOL, letter.raw, SEND_S))
        if answer.signer != letter.peer:
            raise ProtocolError("An answer by another peer.")
        digest = store.digest_of(letter.raw)
        if answer.kind == "Taken" and read(answer, Taken).digest == digest:
            return ""
        if answer.kind == "Declined" and (said := read(answer, Declined)).digest == digest:
            return None if said.busy else said.why or "no reason given"
        raise ProtocolError("An answer that fits no question.")
