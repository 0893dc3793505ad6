"""Payment channels with other peers: open, pay, close, look at them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec

from zstui.engine import events
from zstui.engine.bus import Bus
from zstui.engine.channels import closing, opening
from zstui.engine.channels.books import Books
from zstui.engine.channels.desk import ChannelDesk
from zstui.engine.channels.drivers import DRIVERS
from zstui.engine.channels.history import MAX_POINTS, balances
from zstui.engine.channels.links import Links
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.model import DRIVER, MAX_DEPOSIT_U, Channel, check_terms
from zstui.engine.channels.opening import Panel
from zstui.engine.channels.payer import Payer
from zstui.engine.channels.state import CLOSE_TIMEOUT_US, Move, State
from zstui.engine.channels.views import funds, view
from zstui.engine.channels.work import Answer, Context, LineHook, Work
from zstui.engine.clock import US, Clock
from zstui.engine.errors import (
    BadInput,
    ChannelError,
    CreditExceeded,
    DeadlineExceeded,
    Refused,
    UnknownChannel,
    ZsError,
)
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.money import format_amount
from zstui.engine.net.link import Network
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import BalancesView, ChannelView, Funds, LedgerView

ACK_WAIT_S = 5.0
"""How long ``pay`` and a cooperative ``close`` wait for the peer."""
OPEN_WAIT_S = 30.0
EPOCH_TRIES = 3
TICK_S = 15.0
VOID_KEPT_US = 3_600 * US
"""How long a channel that never became active stays on show."""


Nominate = Callable[[PeerId, int | None, int], Awaitable[Panel]]
"""(peer, how many are wanted or None, the channel's life in seconds). Raises ZsError where those asked for cannot be had."""


class Payment(msgspec.Struct, frozen=True):
    channel_id: str
    sequence: int
    """Of the Pay that carries it; payments made at the same time may share one."""
    acknowledged: bool


class ChannelService:
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
        owed: Callable[[PeerId], int] = lambda peer: 0,
        reserved: Callable[[PeerId], int] = lambda peer: 0,
        on_credit: LineHook,
        on_acknowledged: LineHook,
        on_undone: LineHook = lambda tx, channel, peer, line: None,
        tainted: bool = False,
        restored: Callable[[], bool] = lambda: False,
        net: str = "zerostate/1",
        nominate: Nominate | None = None,
        agreed_witnesses: Callable[[PeerId], frozenset[bytes]] = lambda peer: frozenset(),
        action_in_case: Callable[[str], str] = lambda channel_id: "",
    ) -> None:
        """``at_risk`` and ``owed``: work done for a peer, and by it for me, that is not paid, µ. ``on_credit`` and
        ``on_acknowledged`` run in the channel's transaction, for a line paid to me and for one of mine that the peer holds;
        ``on_undone`` for one of mine that a verdict does not count.
        ``tainted``: the database went back in time since the last start. ``restored``: it may lack channels that its peers
        still have. ``nominate`` finds witnesses for a channel to be, ``agreed_witnesses`` are those agreed on with a peer that
        is about to propose one, and ``action_in_case`` says who must act in a dispute before witnesses."""
        self._identity = identity
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name_of = name_of
        self._at_risk = at_risk
        self._owed = owed
        self._reserved = reserved
        self._tainted = tainted
        self._nominate = nominate
        self._action_in_case = action_in_case
        context = Context(identity, net, DRIVERS, on_credit, on_acknowledged, on_undone, restored, agreed_witnesses)
        self.books = self._books = Books(context, db, bus, clock, credit_limit)
        self.links = self._links = Links(network, bus, ChannelDesk(identity, db, self._books))
        self._books.links = self._links
        self._payer = Payer(self._books)
        self._asked: dict[bytes, int] = {}
        """When a connected peer was first given my Close, monotonic µs."""
        self._ticker: asyncio.Task[None] | None = None

    # -- life

    async def start(self) -> None:
        """Load everything, mark it where the database went back in time, and get in step with peers that are there."""
        await self._books.load(self._tainted)
        await self._expire()
        self._links.start()
        for record in tuple(self._books.records.values()):
            if record.open:
                self._links.keep(record.peer)
        self._ticker = asyncio.create_task(self._run_ticker(), name="channel timer")

    async def stop(self) -> None:
        """Stop serving; everything promised is on record already."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self._payer.stop()
        await self._links.stop()
        await self._books.stop()

    # -- verbs

    async def open(
        self,
        peer: PeerId,
        mine_u: int,
        theirs_u: int,
        expires_s: int,
        witnesses: int | None = None,
        driver: str = DRIVER,
    ) -> ChannelView:
        """Agree on a channel: my deposit and the peer's in µ, life in seconds. Returns once both have signed.

        ``witnesses``: how many decide a dispute; None: as many as guilds that both are in give, up to four. Raises BadInput,
        ChannelError (one is open), CreditExceeded, Unreachable, DeadlineExceeded, Refused.
        """
        if peer == self._identity.peer_id:
            raise BadInput("A channel needs another peer; this is your own id.")
        check_terms(mine_u, theirs_u, expires_s)
        if driver not in DRIVERS:
            raise BadInput(f"A channel settles by {' or '.join(DRIVERS)}, not {driver[:40]!r}.")
        name = self._name_of(peer)
        panel = Panel()
        if self._nominate is not None and witnesses != 0 and self._books.open_with(peer) is None:
            panel = await self._nominate(peer, witnesses, expires_s)
        elif witnesses:
            raise BadInput("Nobody can be named as a witness here.")
        least_epoch = 1
        for _ in range(EPOCH_TRIES):
            answer = await self._propose(peer, mine_u, theirs_u, expires_s, least_epoch, panel, driver)
            if answer.code == "":
                await self._books.until(peer, ACK_WAIT_S, lambda id=answer.channel: self._is_confirmed(id))  # type: ignore[misc]
                return self.view(answer.channel.hex())
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
        try:
            seq = await self._payer.pay(record, line, also, ACK_WAIT_S)
        except ZsError:
            self._bus.publish(events.PaymentProcessed(channel_id, "failed", line.amount_u))
            raise
        acknowledged = await self._books.acknowledged(record.id, seq, ACK_WAIT_S)
        return Payment(channel_id, seq, acknowledged)

    async def close(self, channel_id: str, *, unilateral: bool = False) -> ChannelView:
        """Close. Cooperative: returns once closed, or "closing" if the peer does not answer within about 5 s; it goes on
        by itself. ``unilateral``: disputed at once, settled by agreement or on my own record. Raises IllegalTransition."""
        record = self._record(channel_id)
        if record.state is State.OPENING:
            await self._books.commit(record.peer, lambda work: opening.give_up(work, record.id))
            return self._view(self._record(channel_id))
        if record.open:
            await self._books.commit(record.peer, lambda work: closing.close(work, record.id, unilateral))
        else:
            record.move(Move.CLOSE, 0)
        if not unilateral and self._links.get(record.peer) is not None:
            await self._books.until(record.peer, ACK_WAIT_S, lambda: not self._record(channel_id).open)
        return self._view(self._record(channel_id))

    async def contest(self, channel_id: str, reason: str) -> ChannelView:
        """Freeze and sign my half and have the channel disputed, as the peer does or a person asks. Nothing where it is
        disputed or closed already."""
        record = self._record(channel_id)
        if record.state in (State.ACTIVE, State.CLOSING):
            await self._books.commit(record.peer, lambda work: closing.close(work, record.id, True, reason))
        return self._view(self._record(channel_id))

    async def decide(self, channel_id: str, paid_u: int, received_u: int) -> None:
        """Close on what the witnesses have decided: paid by me and received, µ."""
        record = self._record(channel_id)
        await self._books.commit(record.peer, lambda work: closing.decide(work, record.id, paid_u, received_u))

    # -- views

    def record(self, channel_id: str) -> Channel:
        """The latest committed record. Raises UnknownChannel."""
        return self._record(channel_id)

    def disputed(self) -> list[Channel]:
        """Every channel that is disputed now."""
        return [c for c in self._books.records.values() if c.agreed and c.state is State.DISPUTED]

    def active_with(self, peer: PeerId) -> ChannelView | None:
        """The channel with ``peer`` on which can be paid."""
        found = self._books.open_with(peer)
        return self._view(found) if found is not None and found.state is State.ACTIVE else None

    def funds_with(self, peer: PeerId) -> Funds | None:
        """The same as a payment needs it: asked for many times a job."""
        found = self._books.open_with(peer)
        return funds(found) if found is not None and found.state is State.ACTIVE else None

    def views(self) -> list[ChannelView]:
        """All that are not closed, newest first, then the latest closed ones."""
        shown = sorted(
            (c for c in self._books.records.values() if c.agreed),
            key=lambda c: (c.open, c.created_us, c.epoch),
            reverse=True,
        )
        return [self._view(c) for c in shown]

    def view(self, channel_id: str) -> ChannelView:
        """Raises UnknownChannel."""
        return self._view(self._record(channel_id))

    async def balances(self, channel_id: str, points: int) -> BalancesView:
        """How my balance went, in at most ``points`` points. Raises UnknownChannel, BadInput."""
        if not 2 <= points <= MAX_POINTS:
            raise BadInput(f"A plot has 2 to {MAX_POINTS} points.")
        record = self._record(channel_id)
        return await self._db.read(lambda tx: balances(tx, record, points))

    def resolve(self, text: str) -> str:
        """A full id or an unambiguous prefix of at least 4 digits. Raises UnknownChannel."""
        wanted = text.strip().lower()
        found = [c.id.hex() for c in self._books.records.values() if c.agreed and c.id.hex().startswith(wanted)]
        if len(wanted) < 4 or not found:
            raise UnknownChannel(f"There is no channel {text[:70]!r}.")
        if len(found) > 1:
            raise UnknownChannel(f"{text[:70]!r} fits {len(found)} channels; give more digits.")
        return found[0]

    async def set_credit(self, peer: PeerId, limit_u: int | None) -> LedgerView:
        """How much ``peer`` may owe me, µ; None: as much as everybody of its kind. Open channels stay as they are.

        Raises BadInput.
        """
        if limit_u is not None and not 0 <= limit_u <= MAX_DEPOSIT_U:
            raise BadInput(f"A credit limit is from 0 to {format_amount(MAX_DEPOSIT_U)}.")
        await self._books.set_credit(peer, limit_u)
        return self._ledger_line(peer)

    def ledger(self) -> list[LedgerView]:
        """What peers and I owe each other over closed channels, and limits set for one peer; one line a peer."""
        return [self._ledger_line(peer) for peer in sorted({*self._books.balances, *self._books.credits})]

    def _ledger_line(self, peer: PeerId) -> LedgerView:
        balance = self._books.balances.get(peer, 0)
        return LedgerView(
            peer_id=peer,
            peer_name=self._name_of(peer),
            owed_to_me_u=max(0, balance),
            i_owe_u=max(0, -balance),
            credit_limit_u=self._books.limit(peer),
        )

    def owed(self) -> tuple[int, int]:
        """(to me, by me) over all peers, µ."""
        balances = self._books.balances.values()
        return sum(b for b in balances if b > 0), -sum(b for b in balances if b < 0)

    # -- inside

    async def _propose(
        self, peer: PeerId, mine_u: int, theirs_u: int, expires_s: int, least_epoch: int, panel: Panel, driver: str
    ) -> Answer:
        """Propose and wait for the answer. Raises as ``open`` does."""
        await self._links.dial(peer)
        limit, nonce = self._books.limit(peer), os.urandom(32)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def propose(work: Work) -> bytes:
            channel = opening.propose(work, peer, mine_u, theirs_u, expires_s, nonce, limit, least_epoch, panel, driver)
            self._books.answers[channel.id] = future
            return channel.id

        draft = b""
        try:
            draft, _ = await self._books.commit(peer, propose)
            async with asyncio.timeout(OPEN_WAIT_S):
                return await future
        except TimeoutError:
            await self._books.commit(peer, lambda work: opening.give_up(work, draft))
            raise DeadlineExceeded(f"{self._name_of(peer)} did not answer within {OPEN_WAIT_S:.0f} s.") from None
        finally:
            self._books.answers.pop(draft, None)

    async def _run_ticker(self) -> None:
        while True:
            now = self._clock.now_us()
            due = [d for c in self._books.records.values() if (d := closing.next_deadline(c)) is not None]
            wait = min([TICK_S, *((d - now) / US for d in due)])
            await self._clock.sleep(max(wait, 0.05))
            try:
                await self._expire()
            except ZsError as error:
                self._bus.publish(events.Notice("error", "channels", str(error)))
                await self._clock.sleep(TICK_S)

    async def _expire(self) -> None:
        """Carry out what is due."""
        now = self._clock.now_us()
        for record in tuple(self._books.records.values()):
            deadline = closing.next_deadline(record)
            if deadline is not None and now >= deadline:
                await self._expire_one(record, closing.expire)
            elif record.reason == "void" and now >= record.since_us + VOID_KEPT_US:
                await self._expire_one(record, closing.forget)
            if self._is_unanswered(record):
                await self._expire_one(record, closing.unanswered)

    async def _expire_one(self, record: Channel, what: Callable[[Work, bytes], None]) -> None:
        await self._books.commit(record.peer, lambda work: what(work, record.id))

    def _is_unanswered(self, record: Channel) -> bool:
        """Whether a connected peer has had my Close for too long."""
        if record.state is not State.CLOSING or self._links.get(record.peer) is None:
            self._asked.pop(record.id, None)
            return False
        now = self._clock.monotonic_us()
        return now - self._asked.setdefault(record.id, now) >= CLOSE_TIMEOUT_US

    def _is_confirmed(self, id: bytes) -> bool:
        record = self._books.records.get(id)
        return record is None or record.confirmed or not record.open

    def _record(self, channel_id: str) -> Channel:
        try:
            found = self._books.records.get(bytes.fromhex(channel_id))
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
            self._owed(record.peer),
            self._reserved(record.peer),
            self._clock.now_us(),
            self._action_in_case(record.id.hex()) if record.state is State.DISPUTED else "",
        )


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
