"""One channel as a frozen record, and what can be read off it. Pure."""

from __future__ import annotations

import msgspec

from zstui.engine.channels.messages import Close, Final, Params, Settle
from zstui.engine.channels.state import (
    CLOSE_MARGIN_US,
    PAY_MARGIN_US,
    UNACKED_U,
    WINDOW,
    Half,
    Move,
    State,
    balances,
    final_of,
    step,
)
from zstui.engine.errors import BadInput, ChannelError, InsufficientBalance
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.money import format_amount

MIN_DEPOSIT_U = 1_000
MAX_DEPOSIT_U = 1_000_000_000
MIN_EXPIRY_S = 600
MAX_EXPIRY_S = 366 * 86_400
CHALLENGE_S = 86_400
DRIVER = "ledger"


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one channel at one side. ``out`` is my half, ``inn`` the peer's as I hold it."""

    id: bytes
    peer: PeerId
    epoch: int
    state: State
    reason: str = ""
    """Why it is disputed or closed."""
    proposer: bool
    """I proposed it."""
    agreed: bool = True
    """False: my proposal without an answer; ``id`` is then the draft's, the channel has none yet."""
    params: Params
    low: bool
    """My key is the lower one."""
    dep_mine: int
    dep_theirs: int
    created_us: int
    expires_us: int
    out: Half
    inn: Half
    acked: int = 0
    """Last of my sequence numbers that the peer acknowledged."""
    acked_cum: int = 0
    confirmed: bool = False
    """The peer is known to hold the channel as active."""
    frozen: bool = False
    """I signed my Close."""
    peer_close: Half | None = None
    """Where the peer's Close ended its half."""
    tainted: bool = False
    """My database went back in time: no Pay, no Close of mine any more."""
    peer_tainted: bool = False
    decided: tuple[int, int] | None = None
    """What a verdict fixed, whatever the halves say: (paid by me, received), µ."""
    since_us: int
    """When it entered its state."""
    rev: int = 0
    """Counts the stored versions."""

    @property
    def moved(self) -> tuple[int, int]:
        """(paid by me, received), µ."""
        return self.decided or (self.out.cum, self.inn.cum)

    @property
    def balance(self) -> int:
        """What I can spend, µ."""
        paid, received = self.moved
        return self.dep_mine - paid + received

    @property
    def peer_balance(self) -> int:
        paid, received = self.moved
        return self.dep_theirs - received + paid

    @property
    def unacked_u(self) -> int:
        return self.out.cum - self.acked_cum

    @property
    def open(self) -> bool:
        return self.state is not State.CLOSED

    def move(self, move: Move, now_us: int, reason: str = "") -> Channel:
        """The record after ``move``. Raises IllegalTransition."""
        after = step(self.state, move)
        if after is self.state:
            return self
        return msgspec.structs.replace(self, state=after, reason=reason, since_us=now_us)

    def halves(self) -> tuple[Half, Half]:
        """(lo, hi)."""
        return (self.out, self.inn) if self.low else (self.inn, self.out)

    def final(self) -> Final:
        return final_of(*self.halves())

    def settlement(self) -> Settle:
        """The Settle that both must sign, from the halves as they are."""
        lo, hi = self.halves()
        return Settle(self.id, self.final(), *balances(self.params.dep_lo, self.params.dep_hi, lo.cum, hi.cum))

    def closing(self) -> Close:
        return Close(self.id, self.out.seq, self.out.cum, self.out.head)

    def can_settle(self) -> bool:
        """Both halves are final: each side signed its Close, or cannot because it is tainted."""
        mine = self.frozen or self.tainted
        theirs = self.peer_tainted if self.peer_close is None else self.peer_close == self.inn
        return mine and theirs

    def check_payable(self, amount_u: int, spent_u: int, now_us: int, in_step: bool) -> None:
        """Whether I may pay ``amount_u`` on top of ``spent_u``. Raises ChannelError or a subclass with the reason."""
        step(self.state, Move.PAY)
        if self.tainted:
            raise ChannelError(
                "This node was restored from an older copy, so it signs no payment on this channel; close it and open another."
            )
        if not in_step:
            raise ChannelError(
                "This node was restarted and must hear from the peer once before it pays; try again when it is back online."
            )
        if not self.confirmed:
            raise ChannelError("The peer has not confirmed the channel yet; try again when it is back online.")
        if now_us >= self.expires_us - PAY_MARGIN_US:
            raise ChannelError("The channel is about to expire and takes no more payments; open another.")
        if self.out.seq - self.acked >= WINDOW:
            raise ChannelError(f"{WINDOW} payments wait for the peer's acknowledgement; wait until it is back online.")
        if (self.unacked_u or spent_u) and self.unacked_u + spent_u + amount_u > UNACKED_U:
            raise ChannelError(
                f"{format_amount(self.unacked_u + spent_u)} wait for the peer's acknowledgement and {format_amount(amount_u)}"
                f" more would pass {format_amount(UNACKED_U)}; wait until it is back online."
            )
        there = self.balance - spent_u
        if amount_u > there:
            raise InsufficientBalance(
                f"The channel holds {format_amount(there)} on your side and this payment needs {format_amount(amount_u)};"
                " close it and open one with a larger deposit."
            )


def check_terms(mine_u: int, theirs_u: int, expires_s: int) -> None:
    """What a person may ask of a channel: my deposit, the peer's, seconds to expiry. Raises BadInput."""
    least, most = format_amount(MIN_DEPOSIT_U), format_amount(MAX_DEPOSIT_U)
    if not MIN_DEPOSIT_U <= mine_u <= MAX_DEPOSIT_U:
        raise BadInput(f"A deposit of {format_amount(mine_u)} is outside {least} to {most}.")
    if theirs_u and not MIN_DEPOSIT_U <= theirs_u <= MAX_DEPOSIT_U:
        raise BadInput(
            f"A deposit of {format_amount(theirs_u)} for the peer is neither 0 nor within {least} to {most}."
        )
    if not MIN_EXPIRY_S <= expires_s <= MAX_EXPIRY_S:
        raise BadInput(
            f"A channel lasts from {MIN_EXPIRY_S // 60} minutes to {MAX_EXPIRY_S // 86_400} days; {expires_s} s is outside."
        )


def draft(
    net: str,
    me: PeerId,
    peer: PeerId,
    epoch: int,
    nonce: bytes,
    mine_u: int,
    theirs_u: int,
    now_ms: int,
    expires_s: int,
    witnesses: tuple[bytes, ...] = (),
    m: int = 0,
    driver: str = DRIVER,
) -> Params:
    """My proposal's params; the peer's nonce is left empty. ``m`` of the ``witnesses`` decide a dispute."""
    mine, theirs = public_key_of(me), public_key_of(peer)
    low = mine < theirs
    return Params(
        net=net,
        pk_lo=min(mine, theirs),
        pk_hi=max(mine, theirs),
        epoch=epoch,
        nonce_lo=nonce if low else b"",
        nonce_hi=b"" if low else nonce,
        dep_lo=mine_u if low else theirs_u,
        dep_hi=theirs_u if low else mine_u,
        created_ms=now_ms,
        expires_ms=now_ms + expires_s * 1000,
        challenge_s=CHALLENGE_S,
        witnesses=witnesses,
        m=m,
        driver=driver,
    )


def record(
    id: bytes, params: Params, me: PeerId, peer: PeerId, *, proposer: bool, agreed: bool, now_us: int
) -> Channel:
    """A fresh record in state opening."""
    low = public_key_of(me) == params.pk_lo
    start = Half.start(id)
    return Channel(
        id=id,
        peer=peer,
        epoch=params.epoch,
        state=step(State.NONE, Move.PROPOSE),
        proposer=proposer,
        agreed=agreed,
        params=params,
        low=low,
        dep_mine=params.dep_lo if low else params.dep_hi,
        dep_theirs=params.dep_hi if low else params.dep_lo,
        created_us=params.created_ms * 1000,
        expires_us=params.expires_ms * 1000,
        out=start,
        inn=start,
        since_us=now_us,
    )


def closes_at(channel: Channel) -> int:
    """When an active channel begins to close by itself, Unix µs."""
    return channel.expires_us - CLOSE_MARGIN_US
