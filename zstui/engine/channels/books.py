"""The channels in memory and the one way to change them: a transaction, then everything that follows from it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import TypeVar

import msgspec

from zstui.engine import events
from zstui.engine.bus import Bus
from zstui.engine.channels import store
from zstui.engine.channels.links import Links
from zstui.engine.channels.model import Channel
from zstui.engine.channels.protocol import Session
from zstui.engine.channels.settlement import accounts
from zstui.engine.channels.turns import Turns
from zstui.engine.channels.work import Answer, Context, Outcome, Work
from zstui.engine.clock import Clock
from zstui.engine.errors import StoreError
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Database, Tx
from zstui.engine.store.thread import fail, resolve

T = TypeVar("T")

SHOWN_CLOSED = 500
"""Closed channels kept in memory."""
MAX_PEERS = 4096
"""Peers without an open channel that are remembered."""


class _Peer:
    """What one peer's channels need at run time."""

    def __init__(self) -> None:
        self.turns = Turns()
        """Held from before a transaction until its frames are queued: frames leave in the order of the commits."""
        self.in_step: frozenset[bytes] = frozenset()
        """Channels on which I may sign."""
        self._waiting: list[asyncio.Future[None]] = []

    async def commit(self) -> None:
        """Return after the next commit."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def committed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            resolve(future, None)


class Books:
    """``links`` must be set before anything is committed."""

    links: Links

    def __init__(
        self, context: Context, db: Database, bus: Bus, clock: Clock, credit_limit: Callable[[PeerId], int]
    ) -> None:
        self.records: dict[bytes, Channel] = {}
        """The latest committed version of every channel that is not closed, and of the latest closed ones."""
        self.balances: dict[PeerId, int] = {}
        """What each peer owes me over closed channels, µ; negative: I owe it."""
        self.answers: dict[bytes, asyncio.Future[Answer]] = {}
        """Waiting for the peer's answer, by draft."""
        self._context = context
        self._db = db
        self._bus = bus
        self._clock = clock
        self._credit_limit = credit_limit
        self._broken: set[PeerId] = set()
        """Peers with which a dispute ended without agreement or verdict."""
        self.credits: dict[PeerId, int] = {}
        """Credit limits that a person set for one peer, µ."""
        self._peers: dict[PeerId, _Peer] = {}
        self._awaited: dict[bytes, list[tuple[int, int, asyncio.Future[bool]]]] = {}
        """Who waits for the peer to acknowledge which of my Pays: a heap for each channel. Those that gave up leave with the
        others, once it has or the channel is closed."""
        self._number = itertools.count()
        self._under_way = 0
        """Commits that were begun."""
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    async def load(self, tainted: bool) -> None:
        """Read everything; ``tainted``: first mark what is open."""
        if tainted:
            await self._db.write(store.taint_all)

        def read(tx: Tx) -> tuple[list[Channel], dict[PeerId, int], set[PeerId], dict[PeerId, int]]:
            return store.load_recent(tx, SHOWN_CLOSED), accounts(tx), store.unresolved_peers(tx), store.credits(tx)

        records, self.balances, self._broken, self.credits = await self._db.read(read)
        self.records = {record.id: record for record in records}

    async def stop(self) -> None:
        """Let what was begun finish."""
        await self._at_rest.wait()

    # -- reading

    def limit(self, peer: PeerId) -> int:
        """Credit for ``peer``, µ: what a person set; else none after a dispute that was never resolved."""
        if peer in self.credits:
            return self.credits[peer]
        return 0 if peer in self._broken else self._credit_limit(peer)

    async def set_credit(self, peer: PeerId, limit_u: int | None) -> None:
        """None: as for everybody of its kind."""
        await self._db.write(lambda tx: store.set_credit(tx, peer, limit_u))
        if limit_u is None:
            self.credits.pop(peer, None)
        else:
            self.credits[peer] = limit_u

    def open_with(self, peer: PeerId) -> Channel | None:
        """The one channel with ``peer`` that is not closed."""
        return next((c for c in self.records.values() if c.peer == peer and c.open), None)

    def may_sign(self, record: Channel) -> bool:
        return record.id in self.peer(record.peer).in_step

    async def until(self, peer: PeerId, seconds: float, done: Callable[[], bool]) -> bool:
        """Wait for a commit on this peer's channels after which ``done()``; False after ``seconds``."""
        state = self.peer(peer)
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    await state.commit()
        except TimeoutError:
            return False
        return True

    async def acknowledged(self, channel: bytes, seq: int, seconds: float) -> bool:
        """Wait until the peer holds my half up to ``seq``; False after ``seconds``, or once the channel is closed without."""
        record = self.records.get(channel)
        if record is None or record.acked >= seq or not record.open:
            return record is not None and record.acked >= seq
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heappush(self._awaited.setdefault(channel, []), (seq, next(self._number), future))
        patience = asyncio.get_running_loop().call_later(seconds, resolve, future, False)
        try:
            return await future
        finally:
            patience.cancel()

    def peer(self, peer: PeerId) -> _Peer:
        found = self._peers.get(peer)
        if found is None:
            if len(self._peers) >= MAX_PEERS:
                self._evict()
            found = self._peers[peer] = _Peer()
        return found

    def _evict(self) -> None:
        keep = {c.peer for c in self.records.values() if c.open}
        for peer, state in list(self._peers.items()):
            if peer not in keep and not state.turns.taken and self.links.get(peer) is None:
                del self._peers[peer]

    # -- changing

    async def commit(
        self, peer: PeerId, work: Callable[[Work], T], session: Session | None = None
    ) -> tuple[T, Outcome]:
        """Run ``work`` in one transaction on this peer's channels, then send, remember and tell what follows from it, even
        if the caller goes away meanwhile. ``session``: where the cause came from. What ``work`` raises undoes it all."""
        return await self.start(peer, work, session)

    def start(
        self, peer: PeerId, work: Callable[[Work], T], session: Session | None = None, *, lazily: bool = False
    ) -> asyncio.Future[tuple[T, Outcome]]:
        """As ``commit``, begun at once. ``lazily``: see ``Database.submit``."""
        future: asyncio.Future[tuple[T, Outcome]] = asyncio.get_running_loop().create_future()
        self.begin(peer, work, partial(resolve, future), partial(fail, future), session, lazily=lazily)
        return future

    def begin(
        self,
        peer: PeerId,
        work: Callable[[Work], T],
        done: Callable[[tuple[T, Outcome]], None],
        failed: Callable[[Exception], None],
        session: Session | None = None,
        *,
        lazily: bool = False,
    ) -> None:
        """As ``start``; one of the two is called in the end, after the frames were queued."""
        state = self.peer(peer)

        def start() -> None:
            def operation(tx: Tx) -> tuple[T, Outcome]:
                unit = Work(tx, self._context, self._clock.now_us(), state.in_step, self.records)
                return work(unit), unit.finish()

            try:
                self._db.submit(operation, written, end, lazily=lazily)
            except StoreError as error:
                end(error)

        def written(result: tuple[T, Outcome]) -> None:
            try:
                self._follow(peer, result[1], session)
            except Exception as error:  # noqa: BLE001  the outermost edge of a commit; raised again at the caller
                end(error)
                return
            leave()
            done(result)

        def end(error: Exception) -> None:
            leave()
            failed(error)

        def leave() -> None:
            state.turns.give()
            self._under_way -= 1
            if not self._under_way:
                self._at_rest.set()

        self._under_way += 1
        self._at_rest.clear()
        state.turns.take(start)

    async def distrust(self) -> None:
        """Sign no Pay and no Close in any channel that is open now."""
        for record in tuple(self.records.values()):
            if record.open:
                await self.commit(record.peer, lambda work, id=record.id: _taint(work, id))  # type: ignore[misc]

    def _follow(self, peer: PeerId, outcome: Outcome, session: Session | None) -> None:
        """What follows from a commit."""
        self._remember(peer, outcome)
        self._send(peer, outcome, session)
        self._tell(peer, outcome)

    def _remember(self, peer: PeerId, outcome: Outcome) -> None:
        for record in outcome.channels:
            self.records[record.id] = record
            if record.reason == "unresolved":
                self._broken.add(peer)
                self.credits.pop(peer, None)
        for id in outcome.gone:
            self.records.pop(id, None)
        self.balances.update(outcome.balances)
        if outcome.in_step or outcome.gone:
            state = self.peer(peer)
            state.in_step = frozenset(id for id in (*state.in_step, *outcome.in_step) if id in self.records)
        if len(self.records) > 2 * SHOWN_CLOSED:
            closed = sorted((c for c in self.records.values() if not c.open), key=lambda c: c.since_us)
            for record in closed[:-SHOWN_CLOSED]:
                del self.records[record.id]

    def _send(self, peer: PeerId, outcome: Outcome, cause: Session | None) -> None:
        session = self.links.get(peer)
        if session is None:
            return
        if cause is not None and cause is not session:
            if outcome.frames or outcome.started:
                session.stop()  # The two links would each know half; a fresh one starts from what is stored.
            return
        for id in outcome.started:
            session.start(id)
        for frame in outcome.frames:
            if frame.channel is None:
                session.push(frame.raw)
            else:
                session.offer(frame.raw, frame.channel, frame.seq)
        for id in outcome.acks:
            if (record := self.records.get(id)) is not None:
                session.acknowledge(id, record.inn.seq)
        if cause is None and session.unknown and self.open_with(peer) is None:
            session.stop()  # What has ended stood in the way of a channel that was lost: the next link asks for that.

    def _tell(self, peer: PeerId, outcome: Outcome) -> None:
        for answer in outcome.answers:
            future = self.answers.get(answer.draft)
            if future is not None and not future.done():
                future.set_result(answer)
        changed = [record.id for record in outcome.channels if record.agreed] + outcome.gone
        for id in changed:
            self._bus.publish(events.ChannelChanged(id.hex()))
        for event in outcome.events:
            self._bus.publish(event)
        state = self.peer(peer)
        for record in outcome.channels:
            self._tell_acknowledged(record)
        state.committed()
        if any(record.open for record in outcome.channels):
            self.links.keep(peer)

    def _tell_acknowledged(self, record: Channel) -> None:
        awaited = self._awaited.get(record.id, [])
        while awaited and (awaited[0][0] <= record.acked or not record.open):
            seq, _, future = heappop(awaited)
            resolve(future, seq <= record.acked)
        if not awaited:
            self._awaited.pop(record.id, None)


def _taint(work: Work, id: bytes) -> None:
    channel = work.find(id)
    if channel is not None and channel.open:
        work.put(msgspec.structs.replace(channel, tainted=True))
