"""What publish and subscribe is about: messages, verdicts on them, and the parameters of gossipsub 1.1. Pure."""

from __future__ import annotations

from enum import Enum

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import PeerId, peer_id_of, public_key_from_protobuf, public_key_of, public_key_protobuf

MessageId = bytes
"""Author and sequence number, one after the other."""

MAX_TOPIC = 128
"""Bytes of a topic's name."""
MAX_DATA = 16 * 1024
"""Bytes of what one message says."""
SEQNO_BYTES = 8

_IDENTITY_MULTIHASH = b"\x00\x24"


class Verdict(Enum):
    """Of a topic's validator on a message."""

    ACCEPT = "accept"
    """It is new and right: pass it on."""
    IGNORE = "ignore"
    """Nobody's fault, but not worth passing on: known already, too old, too many."""
    REJECT = "reject"
    """No honest peer would have passed it on."""


class Message(msgspec.Struct, frozen=True):
    """A signed message (libp2p's StrictSign policy). ``author`` is the peer id's bytes."""

    author: bytes
    seqno: bytes
    topic: str
    data: bytes
    signature: bytes = b""
    key: bytes = b""
    """The author's public key as protobuf, or nothing: the id holds it."""

    @property
    def id(self) -> MessageId:
        return self.author + self.seqno


def author_bytes(peer: PeerId) -> bytes:
    """An Ed25519 peer id as bytes: identity multihash of its key's protobuf."""
    return _IDENTITY_MULTIHASH + public_key_protobuf(public_key_of(peer))


def author_of(raw: bytes) -> PeerId:
    """The peer whose id these bytes are. Raises ProtocolError unless it is an Ed25519 peer."""
    if not raw.startswith(_IDENTITY_MULTIHASH):
        raise ProtocolError("A message by no Ed25519 peer.")
    try:
        return peer_id_of(public_key_from_protobuf(raw[2:]))
    except BadInput:
        raise ProtocolError("A message by no Ed25519 peer.") from None


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Of the router, with the defaults of the gossipsub 1.0 and 1.1 specifications; times in µs."""

    d: int = 6
    """Peers in the mesh of a topic that are aimed at."""
    d_lo: int = 4
    """With fewer, more are grafted."""
    d_hi: int = 12
    """With more, some are pruned."""
    d_score: int = 4
    """Kept by score when pruning; the rest by chance."""
    d_out: int = 2
    """Of them at least so many that this node dialed."""
    d_lazy: int = 6
    """Peers told of new messages at each heartbeat, at least."""
    gossip_factor: float = 0.25
    """Or this share of them, if that is more."""
    history: int = 5
    """Heartbeats for which a message can be asked for."""
    history_gossip: int = 3
    """Of these, so many in which it is told of."""
    heartbeat_us: int = US
    fanout_ttl_us: int = 60 * US
    seen_ttl_us: int = 120 * US
    max_seen: int = 50_000
    prune_backoff_us: int = 60 * US
    unsubscribe_backoff_us: int = 10 * US
    max_backoff_us: int = 3600 * US
    """However long a peer asks to be left alone."""
    graft_flood_us: int = 10 * US
    """A graft this soon after a prune counts twice against its sender."""
    opportunistic_every: int = 60
    """Heartbeats between two looks at whether the mesh is a poor one."""
    opportunistic_peers: int = 2
    max_ihave: int = 1_000
    """Message ids that one peer may offer in a heartbeat."""
    max_ihave_messages: int = 10
    """And the offers it may make them in."""
    iwant_followup_us: int = 3 * US
    """A message offered and asked for must have come by then."""
    retransmissions: int = 3
    """How often one peer is sent a message it asks for."""
    max_topics: int = 64
    """Subscriptions of one peer that are kept."""
    message_burst: float = 200
    """New messages that one peer may bring at once, and per second: what checking them costs is bounded."""
    messages_per_s: float = 50
    forward_burst: float = 100
    """Messages of others that one peer is sent at once, and per second: half of what it puts up with."""
    forwards_per_s: float = 25


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Scores below which a peer is trusted less and less."""

    gossip: float = -500
    """Neither told of messages nor heard on them."""
    publish: float = -1000
    """Not sent my own messages."""
    graylist: float = -2500
    """Not heard at all."""
    opportunistic: float = 2.0
    """While the median of the mesh is below, better peers are grafted. Minutes in a quiet mesh are enough for it."""


class TopicScore(msgspec.Struct, frozen=True, kw_only=True):
    """How behaviour in one topic is scored; decays are per second. P3 counts only where its weight is not 0: a topic in which a
    message may not come for an hour has no rate that a peer could fall short of."""

    weight: float = 1.0
    time_weight: float = 0.01
    time_quantum_us: int = US
    time_cap: float = 300
    first_weight: float = 2.0
    first_decay: float = 0.999
    first_cap: float = 20
    mesh_weight: float = 0.0
    mesh_decay: float = 0.97
    mesh_threshold: float = 0.0
    mesh_cap: float = 100
    mesh_activation_us: int = 30 * US
    mesh_window_us: int = 10_000
    failure_weight: float = 0.0
    failure_decay: float = 0.97
    invalid_weight: float = -100.0
    invalid_decay: float = 0.9987
    """A message's weight is gone after about an hour."""


class ScoreParams(msgspec.Struct, frozen=True, kw_only=True):
    topic_cap: float = 100
    """The most that good behaviour in topics is worth."""
    app_weight: float = 1.0
    colocation_weight: float = -50.0
    colocation_threshold: int = 10
    """Peers at one IP address that are nobody's fault."""
    behaviour_weight: float = -10.0
    behaviour_threshold: float = 6
    """Slips that are forgiven."""
    behaviour_decay: float = 0.9987
    decay_to_zero: float = 0.01
    decay_interval_us: int = US
    retain_us: int = 3600 * US
    """A bad score outlives the link so long."""
    max_retained: int = 4096
