"""Invite strings, and the short words by which two people compare them."""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.guilds.messages import GuildInvite
from zstui.engine.guilds.model import Charter, read_charter
from zstui.engine.identity.envelope import Envelope, Signed, open_envelope, seal
from zstui.engine.identity.keys import Identity, PeerId, public_key_of

PREFIX = "zsg1"
MAX_TEXT = 4096
MAX_ADDRESSES = 4
MAX_ADDRESS = 128

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"


class Invite(msgspec.Struct, frozen=True):
    """A verified invite."""

    charter: Charter
    addresses: tuple[str, ...]
    """Of the creator, without its id."""
    issued_us: int
    expires_us: int
    raw: bytes

    @property
    def code(self) -> str:
        return code_of(self.raw)


def looks_like_invite(text: str) -> bool:
    return text.strip().lower().startswith(PREFIX) and len(text) > 64 + len(PREFIX)


def make_invite(
    identity: Identity,
    charter: Charter,
    addresses: tuple[str, ...],
    token: bytes,
    issued_us: int,
    expires_us: int,
) -> Invite:
    """Sign an invite to one of my guilds."""
    envelope = msgspec.msgpack.decode(charter.raw, type=Envelope)
    mine = f"/p2p/{identity.peer_id}"
    bare = tuple(a.removesuffix(mine) for a in addresses if len(a.removesuffix(mine)) <= MAX_ADDRESS)[:MAX_ADDRESSES]
    body = GuildInvite(envelope.body, envelope.sig, bare, token, issued_us, expires_us)
    return Invite(charter, bare, issued_us, expires_us, seal(identity, body))


def text_of(invite: Invite) -> str:
    """Lower-case base32: one word for a terminal's double click, and compact in a QR code."""
    return PREFIX + base64.b32encode(invite.raw).decode().rstrip("=").lower()


def parse_invite(text: str) -> Invite:
    """Raises BadInput with a sentence for the person who pasted it."""
    payload = "".join(text.split()).upper()[len(PREFIX) :]
    if len(payload) > MAX_TEXT:
        raise BadInput("This is too long to be an invite.")
    try:
        raw = base64.b32decode(payload + "=" * (-len(payload) % 8))
        return read_invite(raw)
    except (binascii.Error, ValueError, ProtocolError) as error:
        raise BadInput("This invite is damaged or incomplete; copy the whole string again.") from error


def read_invite(raw: bytes, signer: PeerId | None = None) -> Invite:
    """Verify an invite and the charter in it. Raises ProtocolError."""
    signed: Signed = open_envelope(raw, signer)
    body = signed.decode(GuildInvite)
    key = public_key_of(signed.signer)
    charter = read_charter(msgspec.msgpack.encode(Envelope(1, "GuildCharter", body.charter, key, body.charter_sig)))
    return Invite(charter, body.addresses, body.issued_us, body.expires_us, raw)


def code_of(raw: bytes) -> str:
    """Three made-up words from 48 bits of the invite's hash, to be read aloud on both sides."""
    digest = hashlib.sha256(b"zs/1|invite-code|" + raw).digest()
    return "-".join(_word(int.from_bytes(digest[i : i + 2], "big")) for i in (0, 2, 4))


def _word(number: int) -> str:
    """16 bits as consonant, vowel, consonant, vowel, consonant."""
    return (
        _CONSONANTS[number >> 12]
        + _VOWELS[number >> 10 & 3]
        + _CONSONANTS[number >> 6 & 15]
        + _VOWELS[number >> 4 & 3]
        + _CONSONANTS[number & 15]
    )
