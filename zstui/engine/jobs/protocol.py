"""Streams of messages sealed under the guild's key, for jobs and artifacts alike."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from zstui.engine.errors import GuildError, ProtocolError, Refused
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.messages import OPENABLE, AnyMessage, Head, Message, Packet, Refusal
from zstui.engine.jobs.ports import GuildPort
from zstui.engine.net.link import Network, Stream

M = TypeVar("M", bound=Message)

_encode = msgspec.msgpack.Encoder().encode
_message = msgspec.msgpack.Decoder(AnyMessage)
_packet = msgspec.msgpack.Decoder(Packet)
_head = msgspec.msgpack.Decoder(Head)


class RefusedByPeer(Refused):
    """The peer's own sentence, and what kind of refusal it is."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.kind = refusal.code


class SealedStream:
    """One stream about one job in one guild; ids are hex text here."""

    def __init__(self, stream: Stream, guilds: GuildPort, guild_id: str, job_id: str, protocol: str) -> None:
        self._stream = stream
        self._guilds = guilds
        self.guild_id = guild_id
        self.job_id = job_id
        self._context = protocol.encode() + b"|" + bytes.fromhex(job_id)

    @property
    def peer(self) -> PeerId:
        return self._stream.peer

    async def send(self, message: Message) -> None:
        """Seal and send. Once the guild is over only what settles an agreement still goes. Raises NetError, GuildError."""
        plain = _encode(message)
        try:
            packet = Packet(True, self._guilds.seal(self.guild_id, plain, self._context))
        except GuildError:
            if not isinstance(message, OPENABLE):
                raise
            packet = Packet(False, plain)
        await self._stream.send(_encode(packet))

    async def receive(self, timeout: float | None) -> AnyMessage:
        """Next message. Raises NetError, GuildError, ProtocolError."""
        frame = await self._stream.receive(timeout)
        try:
            packet = _packet.decode(frame)
            data = packet.data
            if packet.sealed:
                data = await self._guilds.unseal(self.guild_id, self.peer, data, self._context)
            message: AnyMessage = _message.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"Malformed message: {error}.") from error
        if not packet.sealed and not isinstance(message, OPENABLE):
            raise ProtocolError(f"A {type(message).__name__} that is not sealed.")
        return message

    async def answer(self, timeout: float) -> AnyMessage:
        """Next message, which is no refusal. Raises RefusedByPeer."""
        message = await self.receive(timeout)
        if isinstance(message, Refusal):
            raise RefusedByPeer(message)
        return message

    async def expect(self, kind: type[M], timeout: float) -> M:
        """Next message, which must be a ``kind``. Raises RefusedByPeer."""
        message = await self.answer(timeout)
        if isinstance(message, kind):
            return message
        raise ProtocolError(f"Expected {kind.__name__}, got {type(message).__name__}.")

    async def close(self) -> None:
        await self._stream.close()

    def reset(self) -> None:
        self._stream.reset()


async def open_sealed(
    network: Network, guilds: GuildPort, peer: PeerId, protocol: str, guild_id: str, job_id: str, timeout: float = 10.0
) -> SealedStream:
    """A fresh stream to ``peer`` about one job. Raises NetError, Refused."""
    stream = await network.open(peer, protocol, timeout)
    await stream.send(_encode(Head(bytes.fromhex(guild_id), bytes.fromhex(job_id))))
    return SealedStream(stream, guilds, guild_id, job_id, protocol)


async def accept_sealed(stream: Stream, guilds: GuildPort, protocol: str) -> SealedStream:
    """Read the head of an inbound stream. Raises NetError, ProtocolError."""
    try:
        head = _head.decode(await stream.receive(20.0))
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(f"Malformed head: {error}.") from error
    if len(head.guild) != 32 or len(head.job) != 32:
        raise ProtocolError("A head with ids of a wrong length.")
    return SealedStream(stream, guilds, head.guild.hex(), head.job.hex(), protocol)
