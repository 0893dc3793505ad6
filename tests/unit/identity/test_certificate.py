"""libp2p certificates: ours pass, and everything a thief could present does not."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.support.net import make_tls_certificate, stolen_certificate
from zstui.engine.errors import AuthenticationFailed
from zstui.engine.identity.certificate import (
    EXTENSION,
    decode_signed_key,
    encode_signed_key,
    make_certificate,
    verify_chain,
)
from zstui.engine.identity.keys import Identity, public_key_protobuf

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_own_certificate_proves_the_peer() -> None:
    identity = Identity.generate()
    certificate, key = make_certificate(identity)
    assert verify_chain([certificate], NOW) == identity.peer_id
    assert certificate.public_key() == key.public_key()
    assert isinstance(key.curve, ec.SECP256R1)


def test_two_certificates_of_one_identity_differ() -> None:
    identity = Identity.generate()
    assert make_certificate(identity)[0] != make_certificate(identity)[0]


@pytest.mark.parametrize("year", [1976, 2026, 3999])
def test_own_certificate_does_not_care_for_a_wrong_clock(year: int) -> None:
    identity = Identity.generate()
    when = datetime.datetime(year, 6, 1, tzinfo=datetime.UTC)
    assert verify_chain([make_certificate(identity)[0]], when) == identity.peer_id


def test_certificate_made_elsewhere_is_accepted() -> None:
    identity = Identity.generate()
    assert verify_chain([make_tls_certificate(identity)[0]], NOW) == identity.peer_id


def test_own_certificate_has_the_layout_of_the_specification() -> None:
    """The signature covers a fixed text and the certificate's key; checked with another Ed25519 implementation."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    identity = Identity.generate()
    certificate, _ = make_certificate(identity)
    value = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")).value
    assert isinstance(value, x509.UnrecognizedExtension)
    der = value.value
    assert der[0] == 0x30
    assert der[1] == len(der) - 2
    assert der[2:8] == b"\x04\x24\x08\x01\x12\x20"
    assert der[8:40] == identity.public_key
    assert der[40:42] == b"\x04\x40"
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    Ed25519PublicKey.from_public_bytes(der[8:40]).verify(der[42:], b"libp2p-tls-handshake:" + spki)


def refusal(*chain: x509.Certificate, when: datetime.datetime = NOW) -> str:
    with pytest.raises(AuthenticationFailed) as raised:
        verify_chain(chain, when)
    return str(raised.value)


def test_no_certificate_is_refused() -> None:
    assert "0 certificates" in refusal()


def test_two_certificates_are_refused() -> None:
    identity = Identity.generate()
    assert "2 certificates" in refusal(make_certificate(identity)[0], make_certificate(identity)[0])


def test_missing_extension_is_refused() -> None:
    assert "no libp2p key" in refusal(make_tls_certificate(None)[0])


def test_stolen_extension_is_refused() -> None:
    victim, _ = make_certificate(Identity.generate())
    assert "did not sign" in refusal(stolen_certificate(victim)[0])


def test_signature_over_another_key_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert "did not sign" in refusal(make_tls_certificate(Identity.generate(), signed_spki=spki)[0])


def test_certificate_signed_by_another_key_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert "not signed by its own key" in refusal(make_tls_certificate(Identity.generate(), signer=stranger)[0])


def test_expired_and_early_certificates_are_refused() -> None:
    certificate, _ = make_tls_certificate(Identity.generate())
    assert "not valid at this time" in refusal(certificate, when=datetime.datetime(1999, 12, 31, tzinfo=datetime.UTC))
    assert "not valid at this time" in refusal(certificate, when=datetime.datetime(2999, 1, 2, tzinfo=datetime.UTC))
    verify_chain([certificate], NOW)
    assert "not valid at this time" in refusal(certificate, when=datetime.datetime(2999, 1, 2, tzinfo=datetime.UTC))


def test_unknown_critical_extension_is_refused() -> None:
    assert "critical" in refusal(make_tls_certificate(Identity.generate(), critical_unknown=True)[0])


@pytest.mark.parametrize("key_type", [0, 2, 3])
def test_other_host_key_types_are_refused(key_type: int) -> None:
    identity = Identity.generate()
    protobuf = b"\x08" + bytes((key_type,)) + public_key_protobuf(identity.public_key)[2:]
    value = encode_signed_key(protobuf, bytes(64))
    assert "Ed25519" in refusal(make_tls_certificate(identity, extension=value)[0])


@given(st.binary(max_size=400))
def test_garbage_in_the_extension_is_refused(value: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        verify_chain([make_tls_certificate(Identity.generate(), extension=value or b"\0")[0]], NOW)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_signed_key_round_trip(key: bytes, signature: bytes) -> None:
    assert decode_signed_key(encode_signed_key(key, signature)) == (key, signature)


@given(st.binary(max_size=300), st.binary(max_size=100), st.data())
def test_damaged_signed_key_is_refused_or_differs(key: bytes, signature: bytes, data: st.DataObject) -> None:
    good = encode_signed_key(key, signature)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(AuthenticationFailed):
        assert decode_signed_key(bytes(damaged)) != (key, signature)
    for cut in (good[:-1], good + b"\0"):
        with pytest.raises(AuthenticationFailed):
            decode_signed_key(cut)


def test_lengths_must_be_in_their_shortest_form() -> None:
    assert decode_signed_key(b"\x30\x06\x04\x01a\x04\x01b") == (b"a", b"b")
    with pytest.raises(AuthenticationFailed):
        decode_signed_key(b"\x30\x81\x06\x04\x01a\x04\x01b")
    with pytest.raises(AuthenticationFailed):
        decode_signed_key(b"\x30\x80\x04\x01a\x04\x01b\0\0")


def test_the_extension_has_the_registered_number() -> None:
    assert EXTENSION.dotted_string == "1.3.6.1.4.1.53594.1.1"
