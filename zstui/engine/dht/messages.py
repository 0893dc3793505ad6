"""Kademlia messages in libp2p's wire format (libp2p Kademlia specification): length-prefixed protocol buffers."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from zstui.engine.dht.table import K
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import PeerId, base58_decode, base58_encode, public_key_of
from zstui.engine.net.limits import MAX_ADDRESSES
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.protobuf import declare, decode

PROTOCOL = "/zerostate/kad/1.0.0"
"""A network of our own: no node of ours enters a public one."""
MAX_MESSAGE = 64 * 1024
MAX_KEY = 128
MAX_VALUE = 4096

PUT_VALUE, GET_VALUE, ADD_PROVIDER, GET_PROVIDERS, FIND_NODE, PING = range(6)
_CAN_CONNECT = 2

_KINDS = declare(
    "dht.pb",
    {
        "Record": {"key": (1, "bytes"), "value": (2, "bytes"), "timeReceived": (5, "bytes")},
        "Peer": {"id": (1, "bytes"), "addrs": (2, "bytes*"), "connection": (3, "int32")},
        "Message": {
            "type": (1, "int32"),
            "key": (2, "bytes"),
            "record": (3, "Record"),
            "closerPeers": (8, "Peer*"),
            "providerPeers": (9, "Peer*"),
            "clusterLevelRaw": (10, "int32"),
        },
    },
)


class Node(msgspec.Struct, frozen=True):
    """A peer and where it can be dialed."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    type: int
    key: bytes = b""
    value: bytes | None = None
    """Of the record in a PUT_VALUE or GET_VALUE."""
    closer: tuple[Node, ...] = ()
    providers: tuple[Node, ...] = ()


def encode(message: Message) -> bytes:
    out = _KINDS["Message"](type=message.type, key=message.key)
    if message.value is not None:
        out.record.key, out.record.value = message.key, message.value
    for field, nodes in ((out.closerPeers, message.closer), (out.providerPeers, message.providers)):
        for node in nodes:
            addresses = [a.with_peer(None).encode() for a in node.addresses if a.ip_version]
            field.add(id=base58_decode(node.peer), addrs=addresses, connection=_CAN_CONNECT)
    encoded: bytes = out.SerializeToString()
    return encoded


def read(data: bytes) -> Message:
    """A message from untrusted bytes. Peers that are no Ed25519 peers, and addresses that cannot be dialed, are left out; of each
    list ``K`` are read. Raises ProtocolError."""
    raw = decode(_KINDS["Message"], data, MAX_MESSAGE)
    if len(raw.key) > MAX_KEY or len(raw.record.value) > MAX_VALUE:
        raise ProtocolError("A DHT message with too long a key or value.")
    if raw.HasField("record") and raw.record.key not in (b"", raw.key):
        raise ProtocolError("A DHT message with a record of another key.")
    return Message(
        type=raw.type,
        key=raw.key,
        value=raw.record.value if raw.HasField("record") and raw.record.HasField("value") else None,
        closer=_nodes(raw.closerPeers),
        providers=_nodes(raw.providerPeers),
    )


def _nodes(raw: Any) -> tuple[Node, ...]:
    found: dict[PeerId, Node] = {}
    for entry in raw[:K]:
        peer = base58_encode(entry.id) if len(entry.id) <= MAX_KEY else ""
        try:
            public_key_of(peer)
        except BadInput:
            continue
        addresses = []
        for address in entry.addrs[:MAX_ADDRESSES]:
            with contextlib.suppress(ProtocolError):
                addresses.append(decode_multiaddr(address).with_peer(peer))
        found[peer] = Node(peer, tuple(addresses))
    return tuple(found.values())
