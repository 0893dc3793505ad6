"""The rules of a dispute: who may witness, what evidence says, how it joins, when it ends and what is decided. Pure.

Evidence joins like sets do: in any order, any number of times, the same evidence gives the same verdict, so that witnesses
that heard the same need not have heard it in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from zstui.engine.channels.disputes.messages import Fault, Opening, OutputVerdict, Side, Verdict
from zstui.engine.channels.messages import (
    Ack,
    Close,
    Params,
    Pay,
    Reestablish,
    Settle,
    channel_id,
    check_opening,
    read,
    take,
)
from zstui.engine.channels.panel import check_panel
from zstui.engine.channels.state import balances
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import PeerId, peer_id_of, public_key_of

# --- who is who ------------------------------------------------------------------------------------------------------


def witnesses_of(params: Params) -> tuple[PeerId, ...]:
    return tuple(peer_id_of(key) for key in params.witnesses)


def parties_of(params: Params) -> tuple[PeerId, PeerId]:
    """(lo, hi)."""
    return peer_id_of(params.pk_lo), peer_id_of(params.pk_hi)


def side_of(params: Params, peer: PeerId) -> Side:
    """Raises ProtocolError for one who is no party."""
    key = public_key_of(peer)
    if key == params.pk_lo:
        return 0
    if key == params.pk_hi:
        return 1
    raise ProtocolError("Only the two sides of a channel give evidence on it.")


def check_filing(ch: bytes, opening: Opening) -> None:
    """Raises ProtocolError unless both sides agreed to this channel with these witnesses."""
    params = opening.params
    if not params.witnesses or not check_panel(params):
        raise ProtocolError("A filing on a channel without witnesses.")
    check_opened(ch, opening)


def check_opened(ch: bytes, opening: Opening) -> None:
    """Raises ProtocolError unless both sides agreed to this channel."""
    params = opening.params
    if channel_id(params) != ch:
        raise ProtocolError("A filing whose terms belong to another channel.")
    check_opening(params.pk_lo, ch, opening.sig_lo)
    check_opening(params.pk_hi, ch, opening.sig_hi)


# --- evidence --------------------------------------------------------------------------------------------------------


class Link(msgspec.Struct, frozen=True, order=True):
    """A Pay or Close that a side signed: where it says its half was."""

    side: int
    kind: str
    seq: int
    cum: int
    head: bytes
    """Of a Pay its digest, of a Close the head it names."""
    body: bytes
    """SHA-256 of what was signed."""


class Denial(msgspec.Struct, frozen=True, order=True):
    """A side is said to have acknowledged a payment of the other that the other never made."""

    side: int
    seq: int
    head: bytes


class Joined(msgspec.Struct, frozen=True):
    """What a case's evidence comes to."""

    cum: tuple[int, int] = (0, 0)
    """The most that each side signed to have paid, or is bound to by what it submitted."""
    links: frozenset[Link] = frozenset()
    denials: frozenset[Denial] = frozenset()
    settles: frozenset[tuple[int, bytes]] = frozenset()
    """(side, SHA-256 of the body) of closing balances that a side signed."""

    @property
    def settled(self) -> bool:
        """Both sides signed the same closing balances: there is nothing left to decide."""
        return any((1 - side, body) in self.settles for side, body in self.settles)


def join(a: Joined, b: Joined) -> Joined:
    """Both together. Commutative, associative, idempotent."""
    return Joined(
        (max(a.cum[0], b.cum[0]), max(a.cum[1], b.cum[1])),
        a.links | b.links,
        a.denials | b.denials,
        a.settles | b.settles,
    )


def join_all(parts: Iterable[Joined]) -> Joined:
    total = Joined()
    for part in parts:
        total = join(total, part)
    return total


def facts(params: Params, ch: bytes, submitter: PeerId, docs: tuple[bytes, ...], denied: bytes = b"") -> Joined:
    """What one submission by one side says. Raises ProtocolError where any of it is forged, foreign or impossible."""
    by = side_of(params, submitter)
    return join_all(
        [*(_fact(params, ch, by, raw) for raw in docs), *([_denial(params, ch, by, denied)] if denied else [])]
    )


def _fact(params: Params, ch: bytes, by: Side, raw: bytes) -> Joined:
    signed = take(raw)
    side = side_of(params, signed.signer)
    digest = hashlib.sha256(signed.body).digest()
    match signed.kind:
        case "Pay":
            pay = read(signed, Pay)
            _same(pay.ch, ch)
            if pay.cum > (params.dep_lo, params.dep_hi)[side] + pay.peer_cum:
                raise ProtocolError("A payment of more than its maker had.")
            cum = [0, 0]
            cum[side] = pay.cum
            if side != by:
                cum[by] = pay.peer_cum
            return Joined((cum[0], cum[1]), frozenset({Link(side, "pay", pay.seq, pay.cum, signed.digest, digest)}))
        case "Close":
            close = read(signed, Close)
            _same(close.ch, ch)
            cum = [0, 0]
            cum[side] = close.my_cum
            link = Link(side, "close", close.my_seq, close.my_cum, close.my_head, digest)
            return Joined((cum[0], cum[1]), frozenset({link}))
        case "Settle":
            settle = read(signed, Settle)
            _same(settle.ch, ch)
            return Joined(settles=frozenset({(int(side), digest)}))
        case _:
            raise ProtocolError(f"A {signed.kind!r} is no evidence.")


def _denial(params: Params, ch: bytes, by: Side, raw: bytes) -> Joined:
    signed = take(raw)
    side = side_of(params, signed.signer)
    if side == by:
        raise ProtocolError("A side that denies its own word.")
    match signed.kind:
        case "Pay":
            pay = read(signed, Pay)
            _same(pay.ch, ch)
            denial = Denial(side, pay.peer_seq, pay.peer_head)
        case "Ack":
            ack = read(signed, Ack)
            _same(ack.ch, ch)
            denial = Denial(side, ack.seq, ack.head)
        case "Reestablish":
            where = read(signed, Reestablish)
            _same(where.ch, ch)
            denial = Denial(side, where.recv_seq, where.recv_head)
        case _:
            raise ProtocolError(f"A {signed.kind!r} acknowledges nothing.")
    if denial.seq == 0:
        raise ProtocolError("A document that acknowledges nothing cannot be denied.")
    return Joined(denials=frozenset({denial}))


def _same(named: bytes, ch: bytes) -> None:
    if named != ch:
        raise ProtocolError("A document of another channel.")


# --- decision --------------------------------------------------------------------------------------------------------


def decide(params: Params, ch: bytes, joined: Joined) -> Verdict:
    """The verdict on this evidence: balances that sum to the deposits and are never negative.

    Honest filings never need the limit on what a side can have paid; one that hides the other's payments loses by it.
    """
    lo, hi = joined.cum
    lo, hi = min(lo, params.dep_lo + hi), min(hi, params.dep_hi + lo)
    return Verdict(ch, lo, hi, *balances(params.dep_lo, params.dep_hi, lo, hi), faults_in(joined))


def faults_in(joined: Joined) -> tuple[Fault, ...]:
    """Faults that the evidence shows, in a fixed order."""
    found = set()
    for side in (0, 1):
        mine = sorted(link for link in joined.links if link.side == side)
        pays = {(link.seq, link.head, link.body) for link in mine if link.kind == "pay"}
        closes = [link for link in mine if link.kind == "close"]
        if (
            len({seq for seq, _, _ in pays}) < len({(seq, body) for seq, _, body in pays})
            or len({link.body for link in closes}) > 1
        ):
            found.add((side, "FORK"))
        for close in closes:
            if any(seq > close.seq for seq, _, _ in pays):
                found.add((side, "STALE_CLAIM"))
            at = {head for seq, head, _ in pays if seq == close.seq}
            if at and close.head not in at:
                found.add((side, "FORK"))
        heads = {link.head for link in joined.links if link.side != side and link.kind == "pay"}
        if any(denial.side == side and denial.head not in heads for denial in joined.denials):
            found.add((side, "FALSE_ACK"))
    return tuple(Fault(side, kind) for side, kind in sorted(found))  # type: ignore[arg-type]


def verdict_digest(verdict: Verdict | OutputVerdict) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(verdict)).digest()


def deadline_ms(params: Params, times_ms: Iterable[int]) -> int | None:
    """When evidence closes: the median of the witnesses' receipts plus the challenge; None before m of them.

    The median of at least m lies between two honest clocks, however wrong the others are.
    """
    times = sorted(times_ms)
    if len(times) < params.m:
        return None
    return times[(len(times) - 1) // 2] + params.challenge_s * 1000


# --- penalties -------------------------------------------------------------------------------------------------------

PROVEN_HOURS = 30 * 24
JUDGED_HOURS = 24
MAX_HOURS = 365 * 24


def penalty_hours(base: int, earlier: int) -> int:
    """How long a fault keeps its maker out: ``base`` doubled for each earlier one, a year at most."""
    return int(min(base * 2 ** min(earlier, 20), MAX_HOURS))
