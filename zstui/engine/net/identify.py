"""The identify protocol's message: who a node is, where it listens and what it speaks (libp2p, protobuf by hand).

Fields: 1 publicKey, 2 listenAddrs, 3 protocols, 4 observedAddr, 5 protocolVersion, 6 agentVersion. Others are skipped.
"""

from __future__ import annotations

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.text import clean_text
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.varint import decode_varint, encode_varint, with_length

ID_PROTOCOL = "/ipfs/id/1.0.0"
PUSH_PROTOCOL = "/ipfs/id/push/1.0.0"
PROTOCOL_VERSION = "zerostate/1.0.0"
MAX_MESSAGE = 16 * 1024
_MAX_LISTEN = 16
_MAX_PROTOCOLS = 128


class Identify(msgspec.Struct, frozen=True):
    public_key: bytes = b""
    """libp2p PublicKey protobuf. Never trusted: the key is the one that the connection proved."""
    listen: tuple[Multiaddr, ...] = ()
    """Addresses that this node can dial; others are left out."""
    protocols: tuple[str, ...] = ()
    observed: bytes = b""
    agent: str = ""


def encode_identify(message: Identify) -> bytes:
    out = _field(1, message.public_key)
    for address in message.listen:
        out += _field(2, address.encode())
    for protocol in message.protocols:
        out += _field(3, protocol.encode())
    if message.observed:
        out += _field(4, message.observed)
    return out + _field(5, PROTOCOL_VERSION.encode()) + _field(6, message.agent.encode())


def decode_identify(data: bytes) -> Identify:
    """Raises ProtocolError for malformed or too large messages. Text comes out clean."""
    if len(data) > MAX_MESSAGE:
        raise ProtocolError("An identify message that is too large.")
    public_key = observed = b""
    listen: list[Multiaddr] = []
    protocols: list[str] = []
    agent = ""
    for number, value in _fields(data):
        if number == 1:
            public_key = value
        elif number == 2 and len(listen) < _MAX_LISTEN:
            try:
                listen.append(decode_multiaddr(value))
            except ProtocolError:
                continue  # another transport
        elif number == 3 and len(protocols) < _MAX_PROTOCOLS:
            protocols.append(clean_text(value.decode(errors="replace"), 128))
        elif number == 4:
            observed = value
        elif number == 6:
            agent = clean_text(value.decode(errors="replace"), 64)
    return Identify(public_key, tuple(listen), tuple(protocols), observed, agent)


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + with_length(value)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Number and value of every length-delimited field; the others are passed over."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, offset = _varint(data, offset)
            continue
        if wire == 2:
            size, offset = _varint(data, offset)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtocolError("An identify message of an unknown wire type.")
        if offset + size > len(data):
            raise ProtocolError("A truncated identify message.")
        if wire == 2:
            found.append((number, data[offset : offset + size]))
        offset += size
    return found


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    found = decode_varint(data, offset)
    if found is None:
        raise ProtocolError("A truncated identify message.")
    return found
