"""The table: what is decoded, what it may raise, where a fuzzer begins, and how a value is encoded again.

A decoder of signed documents gets its fuzzed body in an envelope that holds, or nothing behind the signature would be reached.
"""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from nacl.secret import Aead

from tests.fuzz.examples import all_packed, example, packed
from tests.fuzz.people import ONE, OTHER, signed
from zstui.engine import evidence_file
from zstui.engine.backup import archive
from zstui.engine.channels import messages as channels
from zstui.engine.channels.discharges.messages import Answer, decode_answer
from zstui.engine.channels.disputes import messages as disputes
from zstui.engine.channels.disputes.unit import parts_of, verdict_of
from zstui.engine.channels.vault import messages as vault
from zstui.engine.channels.vault import model as deposits
from zstui.engine.complaints.messages import Complaint
from zstui.engine.complaints.model import examine
from zstui.engine.dht import messages as kad
from zstui.engine.errors import (
    AuthenticationFailed,
    BackupError,
    BadInput,
    FrameTooLarge,
    InvalidManifest,
    InvalidReceipt,
    ProtocolError,
    Refused,
    StreamClosed,
)
from zstui.engine.guilds import invites
from zstui.engine.guilds import messages as guilds
from zstui.engine.guilds.entries import read_entry
from zstui.engine.guilds.model import read_charter
from zstui.engine.identity.card import Card, read_card
from zstui.engine.identity.certificate import decode_signed_key, encode_signed_key, make_certificate, verify_chain
from zstui.engine.identity.envelope import Body, open_envelope
from zstui.engine.identity.keys import Identity, base58_decode, base58_encode, public_key_from_protobuf, public_key_of
from zstui.engine.identity.keys import public_key_protobuf as key_protobuf
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import protocol as jobs
from zstui.engine.jobs.manifest import Manifest, open_manifest
from zstui.engine.jobs.messages import AnyMessage, Head, Packet
from zstui.engine.jobs.notes import DebitNote, NoteReply, open_note, open_reply
from zstui.engine.jobs.receipt import Agreement, Receipt, open_agreement, receipt_of
from zstui.engine.net import identify, mdns, multistream
from zstui.engine.net import reachability as autonat
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr, parse_address, parse_multiaddr
from zstui.engine.net.protobuf import decode as decode_protobuf
from zstui.engine.net.relay import messages as relay
from zstui.engine.net.relay import secure
from zstui.engine.net.relay.noise import Handshake
from zstui.engine.net.relay.yamux import Yamux
from zstui.engine.net.stream import WireStream
from zstui.engine.net.varint import decode_varint, encode_varint
from zstui.engine.pubsub import messages as gossip
from zstui.engine.reputation.hearsay import Testimony, read_testimony
from zstui.engine.verification import verify_document
from zstui.screens.previews import png, ppm, written
from zstui.screens.previews.picture import PictureError

CPU_S = 2.0
"""What one input may take, at most; all take far less."""
MEMORY = 64 << 20
"""And how many bytes."""

Decode = Callable[[bytes], Any]


class Target(msgspec.Struct, frozen=True):
    decode: Decode
    errors: tuple[type[Exception], ...]
    """What it says it raises; anything else is a bug."""
    seeds: tuple[bytes, ...] = ()
    """Inputs that it takes."""
    encode: Callable[[Any], bytes] | None = None
    """What it decoded once encodes to something that decodes to the same."""


# --- bytes of the wire -----------------------------------------------------------------------------------------------

_ADDRESS = Multiaddr("192.0.2.7", 4433, ONE.peer_id)
_CIRCUIT = _ADDRESS.through(OTHER.peer_id)
_MEASURED = Multiaddr("2001:db8::7", 1, None)


def _varint(data: bytes) -> int | None:
    found = decode_varint(data)
    return None if found is None else found[0]


class _Wire:
    """A carrier that sends nothing."""

    def write(self, stream_id: int, data: bytes, end: bool = False) -> None: ...
    def is_full(self, stream_id: int) -> bool:
        return False

    async def drained(self, stream_id: int) -> None: ...
    def read_up(self, stream_id: int, left: int) -> None: ...
    def flush(self) -> None: ...
    def stop(self, stream_id: int, *, sending: bool, receiving: bool) -> None: ...
    def forget(self, stream_id: int) -> None: ...


def _run(work: Any) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(work)


def _responder(data: bytes) -> str:
    """A whole inbound stream: negotiation, then one frame."""

    async def serve() -> str:
        stream = WireStream(_Wire(), 0, ONE.peer_id)
        stream.feed(data, True)
        protocol = await stream.respond(("/test/1",), 8, 1.0)
        await stream.receive(1.0)
        return protocol

    return str(_run(serve()))


def _dialer(data: bytes) -> bytes:
    async def ask() -> bytes:
        stream = WireStream(_Wire(), 0, ONE.peer_id)
        stream.propose("/test/1")
        stream.feed(data, True)
        return await stream.receive(1.0)

    return bytes(_run(ask()))


def _yamux(data: bytes) -> int:
    async def take() -> int:
        mux = Yamux(ONE.peer_id, dialed=True, inbound=lambda stream: None, wake=lambda: None)
        mux.open()
        for at in range(0, len(data), 64):
            mux.receive(data[at : at + 64])
            mux.output(1 << 16)
        return mux.streams

    return int(_run(take()))


_STATIC = X25519PrivateKey.from_private_bytes(b"\3" * 32)
_EPHEMERAL = X25519PrivateKey.from_private_bytes(b"\4" * 32)


def _noise(data: bytes) -> bytes:
    """The first byte says which side reads."""
    handshake = Handshake(initiator=bool(data[:1] > b"\x7f"), static=_STATIC, ephemeral=_EPHEMERAL)
    if data[:1] > b"\x7f":
        handshake.write()
    return handshake.read(data[1:])


def _noise_proof(data: bytes) -> str:
    return secure._proven(data, _STATIC.public_key().public_bytes_raw())


def _protobuf(kind: Any) -> Target:
    """Encoded again it is the same, for unknown fields are dropped."""
    filled = kind()
    for field in filled.DESCRIPTOR.fields:
        if field.message_type is None and not field.is_repeated:
            setattr(filled, field.name, b"\1\2" if field.type == field.TYPE_BYTES else 7)
    return Target(
        lambda data: decode_protobuf(kind, data, relay.MAX_MESSAGE),
        (ProtocolError,),
        (filled.SerializeToString(),),
        lambda message: bytes(message.SerializeToString()),
    )


def _certificate(data: bytes) -> str:
    """What the QUIC library cannot load ends the connection there."""
    try:
        certificate = x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise AuthenticationFailed(str(error)) from error
    return verify_chain([certificate], datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


def _text(parse: Callable[[str], Any]) -> Decode:
    return lambda data: parse(data.decode(errors="replace"))


# --- signed documents ------------------------------------------------------------------------------------------------


def _bodies(of: type[Body] = Body) -> Iterator[type[Body]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _bodies(kind)


_BODIES = sorted({b for b in _bodies() if b.__module__.startswith("zstui.")}, key=lambda b: (b.__module__, b.__name__))


def _body(data: bytes) -> Body:
    """The first byte chooses the kind."""
    kind = _BODIES[data[0] % len(_BODIES)] if data else _BODIES[0]
    return channels.read(channels.take(signed(kind.__name__, data[1:])), kind)


def _encode_body(body: Body) -> bytes:
    return bytes((_BODIES.index(type(body)),)) + msgspec.msgpack.encode(body)


def _about(kind: type[Body], read: Callable[[bytes], Any], *more: type[Exception], by: Identity = ONE) -> Target:
    """``read`` gets an envelope of a ``kind`` with a fuzzed body, signed by ``by``."""
    return Target(lambda data: read(signed(kind.__name__, data, by)), (ProtocolError, *more), (packed(kind),))


_CHARTER = read_charter(signed("GuildCharter", packed(guilds.GuildCharter)))
_AGREED = ONE.public_key
"""An id that examples have, too."""


def _agreement(data: bytes) -> Any:
    mine, theirs = signed("Agreement", data), signed("Agreement", data, OTHER)
    return open_agreement(mine, theirs, ONE.peer_id, OTHER.peer_id)


_KEPT = int(example(deposits.Deposit)[0])
"""The version that the example has."""


def _deposit(data: bytes) -> deposits.Deposit:
    """What a peer kept, had it the key: the form is checked behind the seal."""
    return deposits.unseal(bytes(32), _KEPT, bytes(Aead(bytes(32)).encrypt(data, deposits._context(_KEPT))))


# --- files -----------------------------------------------------------------------------------------------------------


def _file(data: bytes) -> Any:
    """As `zstui verify` reads it."""
    return verify_document(evidence_file.parse(data))


def _documents(data: bytes) -> Any:
    content = evidence_file.parse(data)
    return evidence_file.documents_of(content if isinstance(content, dict) else {})


def _evidence(field: str) -> bytes:
    return json.dumps({field: 1, "documents": ["AAAA"], "file": {}}).encode()


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = (2).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*c) for c in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(14))), (b"IEND", b""))
    )


def _written(data: bytes) -> Any:
    value = written.parse_json(data)
    lines = written.json_lines(value, 60, 20) if value is not None else written.text_lines(data, 60, 20)
    return lines, written.bytes_lines(data, 60, 20), written.is_text(data)


def _backup(data: bytes) -> Any:
    """Up to where the passphrase's key is derived, which takes a second on purpose."""
    return archive._Reader(Path("backup"), "x")._header(io.BytesIO(data))


_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What ``SealedStream.receive`` makes a ProtocolError of."""
_HEADER = packed(archive._Header)
_INVITE = invites.make_invite(_CHARTER, ONE.peer_id, (str(_ADDRESS), str(_CIRCUIT)), 10**15)

TARGETS: dict[str, Target] = {
    # the wire
    "varint": Target(
        _varint, (ProtocolError,), (encode_varint(300),), lambda v: encode_varint(v) if v is not None else b""
    ),
    "multistream line": Target(
        multistream.decode_line, (ProtocolError,), (b"/test/1\n",), lambda line: line.encode() + b"\n"
    ),
    "multistream responder": Target(
        _responder,
        (ProtocolError, Refused, StreamClosed, FrameTooLarge, TimeoutError),
        (multistream.encode_opening("/test/1") + b"\1x", multistream.encode_opening("/other")),
    ),
    "multistream dialer": Target(
        _dialer,
        (ProtocolError, Refused, StreamClosed, FrameTooLarge),
        (multistream.encode_opening("/test/1") + b"\1x",),
    ),
    "multiaddr": Target(
        decode_multiaddr, (ProtocolError,), tuple(a.encode() for a in (_ADDRESS, _CIRCUIT, _MEASURED)), Multiaddr.encode
    ),
    "multiaddr text": Target(
        _text(parse_multiaddr),
        (BadInput,),
        tuple(str(a).encode() for a in (_ADDRESS, _CIRCUIT, Multiaddr("fe80::1%eth0", 1))),
        lambda address: str(address).encode(),
    ),
    "address": Target(_text(parse_address), (BadInput,), (b"192.0.2.7:4433", b"[2001:db8::1]:1")),
    "identify": Target(
        identify.decode_identify,
        (ProtocolError,),
        (identify.encode_identify(identify.Identify(b"k", (_ADDRESS,), ("/p",), b"o", "agent")),),
        identify.encode_identify,
    ),
    "kad": Target(
        kad.read,
        (ProtocolError,),
        (kad.encode(kad.Message(type=1, key=b"k", value=b"v", closer=(kad.Node(ONE.peer_id, (_ADDRESS,)),))),),
        kad.encode,
    ),
    "gossip": Target(
        gossip.read,
        (ProtocolError,),
        tuple(gossip.encode(gossip.Rpc(messages=(gossip.sign(ONE, 1, "topic", b"data"),), graft=("topic",)))),
    ),
    "relay hop": _protobuf(relay.Hop),
    "relay stop": _protobuf(relay.Stop),
    "hole punch": _protobuf(relay.HolePunch),
    "dial back": _protobuf(autonat._Message),
    "relay voucher": Target(
        lambda data: relay.check_voucher(data, ONE.peer_id, OTHER.peer_id),
        (ProtocolError,),
        (relay.seal_voucher(ONE, OTHER.peer_id, 1),),
    ),
    "noise": Target(_noise, (AuthenticationFailed,), (b"\0" + b"\5" * 32, b"\xff" + b"\5" * 96)),
    "noise proof": Target(
        _noise_proof,
        (AuthenticationFailed, ProtocolError),
        (b"\x0a\x24" + key_protobuf(ONE.public_key) + b"\x12\x01x",),
    ),
    "yamux": Target(
        _yamux,
        (ProtocolError,),
        (b"\0\0\0\1\0\0\0\2\0\0\0\3abc" + b"\0\2\0\1\0\0\0\0\0\0\0\1" + b"\0\0\0\4\0\0\0\2\0\0\0\0",),
    ),
    "mdns txt": Target(
        lambda data: (mdns.decode_txt(data), mdns.network_of(data)), (), (mdns.encode_txt((_ADDRESS, _CIRCUIT), "net"),)
    ),
    # identities
    "base58": Target(
        _text(base58_decode), (BadInput,), (ONE.peer_id.encode(),), lambda raw: base58_encode(raw).encode()
    ),
    "peer id": Target(_text(public_key_of), (BadInput,), (ONE.peer_id.encode(),)),
    "public key": Target(public_key_from_protobuf, (BadInput,), (key_protobuf(ONE.public_key),), key_protobuf),
    "signed key": Target(
        decode_signed_key,
        (AuthenticationFailed,),
        (encode_signed_key(b"k" * 36, b"s" * 64),),
        lambda v: encode_signed_key(*v),
    ),
    "certificate": Target(
        _certificate, (AuthenticationFailed,), (make_certificate(ONE)[0].public_bytes(Encoding.DER),)
    ),
    "text": Target(_text(lambda text: clean_text(text, 64)), (), ("a\u202eb\x1b[31mc\n".encode(),)),
    # signed documents
    "envelope": Target(open_envelope, (ProtocolError,), (signed("Card", packed(Card)),), lambda s: bytes(s.raw)),
    "signed body": Target(
        _body,
        (ProtocolError,),
        tuple(bytes((n,)) + packed(kind) for n, kind in enumerate(_BODIES)),
        _encode_body,
    ),
    "card": _about(Card, lambda raw: read_card(raw, ONE.peer_id)),
    "charter": _about(guilds.GuildCharter, read_charter),
    "guild entry": _about(guilds.GuildEntry, lambda raw: read_entry(_CHARTER, raw)),
    "manifest": _about(Manifest, open_manifest, InvalidManifest),
    "agreement": Target(_agreement, (ProtocolError, InvalidReceipt), (packed(Agreement),)),
    "receipt": _about(Receipt, lambda raw: receipt_of(raw, OTHER.peer_id, _AGREED, _AGREED), InvalidReceipt, by=OTHER),
    "debit note": _about(DebitNote, lambda raw: open_note(raw, ONE.peer_id, _AGREED)),
    "note reply": _about(NoteReply, lambda raw: open_reply(raw, ONE.peer_id, _AGREED)),
    "testimony": _about(Testimony, lambda raw: read_testimony(raw, OTHER.peer_id), by=OTHER),
    "evidence": _about(disputes.Evidence, parts_of),
    "dispute": _about(disputes.DisputeOpen, parts_of),
    "verdict": _about(disputes.Verdict, verdict_of),
    "complaint": _about(Complaint, examine),
    # messages of our own protocols
    "guild request": Target(guilds.decode_request, (ProtocolError,), all_packed(guilds.Request), guilds.encode),
    "guild reply": Target(guilds.decode_reply, (ProtocolError,), all_packed(guilds.Reply), guilds.encode),
    "guild list": Target(guilds.decode_list, (ProtocolError,), (guilds.encode([b"a", b"b"]),), guilds.encode),
    "job message": Target(jobs._message.decode, _MALFORMED, all_packed(AnyMessage), msgspec.msgpack.encode),
    "job packet": Target(jobs._packet.decode, _MALFORMED, (packed(Packet),), msgspec.msgpack.encode),
    "job head": Target(jobs._head.decode, _MALFORMED, (packed(Head),), msgspec.msgpack.encode),
    "vault message": Target(vault.decode, (ProtocolError,), all_packed(vault._Any), vault.encode),
    "deposit": Target(_deposit, (ProtocolError,), (zlib.compress(packed(deposits.Deposit)),)),
    "discharge answer": Target(decode_answer, (ProtocolError,), (packed(Answer),), msgspec.msgpack.encode),
    # files and what people paste
    "invite": Target(
        _text(invites.parse_invite),
        (BadInput,),
        (invites.text_of(_INVITE).encode(),),
        lambda invite: invites.text_of(invite).encode(),
    ),
    "evidence file": Target(
        _file,
        (BadInput,),
        tuple(map(_evidence, ("zerostate_statement", "zerostate_fraud_proof", "zerostate_output_verdict", "receipt"))),
    ),
    "documents": Target(_documents, (BadInput,), (_evidence("x"),)),
    "backup": Target(
        _backup,
        (BackupError,),
        (archive.MAGIC + bytes((archive.VERSION,)) + len(_HEADER).to_bytes(2, "big") + _HEADER,),
    ),
    "ppm": Target(ppm.decode_ppm, (PictureError,), (b"P6\n2 1\n255\n" + bytes(6), b"P3 1 1 7 1 2 3\n")),
    "png": Target(png.to_ppm, (png.BadPng,), (_png(),)),
    "written": Target(_written, (), (b'{"a": [1, "x", null]}', b"plain\ttext\n")),
}
