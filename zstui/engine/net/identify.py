"""The identify protocol's message: who a node is, where it listens and what it speaks (libp2p).

Fields: 1 publicKey, 2 listenAddrs, 3 protocols, 4 observedAddr, 5 protocolVersion, 6 agentVersion.
"""

from __future__ import annotations

import contextlib

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.text import clean_text
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.protobuf import declare, decode

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


_Message = declare(
    "identify.pb",
    {
        "Identify": {
            "publicKey": (1, "bytes"),
            "listenAddrs": (2, "bytes*"),
            "protocols": (3, "bytes*"),
            "observedAddr": (4, "bytes"),
            "protocolVersion": (5, "bytes"),
            "agentVersion": (6, "bytes"),
        }
    },
)["Identify"]
"""Texts are declared as bytes, which is the same on the wire, so that invalid UTF-8 does no harm."""


def encode_identify(message: Identify) -> bytes:
    encoded: bytes = _Message(
        publicKey=message.public_key,
        listenAddrs=[address.encode() for address in message.listen],
        protocols=[protocol.encode() for protocol in message.protocols],
        observedAddr=message.observed or None,
        protocolVersion=PROTOCOL_VERSION.encode(),
        agentVersion=message.agent.encode(),
    ).SerializeToString()
    return encoded


def decode_identify(data: bytes) -> Identify:
    """Raises ProtocolError for malformed or too large messages. Text comes out clean."""
    message = decode(_Message, data, MAX_MESSAGE)
    listen: list[Multiaddr] = []
    for address in message.listenAddrs[:_MAX_LISTEN]:
        with contextlib.suppress(ProtocolError):  # another transport
            listen.append(decode_multiaddr(address))
    return Identify(
        public_key=message.publicKey,
        listen=tuple(listen),
        protocols=tuple(_text(p, 128) for p in message.protocols[:_MAX_PROTOCOLS]),
        observed=message.observedAddr,
        agent=_text(message.agentVersion, 64),
    )


def _text(raw: bytes, limit: int) -> str:
    return clean_text(raw.decode(errors="replace"), limit)
