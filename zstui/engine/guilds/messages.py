"""What guild members sign, and the frames of the guild protocol.

A stream carries one request; every request has one reply but ``Sync`` and ``Join``, which are answered by pages. Peers are
named by their 32-byte Ed25519 keys, guilds by their 32-byte ids.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body

PAGE_BYTES = 48 * 1024
"""A page is filled up to this many bytes of payload, so that its frame stays under the cap."""
PAGE_ENTRIES = 128
MAX_FLOORS = 128
MAX_ANNOUNCED = 32
"""Guilds in one announcement; also the most that are kept from one peer."""

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
JoinRole = Literal["executor", "member", "observer"]
EntryKind = Literal["join", "leave", "kick", "rekey", "dissolve"]


# --- signed bodies ---------------------------------------------------------------------------------------------------


class GuildCharter(Body, frozen=True):
    """Founds a guild; SHA-256 of its signed bytes is the guild id. Never changes."""

    creator: Bytes32
    name: Annotated[str, msgspec.Meta(max_length=48)]
    ttl_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)]
    max_members: Annotated[int, msgspec.Meta(ge=2, le=50)]
    private: bool
    created_us: Natural
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class GuildEntry(Body, frozen=True):
    """One step of the membership log, signed by the creator."""

    guild: Bytes32
    version: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    previous: Bytes32
    """Hash of the entry before; the guild id in the first."""
    kind: EntryKind
    peer: Annotated[bytes, msgspec.Meta(max_length=32)]
    """Who joins, leaves or is removed; empty in the other kinds."""
    role: Annotated[str, msgspec.Meta(max_length=16)]
    """Of who joins, else empty."""
    box_key: Annotated[bytes, msgspec.Meta(max_length=32)]
    """X25519 key of who joins, else empty."""
    epoch: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """In force from here on."""
    fingerprint: Bytes32
    """Commits to the epoch's key, so that all members know they hold the same one."""
    grants: Bytes32
    """Hash of the sealed copies of that key."""
    at_us: Natural


class GuildJoin(Body, frozen=True):
    """Asks to be a member; ``box_key`` is fresh for this membership, which makes the request good for one use."""

    guild: Bytes32
    role: JoinRole
    box_key: Bytes32


class GuildLeave(Body, frozen=True):
    """Gives up the membership that ``box_key`` began."""

    guild: Bytes32
    box_key: Bytes32


class GuildInvite(Body, frozen=True):
    """Lets its holder join until it expires. The charter travels as body and signature; its signer is the invite's."""

    charter: Annotated[bytes, msgspec.Meta(max_length=512)]
    charter_sig: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    addresses: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], msgspec.Meta(max_length=4)]
    token: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    issued_us: Natural
    expires_us: Natural


class GuildLine(Body, frozen=True):
    """One chat line. ``counter`` grows by one with each line of one membership."""

    guild: Bytes32
    version: Natural
    """Membership log the author had applied."""
    counter: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    text: Annotated[str, msgspec.Meta(max_length=1000)]
    at_us: Natural


# --- frames ----------------------------------------------------------------------------------------------------------


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all frames."""


class Announced(Frame, frozen=True):
    """A guild as its creator announces it."""

    charter: bytes
    members: Annotated[int, msgspec.Meta(ge=0, le=50)]
    ended: bool


class Announce(Frame, frozen=True, tag="announce"):
    guilds: Annotated[tuple[Announced, ...], msgspec.Meta(max_length=MAX_ANNOUNCED)]


class Join(Frame, frozen=True, tag="join"):
    """Signed ``GuildJoin``, and the signed ``GuildInvite`` or nothing. Answered by ``State`` pages."""

    request: bytes
    invite: bytes


class Leave(Frame, frozen=True, tag="leave"):
    request: bytes


class Update(Frame, frozen=True, tag="update"):
    """The creator tells members of new log entries."""

    guild: Bytes32
    entries: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=PAGE_ENTRIES)]
    grants: bytes
    """Of the last entry; empty if more entries follow."""


class Sync(Frame, frozen=True, tag="sync"):
    """Asks any member for what I miss. Answered by ``State`` pages, then ``Lines`` pages for current members."""

    guild: Bytes32
    version: Natural
    floors: Annotated[tuple[tuple[Bytes32, Natural, Natural], ...], msgspec.Meta(max_length=MAX_FLOORS)]
    """Author, version with which its membership began, counter up to which I miss nothing."""


class Chat(Frame, frozen=True, tag="chat"):
    """A signed ``GuildLine`` of the sender, sealed for the guild."""

    guild: Bytes32
    sealed: bytes


class State(Frame, frozen=True, tag="state"):
    entries: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=PAGE_ENTRIES)]
    grants: bytes
    more: bool


class Lines(Frame, frozen=True, tag="lines"):
    """Signed lines of any authors, a msgpack list sealed for the guild; empty if there are none."""

    sealed: bytes
    more: bool


class Done(Frame, frozen=True, tag="done"):
    version: Natural = 0
    """Of my log, in the answer to ``Update``."""


class No(Frame, frozen=True, tag="no"):
    """A refusal: a stable word and a sentence."""

    code: Annotated[str, msgspec.Meta(max_length=32)]
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""


Request = Announce | Join | Leave | Update | Sync | Chat
Reply = State | Lines | Done | No

F = TypeVar("F")
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_lists: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(list[bytes])
encode = msgspec.msgpack.encode


def _decode(decoder: msgspec.msgpack.Decoder[F], frame: bytes) -> F:
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"A malformed guild message: {error}.") from error


def decode_request(frame: bytes) -> Request:
    """Raises ProtocolError."""
    return _decode(_requests, frame)


def decode_reply(frame: bytes) -> Reply:
    """Raises ProtocolError."""
    return _decode(_replies, frame)


def decode_list(data: bytes) -> list[bytes]:
    """Raises ProtocolError."""
    return _decode(_lists, data)
