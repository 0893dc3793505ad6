"""From a relayed link to a direct one: DCUtR (libp2p specs, relay/DCUtR.md) over QUIC.

The side that was dialed through the relay leads: both tell where they are seen, then at the same moment the other side dials
and the leader sends datagrams outward, so that both NATs expect what comes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from zstui.engine.errors import DeadlineExceeded, NetError, ProtocolError
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.limits import DIAL_S, MAX_ADDRESSES
from zstui.engine.net.link import Stream
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.protobuf import decode
from zstui.engine.net.relay import messages as m
from zstui.engine.net.session import Session
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

ATTEMPTS = 3
_PUNCH_S = 4.0
_PUNCH_EVERY_S = 0.1
_RTT_MAX_S = 2.0


class HolePuncher:
    """``dial`` makes a direct link or raises NetError; ``punch`` sends one datagram; ``is_direct`` says when it is enough;
    ``may_dial`` which addresses of another peer are worth a try."""

    def __init__(
        self,
        *,
        my_addresses: Callable[[], tuple[Multiaddr, ...]],
        dial: Callable[[tuple[Multiaddr, ...], PeerId], Awaitable[None]],
        punch: Callable[[tuple[str, int]], None],
        is_direct: Callable[[PeerId], bool],
        may_dial: Callable[[str], bool],
    ) -> None:
        self._my_addresses = my_addresses
        self._dial = dial
        self._punch = punch
        self._is_direct = is_direct
        self._may_dial = may_dial
        self._following: set[PeerId] = set()

    async def lead(self, session: Session) -> None:
        """Try to get a direct link. Raises NetError, ProtocolError, Refused if the peer does not take part."""
        for _ in range(ATTEMPTS):
            await self._attempt(session)
            if self._is_direct(session.peer):
                return

    async def serve(self, stream: Stream) -> None:
        """Follow the peer's lead: dial it when it says so."""
        assert isinstance(stream, WireStream)
        peer = stream.peer
        async with asyncio.timeout(DIAL_S):
            theirs = self._addresses(await self._read(stream, m.HOLE_CONNECT), peer)
            await self._say(stream, m.HOLE_CONNECT)
            await self._read(stream, m.HOLE_SYNC)
        if peer in self._following or self._is_direct(peer) or not theirs:
            return
        self._following.add(peer)
        try:
            await self._dial(theirs, peer)
        except NetError as error:
            log.debug("No hole towards %s: %s", peer, error)
        finally:
            self._following.discard(peer)

    async def _attempt(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        stream = await session.open(m.DCUTR_PROTOCOL)
        try:
            began = loop.time()
            await self._say(stream, m.HOLE_CONNECT)
            async with asyncio.timeout(DIAL_S):
                theirs = self._addresses(await self._read(stream, m.HOLE_CONNECT), session.peer)
            rtt = min(loop.time() - began, _RTT_MAX_S)
            await stream.send(m.HolePunch(type=m.HOLE_SYNC).SerializeToString())
            await stream.close()
        except TimeoutError:
            raise DeadlineExceeded("No answer in time.") from None
        except BaseException:
            stream.reset()
            raise
        await asyncio.sleep(rtt / 2)
        until = loop.time() + _PUNCH_S
        while theirs and loop.time() < until and not self._is_direct(session.peer) and not session.connection.is_closed:
            for address in theirs:
                self._punch(address.target)
            await asyncio.sleep(_PUNCH_EVERY_S)
        stream.reset()

    async def _say(self, stream: WireStream, kind: int) -> None:
        message = m.HolePunch(type=kind)
        message.ObsAddrs.extend(a.with_peer(None).encode() for a in self._my_addresses()[:MAX_ADDRESSES])
        await stream.send(message.SerializeToString())

    @staticmethod
    async def _read(stream: WireStream, kind: int) -> Any:
        message = decode(m.HolePunch, await stream.read_message(m.MAX_MESSAGE), m.MAX_MESSAGE)
        if message.type != kind:
            raise ProtocolError("A hole-punching message out of turn.")
        return message

    def _addresses(self, message: Any, peer: PeerId) -> tuple[Multiaddr, ...]:
        found: list[Multiaddr] = []
        for raw in message.ObsAddrs[:MAX_ADDRESSES]:
            try:
                address = decode_multiaddr(raw)
            except ProtocolError:
                continue
            if address.relay is None and self._may_dial(address.host):
                found.append(address.with_peer(peer))
        return tuple(dict.fromkeys(found))


def is_global(host: str) -> bool:
    """Whether an IP address is one of the public internet."""
    ip = ipaddress.ip_address(host)
    return ip.is_global and not ip.is_multicast
