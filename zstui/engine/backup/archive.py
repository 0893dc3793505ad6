"""The file format of a backup: one encrypted stream that cannot be read, changed or cut short without being noticed.

``MAGIC``, a version byte, then a msgpack header (length in 2 bytes, big endian) with the key derivation's parameters, then
messages of libsodium's secretstream (XChaCha20-Poly1305), each with its length in 4 bytes. The key is Argon2id of the
passphrase. The first message is the ``Manifest``, which lists the files; their contents follow in that order, in chunks; the
last message carries the stream's final tag, so that a truncated file is told from a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta
from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from zstui.engine.errors import BackupError, BadInput
from zstui.engine.identity.keys import PeerId

MAGIC = b"ZSTUIBAK"
VERSION = 1
CHUNK = 64 * 1024
LEAST_PASSPHRASE = 8
"""Characters."""
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_OVERHEAD = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
MAX_MANIFEST = 4 << 20


class Cost(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one guess at the passphrase costs (Argon2id): passes, bytes of memory."""

    ops: Annotated[int, Meta(ge=argon2id.OPSLIMIT_MIN, le=argon2id.OPSLIMIT_SENSITIVE)] = argon2id.OPSLIMIT_MODERATE
    memory: Annotated[int, Meta(ge=argon2id.MEMLIMIT_MIN, le=argon2id.MEMLIMIT_SENSITIVE)] = argon2id.MEMLIMIT_MODERATE


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    cost: Cost
    salt: Annotated[bytes, Meta(min_length=argon2id.SALTBYTES, max_length=argon2id.SALTBYTES)]
    stream: Annotated[bytes, Meta(min_length=24, max_length=24)]


class ChannelThen(msgspec.Struct, frozen=True):
    """One channel that is not closed, as it was when the backup was taken."""

    channel_id: str
    peer_id: PeerId
    peer_name: str
    state: str
    mine_u: int
    theirs_u: int
    sequence: int
    sequence_theirs: int
    expires_at: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    version: str
    """Of the program that wrote it."""
    peer_id: PeerId
    name: str
    taken_us: int
    boots: int
    """Starts counted in the database."""
    channels: tuple[ChannelThen, ...]
    owed_to_me_u: int
    i_owe_u: int
    files: tuple[tuple[str, int], ...]
    """Name in the home and size in bytes, in the order of their contents."""


def write(path: Path, passphrase: str, manifest: Manifest, contents: dict[str, Path], cost: Cost | None = None) -> int:
    """Write a backup with mode 0600, durable before it has its name; returns its size in bytes.

    Raises BadInput (short passphrase, ``path`` exists), BackupError (cannot be written); a failure leaves nothing behind.
    """
    check_passphrase(passphrase)
    if path.exists():
        raise BadInput(f"{path} exists already; choose another name.")
    partial = path.with_name(path.name + ".part")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"Cannot write {path}: {error.strerror or error}.") from error
    try:
        with os.fdopen(fd, "wb") as file:
            _write(file, passphrase, manifest, contents, cost or Cost())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BackupError(f"Cannot write {path}: {error.strerror or error}.") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size


def check_passphrase(passphrase: str) -> None:
    """Raises BadInput for one that protects nothing."""
    if len(passphrase) < LEAST_PASSPHRASE:
        raise BadInput(f"A passphrase needs at least {LEAST_PASSPHRASE} characters: whoever guesses it owns this node.")


def peek(path: Path, passphrase: str) -> Manifest:
    """What a backup holds, without looking at the rest. Raises as ``extract`` does."""
    return next(_Reader(path, passphrase).parts())[0]


def extract(path: Path, passphrase: str, folder: Path) -> Manifest:
    """Write every file of a backup into ``folder`` with mode 0600 and check that nothing is missing.

    Raises BackupError for a wrong passphrase, a damaged or cut file, one that a newer program wrote, or a full disk.
    """
    parts = _Reader(path, passphrase).parts()
    manifest, _ = next(parts)
    try:
        for name, size in manifest.files:
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                left = size
                while left:
                    _, data = next(parts)
                    file.write(data)
                    left -= len(data)
                file.flush()
                os.fsync(file.fileno())
        if next(parts, None) is not None:
            raise BackupError(f"{path} is damaged: there is more in it than it lists.")
    except StopIteration:
        raise BackupError(f"{path} is damaged: there is less in it than it lists.") from None
    except OSError as error:
        raise BackupError(f"Cannot unpack {path}: {error.strerror or error}.") from error
    return manifest


def _write(file: BinaryIO, passphrase: str, manifest: Manifest, contents: dict[str, Path], cost: Cost) -> None:
    salt = os.urandom(argon2id.SALTBYTES)
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    stream = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, _key(passphrase, salt, cost))
    header = msgspec.msgpack.encode(_Header(cost, salt, stream))
    prefix = MAGIC + bytes([VERSION]) + len(header).to_bytes(2, "big") + header
    file.write(prefix)

    def put(data: bytes, tag: int = _MESSAGE) -> None:
        sealed = bindings.crypto_secretstream_xchacha20poly1305_push(state, data, prefix, tag)
        file.write(len(sealed).to_bytes(4, "big") + sealed)

    put(msgspec.msgpack.encode(manifest))
    for name, size in manifest.files:
        left = size
        with contents[name].open("rb") as source:
            while left:
                data = source.read(min(CHUNK, left))
                if not data:
                    raise BackupError(f"{contents[name]} changed while the backup was written; try again.")
                put(data)
                left -= len(data)
    put(b"", _FINAL)


class _Reader:
    def __init__(self, path: Path, passphrase: str) -> None:
        self._path = path
        self._passphrase = passphrase

    def parts(self) -> Iterator[tuple[Manifest, bytes]]:
        """The manifest with nothing, then with each chunk in turn."""
        try:
            with self._path.open("rb") as file:
                yield from self._parts(file)
        except OSError as error:
            raise BackupError(f"Cannot read {self._path}: {error.strerror or error}.") from error

    def _parts(self, file: BinaryIO) -> Iterator[tuple[Manifest, bytes]]:
        prefix, header = self._header(file)
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        key = _key(self._passphrase, header.salt, header.cost)
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header.stream, key)
        manifest: Manifest | None = None
        while True:
            limit = CHUNK if manifest else MAX_MANIFEST
            length = int.from_bytes(self._exactly(file, 4), "big")
            if not _OVERHEAD <= length <= limit + _OVERHEAD:
                raise BackupError(f"{self._path} is damaged.")
            sealed = self._exactly(file, length)
            try:
                data, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, sealed, prefix)
            except (CryptoError, RuntimeError):
                what = f"{self._path} is damaged." if manifest else "The passphrase is wrong, or the file is damaged."
                raise BackupError(what) from None
            if tag == _FINAL:
                if file.read(1):
                    raise BackupError(f"{self._path} is damaged: something follows its end.")
                return
            if manifest is None:
                manifest = self._manifest(data)
                data = b""
            yield manifest, data

    def _header(self, file: BinaryIO) -> tuple[bytes, _Header]:
        start = file.read(len(MAGIC) + 3)
        if len(start) < len(MAGIC) + 3 or not start.startswith(MAGIC):
            raise BackupError(f"{self._path} is not a backup of zstui.")
        if start[len(MAGIC)] > VERSION:
            raise BackupError(f"{self._path} was written by a newer zstui; update zstui to restore it.")
        header = self._exactly(file, int.from_bytes(start[-2:], "big"))
        try:
            return start + header, msgspec.msgpack.decode(header, type=_Header)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BackupError(f"{self._path} is damaged.") from error

    def _manifest(self, data: bytes) -> Manifest:
        try:
            return msgspec.msgpack.decode(data, type=Manifest)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BackupError(f"{self._path} holds what this zstui does not understand; update zstui.") from error

    def _exactly(self, file: BinaryIO, length: int) -> bytes:
        data = file.read(length)
        if len(data) < length:
            raise BackupError(f"{self._path} is cut short: its end is missing.")
        return data


def _key(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    size = bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES
    try:
        return argon2id.kdf(size, passphrase.encode(), salt, opslimit=cost.ops, memlimit=cost.memory)
    except (RuntimeError, MemoryError, CryptoError) as error:
        raise BackupError(f"Deriving the key needs {cost.memory >> 20} MiB of free memory.") from error
