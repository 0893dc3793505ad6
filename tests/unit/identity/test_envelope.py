"""Signed envelopes."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import MAX_ENVELOPE, Body, Envelope, open_envelope, seal
from zstui.engine.identity.keys import Identity


class Note(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    text: str
    number: int


class Bill(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    text: str
    number: int


ME = Identity.generate()
RAW = seal(ME, Note("hello", 7))


def altered(**fields: object) -> bytes:
    envelope = msgspec.msgpack.decode(RAW, type=Envelope)
    return msgspec.msgpack.encode(msgspec.structs.replace(envelope, **fields))


def test_round_trip() -> None:
    signed = open_envelope(RAW, ME.peer_id)
    assert signed.signer == ME.peer_id
    assert signed.kind == "Note"
    assert signed.decode(Note) == Note("hello", 7)
    assert signed.raw == RAW
    assert signed.digest == hashlib.sha256(RAW).digest()


def test_the_signature_covers_type_and_body() -> None:
    """A signed note must not pass for a signed bill with the same fields."""
    with pytest.raises(ProtocolError, match="wrong signature"):
        open_envelope(altered(type="Bill"))
    with pytest.raises(ProtocolError, match="wrong signature"):
        open_envelope(altered(body=msgspec.msgpack.encode(Note("hello", 8))))
    with pytest.raises(ProtocolError, match="Expected a signed Bill"):
        open_envelope(RAW).decode(Bill)


def test_another_signer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="another peer"):
        open_envelope(RAW, Identity.generate().peer_id)
    with pytest.raises(ProtocolError, match="wrong signature"):
        open_envelope(altered(signer=Identity.generate().public_key))


@pytest.mark.parametrize("fields", [{"v": 2}, {"type": "N" * 65}])
def test_unknown_forms_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="unknown version"):
        open_envelope(altered(**fields))


def test_size_limits() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        seal(ME, Note("x" * MAX_ENVELOPE, 1))
    with pytest.raises(ProtocolError, match="64 KiB"):
        open_envelope(bytes(MAX_ENVELOPE + 1))


def test_a_malformed_body_is_refused() -> None:
    class Note(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
        text: int

    with pytest.raises(ProtocolError, match="Malformed Note"):
        open_envelope(RAW).decode(Note)


@given(st.binary(max_size=300))
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_envelope(raw)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, mask: int) -> None:
    damaged = bytearray(RAW)
    damaged[position] ^= mask
    with pytest.raises(ProtocolError):
        open_envelope(bytes(damaged)).decode(Note)
