"""Signed envelopes: the one shape of everything that zstui peers sign.

``{v, type, body, signer, sig}``, Ed25519 over ``"zs/1|" + type + "|" + body``. The body is msgpack of an array-like msgspec
struct. Received bytes are stored and verified as they came and never encoded again.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TypeVar

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import Identity, PeerId, peer_id_of, verify

MAX_ENVELOPE = 64 * 1024
"""Largest envelope in bytes."""
SMALL = 8 << 10
"""Envelopes up to this size are remembered once they verified."""


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all signed structs; the type word on the wire is the class name."""


B = TypeVar("B", bound=Body)


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    v: int
    type: str
    body: bytes
    signer: bytes
    sig: bytes


class Signed(msgspec.Struct, frozen=True):
    """A verified envelope: who signed, which type, the exact bytes received and the body's bytes."""

    signer: PeerId
    kind: str
    body: bytes
    raw: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the raw envelope, 32 bytes: the id under which others refer to it."""
        return hashlib.sha256(self.raw).digest()

    def decode(self, body_type: type[B]) -> B:
        """The body as ``body_type``. Raises ProtocolError if it is of another type or malformed."""
        if self.kind != body_type.__name__:
            raise ProtocolError(f"Expected a signed {body_type.__name__}, got {self.kind!r}.")
        try:
            return msgspec.msgpack.decode(self.body, type=body_type)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"Malformed {body_type.__name__}: {error}.") from error


def _signed_bytes(type_word: str, body: bytes) -> bytes:
    return b"zs/1|" + type_word.encode() + b"|" + body


def seal(identity: Identity, body: Body) -> bytes:
    """Sign ``body`` and return the envelope's bytes. Raises ProtocolError over 64 KiB."""
    return sign(identity, body).raw


def sign(identity: Identity, body: Body) -> Signed:
    """The same, as ``open_envelope`` would return it."""
    type_word = type(body).__name__
    encoded = msgspec.msgpack.encode(body)
    raw = msgspec.msgpack.encode(
        Envelope(1, type_word, encoded, identity.public_key, identity.sign(_signed_bytes(type_word, encoded)))
    )
    if len(raw) > MAX_ENVELOPE:
        raise ProtocolError(f"A signed {type_word} of {len(raw)} bytes is over the limit of {MAX_ENVELOPE}.")
    return Signed(identity.peer_id, type_word, encoded, raw)


def open_envelope(raw: bytes, signer: PeerId | None = None) -> Signed:
    """Verify and take apart. Raises ProtocolError if malformed, too large, badly signed, or not by ``signer``."""
    if len(raw) > MAX_ENVELOPE:
        raise ProtocolError("A signed message over 64 KiB.")
    signed = _verified_lately(raw) if len(raw) <= SMALL else _verified(raw)
    if signer is not None and signed.signer != signer:
        raise ProtocolError(f"A {signed.kind!r} signed by another peer than expected.")
    return signed


def _verified(raw: bytes) -> Signed:
    try:
        envelope = msgspec.msgpack.decode(raw, type=Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"Malformed envelope: {error}.") from error
    if envelope.v != 1 or len(envelope.type) > 64:
        raise ProtocolError("An envelope of an unknown version.")
    if not verify(envelope.signer, _signed_bytes(envelope.type, envelope.body), envelope.sig):
        raise ProtocolError(f"A {envelope.type!r} with a wrong signature.")
    return Signed(peer_id_of(envelope.signer), envelope.type, envelope.body, raw)


_verified_lately = lru_cache(maxsize=512)(_verified)
"""The same bytes are looked at several times in a row; those that do not verify are not remembered."""
