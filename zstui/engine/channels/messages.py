"""What two peers say to each other on a payment channel: signed bodies, one envelope each, and the channel id.

Times are Unix milliseconds, amounts micro-units, sequence numbers start at 1 (0 is "nothing yet"), heads are SHA-256 of a
``Pay``'s envelope bytes (before the first Pay: the channel id). ``lo`` and ``hi`` are the sides ordered by public key.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, Envelope, Signed, open_envelope
from zstui.engine.identity.keys import Identity, verify

MAX_LINES = 64
"""Lines in one Pay."""

Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Small = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Nonce = Annotated[bytes, Meta(max_length=32)]
"""32 bytes, or none where a draft leaves it to the responder."""
Word = Annotated[str, Meta(max_length=32)]
MAX_DOCUMENT = 16 * 1024
Document = Annotated[bytes, Meta(max_length=MAX_DOCUMENT)]
"""Envelope bytes, or none."""
StateWord = Literal["opening", "active", "closing", "closed", "disputed"]


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A struct inside a body."""


class Params(Part, frozen=True):
    """What both sides sign when a channel opens; everything later refers to its hash."""

    net: Word
    pk_lo: Hash
    pk_hi: Hash
    epoch: Small
    nonce_lo: Nonce
    nonce_hi: Nonce
    dep_lo: Count
    dep_hi: Count
    created_ms: Count
    expires_ms: Count
    challenge_s: Small
    witnesses: Annotated[tuple[Hash, ...], Meta(max_length=31)]
    m: Small
    driver: Word


class PayLine(Part, frozen=True):
    """One payment inside a Pay: what it pays for and how much."""

    amount_u: Positive
    agreement: Hash
    """Digest of the agreement it is paid under."""
    kind: Small
    """What ``ref`` is: 1 receipt, 2 debit note, 3 refund."""
    no: Count
    """Number of this payment within the agreement; (agreement, no) is paid once at most."""
    ref: Hash
    """Digest of the document that asked for it."""


class Final(Part, frozen=True):
    """Where both halves ended."""

    seq_lo: Count
    cum_lo: Count
    head_lo: Hash
    seq_hi: Count
    cum_hi: Count
    head_hi: Hash


class OpenPropose(Body, frozen=True):
    draft: Params
    """Complete but for the responder's nonce, which is empty."""


class OpenAccept(Body, frozen=True):
    params: Params
    sig: Signature
    """The responder's, over ``opening_bytes(id)``."""


class OpenConfirm(Body, frozen=True):
    id: Hash
    sig: Signature
    """The proposer's, over ``opening_bytes(id)``."""


class OpenReject(Body, frozen=True):
    draft: Hash
    """``channel_id`` of the draft."""
    code: Literal["EPOCH", "CREDIT", "DEPOSIT", "EXISTS", "SIMULTANEOUS", "TERMS", "CLOCK", "BUSY"]
    next: Count
    """EPOCH: the lowest epoch accepted. CREDIT: the largest deposit accepted, µ. Else 0."""


class Abort(Body, frozen=True):
    """The sender says that this channel never became active for it."""

    id: Hash
    recv_seq: Literal[0]


class Pay(Body, frozen=True):
    """The next link of the signer's half: all it has ever paid on this channel, and what it has seen of the other half."""

    ch: Hash
    seq: Positive
    cum: Count
    prev: Hash
    peer_seq: Count
    peer_cum: Count
    peer_head: Hash
    issued_ms: Count
    lines: Annotated[tuple[PayLine, ...], Meta(min_length=1, max_length=MAX_LINES)]


class Ack(Body, frozen=True):
    """The payee holds everything up to ``seq``: the payer's proof of payment. ``seq`` 0: the channel is active here."""

    ch: Hash
    seq: Count
    cum: Count
    head: Hash


class Close(Body, frozen=True):
    """The signer's half ends here."""

    ch: Hash
    my_seq: Count
    my_cum: Count
    my_head: Hash


class Settle(Body, frozen=True):
    """The closing balances; valid once both sides have signed the same."""

    ch: Hash
    final: Final
    bal_lo: Count
    bal_hi: Count


class Reestablish(Body, frozen=True):
    """First word on a channel after every connect: where I am, and the latest I hold of what you signed."""

    ch: Hash
    state: StateWord
    sent_seq: Count
    sent_head: Hash
    recv_seq: Count
    recv_cum: Count
    recv_head: Hash
    your_last_pay: Document
    your_close: Document
    your_end: Document
    """Your Settle; where I hold none, the Reestablish in which you told that you are tainted."""
    tainted: bool
    """My database went back in time: I sign no Pay and no Close on this channel any more."""


class LogPull(Body, frozen=True):
    """Send me my own Pays ``first`` to ``last``: I lost them."""

    ch: Hash
    first: Positive
    last: Positive


class OpenPull(Body, frozen=True):
    """I have no record of this channel, on which something was paid: show me how it was opened."""

    ch: Hash


class Opened(Body, frozen=True):
    """Both sides' consent to a channel, as it was signed: the answer to ``OpenPull``."""

    accept: Document
    """The responder's OpenAccept."""
    confirm: Document
    """The proposer's OpenConfirm."""


T = TypeVar("T", bound=Body)


def channel_id(params: Params) -> bytes:
    """SHA-256("zs/chan/1" || params)."""
    return hashlib.sha256(b"zs/chan/1" + msgspec.msgpack.encode(params)).digest()


def opening_bytes(channel: bytes) -> bytes:
    """What each side's ``sig`` in Accept and Confirm signs."""
    return b"zs/chan/1|open|" + channel


def sign_opening(identity: Identity, channel: bytes) -> bytes:
    return identity.sign(opening_bytes(channel))


def check_opening(public_key: bytes, channel: bytes, sig: bytes) -> None:
    """Raises ProtocolError unless ``sig`` is ``public_key``'s consent to the channel."""
    if not verify(public_key, opening_bytes(channel), sig):
        raise ProtocolError("The opening of a channel carries a wrong signature.")


def take(raw: bytes) -> Signed:
    """Verify an envelope. Raises ProtocolError, also where its outer encoding is not the shortest."""
    signed = open_envelope(raw)
    if msgspec.msgpack.encode(msgspec.msgpack.decode(raw, type=Envelope)) != raw:
        raise ProtocolError(f"A {signed.kind!r} that is not in its shortest encoding.")
    return signed


def read(signed: Signed, body_type: type[T]) -> T:
    """The body. Raises ProtocolError for another type, a malformed body, or one that is not in its shortest encoding."""
    body = signed.decode(body_type)
    if msgspec.msgpack.encode(body) != signed.body:
        raise ProtocolError(f"A {signed.kind} that is not in its shortest encoding.")
    return body
