"""What is said on a vault stream: one request, one answer. The link proves who asks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from zstui.engine.channels.messages import Count, Document
from zstui.engine.channels.vault.model import MAX_SEALED
from zstui.engine.errors import ProtocolError

Box = Annotated[bytes, Meta(max_length=MAX_SEALED)]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    pass


class Put(Message, frozen=True):
    """Keep this for me, instead of any older version."""

    version: Count
    box: Box


class PutAnswer(Message, frozen=True):
    """``version`` is what is held now; ``kept``: it is the one just given."""

    version: Count
    kept: bool


class Get(Message, frozen=True):
    """Which version do you keep for me? Send it if it is above ``above``."""

    above: Count


class Given(Message, frozen=True):
    version: Count
    box: Box
    """Empty where the version is not above what was asked, or nothing is kept (version 0)."""


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Both sides' signatures under a channel: an OpenAccept and an OpenConfirm, as they were sent."""

    accept: Document
    confirm: Document


class AskOpenings(Message, frozen=True):
    """Which channels that are not closed do we have?"""


class Openings(Message, frozen=True):
    open: Annotated[tuple[Opening, ...], Meta(max_length=1)]


_Any = Put | PutAnswer | Get | Given | AskOpenings | Openings
_DECODER = msgspec.msgpack.Decoder(_Any)


def encode(message: Message) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(frame: bytes) -> Message:
    """Raises ProtocolError."""
    try:
        message: Message = _DECODER.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"A malformed message on the vault stream: {error}.") from error
    return message
