"""Invite strings, and the short words by which two people compare them.

A string carries the guild's id and name, the creator's key, the key and addresses of who issued it, when it ends and a secret
of 12 bytes. It is not signed: the keys in it are checked when the link is made, the secret against the log, and a name that
somebody changed shows in other words. That keeps it short enough for a QR code on a terminal of 80x24.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import os
from collections.abc import Iterable

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.guilds.model import MAX_NAME, Charter
from zstui.engine.identity.keys import PeerId, peer_id_of, public_key_of
from zstui.engine.identity.text import clean_text

PREFIX = "zsg2"
MAX_TEXT = 2048
MAX_ADDRESSES = 3
MAX_ADDRESS = 128
CIRCUIT = "/p2p-circuit"
"""In an address through a relay."""
SECRET = 12
QR_VERSION = 7
"""45 modules a side: 24 lines of half blocks with a margin. Addresses are left out of the code until it fits."""

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
_TEXT, _IP4, _IP6 = 0, 4, 6


class Invite(msgspec.Struct, frozen=True):
    guild_id: bytes
    name: str
    creator: PeerId
    issuer: PeerId
    secret: bytes
    expires_us: int
    addresses: tuple[str, ...]
    """Of the issuer, without its id."""

    @property
    def code(self) -> str:
        """Addresses have no part in it: they only say where to look, and a QR code may carry fewer."""
        return code_of(_pack(msgspec.structs.replace(self, addresses=())))

    @property
    def token(self) -> bytes:
        return token_of(self.secret)


def token_of(secret: bytes) -> bytes:
    """What the log knows of an invite."""
    return hashlib.sha256(b"zs/1|guild-token|" + secret).digest()[:16]


def looks_like_invite(text: str) -> bool:
    return text.strip().lower().startswith("zsg") and len(text) > 64


def make_invite(charter: Charter, issuer: PeerId, addresses: Iterable[str], expires_us: int) -> Invite:
    mine = f"/p2p/{issuer}"
    bare = tuple(a.removesuffix(mine) for a in addresses if len(a.removesuffix(mine)) <= MAX_ADDRESS)
    expires_us -= expires_us % US
    secret = os.urandom(SECRET)
    direct, circuits = ([a for a in bare if (CIRCUIT in a) is relayed] for relayed in (False, True))
    shown = (*direct[: MAX_ADDRESSES - len(circuits[:1])], *circuits)[:MAX_ADDRESSES]
    return Invite(charter.guild_id, charter.name, charter.creator, issuer, secret, expires_us, shown)


def text_of(invite: Invite) -> str:
    """Lower-case base32: one word for a terminal's double click, and compact in a QR code."""
    packed = _pack(invite)
    return PREFIX + base64.b32encode(packed + _checksum(packed)).decode().rstrip("=").lower()


def parse_invite(text: str) -> Invite:
    """Raises BadInput with a sentence for the person who pasted it."""
    text = "".join(text.split()).lower()
    if len(text) > MAX_TEXT:
        raise BadInput("This is too long to be an invite.")
    if text.startswith("zsg") and not text.startswith(PREFIX):
        raise BadInput("This invite is of another version of the program; ask for one of this version.")
    payload = text.removeprefix(PREFIX).upper()
    try:
        raw = base64.b32decode(payload + "=" * (-len(payload) % 8))
        packed, checksum = raw[:-4], raw[-4:]
        if checksum != _checksum(packed):
            raise ProtocolError("A wrong checksum.")
        return _unpack(packed)
    except (binascii.Error, ValueError, ProtocolError) as error:
        raise BadInput("This invite is damaged or incomplete; copy the whole string again.") from error


def qr_of(invite: Invite) -> tuple[str, ...]:
    """The QR code of the string: rows of "1" (dark) and "0", without the quiet zone."""
    import segno  # a start waits for nothing that few windows need

    for count in range(len(invite.addresses), -1, -1):
        shorter = msgspec.structs.replace(invite, addresses=invite.addresses[:count])
        code = segno.make_qr(text_of(shorter).upper(), error="l", boost_error=False)
        if int(code.version) <= QR_VERSION:
            break
    return tuple("".join("1" if module else "0" for module in row) for row in code.matrix)


def code_of(packed: bytes) -> str:
    """Three made-up words from 48 bits of the invite's hash, to be read aloud on both sides."""
    digest = hashlib.sha256(b"zs/1|invite-code|" + packed).digest()
    return "-".join(_word(int.from_bytes(digest[i : i + 2], "big")) for i in (0, 2, 4))


def fingerprint_text(peer: PeerId) -> str:
    """Of a peer's key, in groups of four."""
    digest = hashlib.sha256(b"zs/1|key|" + public_key_of(peer)).hexdigest()[:32]
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


def _word(number: int) -> str:
    """16 bits as consonant, vowel, consonant, vowel, consonant."""
    return (
        _CONSONANTS[number >> 12]
        + _VOWELS[number >> 10 & 3]
        + _CONSONANTS[number >> 6 & 15]
        + _VOWELS[number >> 4 & 3]
        + _CONSONANTS[number & 15]
    )


def _checksum(packed: bytes) -> bytes:
    return hashlib.sha256(b"zs/1|invite|" + packed).digest()[:4]


def _pack(invite: Invite) -> bytes:
    name = invite.name.encode()
    by_other = invite.issuer != invite.creator
    return b"".join(
        (
            bytes([by_other]),
            invite.guild_id,
            public_key_of(invite.creator),
            public_key_of(invite.issuer) if by_other else b"",
            invite.secret,
            (invite.expires_us // US).to_bytes(5, "big"),
            bytes([len(name)]),
            name,
            *(_pack_address(address) for address in invite.addresses),
        )
    )


def _unpack(packed: bytes) -> Invite:
    """Raises ProtocolError, ValueError."""
    reader = _Reader(packed)
    by_other = reader.take(1)[0]
    guild_id, creator = reader.take(32), peer_id_of(reader.take(32))
    issuer = peer_id_of(reader.take(32)) if by_other else creator
    secret, expires = reader.take(SECRET), int.from_bytes(reader.take(5), "big")
    name = clean_text(reader.take(reader.take(1)[0]).decode(), MAX_NAME)
    addresses = []
    while reader.left:
        addresses.append(_unpack_address(reader))
    if not name or by_other > 1 or len(addresses) > MAX_ADDRESSES:
        raise ProtocolError("An invite with a value out of range.")
    return Invite(guild_id, name, creator, issuer, secret, expires * US, tuple(addresses))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, count: int) -> bytes:
        if len(self.left) < count:
            raise ProtocolError("An invite that ends too early.")
        taken, self.left = self.left[:count], self.left[count:]
        return taken


def _pack_address(address: str) -> bytes:
    parts = address.split("/")
    if len(parts) == 6 and parts[1] in ("ip4", "ip6") and (parts[3], parts[5]) == ("udp", "quic-v1"):
        ip = ipaddress.ip_address(parts[2])
        return bytes([ip.version]) + ip.packed + int(parts[4]).to_bytes(2, "big")
    raw = address.encode()[:MAX_ADDRESS]
    return bytes([_TEXT, len(raw)]) + raw


def _unpack_address(reader: _Reader) -> str:
    kind = reader.take(1)[0]
    if kind == _TEXT:
        return clean_text(reader.take(reader.take(1)[0]).decode(), MAX_ADDRESS)
    if kind not in (_IP4, _IP6):
        raise ProtocolError("An invite with an address of an unknown kind.")
    ip = ipaddress.ip_address(reader.take(4 if kind == _IP4 else 16))
    return f"/ip{kind}/{ip}/udp/{int.from_bytes(reader.take(2), 'big')}/quic-v1"
