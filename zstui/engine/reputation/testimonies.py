"""What this node tells others of its own jobs, and takes from them."""

from __future__ import annotations

from zstui.engine.bus import Bus
from zstui.engine.clock import Clock
from zstui.engine.events import ReputationChanged
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.reputation.hearsay import Hearsay, my_testimony
from zstui.engine.reputation.service import ReputationService
from zstui.engine.views import HeardView


class Testimonies:
    """``tells``: the owner's consent to tell others how its jobs went."""

    def __init__(
        self, identity: Identity, reputation: ReputationService, bus: Bus, clock: Clock, *, tells: bool
    ) -> None:
        self._identity = identity
        self._reputation = reputation
        self._bus = bus
        self._clock = clock
        self._tells = tells
        self._hearsay = Hearsay(identity.peer_id, reputation.first_hand, lambda: reputation.revision)

    def word(self) -> bytes | None:
        """My testimony, None if there is nothing to tell or nothing shall be told."""
        return my_testimony(self._identity, self._reputation.overall().items()) if self._tells else None

    def overheard(self, issuer: PeerId, raw: bytes) -> None:
        """Raises ProtocolError for what no honest peer says."""
        for subject in self._hearsay.take(issuer, raw, self._clock.now_us()):
            self._bus.publish(ReputationChanged(subject))

    def of(self, peer: PeerId) -> HeardView | None:
        """What others say of ``peer``."""
        return self._hearsay.of(peer)
