"""One unit of work on the channels: runs inside a transaction, collects what to do once that is durable.

Nothing here sends or publishes. A ``Work`` stages records, frames and events; the service commits, then carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from zstui.engine import events
from zstui.engine.channels import store
from zstui.engine.channels.messages import Params, PayLine
from zstui.engine.channels.model import Channel
from zstui.engine.channels.settlement import Settlement, SettlementDriver, owed_by
from zstui.engine.channels.state import TRANSITIONS, Half, Move
from zstui.engine.channels.vault import store as vault_store
from zstui.engine.errors import ProtocolError, UnknownChannel
from zstui.engine.identity.envelope import Body, seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.store.database import Tx

LineHook = Callable[[Tx, str, PeerId, PayLine], None]
"""(transaction, channel id in hex, peer, line): runs in the channel's transaction."""


class Context(msgspec.Struct, frozen=True):
    """What does not change while the service lives."""

    identity: Identity
    net: str
    drivers: Mapping[str, SettlementDriver]
    """By the word in a channel's params."""
    on_credit: LineHook
    on_acknowledged: LineHook
    on_undone: LineHook = lambda tx, channel, peer, line: None
    restored: Callable[[], bool] = lambda: False
    """This node may have lost channels that its peers still have."""
    agreed_witnesses: Callable[[PeerId], frozenset[bytes]] = lambda peer: frozenset()
    """The witnesses that were agreed with a peer for the channel it is about to propose."""


class Frame(msgspec.Struct, frozen=True):
    """Bytes for the peer. One with a ``channel`` goes out only once that channel is in step on the link: until then the
    stored copy is sent instead."""

    raw: bytes
    channel: bytes | None = None
    seq: int = 0
    """Of a Pay; 0 for all else."""


class Answer(msgspec.Struct, frozen=True):
    """How the peer answered a proposal of mine."""

    draft: bytes
    code: Literal["", "EPOCH", "CREDIT", "DEPOSIT", "EXISTS", "SIMULTANEOUS", "TERMS", "CLOCK", "BUSY", "VOID"]
    """"": accepted."""
    channel: bytes = b""
    next: int = 0


class InStep(msgspec.Struct, frozen=True):
    """The peer told where it is on a channel: what to do next on this link."""

    channel: bytes
    first: int
    """Send my stored Pays from here on ..."""
    after_pull: int = 0
    """... but only once the peer has pulled its own lost Pays up to this one."""
    recover_to: int = 0
    """I lost my own Pays up to this one: pull them first."""
    close: bytes = b""
    """My own Close, which I lost; adopt it after the Pays."""


class Pulled(msgspec.Struct, frozen=True):
    """The peer got its own Pays back up to ``last``."""

    channel: bytes
    last: int


class Unknown(msgspec.Struct, frozen=True):
    """The peer re-established a channel on which something was paid and of which I have no record."""

    channel: bytes


class Outcome(msgspec.Struct):
    """What to do after the commit."""

    channels: list[Channel]
    gone: list[bytes]
    """Records that were dropped or renamed."""
    frames: list[Frame]
    events: list[events.Event]
    acks: set[bytes]
    """Channels on which the peer is to get an Ack."""
    started: list[bytes]
    """Channels that became active just now, over the link in use."""
    in_step: list[bytes]
    """Channels on which the peer has confirmed since this process began that I hold all I ever signed."""
    steps: list[InStep | Pulled | Unknown]
    answers: list[Answer]
    balances: dict[PeerId, int]
    drop: str = ""
    """Why the link must be dropped; "" to keep it."""


@contextmanager
def savepoint(tx: Tx) -> Iterator[None]:
    """Undo the statements inside if it raises."""
    tx.execute("SAVEPOINT inside")
    try:
        yield
    except BaseException:
        tx.execute("ROLLBACK TO inside")
        raise
    finally:
        tx.execute("RELEASE inside")


class Work:
    """``in_step``: channels of this peer on which I may sign. A database may have been replaced by an older copy between
    two starts without leaving a trace, and signing on from there would contradict what I signed before; so after a start
    nothing is signed on a channel until the peer has told where it is. ``known``: committed records of this peer's channels,
    which nobody else changes meanwhile; others are read from the database."""

    def __init__(
        self,
        tx: Tx,
        context: Context,
        now_us: int,
        in_step: frozenset[bytes] = frozenset(),
        known: Mapping[bytes, Channel] | None = None,
    ) -> None:
        self.tx = tx
        self.context = context
        self.now_us = now_us
        self._in_step = in_step
        self._known = known or {}
        self._staged: dict[bytes, Channel] = {}
        self.recovering: frozenset[bytes] = frozenset()
        """Channels on which Pays of mine that I lost still come back from the peer."""
        self.out = Outcome([], [], [], [], set(), [], [], [], [], {})

    # -- records

    def find(self, channel: bytes) -> Channel | None:
        staged = self._staged.get(channel)
        if staged is not None or channel in self.out.gone:
            return staged
        return self._known.get(channel) or store.load(self.tx, channel)

    def open_with(self, peer: PeerId) -> Channel | None:
        """The one channel with ``peer`` that is not closed."""
        self.flush()
        return store.load_open(self.tx, peer)

    def need(self, channel: bytes) -> Channel:
        found = self.find(channel)
        if found is None:
            raise UnknownChannel("There is no such channel.")
        return found

    def put(self, channel: Channel) -> Channel:
        """Stage a record; it is written when the work is finished."""
        self._staged[channel.id] = channel
        return channel

    def put_now(self, channel: Channel) -> Channel:
        """Write a record at once."""
        saved = store.save(self.tx, channel)
        self._staged[channel.id] = saved
        return saved

    def forget(self, channel: Channel) -> None:
        self._staged.pop(channel.id, None)
        store.forget(self.tx, channel.id)
        self.out.gone.append(channel.id)

    def log(self, channel: Channel) -> Callable[[int], Half | None]:
        """My half of ``channel`` as it was after any sequence number."""

        def at(seq: int) -> Half | None:
            if seq == channel.out.seq:
                return channel.out
            return store.half_at(self.tx, channel.id, store.OUT, seq) if seq < channel.out.seq else None

        return at

    def driver(self, params: Params) -> SettlementDriver:
        """Raises ProtocolError for one that this program does not know; no channel opens with it."""
        found = self.context.drivers.get(params.driver)
        if found is None:
            raise ProtocolError("A channel that settles in a way which is not known here.")
        return found

    def may_sign(self, channel: bytes) -> bool:
        return channel in self._in_step or channel in self.out.in_step

    # -- what follows the commit

    def seal(self, body: Body) -> bytes:
        return seal(self.context.identity, body)

    def send(self, raw: bytes, channel: bytes | None = None, seq: int = 0) -> None:
        self.out.frames.append(Frame(raw, channel, seq))

    def event(self, event: events.Event) -> None:
        self.out.events.append(event)

    def notice(self, channel: Channel, text: str, level: Literal["info", "warning", "error"] = "warning") -> None:
        self.event(events.Notice(level, "channels", text, channel.id.hex()))

    def flush(self) -> None:
        """Write what is staged, where a later statement depends on it."""
        for channel in list(self._staged.values()):
            self.put_now(channel)

    def finish(self) -> Outcome:
        """Write what is staged and return what to do after the commit."""
        self.flush()
        self.out.channels = list(self._staged.values())
        return self.out

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Undo everything done inside if it raises."""
        out = self.out
        lists: tuple[list[Any], ...] = (
            out.gone,
            out.frames,
            out.events,
            out.started,
            out.in_step,
            out.steps,
            out.answers,
        )
        staged, lengths, acks = dict(self._staged), [len(x) for x in lists], set(out.acks)
        try:
            with savepoint(self.tx):
                yield
        except BaseException:
            self._staged, out.acks = staged, acks
            for items, length in zip(lists, lengths, strict=True):
                del items[length:]
            raise

    # -- moves that several features share

    def acknowledge(self, channel: Channel, upto: Half) -> Channel:
        """The peer holds my half up to ``upto``."""
        if upto.seq <= channel.acked:
            return channel
        key = channel.id.hex()
        for line in store.lines_between(self.tx, channel.id, channel.acked, upto.seq):
            self.context.on_acknowledged(self.tx, key, channel.peer, line)
            self.event(events.PaymentProcessed(key, "sent", line.amount_u))
        return self.put(msgspec.structs.replace(channel, acked=upto.seq, acked_cum=upto.cum, confirmed=True))

    def dispute(self, channel: Channel, reason: str, *raws: bytes) -> Channel:
        """Stop trusting the channel and keep the proof. Where it is disputed already, only the proof is added."""
        store.add_evidence(self.tx, channel.id, reason, tuple(raw for raw in raws if raw), self.now_us)
        if (channel.state, Move.DISPUTE) not in TRANSITIONS:
            return channel
        self.notice(channel, f"A channel is disputed: {REASONS.get(reason, reason)}.", "error")
        return self.put(channel.move(Move.DISPUTE, self.now_us, reason))

    def closed(self, channel: Channel, kind: Literal["settled", "claimed", "decided"]) -> Channel:
        """Post the balance and release the deposit of a channel that has just entered state closed."""
        driver = self.driver(channel.params)
        paid, received = channel.moved
        self._book_unacknowledged(channel, paid)
        driver.settle(
            self.tx,
            Settlement(
                channel=channel.id,
                peer=channel.peer,
                paid_u=paid,
                received_u=received,
                kind=kind,
                at_us=self.now_us,
            ),
        )
        driver.release(self.tx, channel.id)
        vault_store.drop_mark(self.tx, channel.id)
        self.out.balances[channel.peer] = owed_by(self.tx, channel.peer)
        self.event(events.ChannelClosed(channel.id.hex(), channel.reason))
        return self.put(channel)

    def _book_unacknowledged(self, channel: Channel, paid_u: int) -> None:
        """What the peer never acknowledged is paid all the same as far as it counts; the rest of it never was."""
        key, last = channel.id.hex(), channel.out.seq
        counted = last if paid_u >= channel.out.cum else store.seq_within(self.tx, channel.id, paid_u)
        for line in store.lines_between(self.tx, channel.id, channel.acked, counted):
            self.context.on_acknowledged(self.tx, key, channel.peer, line)
        for line in store.lines_between(self.tx, channel.id, max(counted, channel.acked), last):
            store.drop_line(self.tx, line)
            self.context.on_undone(self.tx, key, channel.peer, line)

    def void(self, channel: Channel) -> Channel:
        """End a channel on which nothing was paid."""
        self.driver(channel.params).release(self.tx, channel.id)
        self.event(events.ChannelClosed(channel.id.hex(), "void"))
        return self.put(channel.move(Move.VOID, self.now_us, "void"))


REASONS = {
    "fork": "the peer signed two different payment histories",
    "false_ack": "the peer claims payments that this node did not sign",
    "overdraft": "the peer paid more than it has",
    "pay_after_close": "the peer went on after it had closed",
    "stale": "the peer shows an older state than it had signed",
    "abort": "the peer denies a channel that it had confirmed",
    "settle": "the peer signed other closing balances",
    "unilateral": "closed without the peer",
    "unanswered": "the peer does not answer the closing",
    "expired": "it expired before both sides had closed it",
    "case": "the peer brought it before the witnesses",
}
"""A clause for a person, for each reason of a dispute."""
