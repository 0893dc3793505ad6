"""What a link to a peer is, whatever carries it: a QUIC connection or a circuit through a relay."""

from __future__ import annotations

from typing import Protocol

from zstui.engine.errors import NetError
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.stream import WireStream


class LinkConnection(Protocol):
    peer: PeerId | None
    """None until proven."""
    dialed: bool
    opened_at: float
    is_closed: bool
    reason: str
    error: NetError
    """What a dial that ended like this raises."""
    close_code: int | None

    @property
    def relay(self) -> PeerId | None:
        """Through whom; None for a direct connection."""

    @property
    def multiaddr(self) -> Multiaddr:
        """Where the peer is now, with its id."""

    def open(self) -> WireStream:
        """A new stream. Raises StreamClosed if the connection is gone or too many streams are open."""

    def close(self, code: int = 0, reason: str = "", *, error: NetError | None = None) -> None:
        """Tell the peer and be done. Idempotent."""

    def retire(self) -> None:
        """Another connection has taken over: open no more streams, let the open ones end, then close."""


class LinkOwner(Protocol):
    """Whoever holds connections. All are called on the event loop and must not block."""

    def authenticated(self, connection: LinkConnection) -> None:
        """``connection.peer`` is proven. May close the connection."""

    def ready(self, connection: LinkConnection) -> None:
        """Both sides have accepted each other."""

    def inbound(self, connection: LinkConnection, stream: WireStream) -> None:
        """The peer opened a stream."""

    def closed(self, connection: LinkConnection) -> None:
        """The connection is gone; ``connection.reason`` says why. Called once."""
