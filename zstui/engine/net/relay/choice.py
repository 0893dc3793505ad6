"""Which of several relays to a peer is tried first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from zstui.engine.identity.keys import PeerId

FAILED_US = 30_000_000
"""What a relay that does not lead to the peer is taken to cost, beside the time that finding out took."""


class RelayChoice(Protocol):
    def in_order(self, destination: PeerId, neighbours: Iterable[PeerId]) -> list[PeerId]:
        """``neighbours``, best first."""
        ...

    def tried(self, destination: PeerId, neighbour: PeerId, took_us: int) -> None:
        """It took so long to reach ``destination`` that way."""
        ...

    def why(self, destination: PeerId, neighbour: PeerId) -> str:
        """What is expected of that way, "" if nothing was learned."""
        ...


class AsGiven:
    """The choice of a node that learns nothing."""

    def in_order(self, destination: PeerId, neighbours: Iterable[PeerId]) -> list[PeerId]:
        return list(neighbours)

    def tried(self, destination: PeerId, neighbour: PeerId, took_us: int) -> None:
        pass

    def why(self, destination: PeerId, neighbour: PeerId) -> str:
        return ""
