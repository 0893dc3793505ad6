"""What turns a stream through a relay into a channel that the relay cannot read, change or take over.

libp2p's ``/noise`` (specs, noise/README.md): each Noise message after its length in two bytes, big-endian; the payload of a
handshake message proves that the host key owns the static key. Then ``/yamux/1.0.0`` is agreed on, encrypted.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from zstui.engine.errors import AuthenticationFailed, BadInput, FrameTooLarge, ProtocolError, Refused
from zstui.engine.identity.keys import (
    Identity,
    PeerId,
    peer_id_of,
    public_key_from_protobuf,
    public_key_protobuf,
    verify,
)
from zstui.engine.net import multistream
from zstui.engine.net.limits import MAX_PROPOSALS
from zstui.engine.net.protobuf import declare, decode
from zstui.engine.net.relay.noise import MAX_MESSAGE, TAG_BYTES, Cipher, Handshake
from zstui.engine.net.stream import WireStream
from zstui.engine.net.varint import decode_varint

NOISE = "/noise"
YAMUX = "/yamux/1.0.0"
MAX_CLEAR = MAX_MESSAGE - TAG_BYTES
"""Bytes that fit into one message."""
_SIGNED = b"noise-libp2p-static-key:"
_MAX_PAYLOAD = 4096
_Payload = declare("noise.pb", {"NoiseHandshakePayload": {"identity_key": (1, "bytes"), "identity_sig": (2, "bytes")}})[
    "NoiseHandshakePayload"
]


class SecureChannel:
    """Encrypted messages over a stream. One task reads, one writes."""

    def __init__(self, stream: WireStream, sending: Cipher, receiving: Cipher) -> None:
        self._stream = stream
        self._sending = sending
        self._receiving = receiving
        self._rest = b""

    async def read(self) -> bytes:
        """What came next. Raises StreamClosed, AuthenticationFailed."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return self._receiving.decrypt(await _read(self._stream))

    async def write(self, data: bytes) -> None:
        """At most ``MAX_CLEAR`` bytes. Raises StreamClosed, DeadlineExceeded."""
        await _write(self._stream, self._sending.encrypt(data))

    async def agree_on_yamux(self, *, dialed: bool) -> None:
        """Raises ProtocolError, Refused, StreamClosed, AuthenticationFailed."""
        header, yamux = multistream.encode_line(multistream.HEADER), multistream.encode_line(YAMUX)
        if dialed:
            await self.write(header + yamux)
            if await self._line() != multistream.HEADER or await self._line() != YAMUX:
                raise ProtocolError("The peer does not speak yamux.")
            return
        await self.write(header)
        if await self._line() != multistream.HEADER:
            raise ProtocolError("A channel that does not begin with multistream-select.")
        for _ in range(MAX_PROPOSALS):
            if await self._line() == YAMUX:
                await self.write(yamux)
                return
            await self.write(multistream.encode_line(multistream.NOT_AVAILABLE))
        raise Refused("No protocol in common.")

    async def _line(self) -> str:
        buffer = await self.read()
        while (found := decode_varint(buffer)) is None or len(buffer) < sum(found):
            if found is not None and found[0] > multistream.MAX_LINE:
                raise FrameTooLarge("A line of multistream-select that is too long.")
            buffer += await self.read()
        size, start = found
        self._rest = buffer[start + size :]
        return multistream.decode_line(buffer[start : start + size])


async def secure(stream: WireStream, identity: Identity, *, dialed: bool) -> tuple[SecureChannel, PeerId]:
    """The channel and the peer that proved its key. Raises AuthenticationFailed, ProtocolError, StreamClosed."""
    static = X25519PrivateKey.generate()
    handshake = Handshake(initiator=dialed, static=static, ephemeral=X25519PrivateKey.generate())
    proof = _Payload(
        identity_key=public_key_protobuf(identity.public_key),
        identity_sig=identity.sign(_SIGNED + static.public_key().public_bytes_raw()),
    ).SerializeToString()
    if dialed:
        await _write(stream, handshake.write())
        payload = handshake.read(await _read(stream))
        peer = _proven(payload, handshake.remote_static)
        await _write(stream, handshake.write(proof))
    else:
        handshake.read(await _read(stream))
        await _write(stream, handshake.write(proof))
        payload = handshake.read(await _read(stream))
        peer = _proven(payload, handshake.remote_static)
    return SecureChannel(stream, *handshake.split()), peer


def _proven(payload: bytes, static: bytes) -> PeerId:
    message = decode(_Payload, payload, _MAX_PAYLOAD)
    try:
        key = public_key_from_protobuf(message.identity_key)
    except BadInput as error:
        raise AuthenticationFailed(str(error)) from None
    if not verify(key, _SIGNED + static, message.identity_sig):
        raise AuthenticationFailed("The peer did not prove its key.")
    return peer_id_of(key)


async def _read(stream: WireStream) -> bytes:
    return await stream.read_exactly(int.from_bytes(await stream.read_exactly(2), "big"))


async def _write(stream: WireStream, message: bytes) -> None:
    await stream.write_raw(len(message).to_bytes(2, "big") + message)
