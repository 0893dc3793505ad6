"""The two peers of whom a fuzzer knows the keys."""

from __future__ import annotations

import msgspec

from zstui.engine.identity.envelope import Envelope, _signed_bytes
from zstui.engine.identity.keys import Identity

ONE, OTHER = Identity(bytes(32)), Identity(b"\1" * 32)


def signed(kind: str, body: bytes, by: Identity = ONE) -> bytes:
    """An envelope whose signature holds, around whatever body."""
    return msgspec.msgpack.encode(Envelope(1, kind, body, by.public_key, by.sign(_signed_bytes(kind, body))))
