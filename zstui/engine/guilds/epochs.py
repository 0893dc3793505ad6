"""Group keys: one random key an epoch, sealed to each member's X25519 key, and the traffic under it.

Sealed traffic is ``02 || epoch (4) || key name (8) || nonce (24) || XChaCha20-Poly1305``; the associated data names guild,
epoch, key, sender and context. All members hold the same key, so the sender is authentic only together with the link it came
over.
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
from zstui.engine.guilds.membership import Member

KEEP_OLD = 64
"""Keys of past epochs kept for traffic under way."""
OLD_GRACE_US = 60 * 1_000_000
"""And for how long."""

_NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_SHORT = 8
_HEAD = 1 + 4 + _SHORT + _NONCE
_ALWAYS = 2**62
OVERHEAD = _HEAD + crypto_aead_xchacha20poly1305_ietf_ABYTES


class EpochAhead(ProtocolError):
    """Sealed in an epoch that this node has not heard of yet."""


class EpochPast(ProtocolError):
    """Sealed in an epoch whose key is gone, or was never held."""


def fingerprint_of(guild_id: bytes, key: bytes) -> bytes:
    """32 bytes that commit to a key and tell nothing about it."""
    return hashlib.sha256(b"zs/1|guild-key|" + guild_id + key).digest()


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
    """The keys one member holds for one guild: the current one and, for a short while, those before.

    A key is named by the hash of the log entry that made it.
    """

    def __init__(self, guild_id: bytes) -> None:
        self._guild_id = guild_id
        self.current = b""
        """Name of the key that seals; empty: none is held."""
        self._epoch = 0
        self._keys: dict[bytes, tuple[bytes, int]] = {}
        """Key and the time until which it opens, by short name."""

    def advance(self, name: bytes, epoch: int, key: bytes, now_us: int) -> None:
        """Seal under ``key`` from now on."""
        if name == self.current:
            return
        short = self.current[:_SHORT]
        if short:
            self._keys[short] = (self._keys[short][0], now_us + OLD_GRACE_US)
        self.current, self._epoch = name, epoch
        self._keys.pop(name[:_SHORT], None)
        self._keys[name[:_SHORT]] = (key, _ALWAYS)
        self.prune(now_us)

    def prune(self, now_us: int) -> None:
        """Forget old keys whose time is up."""
        kept = [(name, held) for name, held in self._keys.items() if held[1] > now_us]
        self._keys = dict(kept[-KEEP_OLD - 1 :])

    def wipe(self) -> None:
        self.current, self._epoch, self._keys = b"", 0, {}

    def seal(self, sender: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Raises ProtocolError while no key is held."""
        if not self.current:
            raise ProtocolError("This node holds no key of the guild yet.")
        nonce = os.urandom(_NONCE)
        head = b"\x02" + self._epoch.to_bytes(4, "big") + self.current[:_SHORT]
        key, _ = self._keys[self.current[:_SHORT]]
        aad = self._associated(head, sender, context)
        return head + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, aad, nonce, key)

    def open(self, sender: bytes, sealed: bytes, context: bytes, now_us: int) -> bytes:
        """Raises EpochAhead, EpochPast, ProtocolError."""
        if len(sealed) < OVERHEAD or sealed[0] != 2:
            raise ProtocolError("Malformed guild traffic.")
        head, nonce, body = sealed[: _HEAD - _NONCE], sealed[_HEAD - _NONCE : _HEAD], sealed[_HEAD:]
        epoch = int.from_bytes(head[1:5], "big")
        key, until_us = self._keys.get(head[5:], (b"", 0))
        if until_us <= now_us:
            if not key and epoch >= self._epoch:
                raise EpochAhead(f"Sealed in epoch {epoch}; this node is at {self._epoch}.")
            raise EpochPast(f"Sealed in epoch {epoch}, whose key is gone.")
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(body, self._associated(head, sender, context), nonce, key)
        except CryptoError as error:
            raise ProtocolError("Guild traffic that was not sealed by its sender for this use.") from error

    def _associated(self, head: bytes, sender: bytes, context: bytes) -> bytes:
        return b"zs/1|guild-box|" + self._guild_id + head + sender + context
