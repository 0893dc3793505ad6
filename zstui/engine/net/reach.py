"""How a peer is reached: which addresses of it are known, and dialing them, directly or through relays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from zstui.engine.bus import Bus
from zstui.engine.errors import Unreachable
from zstui.engine.events import PeerChanged
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.dialer import Dialer, Target
from zstui.engine.net.hints import Hints
from zstui.engine.net.limits import DIAL_S, HEARD_DELAY_S, HEARD_DIAL_S, MAX_ADDRESSES, MAX_RECONNECTS
from zstui.engine.net.links import Links
from zstui.engine.net.multiaddr import Multiaddr, parse_multiaddr
from zstui.engine.net.peers import PeerBook
from zstui.engine.net.resolver import ip_targets

Find = Callable[[PeerId], Awaitable[bool]]
"""Looks for more addresses of a peer; whether any were found. They are told by ``Reach.learn``."""
ByCircuit = Callable[[Iterable[Multiaddr], Callable[[], Awaitable[object]] | None], Awaitable[PeerId]]
"""Links to the peer of circuit addresses, see ``Relaying.dial``."""


class Reach:
    """``reachable`` says whether datagrams may be exchanged with an IP address; ``names`` whether host names may be looked up."""

    def __init__(
        self,
        me: PeerId,
        book: PeerBook,
        links: Links,
        bus: Bus,
        *,
        names: bool,
        admits: Callable[[PeerId], bool],
        reachable: Callable[[str], bool],
        by_circuit: ByCircuit,
    ) -> None:
        self._me = me
        self._book = book
        self._links = links
        self._bus = bus
        self._names = names
        self._admits = admits
        self._reachable = reachable
        self._by_circuit = by_circuit
        self._hints = Hints()
        self.find: Find = _nowhere
        """Asked when no known address leads to a peer; set by who can, before the start."""
        self.dialer = Dialer(self._dial_target, self._is_wanted, self._dial_failed)

    def begin(self) -> None:
        """Dial the peers met most lately again."""
        met = sorted((r for r in self._book if r.address), key=lambda r: -r.last_seen_us)
        for record in met[:MAX_RECONNECTS]:
            self.dialer.add("known", record.peer_id, ())

    # --- addresses ---------------------------------------------------------------------------------------------------

    def known_addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Where ``peer`` might be dialed, the likeliest first."""
        record = self._book.get(peer)
        known: list[Multiaddr] = []
        if record is not None:
            known += [parse_multiaddr(record.address)] if record.address else []
            known += record.also
        known += self.dialer.addresses(peer)
        known += self._hints.get(peer)
        return tuple(dict.fromkeys(known))[:MAX_ADDRESSES]

    def learn(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """``peer`` might be dialed there, too; nothing proves it."""
        self._hints.add(peer, tuple(a for a in addresses if a.ip_version and self._reachable(a.host)))

    def heard(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """A peer was announced on the LAN. Of two that hear of each other, the larger id waits a little."""
        record = self._book.get(peer)
        if record is not None:
            record.also = tuple(dict.fromkeys((*addresses, *record.also)))[:MAX_ADDRESSES]
        self.dialer.add("heard", peer, addresses, 0.0 if self._me < peer else HEARD_DELAY_S)

    # --- dialing -----------------------------------------------------------------------------------------------------

    async def link_to(self, peer: PeerId, timeout: float) -> None:
        """Have a link to ``peer``. Raises Unreachable and its kinds."""
        if self._links.link(peer) is not None:
            return
        known = self.known_addresses(peer)
        try:
            if not known:
                raise Unreachable(f"No address of {self._book.name_of(peer)} is known.")
            await self._dial(peer, known, timeout)
        except Unreachable:
            if not await self.find(peer) or not set(self.known_addresses(peer)) - set(known):
                raise
            await self._dial(peer, self.known_addresses(peer), timeout)

    async def dial_address(self, address: Multiaddr) -> PeerId:
        """Link to whoever is at ``address``. Raises Unreachable, AuthenticationFailed."""
        if address.relay is not None and address.peer is not None:
            await self._link_by_circuit(address, address.peer)
            return address.peer
        link = await self._links.dial(await ip_targets([address], names=self._names), address.peer)
        assert link.peer is not None
        return link.peer

    async def _dial(self, peer: PeerId, known: tuple[Multiaddr, ...], timeout: float) -> None:
        circuits = [a for a in known if a.relay is not None]

        async def direct() -> None:
            await self._links.dial(await ip_targets(known, names=self._names), peer, timeout)

        if circuits:
            await self._by_circuit(circuits, direct if len(circuits) < len(known) else None)
        else:
            await direct()

    async def _link_by_circuit(self, address: Multiaddr, peer: PeerId) -> None:
        if self._links.link(peer) is None:
            if not self._admits(peer):
                raise Unreachable("That peer is blocked here.")
            await self._by_circuit([address], None)

    # --- for the dialer ----------------------------------------------------------------------------------------------

    async def _dial_target(self, target: Target) -> PeerId:
        if target.peer is None:
            return await self.dial_address(target.addresses[0])
        await self.link_to(target.peer, HEARD_DIAL_S if target.kind == "heard" else DIAL_S)
        return target.peer

    def _dial_failed(self, target: Target) -> None:
        record = self._book.get(target.peer) if target.peer else None
        if record is not None and record.why != target.why:
            record.why = target.why
            self._bus.publish(PeerChanged(record.peer_id))

    def _is_wanted(self, peer: PeerId) -> bool:
        return self._links.link(peer) is None and self._admits(peer)


async def _nowhere(peer: PeerId) -> bool:
    return False
