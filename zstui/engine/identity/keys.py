"""Ed25519 keys and libp2p peer ids.

A peer is its key: the peer id holds the public key itself (identity multihash of the libp2p ``PublicKey`` protobuf,
base58btc; libp2p peer-ids specification), so no look-up is ever needed to verify a signature.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from zstui.engine.errors import BadInput, HomeError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_INDEX = {c: i for i, c in enumerate(_ALPHABET)}
_PUBLIC_KEY_PREFIX = b"\x08\x01\x12\x20"
_MULTIHASH_PREFIX = b"\x00\x24"

PeerId = str
"""Base58 text of a libp2p peer id, "12D3Koo...", 52 characters."""


def base58_encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    out = ""
    while number:
        number, rest = divmod(number, 58)
        out = _ALPHABET[rest] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def base58_decode(text: str) -> bytes:
    """Raises BadInput for anything that is not base58btc text of at most 128 characters."""
    if len(text) > 128 or any(c not in _INDEX for c in text):
        raise BadInput("Not base58 text.")
    number = 0
    for c in text:
        number = number * 58 + _INDEX[c]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def public_key_protobuf(public_key: bytes) -> bytes:
    """libp2p ``PublicKey{Type: Ed25519, Data}`` in its one canonical encoding."""
    return _PUBLIC_KEY_PREFIX + public_key


def public_key_from_protobuf(data: bytes) -> bytes:
    """The 32 key bytes. Raises BadInput for any other key type or encoding."""
    if len(data) != 36 or not data.startswith(_PUBLIC_KEY_PREFIX):
        raise BadInput("Only Ed25519 peer keys are spoken here.")
    return data[4:]


@lru_cache(maxsize=4096)
def peer_id_of(public_key: bytes) -> PeerId:
    """Peer id of a 32-byte Ed25519 public key."""
    return base58_encode(_MULTIHASH_PREFIX + public_key_protobuf(public_key))


@lru_cache(maxsize=4096)
def public_key_of(peer_id: PeerId) -> bytes:
    """The 32-byte Ed25519 public key inside a peer id. Raises BadInput."""
    data = base58_decode(peer_id)
    if len(data) != 38 or not data.startswith(_MULTIHASH_PREFIX):
        raise BadInput(f"{peer_id[:60]!r} is not the id of an Ed25519 peer.")
    return public_key_from_protobuf(data[2:])


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) over ``message`` was made by ``public_key`` (32 bytes)."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except (BadSignatureError, ValueError):
        return False
    return True


class Identity:
    """A node's own key pair. Never printed, never logged."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public_key: bytes = bytes(self._key.verify_key)
        self.peer_id: PeerId = peer_id_of(self.public_key)

    @classmethod
    def generate(cls) -> Identity:
        return cls(os.urandom(32))

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """Read the 32-byte seed at ``path``, or make one there with mode 0600, durable before it is used.

        Raises HomeError if the file is unreadable, of a wrong length, or readable by others.
        """
        try:
            if not path.exists():
                seed = os.urandom(32)
                temporary = path.with_suffix(".new")
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(seed)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path)
                folder = os.open(path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
            if path.stat().st_mode & 0o077:
                raise HomeError(f"The key file {path} can be read by others; run: chmod 600 {path}")
            seed = path.read_bytes()
        except OSError as error:
            raise HomeError(f"Cannot use the key file {path}: {error.strerror or error}.") from error
        if len(seed) != 32:
            raise HomeError(
                f"The key file {path} is damaged: {len(seed)} bytes instead of 32; restore it from a backup."
            )
        return cls(seed)

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only this key's owner can derive, different for each purpose (HKDF-SHA256 of the seed)."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(bytes(self._key))

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature."""
        return self._key.sign(message).signature
