"""A discharge: both sides sign that a debt was paid outside of zstui. Nothing is paid by it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from zstui.engine.channels.messages import Document, Hash, Positive, Word
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, Signed

MAX_NOTE = 200


class Discharge(Body, frozen=True):
    """ "I received ``amount_u`` from you outside", signed by ``creditor`` and ``debtor`` alike."""

    net: Word
    debtor: Hash
    creditor: Hash
    amount_u: Positive
    note: Annotated[str, Meta(max_length=MAX_NOTE)]
    nonce: Hash
    at_ms: Positive


State = Literal["proposed", "waiting", "signed", "declined"]
"""proposed: I signed, the peer has not. waiting: the peer signed, a person here has to say yes or no."""


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """To a signed Discharge: how it stands at the answering side; ``raw`` is its own signature once it has signed."""

    state: Literal["waiting", "signed", "declined", "refused"]
    raw: Document = b""
    why: Annotated[str, Meta(max_length=200)] = ""


def discharge_id(signed: Signed) -> bytes:
    """The same for both signatures: SHA-256 of the body."""
    return hashlib.sha256(b"zs/discharge/1" + signed.body).digest()


def decode_answer(frame: bytes) -> Answer:
    """Raises ProtocolError."""
    try:
        return msgspec.msgpack.decode(frame, type=Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"A malformed answer to a discharge: {error}.") from error
