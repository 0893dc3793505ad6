"""The channel's state machine and the rules for accepting a half-chain's next link. Pure: data in, decision out.

A channel is two one-sided cumulative chains. Each side writes its own; the other only checks it. What one side can spend
is its deposit, plus all it has received, minus all it has paid.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum

import msgspec

from zstui.engine.channels.messages import Ack, Close, Final, Pay, PayLine
from zstui.engine.errors import IllegalTransition

WINDOW = 1024
"""Pays that may be unacknowledged."""
UNACKED_U = 100_000_000
"""µ that may be unacknowledged, unless it is a single Pay: what one lost peer can leave in doubt."""
PAY_MARGIN_US = 60_000_000
"""The payer stops this long before expiry."""
CLOSE_MARGIN_US = 300_000_000
"""A channel closes by itself this long before expiry."""
LATE_US = 300_000_000
"""What was issued before expiry is accepted until this long after."""
OPEN_TIMEOUT_US = 30_000_000
CLOSE_TIMEOUT_US = 600_000_000
"""A Close that a connected peer leaves unanswered for this long is disputed."""


class State(StrEnum):
    NONE = "none"
    OPENING = "opening"
    ACTIVE = "active"
    CLOSING = "closing"
    DISPUTED = "disputed"
    CLOSED = "closed"


class Move(StrEnum):
    PROPOSE = "propose"
    """A proposal sent or received."""
    ACCEPT = "accept"
    """The proposer got a valid Accept."""
    CONFIRM = "confirm"
    """The responder got a valid Confirm."""
    VOID = "void"
    """Reject, Abort or no answer in 30 s. After opening only where nothing was paid: a Confirm never arrived, or the peer
    lost its whole record."""
    PAY = "pay"
    RECEIVE = "receive"
    CLOSE = "close"
    """My own or the peer's Close."""
    SETTLE = "settle"
    """Equal Settles from both."""
    DISPUTE = "dispute"
    VERDICT = "verdict"
    UNRESOLVED = "unresolved"
    """The challenge time passed without agreement or verdict."""


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.NONE, Move.PROPOSE): State.OPENING,
    (State.OPENING, Move.ACCEPT): State.ACTIVE,
    (State.OPENING, Move.CONFIRM): State.ACTIVE,
    (State.OPENING, Move.VOID): State.CLOSED,
    (State.ACTIVE, Move.VOID): State.CLOSED,
    (State.ACTIVE, Move.PAY): State.ACTIVE,
    (State.ACTIVE, Move.RECEIVE): State.ACTIVE,
    (State.ACTIVE, Move.CLOSE): State.CLOSING,
    (State.ACTIVE, Move.DISPUTE): State.DISPUTED,
    (State.CLOSING, Move.VOID): State.CLOSED,
    (State.CLOSING, Move.RECEIVE): State.CLOSING,
    (State.CLOSING, Move.CLOSE): State.CLOSING,
    (State.CLOSING, Move.SETTLE): State.CLOSED,
    (State.CLOSING, Move.DISPUTE): State.DISPUTED,
    (State.DISPUTED, Move.VOID): State.CLOSED,
    (State.DISPUTED, Move.RECEIVE): State.DISPUTED,
    (State.DISPUTED, Move.CLOSE): State.DISPUTED,
    (State.DISPUTED, Move.SETTLE): State.CLOSED,
    (State.DISPUTED, Move.VERDICT): State.CLOSED,
    (State.DISPUTED, Move.UNRESOLVED): State.CLOSED,
}
"""The whole state machine. What is not listed is illegal."""

_SENTENCES = {
    Move.PAY: "no payment can be made on it",
    Move.CLOSE: "it cannot be closed",
    Move.DISPUTE: "it cannot be disputed",
}


def step(state: State, move: Move) -> State:
    """The state after ``move``. Raises IllegalTransition."""
    after = TRANSITIONS.get((state, move))
    if after is None:
        raise IllegalTransition(
            f"The channel is {state.value}; {_SENTENCES.get(move, f'{move.value} is not possible')}."
        )
    return after


SOFT_DISPUTES = frozenset({"unilateral", "unanswered", "expired", "case"})
"""Reasons for a dispute that accuse nobody: what arrives late is still taken, and a peer's Close is answered."""


class Half(msgspec.Struct, frozen=True):
    """One side's chain: last sequence number, all it paid (µ), hash of its last link."""

    seq: int
    cum: int
    head: bytes

    @classmethod
    def start(cls, channel: bytes) -> Half:
        return cls(0, 0, channel)

    def after(self, pay: Pay, digest: bytes) -> Half:
        return Half(pay.seq, pay.cum, digest)


class Judgement(Enum):
    ACCEPT = "accept"
    DUPLICATE = "duplicate"
    """Already held: acknowledge again."""
    GAP = "gap"
    """Something before it is missing: reconnect."""
    INVALID = "invalid"
    """Not a link an honest peer makes, but no proof of anything: drop the link."""
    FORK = "fork"
    """The signer signed two different histories."""
    FALSE_ACK = "false_ack"
    """The signer claims to hold of my half what I did not sign."""
    OVERDRAFT = "overdraft"


Log = Callable[[int], Half | None]
"""My half as it was after a sequence number; None if I never got so far."""


def judge_pay(
    pay: Pay, digest: bytes, held: Half, held_digest: Callable[[int], bytes | None], log: Log, deposit: int
) -> Judgement:
    """Whether the peer's next link is good, in the order of the rules; its signature has been checked.

    ``held`` is the peer's half as I hold it, ``held_digest`` the digest of one of its links, ``log`` my own half.
    """
    if pay.seq <= held.seq:
        return Judgement.DUPLICATE if held_digest(pay.seq) == digest else Judgement.FORK
    if pay.seq > held.seq + 1:
        return Judgement.GAP
    if pay.prev != held.head:
        return Judgement.FORK if held.seq else Judgement.INVALID
    if pay.cum != held.cum + sum(line.amount_u for line in pay.lines):
        return Judgement.INVALID
    if log(pay.peer_seq) != Half(pay.peer_seq, pay.peer_cum, pay.peer_head):
        return Judgement.FALSE_ACK
    if pay.cum > deposit + pay.peer_cum:
        return Judgement.OVERDRAFT
    return Judgement.ACCEPT


def judge_ack(ack: Ack, acked: int, log: Log) -> Judgement:
    """Whether an Ack of my half is true; DUPLICATE if it says nothing new."""
    if log(ack.seq) != Half(ack.seq, ack.cum, ack.head):
        return Judgement.FALSE_ACK
    return Judgement.ACCEPT if ack.seq > acked else Judgement.DUPLICATE


def judge_close(close: Close, held: Half) -> Judgement:
    """Whether a Close ends the peer's half where I saw it end."""
    if close.my_seq > held.seq:
        return Judgement.GAP
    if Half(close.my_seq, close.my_cum, close.my_head) != held:
        return Judgement.FORK
    return Judgement.ACCEPT


def next_pay(channel: bytes, out: Half, seen: Half, lines: tuple[PayLine, ...], issued_ms: int) -> Pay:
    """My next link over ``lines``, acknowledging ``seen`` of the peer's half."""
    cum = out.cum + sum(line.amount_u for line in lines)
    return Pay(channel, out.seq + 1, cum, out.head, seen.seq, seen.cum, seen.head, issued_ms, lines)


def final_of(lo: Half, hi: Half) -> Final:
    return Final(lo.seq, lo.cum, lo.head, hi.seq, hi.cum, hi.head)


def balances(dep_lo: int, dep_hi: int, cum_lo: int, cum_hi: int) -> tuple[int, int]:
    """What each side has: its deposit, less what it paid, plus what it got. They sum to the deposits."""
    return dep_lo - cum_lo + cum_hi, dep_hi - cum_hi + cum_lo
