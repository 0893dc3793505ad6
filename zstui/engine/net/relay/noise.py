"""The Noise XX handshake with Curve25519, ChaCha20-Poly1305 and SHA-256 (Noise Protocol Framework, revision 34), sans I/O."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from zstui.engine.errors import AuthenticationFailed

MAX_MESSAGE = 65_535
"""Bytes of one Noise message."""
TAG_BYTES = 16
_KEY_BYTES = 32
_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
_MESSAGES = (("e",), ("e", "ee", "s", "es"), ("s", "se"))
_INITIATOR_FIRST = {"ee": ("e", "e"), "es": ("e", "s"), "se": ("s", "e")}
"""Which of my keys meets which of the other side's, seen by the initiator."""


class Cipher:
    """One direction: a key and a counter that never repeats."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._counter = 0

    def encrypt(self, data: bytes, associated: bytes = b"") -> bytes:
        return self._aead.encrypt(self._nonce(), data, associated)

    def decrypt(self, data: bytes, associated: bytes = b"") -> bytes:
        """Raises AuthenticationFailed if ``data`` is not the next message that the other side encrypted."""
        try:
            return self._aead.decrypt(self._nonce(), data, associated)
        except InvalidTag:
            raise AuthenticationFailed("A message was changed on its way.") from None

    def _nonce(self) -> bytes:
        nonce = bytes(4) + self._counter.to_bytes(8, "little")
        self._counter += 1
        return nonce


class Handshake:
    """``write`` and ``read`` by turns, the initiator writing first, until ``is_complete``."""

    def __init__(
        self, *, initiator: bool, static: X25519PrivateKey, ephemeral: X25519PrivateKey, prologue: bytes = b""
    ) -> None:
        self._initiator = initiator
        self._mine = {"s": static, "e": ephemeral}
        self._theirs: dict[str, X25519PublicKey] = {}
        self._chaining_key = self._hash = _NAME
        self._cipher: Cipher | None = None
        self._done = 0
        self._mix_hash(prologue)

    @property
    def is_complete(self) -> bool:
        return self._done == len(_MESSAGES)

    @property
    def remote_static(self) -> bytes:
        """The other side's static public key, once it came."""
        return self._theirs["s"].public_bytes_raw()

    def write(self, payload: bytes = b"") -> bytes:
        out = b""
        for token in _MESSAGES[self._done]:
            if token in self._mine:
                public = self._mine[token].public_key().public_bytes_raw()
                out += self._plain(public) if token == "e" else self._encrypt(public)
            else:
                self._agree(token)
        self._done += 1
        return out + self._encrypt(payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the other side's message. Raises AuthenticationFailed."""
        for token in _MESSAGES[self._done]:
            if token in self._mine:
                size = _KEY_BYTES + (TAG_BYTES if token == "s" and self._cipher else 0)
                if len(message) < size:
                    raise AuthenticationFailed("A truncated Noise message.")
                part, message = message[:size], message[size:]
                public = self._plain(part) if token == "e" else self._decrypt(part)
                self._theirs[token] = X25519PublicKey.from_public_bytes(public)
            else:
                self._agree(token)
        self._done += 1
        return self._decrypt(message)

    def split(self) -> tuple[Cipher, Cipher]:
        """The ciphers for what I send and what I receive, after the last message."""
        first, second = (Cipher(key) for key in _derive(self._chaining_key, b""))
        return (first, second) if self._initiator else (second, first)

    def _agree(self, token: str) -> None:
        mine, theirs = _INITIATOR_FIRST[token]
        if not self._initiator:
            mine, theirs = theirs, mine
        try:
            secret = self._mine[mine].exchange(self._theirs[theirs])
        except ValueError:
            raise AuthenticationFailed("A key of low order.") from None
        self._chaining_key, key = _derive(self._chaining_key, secret)
        self._cipher = Cipher(key)

    def _plain(self, data: bytes) -> bytes:
        self._mix_hash(data)
        return data

    def _encrypt(self, data: bytes) -> bytes:
        return self._plain(self._cipher.encrypt(data, self._hash) if self._cipher else data)

    def _decrypt(self, data: bytes) -> bytes:
        clear = self._cipher.decrypt(data, self._hash) if self._cipher else data
        self._mix_hash(data)
        return clear

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()


def _derive(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs, as the framework's section 4.3 defines it."""
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\x01", "sha256")
    return first, hmac.digest(secret, first + b"\x02", "sha256")
