"""Whether others can dial this node: AutoNAT v1 (libp2p specs, autonat/autonat-v1.md), asking and answering.

Who answers dials back from another port, for a NAT would let through what comes from where it has sent to; only to the IP
address that the asker is seen at; and not to a private one, unless it is of the same local network.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import msgspec

from zstui.engine.clock import US, Clock
from zstui.engine.errors import NetError, ProtocolError, Refused
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.connection import CLOSE_DUPLICATE
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.endpoint import Endpoint
from zstui.engine.net.limits import MAX_ADDRESSES
from zstui.engine.net.link import Stream
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.protobuf import declare, decode
from zstui.engine.net.relay.messages import peer_bytes
from zstui.engine.net.session import Session
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)

AUTONAT_PROTOCOL = "/libp2p/autonat/1.0.0"
_MAX_MESSAGE = 4096
_DIAL, _DIAL_RESPONSE = 0, 1
_OK, _DIAL_ERROR, _DIAL_REFUSED, _BAD_REQUEST = 0, 100, 101, 200
_DIAL_BACK_S = 4.0
_ASK_S = 15.0
EVERY_S = 60.0
_FIRST_S = 2.0
_FRESH_S = 180.0
"""An answer older than this no longer counts."""
MAX_ASKED = 4
MAX_DIAL_BACKS = 30
"""In a minute, for all peers together."""
PEER_EVERY_S = 20.0
"""One peer is dialed back no more often."""

_pb = declare(
    "autonat.pb",
    {
        "PeerInfo": {"id": (1, "bytes"), "addrs": (2, "bytes*")},
        "Dial": {"peer": (1, "PeerInfo")},
        "DialResponse": {"status": (1, "int32"), "statusText": (2, "bytes"), "addr": (3, "bytes")},
        "Message": {"type": (1, "int32"), "dial": (2, "Dial"), "dialResponse": (3, "DialResponse")},
    },
)
_Message = _pb["Message"]


class Seen(msgspec.Struct, frozen=True):
    """What one peer found when it dialed back."""

    at_us: int
    reached: bool
    is_local: bool
    """The peer is on a network that this machine is on."""


class Probe:
    """Dials from a port of its own, and hangs up as soon as the other side has proven its key, before it notices a link."""

    def __init__(self, identity: Identity, reachable: Callable[[str], bool]) -> None:
        self._identity = identity
        self._reachable = reachable

    async def reaches(self, addresses: tuple[Multiaddr, ...], peer: PeerId) -> Multiaddr | None:
        """The first of ``addresses`` where ``peer`` answered."""
        outcome = _Outcome(len(addresses))
        endpoint = Endpoint(self._identity, outcome, self._reachable)
        try:
            await endpoint.open("::" if ":" in addresses[0].host else "0.0.0.0", 0)
            attempts = {endpoint.dial(a.target, peer): a for a in addresses}
            async with asyncio.timeout(_DIAL_BACK_S):
                await outcome.answered.wait()
            return next((a for connection, a in attempts.items() if connection is outcome.proven), None)
        except (OSError, NetError, TimeoutError):
            return None
        finally:
            endpoint.close()


class _Outcome:
    """Implements ``contract.LinkOwner``."""

    def __init__(self, attempts: int) -> None:
        self._left = attempts
        self.answered = asyncio.Event()
        self.proven: LinkConnection | None = None

    def authenticated(self, connection: LinkConnection) -> None:
        self.proven = self.proven or connection
        self.answered.set()
        connection.close(CLOSE_DUPLICATE, "dial back")

    def ready(self, connection: LinkConnection) -> None:
        raise AssertionError("a probe hangs up before")

    def inbound(self, connection: LinkConnection, stream: WireStream) -> None:
        stream.reset()

    def closed(self, connection: LinkConnection) -> None:
        self._left -= 1
        if not self._left:
            self.answered.set()


class Reachability:
    """``run`` asks peers now and then; ``serve`` answers them."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        probe: Probe,
        *,
        sessions: Callable[[], tuple[Session, ...]],
        my_addresses: Callable[[], tuple[Multiaddr, ...]],
        is_local: Callable[[str], bool],
        is_global: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._probe = probe
        self._sessions = sessions
        self._my_addresses = my_addresses
        self._is_local = is_local
        self._is_global = is_global
        self._changed = changed
        self._seen: dict[PeerId, Seen] = {}
        self._served: deque[tuple[float, PeerId]] = deque()

    # --- what is known -----------------------------------------------------------------------------------------------

    def seen_by(self) -> tuple[int, int | None]:
        """How many peers reached me lately by dialing back, and when the latest did (Unix seconds)."""
        reached = [s.at_us for s in self._fresh() if s.reached]
        return len(reached), max(reached) // US if reached else None

    def found_by(self, peer: PeerId) -> Seen | None:
        """What ``peer`` found when it last dialed back; None if it did not lately."""
        self._fresh()
        return self._seen.get(peer)

    @property
    def asked(self) -> int:
        """How many peers tried lately."""
        return len(self._fresh())

    @property
    def is_public(self) -> bool:
        """Whether peers from outside the local network reach me, by more than half of those that tried."""
        outside = [s.reached for s in self._fresh() if not s.is_local]
        return sum(outside) * 2 > len(outside)

    def _fresh(self) -> list[Seen]:
        since = self._clock.now_us() - int(_FRESH_S * US)
        self._seen = {p: s for p, s in self._seen.items() if s.at_us >= since}
        return list(self._seen.values())

    # --- asking ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask, for ever: soon after the start and after a network change, then once a minute."""
        pause = _FIRST_S
        while True:
            await asyncio.sleep(pause)
            able = [s for s in self._sessions() if AUTONAT_PROTOCOL in s.protocols and s.connection.relay is None]
            able.sort(key=lambda s: (s.peer in self._seen, self._is_local(s.address.host)))
            await asyncio.gather(*(self._ask_tolerantly(s) for s in able[:MAX_ASKED]))
            pause = _FIRST_S
            if able:
                pause = EVERY_S if self._fresh() else PEER_EVERY_S
                self._changed()

    def forget(self) -> None:
        """My addresses changed: nothing is known any more."""
        self._seen.clear()

    async def _ask_tolerantly(self, session: Session) -> None:
        try:
            await self.ask(session)
        except (NetError, ProtocolError, Refused, TimeoutError) as error:
            log.debug("No dial-back from %s: %s", session.peer, error)

    async def ask(self, session: Session) -> None:
        """Let one peer dial back. Raises NetError, ProtocolError, Refused, TimeoutError if it does not say."""
        mine = [a for a in self._my_addresses() if a.ip_version and a.relay is None]
        if session.observed is not None:
            mine.insert(0, session.observed)
        request = _Message(type=_DIAL)
        request.dial.peer.id = peer_bytes(self._identity.peer_id)
        request.dial.peer.addrs.extend(a.with_peer(None).encode() for a in dict.fromkeys(mine[:MAX_ADDRESSES]))
        stream = await session.open(AUTONAT_PROTOCOL)
        try:
            async with asyncio.timeout(_ASK_S):
                await stream.send(request.SerializeToString())
                answer = decode(_Message, await stream.read_message(_MAX_MESSAGE), _MAX_MESSAGE).dialResponse
        finally:
            await stream.close()
            stream.reset()
        if answer.status in (_OK, _DIAL_ERROR):
            local = self._is_local(session.address.host)
            self._seen[session.peer] = Seen(self._clock.now_us(), answer.status == _OK, local)

    # --- answering ---------------------------------------------------------------------------------------------------

    async def serve(self, stream: Stream) -> None:
        assert isinstance(stream, WireStream)
        async with asyncio.timeout(_ASK_S):
            request = decode(_Message, await stream.read_message(_MAX_MESSAGE), _MAX_MESSAGE)
        answer = _Message(type=_DIAL_RESPONSE)
        session = next((s for s in self._sessions() if s.peer == stream.peer), None)
        if request.type != _DIAL or request.dial.peer.id != peer_bytes(stream.peer):
            answer.dialResponse.status = _BAD_REQUEST
        elif (
            session is None
            or not (allowed := self._allowed(session, request.dial.peer.addrs))
            or self._is_too_much(stream.peer)
        ):
            answer.dialResponse.status = _DIAL_REFUSED
        else:
            reached = await self._probe.reaches(allowed, stream.peer)
            answer.dialResponse.status = _DIAL_ERROR if reached is None else _OK
            if reached is not None:
                answer.dialResponse.addr = reached.encode()
        await stream.send(answer.SerializeToString())

    def _allowed(self, session: Session, raw_addresses: list[bytes]) -> tuple[Multiaddr, ...]:
        """Of what the asker names: addresses with the IP that it is seen at, if that may be dialed for it."""
        host = session.address.host
        if session.connection.relay is not None or not (self._is_global(host) or self._is_local(host)):
            return ()
        found: list[Multiaddr] = []
        for raw in raw_addresses[:MAX_ADDRESSES]:
            try:
                address = decode_multiaddr(raw)
            except ProtocolError:
                continue
            if address.relay is None and address.host == host:
                found.append(address.with_peer(None))
        return tuple(dict.fromkeys(found))

    def _is_too_much(self, peer: PeerId) -> bool:
        """Count a dial-back for ``peer``, or refuse it."""
        now = asyncio.get_running_loop().time()
        while self._served and self._served[0][0] < now - 60:
            self._served.popleft()
        if len(self._served) >= MAX_DIAL_BACKS or any(p == peer and at > now - PEER_EVERY_S for at, p in self._served):
            return True
        self._served.append((now, peer))
        return False
