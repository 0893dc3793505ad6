"""Being reached through relays, and reaching others through them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from zstui.engine.clock import US, Clock
from zstui.engine.errors import NetError, ProtocolError, Refused, StreamClosed, Unreachable
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.contract import LinkOwner
from zstui.engine.net.limits import HANDSHAKE_S
from zstui.engine.net.link import Stream
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.protobuf import decode
from zstui.engine.net.relay import messages as m
from zstui.engine.net.relay.circuit import CircuitConnection, join
from zstui.engine.net.session import Session
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

MAX_RELAYS = 3
"""Relays at which this node holds a place."""
_ADDRESSES_PER_RELAY = 2
_RETRY_S = 60.0
"""A relay that refused is asked again after this."""
_LOOK_S = 30.0
_MAX_TTL_S = 24 * 3600


class Reservation(msgspec.Struct, frozen=True):
    session: Session
    """The link on which it was made; it ends with that."""
    addresses: tuple[Multiaddr, ...]
    """Mine, through the relay."""
    renew_at: float


class RelayClient:
    """``wanted``: whether a place at relays is worth having now. ``changed`` is told when my addresses have changed."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        owner: LinkOwner,
        *,
        sessions: Callable[[], tuple[Session, ...]],
        connect: Callable[[Multiaddr], Awaitable[PeerId]],
        wanted: Callable[[], bool],
        changed: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._owner = owner
        self._sessions = sessions
        self._connect = connect
        self._wanted = wanted
        self._changed = changed
        self._spawn = spawn
        self._held: dict[PeerId, Reservation] = {}
        self._not_before: dict[PeerId, float] = {}
        self._look = asyncio.Event()

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others reach me through relays."""
        return tuple(a for r in self._held.values() for a in r.addresses)

    def relays(self) -> tuple[PeerId, ...]:
        return tuple(self._held)

    def look(self) -> None:
        """A link came, went, or said what it speaks."""
        self._look.set()

    async def run(self) -> None:
        """Hold places at relays, for ever."""
        while True:
            self._look.clear()
            await self._update()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def _update(self) -> None:
        now = asyncio.get_running_loop().time()
        relays = {s.peer: s for s in self._sessions() if s.connection.relay is None and m.HOP_PROTOCOL in s.protocols}
        held = {p: r for p, r in self._held.items() if relays.get(p) is r.session}
        self._set(held if self._wanted() else {})
        self._not_before = {p: at for p, at in self._not_before.items() if at > now and p in relays}
        if not self._wanted():
            return
        for peer, session in relays.items():
            mine = self._held.get(peer)
            is_due = (mine is None and len(self._held) < MAX_RELAYS) or (mine is not None and mine.renew_at <= now)
            if not is_due or peer in self._not_before:
                continue
            try:
                self._set({**self._held, peer: await self._reserve(session)})
            except (NetError, ProtocolError, Refused, TimeoutError) as error:
                log.info("No place at the relay %s: %s", peer, error)
                self._not_before[peer] = now + _RETRY_S
                self._set({p: r for p, r in self._held.items() if p != peer})

    def _set(self, held: dict[PeerId, Reservation]) -> None:
        before = self.addresses()
        self._held = held
        if self.addresses() != before:
            self._changed()

    async def _reserve(self, session: Session) -> Reservation:
        answer = await self._ask(session, m.Hop(type=m.RESERVE))
        if answer.reservation.voucher:
            m.check_voucher(answer.reservation.voucher, session.peer, self._identity.peer_id)
        ttl = answer.reservation.expire - self._clock.now_us() // US
        if ttl <= 0:
            raise ProtocolError("The relay gave a place that has expired.")
        relay_addresses = [session.address]
        for raw in answer.reservation.addrs[:8]:
            try:
                address = decode_multiaddr(raw)
            except ProtocolError:
                continue
            if address.relay is None and address.peer in (None, session.peer):
                relay_addresses.append(address.with_peer(session.peer))
        mine = tuple(a.through(self._identity.peer_id) for a in dict.fromkeys(relay_addresses))
        renew_at = asyncio.get_running_loop().time() + min(ttl, _MAX_TTL_S) / 2
        return Reservation(session, mine[:_ADDRESSES_PER_RELAY], renew_at)

    async def _ask(self, session: Session, request: Any) -> Any:
        stream = await session.open(m.HOP_PROTOCOL)
        try:
            return await _exchange(stream, request)
        finally:
            await stream.close()
            stream.reset()

    # --- circuits ----------------------------------------------------------------------------------------------------

    async def dial(self, address: Multiaddr) -> CircuitConnection:
        """Link to ``address.peer`` through its relay, connecting to that first if need be.

        Raises Unreachable, AuthenticationFailed, ProtocolError, and what streams raise.
        """
        relay = await self._connect(address.via)
        session = next((s for s in self._sessions() if s.peer == relay and s.connection.relay is None), None)
        if session is None or address.peer is None:
            raise Unreachable("There is no direct link to the relay.")
        request = m.Hop(type=m.CONNECT)
        request.peer.id = m.peer_bytes(address.peer)
        stream = await session.open(m.HOP_PROTOCOL)
        try:
            await _exchange(stream, request)
        except BaseException:
            stream.reset()
            raise
        via = session.address.through(address.peer)
        try:
            connection = await join(stream, self._identity, self._owner, via, dialed=True)
        except StreamClosed:
            raise Unreachable("The peer behind the relay hung up.") from None
        self._spawn(connection.run(), "circuit")
        return connection

    async def serve_stop(self, stream: Stream) -> None:
        """A relay brings a peer. Lives as long as the link."""
        assert isinstance(stream, WireStream)
        async with asyncio.timeout(HANDSHAKE_S):
            request = decode(m.Stop, await stream.read_message(m.MAX_MESSAGE), m.MAX_MESSAGE)
        held = self._held.get(stream.peer)
        status = m.OK
        if request.type != m.STOP_CONNECT:
            status = m.MALFORMED_MESSAGE
        elif held is None:
            status = m.PERMISSION_DENIED
        peer = m.peer_from_bytes(request.peer.id)
        await stream.send(m.Stop(type=m.STOP_STATUS, status=status).SerializeToString())
        if held is None or status != m.OK:
            return
        via = held.session.address.through(peer)
        connection = await join(stream, self._identity, self._owner, via, dialed=False)
        await connection.run()


async def _exchange(stream: WireStream, request: Any) -> Any:
    """The relay's answer, which is OK. Raises Unreachable if it is not."""
    try:
        async with asyncio.timeout(2 * HANDSHAKE_S):
            await stream.send(request.SerializeToString())
            answer = decode(m.Hop, await stream.read_message(m.MAX_MESSAGE), m.MAX_MESSAGE)
    except TimeoutError:
        raise Unreachable("The relay did not answer in time.") from None
    if answer.type != m.STATUS or answer.status != m.OK:
        raise Unreachable(f"The relay refused: {m.status_text(answer.status)}.")
    return answer
