"""The network of a node: links to authenticated peers over QUIC, kept alive, found again, and known by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import NetError, ProtocolError, Refused, StreamClosed, UnknownPeer, Unreachable
from zstui.engine.events import AddressesChanged, Notice, PeerChanged, PeerConnected, PeerDisconnected
from zstui.engine.identity.card import Card, read_card
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.connection import CLOSE_NORMAL, CLOSE_REFUSED
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.dialer import Dialer, Target
from zstui.engine.net.directory import Directory
from zstui.engine.net.hints import Hints
from zstui.engine.net.identify import PUSH_PROTOCOL
from zstui.engine.net.introductions import Introductions
from zstui.engine.net.limits import DIAL_S, HEARD_DELAY_S, HEARD_DIAL_S, MAX_ADDRESSES, MAX_PEERS, MAX_RECONNECTS
from zstui.engine.net.link import CARD_PROTOCOL, Handler, Stream
from zstui.engine.net.links import Links
from zstui.engine.net.multiaddr import Multiaddr, parse_address, parse_multiaddr
from zstui.engine.net.peers import PeerBook, short_id
from zstui.engine.net.presence import Presence
from zstui.engine.net.relay.choice import RelayChoice
from zstui.engine.net.relay.service import Relaying
from zstui.engine.net.resolver import ip_targets
from zstui.engine.net.roster import Roster
from zstui.engine.net.router import Router
from zstui.engine.net.session import PING_PROTOCOL, Session, answer_pings
from zstui.engine.net.stream import WireStream
from zstui.engine.store.database import Database
from zstui.engine.views import PeerView

log = logging.getLogger(__name__)


class NetService:
    """Satisfies ``link.Network``. ``admits`` says whether a peer may connect at all; ``my_card`` is my signed card."""

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
    ) -> None:
        """Raises BadInput for settings that make no sense."""
        self._identity = identity
        self._bus = bus
        self._clock = clock
        self._admits = admits
        self._my_card = my_card
        self._my_name = ""
        self._static = tuple(parse_address(text) for text in settings.peers)
        self._sessions: dict[PeerId, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = self._stopping = False
        self._lan_only = settings.lan_only
        self._links = Links(identity, self, admits, self._reachable)
        self._dialer = Dialer(self._dial_target, self._is_wanted, self._dial_failed)
        self._book = PeerBook(MAX_PEERS, lambda peer: peer in self._sessions or self._dialer.is_static(peer))
        self._directory = Directory(self._book, MAX_PEERS, db, bus, clock)
        self._presence = Presence(
            settings,
            identity.peer_id,
            self._links.endpoint,
            bus,
            heard=self._heard,
            gone=self._dialer.forget,
            moved=self._moved,
        )
        self._hints = Hints()
        self.find: Callable[[PeerId], Awaitable[bool]] = _nowhere
        """Looks for addresses of a peer that no known address leads to; set by who can, before the start."""
        self._router = Router(bus)
        self._router.handle(PING_PROTOCOL, answer_pings)
        self._cards = CardExchange(self._book, my_card, self._directory.changed, lambda: clock.monotonic_us() / US)
        self._relaying = Relaying(
            identity,
            settings,
            clock,
            self._router,
            self._links,
            self._presence,
            sessions=lambda: tuple(self._sessions.values()),
            session_of=self._sessions.get,
            known=self.known_addresses,
            connect=self._dial_address,
            reachable=self._reachable,
            changed=self._addresses_changed,
            spawn=self._spawn,
        )
        self._roster = Roster(
            self._book,
            self._sessions,
            self._presence,
            self._relaying,
            clock,
            name_of=self.name_of,
            admits=admits,
            is_dialing=self._dialer.is_dialing,
        )
        self._introductions = Introductions(
            identity, self._router, self._directory, self._cards, self._sessions.get, self._relaying.addresses
        )

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the socket, announce, and begin to dial. Succeeds without a network: see ``describe``."""
        await self._directory.load()
        self._started = True
        for address in self._static:
            if address.peer is not None:
                self._directory.remember(address.peer)
            self._dialer.add("static", address.peer, (address,))
        met = sorted((r for r in self._book if r.address), key=lambda r: -r.last_seen_us)
        for record in met[:MAX_RECONNECTS]:
            self._dialer.add("known", record.peer_id, ())
        await self._presence.start()
        self._relaying.start()
        self._spawn(self._dialer.run(), "dialer")
        self._spawn(self._presence.watch(), "network watch")
        self._spawn(self._directory.run(), "peer saver")

    async def stop(self) -> None:
        """Close every link politely and leave nothing running. Idempotent."""
        if self._stopping or not self._started:
            return
        self._stopping = True
        await self._dialer.stop()
        await self._presence.stop()
        await self._router.stop()
        sessions = tuple(self._sessions.values())
        self._links.stop()
        tasks = [*self._tasks, *(s.task for s in sessions if s.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._directory.flush()

    # --- link.Network ------------------------------------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        return self._identity.peer_id

    def handle(self, protocol: str, handler: Handler) -> None:
        self._router.handle(protocol, handler)

    async def open(self, peer: PeerId, protocol: str, timeout: float = DIAL_S) -> Stream:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if peer not in self._sessions:
            await self._link_to(peer, timeout)
        session = self._sessions.get(peer)
        if session is None:
            raise Unreachable(f"There is no link to {self.name_of(peer)}.")
        try:
            return await session.open(protocol, max(0.0, deadline - loop.time()))
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

    # --- what a distributed hash table needs ------------------------------------------------------------------------

    def known_addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Where ``peer`` might be dialed, the likeliest first."""
        record = self._book.get(peer)
        known: list[Multiaddr] = []
        if record is not None:
            known += [parse_multiaddr(record.address)] if record.address else []
            known += record.also
        known += self._dialer.addresses(peer)
        known += self._hints.get(peer)
        return tuple(dict.fromkeys(known))[:MAX_ADDRESSES]

    def learn(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """``peer`` might be dialed there, too; nothing proves it."""
        self._hints.add(peer, tuple(a for a in addresses if a.ip_version and self._reachable(a.host)))

    def speaks(self, peer: PeerId, protocol: str) -> bool:
        """Whether a connected peer said that it speaks ``protocol``."""
        session = self._sessions.get(peer)
        return session is not None and protocol in session.protocols

    def take_card(self, peer: PeerId, raw: bytes) -> None:
        """A signed card that somebody brought: its peer is known from now on. Raises ProtocolError if it is not the peer's."""
        read_card(raw, peer)
        self._directory.remember(peer)
        self._cards.take(peer, raw)

    def own_addresses(self) -> tuple[Multiaddr, ...]:
        return self._relaying.addresses()

    # --- what a person asks for --------------------------------------------------------------------------------------

    def addresses(self) -> tuple[str, ...]:
        """My multiaddrs with my peer id, best first; empty while there is no network."""
        return tuple(str(a) for a in self._relaying.addresses())

    def describe(self) -> str:
        """One line: interface and address in use, or why there is no network."""
        return self._presence.describe()

    def seen_by(self) -> tuple[int, int | None]:
        """How many peers lately reached this node by dialing back, and when the latest did (Unix seconds)."""
        return self._relaying.reachability.seen_by()

    def reachability(self) -> str:
        """One line on how others reach this node; "" while nothing is known."""
        return self._relaying.describe(self._clock.now_us(), self.name_of)

    def notices(self) -> tuple[str, ...]:
        """What a person should know about the network now."""
        unreached = (f"Not connected to {t.key}: {t.why}" for t in self._dialer.unreached())
        return (*self._presence.notices(), *unreached)

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
                await self._link_to(peer, DIAL_S)
                return peer
        return await self._dial_address(parse_address(address))

    async def improve(self, peer: PeerId) -> None:
        """Try to put a direct link in the place of one through a relay. Raises Unreachable if that fails; the link stays."""
        await self._relaying.improve(peer)

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

    async def rename(self, peer: PeerId, name: str) -> None:
        """Give a known peer a name of my own; "" takes it back. Raises UnknownPeer, BadInput."""
        await self._directory.rename(peer, name)

    def card_of(self, peer: PeerId) -> Card | None:
        """The latest card of a peer, with clean text."""
        return self._book.card_of(peer)

    def card_changed(self) -> None:
        """My card is a new one: push it to everyone connected."""
        self._my_name = ""
        for session in self._sessions.values():
            if CARD_PROTOCOL in session.protocols:
                self._spawn(_tolerate(self._introductions.exchange_cards(session)), "card push")

    async def disconnect(self, peer: PeerId, reason: str) -> None:
        """Close the link to ``peer`` if there is one, and do not dial it until asked."""
        self._dialer.hold(peer)
        link = self._links.link(peer)
        if link is not None:
            link.close(CLOSE_NORMAL if self._admits(peer) else CLOSE_REFUSED, reason)

    def is_named(self, peer: PeerId) -> bool:
        """Whether ``name_of`` is a name that I gave, not the peer's own."""
        record = self._book.get(peer)
        return record is not None and record.name != ""

    def views(self) -> list[PeerView]:
        """Every known peer: connected ones first, then the most recently seen."""
        return self._roster.views()

    def view(self, peer: PeerId) -> PeerView:
        """Raises UnknownPeer."""
        return self._roster.view(peer)

    # --- links.Listener ----------------------------------------------------------------------------------------------

    def link_up(self, connection: LinkConnection) -> None:
        peer = self._begin_session(connection).peer
        self._dialer.connected(peer)
        self._bus.publish(PeerConnected(peer))
        self._directory.changed(peer)

    def link_replaced(self, connection: LinkConnection) -> None:
        assert connection.peer is not None
        old = self._sessions[connection.peer]
        session = self._begin_session(connection)
        session.protocols = old.protocols
        if old.task is not None:
            old.task.cancel()
        self._relaying.lost(session.peer)
        self._directory.changed(session.peer)

    def link_down(self, connection: LinkConnection) -> None:
        assert connection.peer is not None
        session = self._sessions.pop(connection.peer)
        peer = session.peer
        if session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()
        self._cards.forget(peer)
        self._relaying.lost(peer)
        record = self._directory.remember(peer)
        record.last_seen_us = self._clock.now_us()
        record.why = connection.reason
        self._dialer.lost(peer, refused=connection.close_code == CLOSE_REFUSED)
        self._bus.publish(PeerDisconnected(peer, connection.reason))
        self._directory.changed(peer)

    def _begin_session(self, connection: LinkConnection) -> Session:
        session = Session(connection, self._measured)
        self._sessions[session.peer] = session
        record = self._directory.remember(session.peer)
        record.address = str(session.address)
        record.last_seen_us = self._clock.now_us()
        record.why = ""
        session.task = self._spawn(self._run_session(session), "session")
        return session

    def stream_opened(self, stream: WireStream) -> None:
        if not self._stopping:
            self._router.serve(stream)

    async def _run_session(self, session: Session) -> None:
        await asyncio.gather(self._introduce(session), session.keep_alive())

    async def _introduce(self, session: Session) -> None:
        await _tolerate(self._introductions.identify(session))
        self._relaying.introduced(session)
        if session.connection.dialed:
            await _tolerate(self._introductions.exchange_cards(session))

    def _measured(self, peer: PeerId) -> None:
        """A ping came back; the peer may have moved to another address meanwhile."""
        record, session = self._book.get(peer), self._sessions.get(peer)
        if record is not None and session is not None and record.address != str(session.address):
            record.address = str(session.address)
            self._directory.changed(peer)
        else:
            self._bus.publish(PeerChanged(peer))

    def _reachable(self, host: str) -> bool:
        return not self._lan_only or self._presence.is_local(host)

    # --- dialing -----------------------------------------------------------------------------------------------------

    async def _link_to(self, peer: PeerId, timeout: float) -> None:
        if peer in self._sessions:
            return
        known = self.known_addresses(peer)
        try:
            if not known:
                raise Unreachable(f"No address of {self.name_of(peer)} is known.")
            await self._reach(peer, known, timeout)
        except Unreachable:
            if not await self.find(peer) or not set(self.known_addresses(peer)) - set(known):
                raise
            await self._reach(peer, self.known_addresses(peer), timeout)

    def choose_relays(self, choice: RelayChoice) -> None:
        """Try relays to a peer in this order, and tell how it went. Call it before the start."""
        self._relaying.choice = choice

    async def _reach(self, peer: PeerId, known: tuple[Multiaddr, ...], timeout: float) -> None:
        circuits = [a for a in known if a.relay is not None]

        async def direct() -> None:
            await self._links.dial(await ip_targets(known, names=not self._lan_only), peer, timeout)

        if circuits:
            await self._relaying.dial(circuits, direct if len(circuits) < len(known) else None)
        else:
            await direct()

    async def _dial_address(self, address: Multiaddr) -> PeerId:
        if address.relay is not None and address.peer is not None:
            await self._link_by_circuit(address, address.peer)
            return address.peer
        link = await self._links.dial(await ip_targets([address], names=not self._lan_only), address.peer)
        assert link.peer is not None
        return link.peer

    async def _link_by_circuit(self, address: Multiaddr, peer: PeerId) -> None:
        if peer not in self._sessions:
            if not self._admits(peer):
                raise Unreachable("That peer is blocked here.")
            await self._relaying.dial([address], None)

    async def _dial_target(self, target: Target) -> PeerId:
        if target.peer is None:
            return await self._dial_address(target.addresses[0])
        await self._link_to(target.peer, HEARD_DIAL_S if target.kind == "heard" else DIAL_S)
        return target.peer

    def _dial_failed(self, target: Target) -> None:
        record = self._book.get(target.peer) if target.peer else None
        if record is not None and record.why != target.why:
            record.why = target.why
            self._bus.publish(PeerChanged(record.peer_id))

    def _is_wanted(self, peer: PeerId) -> bool:
        return peer not in self._sessions and self._admits(peer)

    def _heard(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """A peer was announced on the LAN. Of two that hear of each other, the larger id waits a little."""
        record = self._book.get(peer)
        if record is not None:
            record.also = tuple(dict.fromkeys((*addresses, *record.also)))[:MAX_ADDRESSES]
        self._dialer.add("heard", peer, addresses, 0.0 if self.peer_id < peer else HEARD_DELAY_S)

    def _moved(self) -> None:
        """The machine's addresses changed."""
        self._dialer.hurry()
        self._relaying.moved()
        self._addresses_changed()

    def _addresses_changed(self) -> None:
        self._bus.publish(AddressesChanged())
        for session in self._sessions.values():
            if PUSH_PROTOCOL in session.protocols:
                self._spawn(_tolerate(self._introductions.push_identify(session)), "identify push")

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("The task %r failed.", task.get_name(), exc_info=error)
            self._bus.publish(Notice("error", "net", f"The network's {task.get_name()} task failed: {error!r}."))


async def _nowhere(peer: PeerId) -> bool:
    return False


async def _tolerate(work: Coroutine[Any, Any, None]) -> None:
    """Await work with a peer whose failure matters to nobody else."""
    try:
        await work
    except (NetError, Refused, ProtocolError) as error:
        log.debug("A peer: %s", error)
