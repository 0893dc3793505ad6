"""What a distributed hash table and the network tell each other: addresses and cards of peers, and who speaks what."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from zstui.engine.identity.card import read_card
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.directory import Directory
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.passing import Passing
from zstui.engine.net.reach import Find, Reach
from zstui.engine.net.session import Session


class Contacts:
    def __init__(
        self,
        reach: Reach,
        sessions: Mapping[PeerId, Session],
        passing: Passing,
        directory: Directory,
        cards: CardExchange,
        own_addresses: Callable[[], tuple[Multiaddr, ...]],
    ) -> None:
        self._reach = reach
        self._sessions = sessions
        self._passing = passing
        self._directory = directory
        self._cards = cards
        self.own_addresses = own_addresses
        """Where others reach me."""

    def find_with(self, find: Find) -> None:
        """Ask ``find`` for peers that no known address leads to. Call it before the start."""
        self._reach.find = find

    def link_in_passing(self, protocol: str) -> None:
        """Links made for streams of ``protocol`` need not stay. Call it before the start."""
        self._passing.protocols |= {protocol}

    def known_addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Where ``peer`` might be dialed, the likeliest first."""
        return self._reach.known_addresses(peer)

    def learn(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """``peer`` might be dialed there, too; nothing proves it."""
        self._reach.learn(peer, addresses)

    def speaks(self, peer: PeerId, protocol: str) -> bool:
        """Whether a connected peer said that it speaks ``protocol``."""
        session = self._sessions.get(peer)
        return session is not None and protocol in session.protocols

    def origin(self, peer: PeerId) -> tuple[bool, str]:
        """Whether this node dialed a connected peer, and the IP address it comes from; "" if that tells peers not apart: of a
        relay, or of this machine."""
        session = self._sessions.get(peer)
        if session is None:
            return False, ""
        host = session.address.host
        shared = session.connection.relay is not None or ipaddress.ip_address(host).is_loopback
        return session.connection.dialed, "" if shared else host

    def hear_card(self, peer: PeerId, raw: bytes) -> None:
        """A signed card that came through others. Raises ProtocolError if it is not the peer's."""
        read_card(raw, peer)
        self._directory.hear(peer)
        self._cards.take(peer, raw, heard=True)

    def take_card(self, peer: PeerId, raw: bytes) -> None:
        """A signed card that somebody brought: its peer is known from now on. Raises ProtocolError if it is not the peer's."""
        read_card(raw, peer)
        self._directory.remember(peer)
        self._cards.take(peer, raw)
