"""Which connection is the link to which peer: dialing, admission, and one connection kept of several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from zstui.engine.errors import AuthenticationFailed, NetError, Unreachable
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.connection import CLOSE_DUPLICATE, CLOSE_REFUSED, Connection
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.endpoint import Endpoint
from zstui.engine.net.limits import DIAL_S, MAX_ADDRESSES
from zstui.engine.net.model import keeps_new
from zstui.engine.net.stream import WireStream

_RIVAL_S = 2.0
"""After the peer closed my dial as a duplicate, its own connection must be complete by then."""


class Listener(Protocol):
    def link_up(self, connection: LinkConnection) -> None:
        """``connection`` is now the link to its peer."""

    def link_replaced(self, connection: LinkConnection) -> None:
        """``connection`` has taken over from another link to its peer."""

    def link_down(self, connection: LinkConnection) -> None:
        """It no longer is."""

    def stream_opened(self, stream: WireStream) -> None:
        """A peer opened a stream."""


class _Dial:
    """Attempts at one peer, raced. The first to prove its key wins and the others end before the peer sees them complete."""

    def __init__(self, expected: PeerId | None) -> None:
        self.expected = expected
        self.attempts: set[Connection] = set()
        self.error: NetError | None = None
        self._result: LinkConnection | NetError | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    async def outcome(self) -> LinkConnection:
        """Raises NetError. Whoever waits is woken before what else a new link sets going."""
        if self._result is None:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
        assert self._result is not None
        if isinstance(self._result, NetError):
            raise self._result
        return self._result

    def end(self, result: LinkConnection | NetError) -> None:
        if self._result is None:
            self._result = result
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class Links:
    """Implements ``contract.LinkOwner``."""

    def __init__(
        self,
        identity: Identity,
        admits: Callable[[PeerId], bool],
        reachable: Callable[[str], bool],
    ) -> None:
        self._me = identity.peer_id
        self._admits = admits
        self.listener: Listener
        """Set before the endpoint is opened."""
        self.endpoint = Endpoint(identity, self, reachable)
        self._kept: dict[PeerId, LinkConnection] = {}
        """Authenticated, perhaps not yet accepted by the peer."""
        self._up: dict[PeerId, LinkConnection] = {}
        self._dials: set[_Dial] = set()
        self._stopping = False

    def link(self, peer: PeerId) -> LinkConnection | None:
        """The live link to ``peer``."""
        return self._up.get(peer)

    def peers(self) -> frozenset[PeerId]:
        return frozenset(self._up)

    async def dial(
        self, targets: Sequence[tuple[str, int]], expected: PeerId | None, timeout: float = DIAL_S
    ) -> LinkConnection:
        """Connect to a peer at any of the IP addresses and ports, all tried at once. A link through a relay does not count,
        but one that comes up meanwhile does.

        Raises Unreachable, AuthenticationFailed if what answered is not ``expected``.
        """
        if expected is not None:
            if expected == self._me:
                raise Unreachable("That is this node itself.")
            if not self._admits(expected):
                raise Unreachable("That peer is blocked here.")
            if (link := self._up.get(expected)) is not None and link.relay is None:
                return link
        dial = next((d for d in self._dials if expected is not None and d.expected == expected), None)
        if dial is None:
            dial = _Dial(expected)
            self._dials.add(dial)
        self._attempt(dial, tuple(dict.fromkeys(targets))[:MAX_ADDRESSES])
        try:
            async with asyncio.timeout(timeout):
                return await dial.outcome()
        except TimeoutError:
            raise Unreachable(f"No answer within {timeout:g} seconds.") from None

    def stop(self) -> None:
        """Close every connection, then the socket."""
        self._stopping = True
        for link in tuple(self._kept.values()):
            if link.relay is not None:
                link.close(reason="shutting down")
        self.endpoint.close()

    def _attempt(self, dial: _Dial, targets: tuple[tuple[str, int], ...]) -> None:
        """Dial those ``targets`` that are not being dialed."""
        for target in targets:
            if any(attempt.address[:2] == target for attempt in dial.attempts):
                continue
            try:
                attempt = self.endpoint.dial(target, dial.expected)
            except NetError as error:
                dial.error = dial.error or error
            else:
                if attempt.is_closed:
                    dial.error = dial.error or attempt.error
                else:
                    dial.attempts.add(attempt)
        if not dial.attempts:
            self._end(dial, dial.error or Unreachable("No address of that peer is known."))

    def _end(self, dial: _Dial, result: LinkConnection | NetError) -> None:
        self._dials.discard(dial)
        is_relayed = not isinstance(result, NetError) and result.relay is not None
        for attempt in () if is_relayed else tuple(dial.attempts):
            if attempt is not result and attempt is not self._kept.get(attempt.peer or ""):
                dial.attempts.discard(attempt)
                attempt.close(CLOSE_DUPLICATE, "another attempt won")
        dial.end(result)

    # --- contract.LinkOwner -------------------------------------------------------------------------------------------

    def authenticated(self, connection: LinkConnection) -> None:
        peer = connection.peer
        assert peer is not None
        if peer == self._me:
            connection.close(CLOSE_REFUSED, "own address", error=Unreachable("That address is this node itself."))
            return
        if self._stopping or not self._admits(peer):
            connection.close(CLOSE_REFUSED, "refused", error=Unreachable("That peer is blocked here."))
            return
        old = self._kept.get(peer)
        if old is not None and not keeps_new(
            self._me,
            peer,
            new_relayed=connection.relay is not None,
            old_relayed=old.relay is not None,
            new_dialed=connection.dialed,
            old_dialed=old.dialed,
            old_age_s=connection.opened_at - old.opened_at,
        ):
            connection.close(CLOSE_DUPLICATE, "already connected")
            return
        self._kept[peer] = connection
        if old is not None and (old.relay is None or connection.relay is not None):
            old.close(CLOSE_DUPLICATE, "replaced by a newer connection")
        for dial in tuple(self._dials):
            if connection.relay is None and (dial.expected == peer or connection in dial.attempts):
                for attempt in tuple(dial.attempts):
                    if attempt is not connection and attempt.peer is None:
                        dial.attempts.discard(attempt)
                        attempt.close(CLOSE_DUPLICATE, "another attempt won")

    def ready(self, connection: LinkConnection) -> None:
        peer = connection.peer
        assert peer is not None
        relayed = self._up.get(peer)
        self._up[peer] = connection
        for dial in tuple(self._dials):
            if dial.expected == peer or connection in dial.attempts:
                self._end(dial, connection)
        if relayed is None:
            self.listener.link_up(connection)
        else:
            self.listener.link_replaced(connection)
            relayed.retire()

    def inbound(self, connection: LinkConnection, stream: WireStream) -> None:
        self.listener.stream_opened(stream)

    def closed(self, connection: LinkConnection) -> None:
        peer = connection.peer
        if peer is not None and self._kept.get(peer) is connection:
            del self._kept[peer]
            relayed = self._up.get(peer)
            if relayed is not None and relayed is not connection:
                self._kept[peer] = relayed
        if peer is not None and self._up.get(peer) is connection:
            del self._up[peer]
            self.listener.link_down(connection)
        for dial in tuple(self._dials):
            if connection in dial.attempts:
                dial.attempts.discard(connection)
                self._attempt_failed(dial, connection)

    def _attempt_failed(self, dial: _Dial, attempt: Connection) -> None:
        peer = attempt.peer or dial.expected
        if attempt.close_code == CLOSE_DUPLICATE and peer is not None:
            link = self._up.get(peer)
            if link is not None:
                self._end(dial, link)
            else:
                dial.expected = peer
                asyncio.get_running_loop().call_later(_RIVAL_S, self._rival_late, dial, attempt.error)
            return
        if dial.error is None or isinstance(attempt.error, AuthenticationFailed):
            dial.error = attempt.error
        if not dial.attempts:
            self._end(dial, dial.error)

    def _rival_late(self, dial: _Dial, error: NetError) -> None:
        if dial in self._dials and not dial.attempts:
            self._end(dial, error)
