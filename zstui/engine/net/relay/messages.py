"""Messages of circuit relay v2 and DCUtR (libp2p specs, relay/circuit-v2.md and relay/DCUtR.md), and reservation vouchers."""

from __future__ import annotations

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import (
    Identity,
    PeerId,
    base58_decode,
    base58_encode,
    peer_id_of,
    public_key_from_protobuf,
    public_key_of,
    public_key_protobuf,
    verify,
)
from zstui.engine.net.protobuf import declare, decode
from zstui.engine.net.varint import with_length

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR_PROTOCOL = "/libp2p/dcutr"
MAX_MESSAGE = 4096

RESERVE, CONNECT, STATUS = 0, 1, 2
"""Types of a hop message."""
STOP_CONNECT, STOP_STATUS = 0, 1
HOLE_CONNECT, HOLE_SYNC = 100, 300

OK = 100
RESERVATION_REFUSED = 200
RESOURCE_LIMIT_EXCEEDED = 201
PERMISSION_DENIED = 202
CONNECTION_FAILED = 203
NO_RESERVATION = 204
MALFORMED_MESSAGE = 400

_STATUS_TEXT = {
    RESERVATION_REFUSED: "it takes no reservation",
    RESOURCE_LIMIT_EXCEEDED: "it has no room",
    PERMISSION_DENIED: "it does not serve us",
    CONNECTION_FAILED: "it does not reach the peer",
    NO_RESERVATION: "the peer has no place there",
}

_pb = declare(
    "circuit.pb",
    {
        "Peer": {"id": (1, "bytes"), "addrs": (2, "bytes*")},
        "Reservation": {"expire": (1, "uint64"), "addrs": (2, "bytes*"), "voucher": (3, "bytes")},
        "Limit": {"duration": (1, "uint32"), "data": (2, "uint64")},
        "HopMessage": {
            "type": (1, "int32"),
            "peer": (2, "Peer"),
            "reservation": (3, "Reservation"),
            "limit": (4, "Limit"),
            "status": (5, "int32"),
        },
        "StopMessage": {"type": (1, "int32"), "peer": (2, "Peer"), "limit": (3, "Limit"), "status": (4, "int32")},
        "HolePunch": {"type": (1, "int32"), "ObsAddrs": (2, "bytes*")},
        "ReservationVoucher": {"relay": (1, "bytes"), "peer": (2, "bytes"), "expiration": (3, "uint64")},
        "Envelope": {
            "public_key": (1, "bytes"),
            "payload_type": (2, "bytes"),
            "payload": (3, "bytes"),
            "signature": (5, "bytes"),
        },
    },
)
Hop, Stop, HolePunch = _pb["HopMessage"], _pb["StopMessage"], _pb["HolePunch"]
_VOUCHER_DOMAIN, _VOUCHER_TYPE = b"libp2p-relay-rsvp", b"\x03\x02"


def status_text(status: int) -> str:
    return _STATUS_TEXT.get(status, f"it answered {status}")


def peer_bytes(peer: PeerId) -> bytes:
    return base58_decode(peer)


def peer_from_bytes(raw: bytes) -> PeerId:
    """Raises ProtocolError for anything but the id of an Ed25519 peer."""
    peer = base58_encode(raw)
    try:
        public_key_of(peer)
    except BadInput as error:
        raise ProtocolError(str(error)) from None
    return peer


def seal_voucher(relay: Identity, peer: PeerId, expires_s: int) -> bytes:
    """The relay's signed word that ``peer`` may be reached through it until ``expires_s`` (Unix time)."""
    payload = _pb["ReservationVoucher"](
        relay=peer_bytes(relay.peer_id), peer=peer_bytes(peer), expiration=expires_s
    ).SerializeToString()
    envelope = _pb["Envelope"](
        public_key=public_key_protobuf(relay.public_key),
        payload_type=_VOUCHER_TYPE,
        payload=payload,
        signature=relay.sign(_signed_bytes(payload)),
    )
    sealed: bytes = envelope.SerializeToString()
    return sealed


def check_voucher(data: bytes, relay: PeerId, peer: PeerId) -> None:
    """Raises ProtocolError unless ``relay`` signed it for ``peer``."""
    envelope = decode(_pb["Envelope"], data, MAX_MESSAGE)
    try:
        key = public_key_from_protobuf(envelope.public_key)
    except BadInput as error:
        raise ProtocolError(str(error)) from None
    voucher = decode(_pb["ReservationVoucher"], envelope.payload, MAX_MESSAGE)
    if (
        envelope.payload_type != _VOUCHER_TYPE
        or peer_id_of(key) != relay
        or (voucher.relay, voucher.peer) != (peer_bytes(relay), peer_bytes(peer))
        or not verify(key, _signed_bytes(envelope.payload), envelope.signature)
    ):
        raise ProtocolError("A voucher that is not the relay's for this peer.")


def _signed_bytes(payload: bytes) -> bytes:
    return with_length(_VOUCHER_DOMAIN) + with_length(_VOUCHER_TYPE) + with_length(payload)
