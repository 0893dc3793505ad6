"""Group keys: one random key an epoch, sealed to each member's X25519 key, and the traffic under it.

Sealed traffic is ``01 || epoch (4) || nonce (24) || XChaCha20-Poly1305``; the associated data names guild, epoch, sender and
context. All members hold the same key, so the sender is authentic only together with the link it came over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_ABYTES,
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from zstui.engine.errors import ProtocolError
from zstui.engine.guilds.model import Member

KEEP_OLD = 64
"""Keys of past epochs kept for traffic under way."""
OLD_GRACE_US = 60 * 1_000_000
"""And for how long."""

_NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_HEAD = 1 + 4 + _NONCE
OVERHEAD = _HEAD + crypto_aead_xchacha20poly1305_ietf_ABYTES


class EpochAhead(ProtocolError):
    """Sealed in an epoch that this node has not heard of yet."""


class EpochPast(ProtocolError):
    """Sealed in an epoch whose key is gone, or was never held."""


def fingerprint_of(guild_id: bytes, epoch: int, key: bytes) -> bytes:
    """32 bytes that commit to a key and tell nothing about it."""
    return hashlib.sha256(b"zs/1|guild-key|" + guild_id + epoch.to_bytes(4, "big") + key).digest()


def new_box_secret() -> bytes:
    return bytes(PrivateKey.generate())


def box_key_of(box_secret: bytes) -> bytes:
    """The public half."""
    return bytes(PrivateKey(box_secret).public_key)


def seal_grants(key: bytes, members: Iterable[Member]) -> bytes:
    """The key sealed once for each member. Raises ProtocolError for a member whose X25519 key is not one."""
    grants: list[tuple[bytes, bytes]] = []
    for member in members:
        try:
            grants.append((member.key, SealedBox(PublicKey(member.box_key)).encrypt(key)))
        except (CryptoError, ValueError) as error:
            raise ProtocolError("An X25519 key that cannot be sealed to.") from error
    return msgspec.msgpack.encode(grants)


def grants_hash(grants: bytes) -> bytes:
    return hashlib.sha256(b"zs/1|guild-grants|" + grants).digest()


def open_grant(grants: bytes, member_key: bytes, box_secret: bytes) -> bytes | None:
    """My copy of the key, None if there is none for me. Raises ProtocolError if malformed."""
    try:
        sealed = dict(msgspec.msgpack.decode(grants, type=list[tuple[bytes, bytes]])).get(member_key)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"Malformed guild keys: {error}.") from error
    if sealed is None:
        return None
    try:
        key = SealedBox(PrivateKey(box_secret)).decrypt(sealed)
    except (CryptoError, ValueError) as error:
        raise ProtocolError("A guild key sealed to another key than mine.") from error
    if len(key) != 32:
        raise ProtocolError("A guild key of a wrong length.")
    return key


class EpochRing:
    """The keys one member holds for one guild: the current one and, for a short while, those before."""

    def __init__(self, guild_id: bytes) -> None:
        self._guild_id = guild_id
        self.epoch = 0
        """Latest epoch whose key is held; 0: none."""
        self._current = b""
        self._old: dict[int, tuple[bytes, int]] = {}

    def advance(self, epoch: int, key: bytes, now_us: int) -> None:
        """Seal under ``key`` from now on."""
        if epoch <= self.epoch:
            return
        if self.epoch:
            self._old[self.epoch] = (self._current, now_us + OLD_GRACE_US)
        self.epoch, self._current = epoch, key
        self.prune(now_us)

    def prune(self, now_us: int) -> None:
        """Forget old keys whose time is up."""
        kept = [(e, v) for e, v in self._old.items() if v[1] > now_us]
        self._old = dict(kept[-KEEP_OLD:])

    def wipe(self) -> None:
        self.epoch, self._current, self._old = 0, b"", {}

    def seal(self, sender: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Raises ProtocolError while no key is held."""
        if not self.epoch:
            raise ProtocolError("This node holds no key of the guild yet.")
        nonce = os.urandom(_NONCE)
        aad = self._associated(self.epoch, sender, context)
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, aad, nonce, self._current)
        return b"\x01" + self.epoch.to_bytes(4, "big") + nonce + sealed

    def open(self, sender: bytes, sealed: bytes, context: bytes, now_us: int) -> bytes:
        """Raises EpochAhead, EpochPast, ProtocolError."""
        if len(sealed) < OVERHEAD or sealed[0] != 1:
            raise ProtocolError("Malformed guild traffic.")
        epoch = int.from_bytes(sealed[1:5], "big")
        if epoch > self.epoch:
            raise EpochAhead(f"Sealed in epoch {epoch}; this node knows {self.epoch}.")
        key = self._current
        if epoch < self.epoch:
            key, until_us = self._old.get(epoch, (b"", 0))
            if until_us <= now_us:
                raise EpochPast(f"Sealed in epoch {epoch}, whose key is gone.")
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed[_HEAD:], self._associated(epoch, sender, context), sealed[5:_HEAD], key
            )
        except CryptoError as error:
            raise ProtocolError("Guild traffic that was not sealed by its sender for this use.") from error

    def _associated(self, epoch: int, sender: bytes, context: bytes) -> bytes:
        return b"zs/1|guild-box|" + self._guild_id + epoch.to_bytes(4, "big") + sender + context
