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
MAX_HAVE = 24
MAX_ANNOUNCED = 32
"""Guilds in one announcement; also the most that are kept from one peer."""

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
JoinRole = Literal["executor", "member", "observer"]
Admission = Literal["open", "knock", "invite"]
EntryKind = Literal["join", "leave", "kick", "rekey", "officer", "demote", "invite", "revoke", "extend", "dissolve"]


# --- signed bodies ---------------------------------------------------------------------------------------------------


class Needs(Body, frozen=True):
    """What a guild asks of those who join as executor; checked against their signed cards."""

    memory_mib: Annotated[int, msgspec.Meta(ge=0, le=2**32)] = 0
    cores: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    tags: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=32)], ...], msgspec.Meta(max_length=4)] = ()


class GuildCharter(Body, frozen=True):
    """Founds a guild; SHA-256 of its signed bytes is the guild id. Never changes."""

    creator: Bytes32
    name: Annotated[str, msgspec.Meta(max_length=48)]
    ttl_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)]
    max_members: Annotated[int, msgspec.Meta(ge=2, le=50)]
    admission: Admission
    needs: Needs
    created_us: Natural
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class GuildEntry(Body, frozen=True):
    """One step of the membership log, signed by the creator or an officer. Fields that a kind has no use for are empty."""

    guild: Bytes32
    seq: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """Counts this signer's entries, 1, 2, 3, ...; two different ones of one number prove that it told two histories."""
    depth: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """One more than the deepest parent's; 1 in the first entry."""
    parents: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=8)]
    """Hashes of the latest entries that the signer knew."""
    kind: EntryKind
    peer: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    """Whom a join, leave, kick, officer or demote is about."""
    role: Annotated[str, msgspec.Meta(max_length=16)] = ""
    """Of who joins."""
    box_key: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    """X25519 key of who joins; it names the membership."""
    last: Natural = 0
    """Where an entry ends a membership: the highest chat line of it that the signer had. Later ones are not believed."""
    proof: Annotated[bytes, msgspec.Meta(max_length=512)] = b""
    """Of a leave: the signed ``GuildLeave``."""
    token: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    """Names the invite of an invite or revoke, and the one used in a join."""
    uses: Annotated[int, msgspec.Meta(ge=0, le=50)] = 0
    """Joins that an invite is good for."""
    until_us: Natural = 0
    """When an invite ends; when the guild ends after an extend."""
    fingerprint: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    """Commits to the new group key, so that all members know they hold the same one."""
    grants: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    """Hash of the sealed copies of that key."""
    at_us: Natural = 0


class GuildJoin(Body, frozen=True):
    """Asks to be a member; ``box_key`` is fresh for this membership, which makes the request good for one use."""

    guild: Bytes32
    role: JoinRole
    box_key: Bytes32


class GuildLeave(Body, frozen=True):
    """Gives up the membership that ``box_key`` began."""

    guild: Bytes32
    box_key: Bytes32


class GuildLine(Body, frozen=True):
    """One chat line. ``counter`` grows by one with each line of one membership."""

    guild: Bytes32
    epoch: Bytes32
    """Log entry whose key was in force for the author: only who was a member then is given this line."""
    member: Bytes32
    """The author's membership, by its X25519 key."""
    counter: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    text: Annotated[str, msgspec.Meta(max_length=1000)]
    at_us: Natural


# --- frames ----------------------------------------------------------------------------------------------------------


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all frames."""


class Announced(Frame, frozen=True):
    """A guild as its creator, or an officer, announces it."""

    charter: bytes
    members: Annotated[int, msgspec.Meta(ge=0, le=1_000)]
    expires_us: Natural
    ended: bool
    warrant: Annotated[bytes, msgspec.Meta(max_length=1024)] = b""
    """The creator's entry that names the announcing peer an officer; empty from the creator itself."""


class Announce(Frame, frozen=True, tag="announce"):
    guilds: Annotated[tuple[Announced, ...], msgspec.Meta(max_length=MAX_ANNOUNCED)]


class Join(Frame, frozen=True, tag="join"):
    """Signed ``GuildJoin``, and the secret of an invite or nothing. Answered by ``State`` pages, or ``Wait``."""

    request: bytes
    secret: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


class Check(Frame, frozen=True, tag="check"):
    """Asks how an invite stands, before it is used. Answered by ``Invited``, or ``No`` where it is good for nothing."""

    guild: Bytes32
    secret: Annotated[bytes, msgspec.Meta(max_length=16)]


class Leave(Frame, frozen=True, tag="leave"):
    request: bytes


class Welcome(Frame, frozen=True, tag="welcome"):
    """Tells a peer who knocked that there is an answer: it asks again."""

    guild: Bytes32


class Beat(Frame, frozen=True, tag="beat"):
    """I am here; with the latest log entries I know of each guild we share, so that whoever has others asks."""

    guilds: Annotated[
        tuple[tuple[Bytes32, Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=8)]], ...],
        msgspec.Meta(max_length=64),
    ]


class Update(Frame, frozen=True, tag="update"):
    """Tells members of new log entries."""

    guild: Bytes32
    entries: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=PAGE_ENTRIES)]
    grants: bytes
    """Of the last entry; empty if more entries follow."""


class Sync(Frame, frozen=True, tag="sync"):
    """Asks any member for what I miss. Answered by ``State`` pages, then ``Lines`` pages for current members."""

    guild: Bytes32
    have: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_HAVE)]
    """My latest log entries, then older ones, ever farther apart: what all of these build on is not sent."""
    floors: Annotated[tuple[tuple[Bytes32, Natural], ...], msgspec.Meta(max_length=MAX_FLOORS)]
    """A membership, and the counter up to which I miss no line of it."""


class Chat(Frame, frozen=True, tag="chat"):
    """A signed ``GuildLine`` of the sender, sealed for the guild."""

    guild: Bytes32
    sealed: bytes


class State(Frame, frozen=True, tag="state"):
    """Log entries, each after its parents."""

    entries: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=PAGE_ENTRIES)]
    grants: bytes
    more: bool
    charter: bytes = b""
    """In the first page that answers a join."""


class Invited(Frame, frozen=True, tag="invited"):
    """An invite can be used: so often yet, by so many in all, in a guild of so many members."""

    left: Annotated[int, msgspec.Meta(ge=0, le=50)]
    uses: Annotated[int, msgspec.Meta(ge=0, le=50)]
    members: Annotated[int, msgspec.Meta(ge=0, le=1_000)]
    max_members: Annotated[int, msgspec.Meta(ge=0, le=1_000)]


class Wait(Frame, frozen=True, tag="wait"):
    """The join is before somebody who will decide; ask again with the same request."""


class Lines(Frame, frozen=True, tag="lines"):
    """Signed lines of any authors, a msgpack list sealed for the guild; empty if there are none."""

    sealed: bytes
    more: bool


class Done(Frame, frozen=True, tag="done"):
    pass


class No(Frame, frozen=True, tag="no"):
    """A refusal: a stable word and a sentence."""

    code: Annotated[str, msgspec.Meta(max_length=32)]
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""


Request = Announce | Join | Check | Leave | Welcome | Beat | Update | Sync | Chat
Reply = State | Invited | Wait | Lines | Done | No

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
