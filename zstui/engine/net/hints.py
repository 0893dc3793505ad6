"""Addresses that others told of peers which need not exist: bounded, and never more than a place to try."""

from __future__ import annotations

from collections import OrderedDict

from zstui.engine.identity.keys import PeerId
from zstui.engine.net.limits import MAX_ADDRESSES
from zstui.engine.net.multiaddr import Multiaddr

MAX_HINTS = 4_096
"""Peers; past that those not heard of for longest are forgotten."""


class Hints:
    def __init__(self) -> None:
        self._known: OrderedDict[PeerId, tuple[Multiaddr, ...]] = OrderedDict()

    def add(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """The latest come first."""
        if not addresses:
            return
        fresh = tuple(address.with_peer(peer) for address in addresses)
        self._known[peer] = tuple(dict.fromkeys((*fresh, *self._known.get(peer, ()))))[:MAX_ADDRESSES]
        self._known.move_to_end(peer)
        if len(self._known) > MAX_HINTS:
            self._known.popitem(last=False)

    def get(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        return self._known.get(peer, ())
