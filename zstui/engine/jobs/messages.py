"""What travels on job and artifact streams.

The submitter opens every job stream. Frames: first a ``Head`` that names guild and job, then packets, each holding one message
sealed under the guild's key with the context ``<protocol>|<job id>``. Only when the guild is over may what settles a
finished agreement travel as it is, inside the link's own encryption.

- offer:    Offer -> Bidding | Refusal; Accept -> Agreed | Refusal; then the feed.
            An Offer with a proposed agreement -> Agreed, or Completed at once; Bidding, to go on as above; or Refusal
- attach:   Attach -> Agreed | Refusal; then the feed
- feed:     Progress and Output until Done; the submitter answers Ack, and may send Cancel at any time;
            a Note while it runs is paid through the channel, or answered with NoteAnswer
- audit:    Audit -> Progress until Attested | Refusal
- evidence: Attested -> Ack
- artifact: Get -> Chunk until complete | Refusal
"""

from __future__ import annotations

from typing import Literal

import msgspec

CHUNK = 48 * 1024
"""Bytes of payload in one frame."""

RefusalCode = Literal["refused", "busy", "payment", "unknown", "invalid"]
"""busy: ask again later. payment: the channel does not cover it. unknown: no such job."""


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    guild: bytes
    job: bytes


class Packet(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    sealed: bool
    data: bytes


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Offer(Message, frozen=True, tag=1):
    manifest: bytes
    agreement: bytes = b""
    """In the submitter's envelope, on the terms of the executor's card; "" to ask for a bid."""


class Refusal(Message, frozen=True, tag=2):
    code: RefusalCode
    reason: str


class Bidding(Message, frozen=True, tag=3):
    bid: bytes


class Accept(Message, frozen=True, tag=4):
    """The agreement in the submitter's envelope."""

    agreement: bytes


class Agreed(Message, frozen=True, tag=5):
    """The same agreement in the executor's envelope. Sent only once the executor's side is durable."""

    agreement: bytes
    waiting: int = 0
    """Jobs ahead of this one."""


class Attach(Message, frozen=True, tag=6):
    """How much output the submitter already holds."""

    stdout: int
    stderr: int
    agreement: bytes = b""
    """Id of the agreement that it signed."""


class Progress(Message, frozen=True, tag=7):
    """Also the heartbeat."""

    running: bool
    waiting: int
    """Jobs ahead while not running."""
    thousandths: int
    """As the job itself reports; -1 if it does not."""
    active_us: int = 0
    """Metered so far."""
    due_u: int = 0
    """What that costs."""
    paused: bool = False
    """Held still: a debit note waits for its payment."""


class Output(Message, frozen=True, tag=8):
    stream: Literal["stdout", "stderr"]
    offset: int
    data: bytes


class Done(Message, frozen=True, tag=9):
    receipt: bytes


class Completed(Message, frozen=True, tag=26):
    """A job that ended soon after it was agreed: all that Agreed, Output and Done would have said."""

    agreement: bytes
    stdout: bytes
    stderr: bytes
    receipt: bytes


class Ack(Message, frozen=True, tag=10):
    """What was sent is durable here."""


class Cancel(Message, frozen=True, tag=11):
    pass


class Audit(Message, frozen=True, tag=12):
    manifest: bytes
    receipt: bytes


class Attested(Message, frozen=True, tag=13):
    attestation: bytes


class Get(Message, frozen=True, tag=14):
    cid: str


class Chunk(Message, frozen=True, tag=15):
    total: int
    data: bytes


class Note(Message, frozen=True, tag=24):
    """A debit note in the executor's envelope."""

    note: bytes


class NoteAnswer(Message, frozen=True, tag=25):
    """A ``NoteReply`` in the submitter's envelope."""

    reply: bytes


AnyMessage = (
    Offer
    | Refusal
    | Bidding
    | Accept
    | Agreed
    | Attach
    | Progress
    | Output
    | Done
    | Ack
    | Cancel
    | Audit
    | Attested
    | Get
    | Chunk
    | Note
    | NoteAnswer
    | Completed
)
OPENABLE = (
    Refusal,
    Agreed,
    Attach,
    Progress,
    Output,
    Done,
    Ack,
    Cancel,
    Attested,
    Get,
    Chunk,
    Note,
    NoteAnswer,
    Completed,
)
"""What may travel without the guild's key once the guild is over."""
