"""What a node lets its peers keep for it: enough to find its channels again, sealed so that only its own key opens it. Pure.

A deposit is one authenticated box (XChaCha20-Poly1305) under a key derived from the identity, with its version as
associated data: a keeper can hand out an older one, but neither read one, change one, nor pass an old one off as newer.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import Aead

from zstui.engine.channels.messages import Params
from zstui.engine.channels.state import Half
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import PeerId

MAX_SEALED = 60 * 1024
"""Bytes of one sealed deposit: it fits a frame."""
_MAX_PLAIN = 4 << 20
_PURPOSE = "zs/vault/1"


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A struct inside a deposit. Fields may be added at the end, with a default."""


class ChannelKept(Kept, frozen=True):
    """Where one open channel is."""

    params: Params
    proposer: bool
    out: tuple[int, int, bytes]
    """My half: sequence, total, head."""
    inn: tuple[int, int, bytes]
    acked: int
    """Last of my sequence numbers that the peer acknowledged."""
    last: bytes
    """The peer's latest Pay, as received: proof of where its half was."""
    tail: tuple[bytes, ...]
    """My Pays that are not acknowledged, as signed."""


class PostingKept(Kept, frozen=True):
    """What one closed channel, or one discharge, moved between a peer and me."""

    ref: bytes
    peer: PeerId
    spent_u: int
    earned_u: int
    kind: str
    at_us: int


class PeerKept(Kept, frozen=True):
    peer: PeerId
    name: str
    """My own name for it, or ""."""
    address: str


class Deposit(Kept, frozen=True, kw_only=True):
    """All of it at one moment. Grants and credit limits are left out on purpose: an old copy must not give authority back."""

    version: int
    at_us: int
    name: str
    channels: tuple[ChannelKept, ...] = ()
    epochs: tuple[tuple[PeerId, int], ...] = ()
    """Highest channel number used with each peer."""
    postings: tuple[PostingKept, ...] = ()
    """The latest, newest first."""
    rest: tuple[tuple[PeerId, int], ...] = ()
    """What each peer owes me by older postings, µ."""
    peers: tuple[PeerKept, ...] = ()
    guilds: tuple[tuple[str, str], ...] = ()
    """Id and name of guilds I was in, so that I can ask to be let in again."""
    left_out: int = 0
    """Channels that had no room."""


def seal(secret: bytes, deposit: Deposit) -> bytes:
    """``secret``: 32 bytes of ``vault_key``."""
    plain = zlib.compress(msgspec.msgpack.encode(deposit))
    return bytes(Aead(secret).encrypt(plain, _context(deposit.version)))


def unseal(secret: bytes, version: int, raw: bytes) -> Deposit:
    """Raises ProtocolError unless ``raw`` is a deposit of mine of exactly this version."""
    try:
        unpack = zlib.decompressobj()
        plain = unpack.decompress(Aead(secret).decrypt(raw, _context(version)), _MAX_PLAIN)
        deposit = msgspec.msgpack.decode(plain, type=Deposit)
    except (CryptoError, ValueError, RecursionError, zlib.error, msgspec.MsgspecError) as error:
        raise ProtocolError("A peer gave back something else than what it was given to keep.") from error
    if deposit.version != version:
        raise ProtocolError("A peer gave back another version than it says.")
    return deposit


def fitted(secret: bytes, full: Deposit) -> bytes:
    """Sealed, with as much as has room: what is open goes before what is only nice to have."""
    sealed = seal(secret, full)
    for smaller in _smaller(full):
        if len(sealed) <= MAX_SEALED:
            break
        sealed = seal(secret, smaller)
    return sealed


def _smaller(full: Deposit) -> Sequence[Deposit]:
    replace = msgspec.structs.replace
    bare = replace(full, peers=full.peers[:64], guilds=full.guilds[:16], postings=full.postings[:64])
    thin = replace(
        bare, channels=tuple(replace(c, tail=()) for c in bare.channels), postings=bare.postings[:16], peers=()
    )
    steps = [bare, thin]
    for count in (256, 128, 64, 32, 16):
        few = thin.channels[:count]
        steps.append(replace(thin, channels=few, left_out=len(thin.channels) - len(few), epochs=thin.epochs[:count]))
    return steps


def vault_key(secret: Callable[[str], bytes]) -> bytes:
    return secret(_PURPOSE)


def half(parts: tuple[int, int, bytes]) -> Half:
    return Half(*parts)


def _context(version: int) -> bytes:
    return f"{_PURPOSE}|{version}".encode()
