"""Two or more nodes with real channel services, real databases and an in-memory network."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

from zstui.engine.bus import Bus, Subscription
from zstui.engine.channels import schema, store
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.state import State
from zstui.engine.clock import Clock, SystemClock
from zstui.engine.errors import UnknownChannel
from zstui.engine.events import Event
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import Network
from zstui.engine.net.memory import MemoryHub, MemoryNetwork
from zstui.engine.store.database import Database, Migration, Tx

BOOKS = Migration(
    "books",
    1,
    """
    CREATE TABLE credited (channel TEXT, agreement BLOB, no INTEGER, amount_u INTEGER) STRICT;
    CREATE TABLE acknowledged (channel TEXT, agreement BLOB, no INTEGER, amount_u INTEGER) STRICT
    """,
)
"""What a node's own jobs would note of payments, in the same transactions."""

_numbers = itertools.count(1)


def identity(number: int) -> Identity:
    return Identity(hashlib.sha256(number.to_bytes(4, "big")).digest())


def line(amount_u: int, no: int | None = None, agreement: bytes = b"a" * 32) -> PayLine:
    return PayLine(amount_u, agreement, 1, next(_numbers) if no is None else no, b"r" * 32)


class Node:
    """One node; ``crash`` and ``start`` may alternate on the same file."""

    def __init__(self, hub: MemoryHub, number: int, folder: Path, clock: Clock | None = None) -> None:
        self.hub = hub
        self.identity = identity(number)
        self.id: PeerId = self.identity.peer_id
        self.name = f"node{number}"
        self.path = folder / f"{self.name}.db"
        self.clock = clock or SystemClock()
        self.limit = 1_000_000_000
        self.tainted = False
        self.restored: Callable[[], bool] = lambda: False
        self.schema: tuple[Migration, ...] = (*schema.SCHEMA, BOOKS)
        self.wrap: Callable[[MemoryNetwork], Network] = lambda network: network
        self.on_credit: Callable[[Tx, str, PeerId, PayLine], None] = _note("credited")
        self.on_acknowledged: Callable[[Tx, str, PeerId, PayLine], None] = _note("acknowledged")
        self.on_undone: Callable[[Tx, str, PeerId, PayLine], None] = lambda tx, channel, peer, line: None

    async def start(self) -> Node:
        self.db = await Database.open(self.path, self.schema)
        self.bus = Bus()
        self.events: Subscription[Event] = self.bus.subscribe(Event, limit=100_000)
        self.memory = self.hub.add(self.id, self.bus)
        self.service = ChannelService(
            self.identity,
            self.wrap(self.memory),
            self.db,
            self.bus,
            self.clock,
            name_of=lambda peer: names.get(peer, peer[-6:]),
            credit_limit=lambda peer: self.limit,
            at_risk=lambda peer: 0,
            on_credit=lambda tx, ch, peer, line: self.on_credit(tx, ch, peer, line),
            on_acknowledged=lambda tx, ch, peer, line: self.on_acknowledged(tx, ch, peer, line),
            on_undone=lambda tx, ch, peer, line: self.on_undone(tx, ch, peer, line),
            tainted=self.tainted,
            restored=lambda: self.restored(),
        )
        await self.service.start()
        running.append(self)
        return self

    async def stop(self) -> None:
        running.remove(self)
        await self.memory.stop()
        await self.service.stop()
        await self.db.close()

    async def count(self, table: str) -> tuple[int, int]:
        """(payments, µ) in one of the books."""
        row = await self.db.read(
            lambda tx: tx.execute(f"SELECT count(*), coalesce(sum(amount_u), 0) FROM {table}").fetchone()
        )
        return int(row[0]), int(row[1])

    async def evidence(self, channel: str) -> list[tuple[str, bytes]]:
        return await self.db.read(lambda tx: store.evidence(tx, bytes.fromhex(channel)))

    def seen(self, kind: type[Event]) -> list[Event]:
        """Events of a kind published so far."""
        return [event for event in self.events._queue if isinstance(event, kind)]


running: list[Node] = []
"""Every node between start and stop."""

names: dict[PeerId, str] = {identity(n).peer_id: f"node{n}" for n in range(1, 9)}


def _note(table: str) -> Callable[[Tx, str, PeerId, PayLine], None]:
    def note(tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
        tx.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", (channel, line.agreement, line.no, line.amount_u))

    return note


async def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; fails the test after ``seconds``. What is asked of a channel not heard of yet is not so."""

    def so() -> bool:
        try:
            return done()
        except UnknownChannel:
            return False

    async with asyncio.timeout(seconds):
        while not so():  # noqa: ASYNC110  any condition, no event to wait for
            await asyncio.sleep(0.005)


def state(node: Node, channel: str) -> State:
    return State(node.service.view(channel).state)
