"""The network of a node: links to authenticated peers over QUIC, kept alive, found again, and known by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import StreamClosed, UnknownPeer, Unreachable
from zstui.engine.events import AddressesChanged, CardChanged
from zstui.engine.identity.card import Card, read_card
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.connection import CLOSE_NORMAL, CLOSE_REFUSED
from zstui.engine.net.contacts import Contacts
from zstui.engine.net.directory import Directory
from zstui.engine.net.introductions import Introductions
from zstui.engine.net.limits import DIAL_S, MAX_PEERS
from zstui.engine.net.link import Handler, Stream
from zstui.engine.net.links import Links
from zstui.engine.net.multiaddr import parse_address
from zstui.engine.net.passing import Passing
from zstui.engine.net.peers import PeerBook, short_id
from zstui.engine.net.presence import Presence
from zstui.engine.net.reach import Reach
from zstui.engine.net.relay.choice import RelayChoice
from zstui.engine.net.relay.service import Relaying
from zstui.engine.net.roster import Roster
from zstui.engine.net.router import Router
from zstui.engine.net.session import PING_PROTOCOL, answer_pings
from zstui.engine.net.sessions import Sessions
from zstui.engine.net.status import NetStatus
from zstui.engine.net.tasks import Tasks
from zstui.engine.store.database import Database
from zstui.engine.views import PeerDetailView, PeerView


class NetService:
    """Satisfies ``link.Network``. ``admits`` says whether a peer may connect at all, ``wanted`` whether there is something
    between it and me that needs a link; ``my_card`` is my signed card."""

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        admits: Callable[[PeerId], bool],
        my_card: Callable[[], bytes],
        wanted: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        """Raises BadInput for settings that make no sense."""
        self._identity = identity
        self._bus = bus
        self._admits = admits
        self._my_card = my_card
        self._my_name = ""
        self._static = tuple(parse_address(text) for text in settings.peers)
        self._started = self._stopping = False
        self._lan_only = settings.lan_only
        self._tasks = Tasks(bus)
        self._links = Links(identity, admits, self._reachable)
        self._book = PeerBook(MAX_PEERS, lambda peer: peer in self._sessions or self._reach.dialer.is_static(peer))
        self._directory = Directory(self._book, MAX_PEERS, db, bus, clock)
        self._cards = CardExchange(
            self._book, my_card, self._directory.changed, lambda: clock.monotonic_us() / US, clock.now_us
        )
        self._router = Router(bus)
        self._router.handle(PING_PROTOCOL, answer_pings)
        self._reach = Reach(
            identity.peer_id,
            self._book,
            self._links,
            bus,
            names=not settings.lan_only,
            admits=admits,
            reachable=self._reachable,
            by_circuit=lambda addresses, direct: self._relaying.dial(addresses, direct),
        )
        self._presence = Presence(
            settings,
            identity.peer_id,
            self._links.endpoint,
            bus,
            heard=self._reach.heard,
            gone=self._reach.dialer.forget,
            moved=self._moved,
        )
        self._relaying = Relaying(
            identity,
            settings,
            clock,
            self._router,
            self._links,
            self._presence,
            sessions=lambda: tuple(self._sessions.values()),
            session_of=lambda peer: self._sessions.get(peer),
            known=self._reach.known_addresses,
            connect=self._reach.dial_address,
            reachable=self._reachable,
            changed=self._addresses_changed,
            spawn=self._tasks.spawn,
        )
        self._introductions = Introductions(
            identity,
            self._router,
            self._directory,
            self._cards,
            lambda peer: self._sessions.get(peer),
            self._relaying.addresses,
        )
        self._sessions = self._links.listener = Sessions(
            self._router,
            self._directory,
            self._reach.dialer,
            self._relaying,
            self._introductions,
            self._cards,
            self._tasks,
            bus,
            clock,
            wanted,
        )
        self._passing = Passing(self._sessions, wanted)
        self._roster = Roster(
            self._book,
            self._sessions,
            self._presence,
            self._relaying,
            clock,
            known=self._reach.known_addresses,
            name_of=self.name_of,
            admits=admits,
            is_dialing=self._reach.dialer.is_dialing,
        )
        self.contacts = Contacts(
            self._reach, self._sessions, self._passing, self._directory, self._cards, self._relaying.addresses
        )
        self.status = NetStatus(self._presence, self._relaying, self._reach.dialer, self._sessions, clock, self.name_of)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the socket, announce, and begin to dial. Succeeds without a network: see ``status``."""
        await self._directory.load()
        self._started = True
        for address in self._static:
            if address.peer is not None:
                self._directory.remember(address.peer)
            self._reach.dialer.add("static", address.peer, (address,))
        self._reach.begin()
        await self._presence.start()
        self._relaying.start()
        self._tasks.spawn(self._reach.dialer.run(), "dialer")
        self._tasks.spawn(self._presence.watch(), "network watch")
        self._tasks.spawn(self._passing.run(), "idle links")
        self._tasks.spawn(self._directory.run(), "peer saver")

    async def stop(self) -> None:
        """Close every link politely and leave nothing running. Idempotent."""
        if self._stopping or not self._started:
            return
        self._stopping = True
        self._sessions.begin_stop()
        await self._reach.dialer.stop()
        await self._presence.stop()
        await self._router.stop()
        self._links.stop()
        await self._tasks.stop()
        await self._directory.flush()

    def choose_relays(self, choice: RelayChoice) -> None:
        """Try relays to a peer in this order, and tell how it went. Call it before the start."""
        self._relaying.choice = choice

    # --- link.Network ------------------------------------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        return self._identity.peer_id

    def handle(self, protocol: str, handler: Handler) -> None:
        self._router.handle(protocol, handler)

    async def open(self, peer: PeerId, protocol: str, timeout: float = DIAL_S) -> Stream:
        session = self._sessions.get(peer)
        if session is None:
            began = asyncio.get_running_loop().time()
            await self._reach.link_to(peer, timeout)
            self._passing.made_for(peer, protocol)
            timeout -= asyncio.get_running_loop().time() - began
            session = self._sessions.get(peer)
            if session is None:
                raise Unreachable(f"There is no link to {self.name_of(peer)}.")
        try:
            return await session.open(protocol, max(0.0, timeout))
        except StreamClosed as error:
            raise Unreachable(str(error)) from error

    async def request(self, peer: PeerId, protocol: str, frame: bytes, timeout: float = DIAL_S) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        stream = await self.open(peer, protocol, timeout)
        try:
            await stream.send(frame)
            await stream.close()
            return await stream.receive(max(0.0, deadline - loop.time()))
        finally:
            stream.reset()

    def connected(self) -> frozenset[PeerId]:
        return frozenset(self._sessions)

    # --- what a person asks for --------------------------------------------------------------------------------------

    def addresses(self) -> tuple[str, ...]:
        """My multiaddrs with my peer id, best first; empty while there is no network."""
        return tuple(str(a) for a in self._relaying.addresses())

    async def connect(self, address: str) -> PeerId:
        """Connect to a multiaddr, ``host:port``, or a known peer by id, prefix or name.

        Raises BadInput, UnknownPeer, Unreachable, AuthenticationFailed.
        """
        address = address.strip()
        if not address.startswith("/"):
            try:
                peer = self.resolve(address)
            except UnknownPeer:
                if ":" not in address:
                    raise
            else:
                await self._reach.link_to(peer, DIAL_S)
                self._passing.keep(peer)
                return peer
        peer = await self._reach.dial_address(parse_address(address))
        self._passing.keep(peer)
        return peer

    async def improve(self, peer: PeerId) -> None:
        """Try to put a direct link in the place of one through a relay. Raises Unreachable if that fails; the link stays."""
        await self._relaying.improve(peer)

    async def disconnect(self, peer: PeerId, reason: str) -> None:
        """Close the link to ``peer`` if there is one, and do not dial it until asked."""
        self._reach.dialer.hold(peer)
        link = self._links.link(peer)
        if link is not None:
            link.close(CLOSE_NORMAL if self._admits(peer) else CLOSE_REFUSED, reason)

    def resolve(self, text: str) -> PeerId:
        """A peer by full id, name, or unambiguous prefix of at least four characters. Raises UnknownPeer."""
        return self._book.resolve(text)

    def name_of(self, peer: PeerId) -> str:
        """My name for it, else the name on its card, else its short id."""
        if peer == self.peer_id:
            if not self._my_name:
                self._my_name = read_card(self._my_card(), peer).name or short_id(peer)
            return self._my_name
        return self._book.name_of(peer)

    def is_named(self, peer: PeerId) -> bool:
        """Whether ``name_of`` is a name that I gave, not the peer's own."""
        record = self._book.get(peer)
        return record is not None and record.name != ""

    async def rename(self, peer: PeerId, name: str) -> None:
        """Give a known peer a name of my own; "" takes it back. Raises UnknownPeer, BadInput."""
        await self._directory.rename(peer, name)

    def card_of(self, peer: PeerId) -> Card | None:
        """The latest card of a peer, with clean text."""
        return self._book.card_of(peer)

    def card_changed(self) -> None:
        """My card is a new one: push it to everyone connected."""
        self._my_name = ""
        self._sessions.push_card()
        self._bus.publish(CardChanged())

    def first_seen_at(self, peer: PeerId) -> int:
        """Unix seconds; 0 for a peer that was never met."""
        record = self._book.get(peer)
        return 0 if record is None else record.first_met_us // US

    def views(self) -> list[PeerView]:
        """Every known peer: connected ones first, then the most recently seen."""
        return self._roster.views()

    def view(self, peer: PeerId) -> PeerView:
        """Raises UnknownPeer."""
        return self._roster.view(peer)

    def detail(self, peer: PeerId) -> PeerDetailView:
        """Of the link to one peer, and of other ways to it. Raises UnknownPeer."""
        return self._roster.detail(peer)

    # --- what happens ------------------------------------------------------------------------------------------------

    def _reachable(self, host: str) -> bool:
        return not self._lan_only or self._presence.is_local(host)

    def _moved(self) -> None:
        """The machine's addresses changed."""
        self._reach.dialer.hurry()
        self._relaying.moved()
        self._addresses_changed()

    def _addresses_changed(self) -> None:
        self._bus.publish(AddressesChanged())
        self._sessions.push_addresses()
