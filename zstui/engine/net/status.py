"""What a person is told of the network as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zstui.engine.clock import Clock
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.dialer import Dialer
from zstui.engine.net.presence import Presence
from zstui.engine.net.relay.messages import HOP_PROTOCOL
from zstui.engine.net.relay.service import Relaying
from zstui.engine.net.session import Session
from zstui.engine.views import RelayView


class NetStatus:
    def __init__(
        self,
        presence: Presence,
        relaying: Relaying,
        dialer: Dialer,
        sessions: Mapping[PeerId, Session],
        clock: Clock,
        name_of: Callable[[PeerId], str],
    ) -> None:
        self._presence = presence
        self._relaying = relaying
        self._dialer = dialer
        self._sessions = sessions
        self._clock = clock
        self._name_of = name_of

    def describe(self) -> str:
        """One line: interface and address in use, or why there is no network."""
        return self._presence.describe()

    def seen_by(self) -> tuple[int, int | None]:
        """How many peers lately reached this node by dialing back, and when the latest did (Unix seconds)."""
        return self._relaying.reachability.seen_by()

    def reachability(self) -> str:
        """One line on how others reach this node; "" while nothing is known."""
        return self._relaying.describe(self._clock.now_us(), self._name_of)

    def notices(self) -> tuple[str, ...]:
        """What a person should know about the network now."""
        unreached = (f"Not connected to {t.key}: {t.why}" for t in self._dialer.unreached())
        return (*self._presence.notices(), *unreached)

    def relays(self) -> tuple[RelayView, ...]:
        """Directly linked peers that relay for others, those at which this node holds a place first."""
        mine = self._relaying.client.relays()
        offering = (
            s.peer for s in self._sessions.values() if s.connection.relay is None and HOP_PROTOCOL in s.protocols
        )
        found = (RelayView(peer_id=p, name=self._name_of(p), place=p in mine) for p in offering)
        return tuple(sorted(found, key=lambda relay: (not relay.place, relay.name)))

    def relayed(self) -> tuple[int, int] | None:
        """Peers that hold a place here and links that go through this node; None where it is no relay."""
        server = self._relaying.server
        return None if server is None else (len(server.reservations), server.circuits)
