"""Relaying for others: reservations, and circuits between two peers that are both connected here. Everything is capped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from zstui.engine.clock import US, Clock
from zstui.engine.errors import NetError, ProtocolError, Refused, StreamClosed
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.limits import DIAL_S, HANDSHAKE_S
from zstui.engine.net.link import Stream
from zstui.engine.net.model import source
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.protobuf import decode
from zstui.engine.net.relay import messages as m
from zstui.engine.net.session import Session
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

MIB = 1024 * 1024


class RelayLimits(msgspec.Struct, frozen=True, kw_only=True):
    reservations: int = 128
    reservations_per_address: int = 16
    """An address is an IPv4 address or an IPv6 /64."""
    reservation_s: int = 3600
    circuits: int = 64
    circuits_per_peer: int = 8
    circuit_s: int = 3600
    """How long one circuit may live."""
    circuit_bytes: int = 1024 * MIB
    """What one may carry each way."""
    bytes_per_s: int = 8 * MIB
    """All circuits together."""


class Meter:
    """Spreads ``rate`` bytes a second over whoever takes them, with a quarter of a second in advance."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._paid_until = 0.0

    async def take(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now - 0.25) + size / self._rate
        if self._paid_until > now:
            await asyncio.sleep(self._paid_until - now)


class RelayServer:
    """``serve`` handles the hop protocol. ``session_of`` gives the link to a connected peer."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        limits: RelayLimits,
        *,
        session_of: Callable[[PeerId], Session | None],
        my_addresses: Callable[[], tuple[Multiaddr, ...]],
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._limits = limits
        self._session_of = session_of
        self._my_addresses = my_addresses
        self._meter = Meter(limits.bytes_per_s)
        self._reservations: dict[PeerId, int] = {}
        """Until when, Unix seconds."""
        self._circuits: list[tuple[PeerId, PeerId]] = []
        self.refused = 0
        """Requests turned down for want of room."""

    @property
    def reservations(self) -> tuple[PeerId, ...]:
        return tuple(self._reservations)

    @property
    def circuits(self) -> int:
        return len(self._circuits)

    async def serve(self, stream: Stream) -> None:
        assert isinstance(stream, WireStream)
        async with asyncio.timeout(HANDSHAKE_S):
            request = decode(m.Hop, await stream.read_message(m.MAX_MESSAGE), m.MAX_MESSAGE)
        session = self._session_of(stream.peer)
        if session is None or session.connection.relay is not None:
            await _answer(stream, m.PERMISSION_DENIED)
        elif request.type == m.RESERVE:
            await self._reserve(stream, session)
        elif request.type == m.CONNECT:
            await self._connect(stream, m.peer_from_bytes(request.peer.id))
        else:
            await _answer(stream, m.MALFORMED_MESSAGE)

    # --- reservations ------------------------------------------------------------------------------------------------

    async def _reserve(self, stream: WireStream, session: Session) -> None:
        self._forget_the_gone()
        peer = session.peer
        if peer not in self._reservations and not self._has_room(session):
            self.refused += 1
            await _answer(stream, m.RESERVATION_REFUSED)
            return
        expires = self._clock.now_us() // US + self._limits.reservation_s
        self._reservations[peer] = expires
        answer = m.Hop(type=m.STATUS, status=m.OK)
        answer.reservation.expire = expires
        answer.reservation.addrs.extend(a.encode() for a in self._my_addresses() if a.ip_version and not a.relay)
        answer.reservation.voucher = m.seal_voucher(self._identity, peer, expires)
        self._state_limit(answer.limit)
        await stream.send(answer.SerializeToString())

    def _forget_the_gone(self) -> None:
        now = self._clock.now_us() // US
        for peer, expires in tuple(self._reservations.items()):
            if expires < now or self._session_of(peer) is None:
                del self._reservations[peer]

    def _has_room(self, session: Session) -> bool:
        where = source(session.address.host)
        held = [s for p in self._reservations if (s := self._session_of(p)) is not None]
        neighbours = sum(source(s.address.host) == where for s in held)
        return len(held) < self._limits.reservations and neighbours < self._limits.reservations_per_address

    def _state_limit(self, limit: object) -> None:
        limit.duration = self._limits.circuit_s  # type: ignore[attr-defined]  # a protobuf message
        limit.data = self._limits.circuit_bytes  # type: ignore[attr-defined]

    # --- circuits ----------------------------------------------------------------------------------------------------

    async def _connect(self, stream: WireStream, target: PeerId) -> None:
        self._forget_the_gone()
        source_peer = stream.peer
        session = self._session_of(target)
        if target not in self._reservations or session is None or session.connection.relay is not None:
            await _answer(stream, m.NO_RESERVATION)
            return
        crowded = any(
            sum(peer in pair for pair in self._circuits) >= self._limits.circuits_per_peer
            for peer in (source_peer, target)
        )
        if crowded or len(self._circuits) >= self._limits.circuits:
            self.refused += 1
            await _answer(stream, m.RESOURCE_LIMIT_EXCEEDED)
            return
        pair = (source_peer, target)
        self._circuits.append(pair)
        try:
            try:
                onward = await self._ask_target(session, source_peer)
            except (NetError, ProtocolError, Refused, TimeoutError) as error:
                log.debug("No circuit to %s: %s", target, error)
                await _answer(stream, m.CONNECTION_FAILED)
                return
            answer = m.Hop(type=m.STATUS, status=m.OK)
            self._state_limit(answer.limit)
            await self._carry(stream, onward, answer.SerializeToString())
        finally:
            self._circuits.remove(pair)

    async def _ask_target(self, session: Session, source_peer: PeerId) -> WireStream:
        onward = await session.open(m.STOP_PROTOCOL, DIAL_S)
        request = m.Stop(type=m.STOP_CONNECT)
        request.peer.id = m.peer_bytes(source_peer)
        self._state_limit(request.limit)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await onward.send(request.SerializeToString())
                answer = decode(m.Stop, await onward.read_message(m.MAX_MESSAGE), m.MAX_MESSAGE)
            if answer.type != m.STOP_STATUS or answer.status != m.OK:
                raise Refused(f"The peer refused the circuit ({answer.status}).")
        except BaseException:
            onward.reset()
            raise
        return onward

    async def _carry(self, one: WireStream, other: WireStream, greeting: bytes) -> None:
        """Until both have ended, or one fails, or a cap is reached."""
        try:
            await one.send(greeting)
            async with asyncio.timeout(self._limits.circuit_s), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(one, other))
                tasks.create_task(self._pump(other, one))
        except* (NetError, ProtocolError, TimeoutError) as group:
            log.debug("A circuit ended: %s", group.exceptions[0])
        finally:
            one.reset()
            other.reset()

    async def _pump(self, source_stream: WireStream, sink: WireStream) -> None:
        left = self._limits.circuit_bytes
        while True:
            try:
                data = await source_stream.read_some()
            except StreamClosed:
                if source_stream.was_reset:
                    raise
                await sink.close()
                return
            left -= len(data)
            if left < 0:
                raise ProtocolError("The circuit has carried what it may.")
            await self._meter.take(len(data))
            await sink.write_raw(data)


async def _answer(stream: WireStream, status: int) -> None:
    with contextlib.suppress(StreamClosed):
        await stream.send(m.Hop(type=m.STATUS, status=status).SerializeToString())
