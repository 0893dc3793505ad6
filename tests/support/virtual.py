"""A world without real time, threads or sockets, in which the product's own classes run and every run repeats exactly.

``VirtualLoop`` is an event loop whose time jumps to the next timer when nothing can run. ``Disk`` is a real SQLite file that
answers in the loop, slower than it computes, and can lose its power around any commit. ``Wires`` is a network of FIFO
streams with delays, on which a cut loses what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from zstui.engine.bus import Bus
from zstui.engine.clock import US
from zstui.engine.errors import DeadlineExceeded, Refused, StreamClosed, Unreachable, ZsError
from zstui.engine.events import PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Handler
from zstui.engine.store.database import Database, Tx
from zstui.engine.store.thread import Job

Crash = Literal["before", "after"]
"""Around a commit: before it is durable, or after it and before anybody learns of it."""
FULL = 0.2
"""How often a stream has no room at this moment."""
Monitor = Callable[["Wire", bytes], None]
"""Sees every frame at the moment it leaves."""


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("Every task waits for something that cannot happen.")
        self._loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class VirtualClock:
    """Wall and monotonic clock of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return 1_700_000_000 * US + round(self._loop.now * US)

    def monotonic_us(self) -> int:
        return round(self._loop.now * US)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Disk:
    """The two connections of one ``Database``."""

    def __init__(self, path: Path, chance: random.Random, on_death: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._chance = chance
        self._on_death = on_death
        self.dead = False
        self.commits = 0
        self.crash_at: tuple[int, Crash] | None = None
        """The commit around which the power goes."""
        self._lazily = False
        """Commits do not wait for the disk."""
        self._reached: bytes | None = None
        """What did, where later commits have not."""

    def open(self) -> Database:
        """The database file must exist with its schema."""
        connection = self.connect()
        return Database(_Connection(self, connection, writes=True), _Connection(self, connection, writes=False))

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")
        return connection

    def delay_s(self) -> float:
        return self._chance.choice((0, 0, 0.001, 0.004))

    def commit(self, commit: Callable[[], Any]) -> None:
        """Carry it out, unless the power goes before or is gone."""
        self.commits += 1
        when = self.crash_at[1] if self.crash_at is not None and self.crash_at[0] == self.commits else None
        if when == "before":
            self.die()
        self.check()
        if self._lazily and self._reached is None:
            self._reached = self._path.read_bytes()
        commit()
        if not self._lazily:
            self._reached = None
        if when == "after":
            self.die()
            self.check()

    def synchronous(self, level: str) -> None:
        self._lazily = level == "NORMAL"

    def settle(self) -> None:
        """All is closed: where the power is gone, in half of the cases what had not reached the disk is gone with it."""
        if self.dead and self._reached is not None and self.commits % 2:
            self._path.write_bytes(self._reached)

    def check(self) -> None:
        if self.dead:
            raise sqlite3.OperationalError("the power is gone")

    def die(self) -> None:
        if not self.dead:
            self.dead = True
            self._on_death()


class _Connection:
    """A ``store.thread.Connection`` without a thread."""

    def __init__(self, disk: Disk, connection: sqlite3.Connection, *, writes: bool) -> None:
        self._disk = disk
        self._connection = connection
        self._writes = writes
        self._jobs: deque[Job] = deque()
        self._running = False

    def put(self, job: Job) -> None:
        self._jobs.append(job)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_later(self._disk.delay_s(), self._run)

    async def close(self) -> None:
        while self._running:  # noqa: ASYNC110  a job has no event
            await asyncio.sleep(0.001)
        self._connection.close()

    def _run(self) -> None:
        reply = None
        while self._jobs and reply is None:
            reply = self._jobs.popleft()(cast(Tx, self))
        if reply is not None:
            reply()
        self._running = bool(self._jobs)
        if self._running:
            asyncio.get_running_loop().call_later(self._disk.delay_s(), self._run)

    # -- as a connection

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT" and self._writes:
            return self._disk.commit(lambda: self._connection.execute(sql))
        if sql != "ROLLBACK":
            self._disk.check()
        if sql.startswith("PRAGMA synchronous="):
            return self._disk.synchronous(sql.partition("=")[2])
        return self._connection.execute(sql, *parameters)


class Wire:
    """One end of a stream."""

    def __init__(self, hub: Wires, me: PeerId, peer: PeerId) -> None:
        self.me = me
        self.peer = peer
        self.other: Wire
        self.got: list[bytes] = []
        """Frames that were received."""
        self.sent: list[bytes] = []
        self._hub = hub
        self._inbox: deque[bytes | None] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self._last = 0.0
        self._under_way: set[asyncio.TimerHandle] = set()

    async def send(self, frame: bytes) -> None:
        if self._closed:
            raise StreamClosed("The stream is closed.")
        self._send(frame)
        await asyncio.sleep(0)

    def send_now(self, frame: bytes) -> bool:
        if self._closed or self._hub.chance.random() < FULL:
            return False
        self._send(frame)
        return True

    def _send(self, frame: bytes) -> None:
        for monitor in self._hub.monitors:
            monitor(self, frame)
        self.sent.append(frame)
        if not self._hub.lossy.get(self.me, False):
            self._deliver(frame)

    def _deliver(self, frame: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-6, loop.time() + self._hub.chance.choice((0.0, 0.001, 0.02)))

        def arrive() -> None:
            self._under_way.discard(handle)
            self.other._take(frame)

        handle = loop.call_at(self._last, arrive)
        self._under_way.add(handle)

    def _take(self, frame: bytes | None) -> None:
        self._inbox.append(frame)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def has_frame(self) -> bool:
        return bool(self._inbox)

    async def receive(self, timeout: float | None = 30.0) -> bytes:
        while not self._inbox:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiting
            except TimeoutError:
                raise DeadlineExceeded("No answer in time.") from None
        frame = self._inbox[0]
        if frame is None:
            raise StreamClosed("The other side closed the stream.")
        self._inbox.popleft()
        self.got.append(frame)
        return frame

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._deliver(None)

    def reset(self) -> None:
        """What is under way still arrives, then the end."""
        if not self._closed:
            self._closed = True
            self._deliver(None)
        self._take(None)

    def cut(self) -> None:
        """What is under way is lost."""
        for handle in self._under_way:
            handle.cancel()
        self._under_way.clear()
        self._closed = True
        self._take(None)


class WireNetwork:
    def __init__(self, hub: Wires, peer_id: PeerId, bus: Bus) -> None:
        self.peer_id = peer_id
        self.bus = bus
        self._hub = hub
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def open(self, peer: PeerId, protocol: str, timeout: float = 10.0) -> Wire:
        await asyncio.sleep(self._hub.chance.choice((0.0, 0.005)))
        other = self._hub.nodes.get(peer)
        if not self._hub.linked or other is None or self.peer_id not in self._hub.nodes:
            raise Unreachable("There is no link to that peer.")
        if protocol not in other._handlers:
            raise Refused("The peer does not speak it.")
        mine, theirs = Wire(self._hub, self.peer_id, peer), Wire(self._hub, peer, self.peer_id)
        mine.other, theirs.other = theirs, mine
        self._hub.wires += [mine, theirs]
        task = asyncio.create_task(other._serve(other._handlers[protocol], theirs))
        other._tasks.add(task)
        task.add_done_callback(other._tasks.discard)
        return mine

    async def _serve(self, handler: Handler, wire: Wire) -> None:
        try:
            with contextlib.suppress(ZsError):
                await handler(wire)
        finally:
            wire.reset()

    async def request(self, peer: PeerId, protocol: str, frame: bytes, timeout: float = 10.0) -> bytes:
        wire = await self.open(peer, protocol, timeout)
        try:
            await wire.send(frame)
            return await wire.receive(timeout)
        finally:
            wire.reset()

    def connected(self) -> frozenset[PeerId]:
        if not self._hub.linked or self.peer_id not in self._hub.nodes:
            return frozenset()
        return frozenset(peer for peer in self._hub.nodes if peer != self.peer_id)

    async def stop(self) -> None:
        self._hub.remove(self)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Wires:
    """The links between all nodes: up together, down together."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.linked = True
        self.lossy: dict[PeerId, bool] = {}
        """Sides whose frames are lost from now on."""
        self.monitors: list[Monitor] = []
        self.nodes: dict[PeerId, WireNetwork] = {}
        self.wires: list[Wire] = []

    def add(self, peer_id: PeerId, bus: Bus) -> WireNetwork:
        network = self.nodes[peer_id] = WireNetwork(self, peer_id, bus)
        if self.linked:
            self._tell(PeerConnected)
        return network

    def remove(self, network: WireNetwork) -> None:
        if self.nodes.get(network.peer_id) is network:
            self._drop()
            del self.nodes[network.peer_id]

    def cut(self) -> None:
        if self.linked:
            self.linked = False
            self._drop()
        self.lossy.clear()

    def link(self) -> None:
        if not self.linked:
            self.linked = True
            self._tell(PeerConnected)

    def _drop(self) -> None:
        for wire in self.wires:
            wire.cut()
        self.wires.clear()
        self._tell(lambda peer: PeerDisconnected(peer, "link cut"))

    def _tell(self, event: Callable[[PeerId], object]) -> None:
        for network in self.nodes.values():
            for peer in self.nodes:
                if peer != network.peer_id:
                    network.bus.publish(event(peer))
