"""X.509 certificates that carry a libp2p key (libp2p TLS specification).

The certificate's own key is a throw-away P-256 key. The extension 1.3.6.1.4.1.53594.1.1 holds the host's public key and its
signature over that throw-away key, so whoever proves possession of the certificate's key in TLS is proven to be the peer.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from zstui.engine.errors import AuthenticationFailed, BadInput
from zstui.engine.identity.keys import (
    Identity,
    PeerId,
    peer_id_of,
    public_key_from_protobuf,
    public_key_protobuf,
    verify,
)

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
_PREFIX = b"libp2p-tls-handshake:"
_NOT_BEFORE = datetime.datetime(1975, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(4096, 1, 1, tzinfo=datetime.UTC)
"""Valid whatever the clocks say: a machine without a network often has a wrong one."""
_MAX_CERTIFICATE = 8192
_REMEMBERED = 256
"""Certificates that need no second look: a peer shows the same one for as long as it runs."""


def make_certificate(identity: Identity) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A fresh certificate for ``identity`` and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed = encode_signed_key(public_key_protobuf(identity.public_key), identity.sign(_PREFIX + spki))
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "libp2p.io")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, signed), critical=False)
        .sign(key, SHA256())
    )
    return certificate, key


def verify_chain(chain: Sequence[x509.Certificate], now: datetime.datetime) -> PeerId:
    """The peer that a received chain proves. TLS itself must have checked possession of the certificate's key.

    Raises AuthenticationFailed for none or several certificates, one outside its validity, badly self-signed, without the
    extension or with an unknown critical one, or with a host key that is not Ed25519 or did not sign this certificate's key.
    """
    if len(chain) != 1:
        raise AuthenticationFailed(f"The peer sent {len(chain)} certificates instead of one.")
    encoded = chain[0].public_bytes(Encoding.DER)
    if len(encoded) > _MAX_CERTIFICATE:
        raise AuthenticationFailed("The peer's certificate is too large.")
    peer, begins, ends = _checked(encoded)
    if not begins <= now <= ends:
        raise AuthenticationFailed("The peer's certificate is not valid at this time; check both clocks.")
    return peer


@lru_cache(maxsize=_REMEMBERED)
def _checked(encoded: bytes) -> tuple[PeerId, datetime.datetime, datetime.datetime]:
    """(peer, first moment, last moment) of a certificate in DER. Raises AuthenticationFailed."""
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        valid = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        certificate.verify_directly_issued_by(certificate)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        signed = _signed_key(certificate)
    except InvalidSignature:
        raise AuthenticationFailed("The peer's certificate is not signed by its own key.") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as error:
        raise AuthenticationFailed(f"The peer's certificate cannot be read: {error}.") from error
    key_protobuf, signature = decode_signed_key(signed)
    try:
        public_key = public_key_from_protobuf(key_protobuf)
    except BadInput as error:
        raise AuthenticationFailed(str(error)) from error
    if not verify(public_key, _PREFIX + spki, signature):
        raise AuthenticationFailed("The peer's certificate carries a key that did not sign it.")
    return peer_id_of(public_key), *valid


def _signed_key(certificate: x509.Certificate) -> bytes:
    found: bytes | None = None
    for extension in certificate.extensions:
        if extension.oid == EXTENSION:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            found = extension.value.value
        elif extension.critical:
            raise AuthenticationFailed("The peer's certificate has an unknown critical extension.")
    if found is None:
        raise AuthenticationFailed("The peer's certificate carries no libp2p key.")
    return found


def encode_signed_key(key_protobuf: bytes, signature: bytes) -> bytes:
    """DER ``SEQUENCE { OCTET STRING, OCTET STRING }``."""
    return _der(0x30, _der(0x04, key_protobuf) + _der(0x04, signature))


def decode_signed_key(data: bytes) -> tuple[bytes, bytes]:
    """Host key protobuf and signature. Raises AuthenticationFailed for anything but their exact DER."""
    body, end = _der_value(data, 0, 0x30)
    key, middle = _der_value(body, 0, 0x04)
    signature, last = _der_value(body, middle, 0x04)
    if end != len(data) or last != len(body):
        raise AuthenticationFailed("The peer's libp2p extension has a tail.")
    return key, signature


def _der(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def _der_value(data: bytes, offset: int, tag: int) -> tuple[bytes, int]:
    malformed = AuthenticationFailed("The peer's libp2p extension is malformed.")
    if len(data) < offset + 2 or data[offset] != tag:
        raise malformed
    size, start = data[offset + 1], offset + 2
    if size & 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 2 or len(data) < start + octets:
            raise malformed
        size = int.from_bytes(data[start : start + octets], "big")
        start += octets
        if size < 0x80 or (octets == 2 and size < 0x100):
            raise malformed
    if len(data) < start + size:
        raise malformed
    return data[start : start + size], start + size
