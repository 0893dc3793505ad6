"""What a person is told of the network as a whole."""

from __future__ import annotations

from collections.abc import Callable

from zstui.engine.clock import Clock
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.dialer import Dialer
from zstui.engine.net.presence import Presence
from zstui.engine.net.relay.service import Relaying


class NetStatus:
    def __init__(
        self,
        presence: Presence,
        relaying: Relaying,
        dialer: Dialer,
        clock: Clock,
        name_of: Callable[[PeerId], str],
    ) -> None:
        self._presence = presence
        self._relaying = relaying
        self._dialer = dialer
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
