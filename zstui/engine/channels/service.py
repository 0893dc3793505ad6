"""Payment channels with other peers: open, pay, close, and everything that keeps both sides in step."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from zstui.engine import events
from zstui.engine.bus import Bus
from zstui.engine.channels import closing, opening, paying, recovery, store
from zstui.engine.channels.dispatch import carry_out
from zstui.engine.channels.greeting import greetings, where_i_am
from zstui.engine.channels.links import Keeper, Links
from zstui.engine.channels.messages import MAX_LINES, Ack, Close, LogPull, Pay, PayLine, Reestablish, Settle
from zstui.engine.channels.model import Channel, check_terms
from zstui.engine.channels.paying import Intent
from zstui.engine.channels.protocol import CHUNK, ChannelLink, Message, Session, Stored
from zstui.engine.channels.settlement import LedgerDriver, SettlementDriver, accounts
from zstui.engine.channels.state import CLOSE_TIMEOUT_US, WINDOW, Move, State
from zstui.engine.channels.views import view
from zstui.engine.channels.work import Answer, Context, InStep, LineHook, Outcome, Pulled, Work
from zstui.engine.clock import US, Clock
from zstui.engine.errors import (
    BadInput,
    ChannelError,
    CreditExceeded,
    DeadlineExceeded,
    ProtocolError,
    Refused,
    UnknownChannel,
    ZsError,
)
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.money import format_amount
from zstui.engine.net.link import Network
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import ChannelView, LedgerView

T = TypeVar("T")

ACK_WAIT_S = 5.0
"""How long ``pay`` and a cooperative ``close`` wait for the peer."""
OPEN_WAIT_S = 30.0
EPOCH_TRIES = 3
SHOWN_CLOSED = 500
"""Closed channels kept in memory and shown."""
TICK_S = 15.0
VOID_KEPT_US = 3_600 * US
"""How long a channel that never became active stays on show."""


class Payment(msgspec.Struct, frozen=True):
    channel_id: str
    sequence: int
    acknowledged: bool


class _Waiting(msgspec.Struct, frozen=True):
    """A payment in the queue; the future gets its sequence once it is durable."""

    intent: Intent
    future: asyncio.Future[int]


class _Peer:
    """What one peer's channels need at run time."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.queue: deque[_Waiting] = deque()
        self.pump: asyncio.Task[None] | None = None
        self.in_step: set[bytes] = set()
        self.changed = asyncio.Event()
        """Pulsed at every committed change."""


class ChannelService(Keeper):
    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        name_of: Callable[[PeerId], str],
        credit_limit: Callable[[PeerId], int],
        at_risk: Callable[[PeerId], int],
        on_credit: LineHook,
        on_acknowledged: LineHook,
        tainted: bool = False,
        net: str = "zerostate/1",
        driver: SettlementDriver | None = None,
    ) -> None:
        """``on_credit`` and ``on_acknowledged`` run in the channel's transaction, for a line paid to me and for one of mine
        that the peer holds. ``tainted``: the database went back in time since the last start."""
        self._identity = identity
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name_of = name_of
        self._credit_limit = credit_limit
        self._at_risk = at_risk
        self._tainted = tainted
        self._context = Context(identity, net, driver or LedgerDriver(), on_credit, on_acknowledged)
        self._records: dict[bytes, Channel] = {}
        self._balances: dict[PeerId, int] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._answers: dict[bytes, asyncio.Future[Answer]] = {}
        self._asked: dict[bytes, int] = {}
        """When a connected peer was first given my Close, monotonic µs."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._links = Links(network, bus, self)

    # -- life

    async def start(self) -> None:
        """Load everything, mark it where the database went back in time, and get in step with peers that are there."""
        if self._tainted:
            await self._db.write(store.taint_all)

        def load(tx: Tx) -> tuple[list[Channel], dict[PeerId, int]]:
            return store.load_recent(tx, SHOWN_CLOSED), accounts(tx)

        records, self._balances = await self._db.read(load)
        self._records = {record.id: record for record in records}
        await self._expire()
        self._links.start()
        for record in records:
            if record.open:
                self._links.keep(record.peer)
        self._ticker = asyncio.create_task(self._run_ticker(), name="channel timer")

    async def stop(self) -> None:
        """Stop serving; everything promised is on record already."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self._links.stop()
        for peer in self._peers.values():
            if peer.pump is not None:
                peer.pump.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- verbs

    async def open(self, peer: PeerId, mine_u: int, theirs_u: int, expires_s: int) -> ChannelView:
        """Agree on a channel: my deposit and the peer's in µ, life in seconds. Returns once both have signed.

        Raises BadInput, ChannelError (one is open), CreditExceeded, Unreachable, DeadlineExceeded, Refused.
        """
        if peer == self._identity.peer_id:
            raise BadInput("A channel needs another peer; this is your own id.")
        check_terms(mine_u, theirs_u, expires_s)
        name = self._name_of(peer)
        least_epoch = 1
        for _ in range(EPOCH_TRIES):
            answer = await self._propose(peer, mine_u, theirs_u, expires_s, least_epoch)
            if answer.code == "":
                await self._until(peer, ACK_WAIT_S, lambda id=answer.channel: self._is_confirmed(id))  # type: ignore[misc]
                return self._view(self._records[answer.channel])
            if answer.code != "EPOCH" or answer.next <= least_epoch:
                raise _refusal(answer, name)
            least_epoch = answer.next
        raise Refused(f"{name} keeps asking for a newer channel number; try again later.")

    async def pay(self, channel_id: str, line: PayLine, *, also: Callable[[Tx], None] | None = None) -> Payment:
        """Pay one line. Durable before it is sent, together with ``also``, whose exception takes the payment back.

        Returns once acknowledged, or unacknowledged after about 5 s: it is sent again until the peer has it. Raises
        UnknownChannel, IllegalTransition, InsufficientBalance, ChannelError (paid before, expiring, not confirmed).
        """
        record = self._record(channel_id)
        peer = self._peer(record.peer)
        waiting = _Waiting(Intent(line, also), asyncio.get_running_loop().create_future())
        peer.queue.append(waiting)
        if peer.pump is None or peer.pump.done():
            peer.pump = asyncio.create_task(self._pump(record.peer, record.id))
            self._track(peer.pump)
        try:
            seq = await waiting.future
        except ZsError:
            self._bus.publish(events.PaymentProcessed(channel_id, "failed", line.amount_u))
            raise
        acknowledged = await self._until(record.peer, ACK_WAIT_S, lambda: self._is_acknowledged(record.id, seq))
        return Payment(channel_id, seq, acknowledged)

    async def close(self, channel_id: str, *, unilateral: bool = False) -> ChannelView:
        """Close. Cooperative: returns once closed, or "closing" if the peer does not answer within about 5 s; it goes on
        by itself. ``unilateral``: disputed at once, settled by agreement or on my own record. Raises IllegalTransition."""
        record = self._record(channel_id)
        if record.state is State.OPENING:
            await self._commit(record.peer, lambda work: opening.give_up(work, record.id))
            return self._view(self._record(channel_id))
        if record.open:
            await self._commit(record.peer, lambda work: closing.close(work, record.id, unilateral))
        else:
            record.move(Move.CLOSE, 0)
        if not unilateral and self._links.get(record.peer) is not None:
            await self._until(record.peer, ACK_WAIT_S, lambda: not self._record(channel_id).open)
        return self._view(self._record(channel_id))

    # -- views

    def active_with(self, peer: PeerId) -> ChannelView | None:
        """The channel with ``peer`` on which can be paid."""
        found = next((c for c in self._records.values() if c.peer == peer and c.state is State.ACTIVE), None)
        return self._view(found) if found else None

    def views(self) -> list[ChannelView]:
        """All that are not closed, newest first, then the latest closed ones."""
        shown = sorted(
            (c for c in self._records.values() if c.agreed), key=lambda c: (c.open, c.created_us, c.epoch), reverse=True
        )
        return [self._view(c) for c in shown]

    def view(self, channel_id: str) -> ChannelView:
        """Raises UnknownChannel."""
        return self._view(self._record(channel_id))

    def resolve(self, text: str) -> str:
        """A full id or an unambiguous prefix of at least 4 digits. Raises UnknownChannel."""
        wanted = text.strip().lower()
        found = [c.id.hex() for c in self._records.values() if c.agreed and c.id.hex().startswith(wanted)]
        if len(wanted) < 4 or not found:
            raise UnknownChannel(f"There is no channel {text[:70]!r}.")
        if len(found) > 1:
            raise UnknownChannel(f"{text[:70]!r} fits {len(found)} channels; give more digits.")
        return found[0]

    def ledger(self) -> list[LedgerView]:
        """What peers and I owe each other over closed channels; one line a peer."""
        return [
            LedgerView(
                peer_id=peer,
                peer_name=self._name_of(peer),
                owed_to_me_u=max(0, balance),
                i_owe_u=max(0, -balance),
                credit_limit_u=self._limit(peer),
            )
            for peer, balance in sorted(self._balances.items())
        ]

    def owed(self) -> tuple[int, int]:
        """(to me, by me) over all peers, µ."""
        balances = self._balances.values()
        return sum(b for b in balances if b > 0), -sum(b for b in balances if b < 0)

    # -- the desk of the links

    def wants(self, peer: PeerId) -> bool:
        return any(c.peer == peer and c.open for c in self._records.values())

    async def greet(self, session: Session) -> None:
        async with self._peer(session.peer).lock:
            said = await self._db.read(lambda tx: greetings(tx, self._identity, session.peer))
            for channel, raw in said:
                if channel is not None:
                    session.links[channel] = ChannelLink(greeted=True)
                session.push(raw)

    async def handle(self, session: Session, batch: list[Message]) -> None:
        limit = self._limit(session.peer)
        heard = set(session.heard)

        def work(work: Work) -> None:
            for signed, body in batch:
                try:
                    with work.attempt():
                        if isinstance(body, Reestablish):
                            heard.add(body.ch)
                        elif isinstance(body, Pay | Ack | Close | Settle | LogPull) and body.ch not in heard:
                            raise ProtocolError(f"A {signed.kind} before the channel was re-established.")
                        carry_out(work, session.peer, signed, body, limit)
                        heard.update(work.out.started)
                except (ProtocolError, ChannelError) as error:
                    work.out.drop = str(error)
                    return

        outcome = await self._commit(session.peer, work, session)
        session.heard = heard
        if outcome.drop:
            raise ProtocolError(outcome.drop)
        for step in outcome.steps:
            await self._follow(session, step)
        for id, link in session.links.items():
            if link.recover_to:
                await self._recover(session, id, link)

    async def stored(self, channel: bytes, first: int) -> Stored:
        def load(tx: Tx) -> Stored:
            record = store.load(tx, channel)
            if record is None:
                return Stored([], [], 0)
            pays = store.envelopes(tx, channel, store.OUT, first, record.out.seq, CHUNK)
            documents = [store.document(tx, channel, kind, store.OUT) for kind in ("close", "settle")]
            if record.tainted and record.state is State.CLOSING:
                documents.append(seal(self._identity, where_i_am(tx, record)))
            return Stored(pays, [d for d in documents if d is not None], record.rev)

        return await self._db.read(load)

    def record(self, channel: bytes) -> Channel | None:
        return self._records.get(channel)

    def acknowledgement(self, channel: bytes) -> bytes | None:
        record = self._records.get(channel)
        if record is None:
            return None
        return seal(self._identity, Ack(channel, record.inn.seq, record.inn.cum, record.inn.head))

    # -- inside

    async def _propose(self, peer: PeerId, mine_u: int, theirs_u: int, expires_s: int, least_epoch: int) -> Answer:
        await self._links.dial(peer)
        limit, nonce = self._limit(peer), os.urandom(32)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        drafts: list[bytes] = []

        def work(work: Work) -> None:
            channel = opening.propose(work, peer, mine_u, theirs_u, expires_s, nonce, limit, least_epoch)
            drafts.append(channel.id)

        await self._commit(peer, work, before=lambda: self._answers.__setitem__(drafts[0], future))
        try:
            async with asyncio.timeout(OPEN_WAIT_S):
                return await future
        except TimeoutError:
            await self._commit(peer, lambda work: opening.give_up(work, drafts[0]))
            raise DeadlineExceeded(f"{self._name_of(peer)} did not answer within {OPEN_WAIT_S:.0f} s.") from None
        finally:
            self._answers.pop(drafts[0], None)

    async def _pump(self, peer_id: PeerId, channel: bytes) -> None:
        """Turn queued payments into Pays, as many lines in each as have gathered while the last one was written."""
        peer = self._peer(peer_id)
        while peer.queue:
            record = self._records.get(channel)
            if record is not None and record.state is State.ACTIVE:
                await self._until(peer_id, ACK_WAIT_S, lambda: self._is_payable(channel))
            taken: list[_Waiting] = []
            while peer.queue and len(taken) < MAX_LINES:
                waiting = peer.queue.popleft()
                if not waiting.future.done():
                    taken.append(waiting)
            if not taken:
                return
            result: list[tuple[int, list[Exception | None]]] = []

            def work(work: Work, taken: list[_Waiting] = taken, result: Any = result) -> None:
                result.append(paying.pay(work, channel, [w.intent for w in taken]))

            try:
                await self._commit(peer_id, work)
            except ZsError as error:
                for waiting in taken:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)
                continue
            seq, errors = result[0]
            for waiting, failure in zip(taken, errors, strict=True):
                if waiting.future.done():
                    continue
                if failure is None:
                    waiting.future.set_result(seq)
                else:
                    waiting.future.set_exception(failure)

    async def _commit(
        self,
        peer: PeerId,
        work: Callable[[Work], object],
        session: Session | None = None,
        before: Callable[[], None] | None = None,
    ) -> Outcome:
        """One transaction on one peer's channels and all that follows from it, even if the caller goes away meanwhile."""

        async def run() -> Outcome:
            async with self._peer(peer).lock:
                in_step = frozenset(self._peer(peer).in_step)
                outcome = await self._db.write(lambda tx: operation(tx, in_step))
                if before is not None:
                    before()
                self._apply(peer, outcome, session or self._links.get(peer))
                return outcome

        def operation(tx: Tx, in_step: frozenset[bytes]) -> Outcome:
            unit = Work(tx, self._context, self._clock.now_us(), in_step)
            work(unit)
            return unit.finish()

        return await asyncio.shield(self._track(asyncio.create_task(run())))

    def _apply(self, peer: PeerId, outcome: Outcome, session: Session | None) -> None:
        """After the commit: remember, send, tell."""
        for record in outcome.channels:
            known = self._records.get(record.id)
            if known is None or record.rev >= known.rev:
                self._records[record.id] = record
        for id in outcome.gone:
            self._records.pop(id, None)
        self._balances.update(outcome.balances)
        state = self._peer(peer)
        state.in_step.update(outcome.in_step)
        state.in_step.intersection_update(self._records)
        if session is not None:
            for id in outcome.started:
                session.start(id)
            for frame in outcome.frames:
                if frame.channel is None:
                    session.push(frame.raw)
                else:
                    session.offer(frame.raw, frame.channel, frame.seq)
            for id in outcome.acks:
                session.acknowledge(id, self._records[id].inn.seq)
        for answer in outcome.answers:
            future = self._answers.get(answer.draft)
            if future is not None and not future.done():
                future.set_result(answer)
        for record in outcome.channels:
            if record.agreed:
                self._bus.publish(events.ChannelChanged(record.id.hex()))
        for event in outcome.events:
            self._bus.publish(event)
        state.changed.set()
        state.changed = asyncio.Event()
        if any(record.open for record in outcome.channels):
            self._links.keep(peer)

    async def _follow(self, session: Session, step: InStep | Pulled) -> None:
        """The peer told where it is, or has its own Pays back: say where I am, then send what it lacks."""
        link = session.links.setdefault(step.channel, ChannelLink())
        if isinstance(step, Pulled):
            if link.after_pull and step.last >= link.after_pull:
                link.after_pull = 0
                if not link.recover_to:
                    session.catch_up(step.channel, link.first)
            return
        if not link.greeted:
            link.greeted = True
            async with self._peer(session.peer).lock:
                raw = await self._db.read(lambda tx: self._where(tx, step.channel))
                if raw is not None:
                    session.push(raw)
        link.live = link.lagging = False
        link.first, link.after_pull = step.first, step.after_pull
        link.recover_to, link.close, link.pulled_to = step.recover_to, step.close, 0
        if not link.after_pull and not link.recover_to:
            session.catch_up(step.channel, link.first)

    async def _recover(self, session: Session, id: bytes, link: ChannelLink) -> None:
        """Pull my own lost Pays stretch by stretch; then adopt my lost Close and go on."""
        have = self._records[id].out.seq
        if have < link.recover_to:
            if have >= link.pulled_to:
                link.pulled_to = min(link.recover_to, have + recovery.PULL)
                await self._commit(session.peer, lambda work: recovery.pull(work, id, link.recover_to), session)
            return
        raw, link.recover_to, link.close = link.close, 0, b""
        await self._commit(session.peer, lambda work: recovery.recovered(work, id, raw), session)
        link.first = max(link.first, 1)
        if not link.after_pull:
            session.catch_up(id, link.first)

    def _where(self, tx: Tx, channel: bytes) -> bytes | None:
        record = store.load(tx, channel)
        return None if record is None else seal(self._identity, where_i_am(tx, record))

    async def _run_ticker(self) -> None:
        while True:
            now = self._clock.now_us()
            due = [d for c in self._records.values() if (d := closing.next_deadline(c)) is not None]
            wait = min([TICK_S, *((d - now) / US for d in due)])
            await self._clock.sleep(max(wait, 0.05))
            try:
                await self._expire()
            except ZsError as error:
                self._bus.publish(events.Notice("error", "channels", str(error)))

    async def _expire(self) -> None:
        """Carry out what is due."""
        now, monotonic = self._clock.now_us(), self._clock.monotonic_us()
        for record in list(self._records.values()):
            deadline = closing.next_deadline(record)
            if deadline is not None and now >= deadline:
                await self._commit(record.peer, lambda work, id=record.id: closing.expire(work, id))  # type: ignore[misc]
            if record.state is State.CLOSING and self._links.get(record.peer) is not None:
                asked = self._asked.setdefault(record.id, monotonic)
                if monotonic - asked >= CLOSE_TIMEOUT_US:
                    await self._commit(record.peer, lambda work, id=record.id: closing.unanswered(work, id))  # type: ignore[misc]
            else:
                self._asked.pop(record.id, None)
        old = [c for c in self._records.values() if c.reason == "void" and now - c.since_us > VOID_KEPT_US]
        for record in old:
            await self._commit(record.peer, lambda work, record=record: work.forget(record))  # type: ignore[misc]
            self._bus.publish(events.ChannelChanged(record.id.hex()))

    async def _until(self, peer: PeerId, seconds: float, done: Callable[[], bool]) -> bool:
        """Wait for a committed change after which ``done()``; False after ``seconds``."""
        state = self._peer(peer)
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    await state.changed.wait()
        except TimeoutError:
            return False
        return True

    def _is_confirmed(self, id: bytes) -> bool:
        record = self._records.get(id)
        return record is None or record.confirmed or not record.open

    def _is_acknowledged(self, id: bytes, seq: int) -> bool:
        record = self._records.get(id)
        return record is not None and record.acked >= seq

    def _is_payable(self, id: bytes) -> bool:
        """Whether waiting would make no difference to a payment: it can be made, or the channel is past it."""
        record = self._records.get(id)
        if record is None or record.state is not State.ACTIVE or record.tainted:
            return True
        return id in self._peer(record.peer).in_step and record.confirmed and record.out.seq - record.acked < WINDOW

    def _limit(self, peer: PeerId) -> int:
        """Credit for ``peer``: none after a dispute that was never resolved."""
        broken = any(c.peer == peer and c.reason == "unresolved" for c in self._records.values())
        return 0 if broken else self._credit_limit(peer)

    def _record(self, channel_id: str) -> Channel:
        try:
            found = self._records.get(bytes.fromhex(channel_id))
        except ValueError:
            found = None
        if found is None or not found.agreed:
            raise UnknownChannel(f"There is no channel {channel_id[:70]!r}.")
        return found

    def _view(self, record: Channel) -> ChannelView:
        return view(
            record,
            self._name_of(record.peer),
            record.peer in self._network.connected(),
            self._at_risk(record.peer),
            self._clock.now_us(),
        )

    def _peer(self, peer: PeerId) -> _Peer:
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = _Peer()
        return found

    def _track(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _refusal(answer: Answer, name: str) -> ZsError:
    """One sentence for the code of a refusal."""
    match answer.code:
        case "CREDIT":
            return CreditExceeded(f"{name} grants you credit for a deposit of {format_amount(answer.next)} at most.")
        case "EXISTS":
            return Refused(f"{name} still has an earlier channel with you open; close that one first.")
        case "SIMULTANEOUS":
            return ChannelError(f"{name} opened a channel with you at the same moment; that one is used.")
        case "CLOCK":
            return Refused(f"{name}'s clock and this machine's differ by more than 10 minutes; set them right.")
        case "DEPOSIT":
            return Refused(f"{name} does not accept deposits of that size.")
        case "BUSY":
            return Refused(f"{name} is opening too many channels at this moment; try again in a minute.")
        case "VOID":
            return DeadlineExceeded(f"{name} did not answer in time.")
        case _:
            return Refused(f"{name} does not accept these terms for a channel.")
