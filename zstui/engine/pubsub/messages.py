"""The RPC of libp2p pubsub as length-prefixed protocol buffers, and the signature of its messages.

Texts are declared as bytes, which is the same on the wire, so that invalid UTF-8 does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import Identity, PeerId, public_key_of, public_key_protobuf, verify
from zstui.engine.net.link import MAX_FRAME
from zstui.engine.net.protobuf import declare, decode
from zstui.engine.pubsub.model import MAX_DATA, MAX_TOPIC, SEQNO_BYTES, Message, MessageId, author_bytes, author_of

FLOODSUB = "/floodsub/1.0.0"
GOSSIPSUB_10 = "/meshsub/1.0.0"
GOSSIPSUB_11 = "/meshsub/1.1.0"
PROTOCOLS = (GOSSIPSUB_11, GOSSIPSUB_10, FLOODSUB)
"""Best first."""

MAX_RPC = MAX_FRAME
MAX_ITEMS = 1024
"""Entries of any one kind in an RPC, ids apart."""
MAX_IDS = 5_000
"""Message ids in one control message."""
_MAX_ID = 128
_IDS_A_PIECE = 512
_SIGN_PREFIX = b"libp2p-pubsub:"

_KINDS = declare(
    "pubsub.pb",
    {
        "SubOpts": {"subscribe": (1, "bool"), "topicid": (2, "bytes")},
        "Message": {
            "from": (1, "bytes"),
            "data": (2, "bytes"),
            "seqno": (3, "bytes"),
            "topic": (4, "bytes"),
            "signature": (5, "bytes"),
            "key": (6, "bytes"),
        },
        "IHave": {"topicID": (1, "bytes"), "messageIDs": (2, "bytes*")},
        "IWant": {"messageIDs": (1, "bytes*")},
        "Graft": {"topicID": (1, "bytes")},
        "PeerInfo": {"peerID": (1, "bytes"), "signedPeerRecord": (2, "bytes")},
        "Prune": {"topicID": (1, "bytes"), "peers": (2, "PeerInfo*"), "backoff": (3, "uint64")},
        "Control": {"ihave": (1, "IHave*"), "iwant": (2, "IWant*"), "graft": (3, "Graft*"), "prune": (4, "Prune*")},
        "RPC": {"subscriptions": (1, "SubOpts*"), "publish": (2, "Message*"), "control": (3, "Control")},
    },
)
_RPC, _MESSAGE = _KINDS["RPC"], _KINDS["Message"]


class IHave(msgspec.Struct, frozen=True):
    """The sender has these messages of the topic."""

    topic: str
    ids: tuple[MessageId, ...]


class Prune(msgspec.Struct, frozen=True):
    """The receiver is out of the sender's mesh. Peers offered in exchange are neither sent nor read: others are found through
    the hash table, which does not let one peer choose them."""

    topic: str
    backoff_s: int | None = None


class Rpc(msgspec.Struct, frozen=True, kw_only=True):
    subscriptions: tuple[tuple[bool, str], ...] = ()
    """Whether subscribed from now on, and the topic."""
    messages: tuple[Message, ...] = ()
    ihave: tuple[IHave, ...] = ()
    iwant: tuple[MessageId, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[Prune, ...] = ()


def encode(rpc: Rpc) -> list[bytes]:
    """As few frames of at most ``MAX_RPC`` bytes as hold it. Protocol buffers merge when they are joined, so the entries are
    encoded one by one."""
    frames: list[bytes] = []
    frame = b""
    for piece in _pieces(rpc):
        if frame and len(frame) + len(piece) > MAX_RPC:
            frames.append(frame)
            frame = b""
        frame += piece
    return [*frames, frame] if frame else frames


def _pieces(rpc: Rpc) -> Iterator[bytes]:
    for subscribed, topic in rpc.subscriptions:
        yield _raw(_RPC(subscriptions=[{"subscribe": subscribed, "topicid": topic.encode()}]))
    for message in rpc.messages:
        yield _encoded(message)
    for topic in rpc.graft:
        yield _raw(_RPC(control={"graft": [{"topicID": topic.encode()}]}))
    for prune in rpc.prune:
        yield _raw(_RPC(control={"prune": [{"topicID": prune.topic.encode(), "backoff": prune.backoff_s}]}))
    for have in rpc.ihave:
        for start in range(0, len(have.ids), _IDS_A_PIECE):
            ids = have.ids[start : start + _IDS_A_PIECE]
            yield _raw(_RPC(control={"ihave": [{"topicID": have.topic.encode(), "messageIDs": ids}]}))
    for start in range(0, len(rpc.iwant), _IDS_A_PIECE):
        yield _raw(_RPC(control={"iwant": [{"messageIDs": rpc.iwant[start : start + _IDS_A_PIECE]}]}))


@lru_cache(maxsize=64)
def _encoded(message: Message) -> bytes:
    """The same message goes to many peers."""
    return _raw(_RPC(publish=[_fields(message, signed=True)]))


def read(data: bytes) -> Rpc:
    """An RPC from untrusted bytes; nothing is verified yet. Raises ProtocolError if malformed or over its bounds."""
    raw = decode(_RPC, data, MAX_RPC)
    control = raw.control
    counted = (raw.subscriptions, raw.publish, control.ihave, control.iwant, control.graft, control.prune)
    if any(len(items) > MAX_ITEMS for items in counted):
        raise ProtocolError("An RPC with too many entries.")
    return Rpc(
        subscriptions=tuple((s.subscribe, _topic(s.topicid)) for s in raw.subscriptions),
        messages=tuple(_message(m) for m in raw.publish),
        ihave=tuple(IHave(_topic(h.topicID), _ids(h.messageIDs)) for h in control.ihave),
        iwant=tuple(i for w in control.iwant for i in _ids(w.messageIDs)),
        graft=tuple(_topic(g.topicID) for g in control.graft),
        prune=tuple(Prune(_topic(p.topicID), p.backoff if p.HasField("backoff") else None) for p in control.prune),
    )


def sign(identity: Identity, seqno: int, topic: str, data: bytes) -> Message:
    """A message of mine."""
    unsigned = Message(author_bytes(identity.peer_id), seqno.to_bytes(SEQNO_BYTES, "big"), topic, data)
    return msgspec.structs.replace(unsigned, signature=identity.sign(_signed_bytes(unsigned)))


def check(message: Message) -> PeerId:
    """The author, proven. Raises ProtocolError for a message that StrictSign does not allow."""
    author = author_of(message.author)
    key = public_key_of(author)
    if message.key not in (b"", public_key_protobuf(key)):
        raise ProtocolError("A message with another key than its author's.")
    if len(message.seqno) != SEQNO_BYTES or not 0 < len(message.data) <= MAX_DATA:
        raise ProtocolError("A message with a wrong sequence number or size.")
    if not verify(key, _signed_bytes(message), message.signature):
        raise ProtocolError("A message with a wrong signature.")
    return author


def _signed_bytes(message: Message) -> bytes:
    return _SIGN_PREFIX + _raw(_MESSAGE(**_fields(message, signed=False)))


def _fields(message: Message, *, signed: bool) -> dict[str, bytes | None]:
    return {
        "from": message.author,
        "data": message.data,
        "seqno": message.seqno,
        "topic": message.topic.encode(),
        "signature": message.signature if signed else None,
        "key": message.key or None if signed else None,
    }


def _message(raw: Any) -> Message:
    return Message(
        getattr(raw, "from"),
        raw.seqno,
        _topic(raw.topic),
        raw.data,
        raw.signature,
        raw.key,
    )


def _topic(raw: bytes) -> str:
    if len(raw) > MAX_TOPIC:
        raise ProtocolError("A topic with too long a name.")
    return raw.decode(errors="replace")


def _ids(raw: Any) -> tuple[MessageId, ...]:
    if len(raw) > MAX_IDS or any(len(i) > _MAX_ID for i in raw):
        raise ProtocolError("Too many or too long message ids.")
    return tuple(raw)


def _raw(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded
