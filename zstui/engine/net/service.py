"""The network of a node: links to authenticated peers over QUIC, kept alive, found again, and known by name."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from zstui import __version__
from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import (
    BadInput,
    DeadlineExceeded,
    NetError,
    ProtocolError,
    Refused,
    StoreError,
    StreamClosed,
    UnknownPeer,
    Unreachable,
)
from zstui.engine.events import AddressesChanged, Notice, PeerChanged, PeerConnected, PeerDisconnected
from zstui.engine.identity.card import Card, capabilities
from zstui.engine.identity.keys import Identity, PeerId, public_key_protobuf
from zstui.engine.net import store
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.connection import CLOSE_NORMAL, CLOSE_REFUSED, Connection
from zstui.engine.net.dialer import Dialer, Target
from zstui.engine.net.identify import (
    ID_PROTOCOL,
    MAX_MESSAGE,
    PUSH_PROTOCOL,
    Identify,
    decode_identify,
    encode_identify,
)
from zstui.engine.net.interfaces import advertised, list_interfaces
from zstui.engine.net.limits import DIAL_S, MAX_ADDRESSES, MAX_PEERS
from zstui.engine.net.link import CARD_PROTOCOL, Handler, Stream
from zstui.engine.net.links import Links
from zstui.engine.net.mdns import Discovery
from zstui.engine.net.model import Interface, is_local, path_to
from zstui.engine.net.multiaddr import Multiaddr, parse_host_port, parse_multiaddr
from zstui.engine.net.peers import PeerBook, PeerRecord
from zstui.engine.net.router import Router
from zstui.engine.net.session import PING_PROTOCOL, Session, answer_pings
from zstui.engine.net.stream import WireStream
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import PathKind, PeerState, PeerView

log = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]
_WATCH_S = 2.0
"""How often the machine's addresses are looked at."""
_SAVE_S = 0.25
"""Changes to peers are saved together this long after the first."""
_HEARD_DELAY_S = 0.4
"""Of two peers that hear of each other, the one with the larger id dials this much later."""


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
        self._identity = identity
        self._settings = settings
        self._db = db
        self._bus = bus
        self._clock = clock
        self._admits = admits
        host, self._port_asked = parse_host_port(settings.listen)
        self._host = _listen_ip(host)
        self._static = tuple(settings.peers)
        for address in self._static:
            _parse_address(address)
        self._book = PeerBook(MAX_PEERS, self._is_pinned)
        self._router = Router(bus)
        self._cards = CardExchange(self._book, my_card, self._card_is_new, lambda: clock.monotonic_us() / US)
        self._links: Links
        self._dialer: Dialer
        self._discovery: Discovery | None = None
        self._sessions: dict[PeerId, Session] = {}
        self._interfaces: tuple[Interface, ...] = ()
        self._problem = "The network is not started."
        self._port_notice = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsaved: set[PeerId] = set()
        self._forgotten: set[PeerId] = set()
        self._save_soon = asyncio.Event()
        self._stopping = False
        self._router.handle(PING_PROTOCOL, answer_pings)
        self._router.handle(ID_PROTOCOL, self._serve_identify)
        self._router.handle(PUSH_PROTOCOL, self._serve_identify_push)
        self._router.handle(CARD_PROTOCOL, self._cards.serve)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the socket, announce, and begin to dial. Succeeds without a network: see ``describe``."""
        self._book.load(await self._db.read(lambda tx: store.load(tx, MAX_PEERS)))
        self._links = Links(self._identity, self, self._admits)
        self._dialer = Dialer(self._dial_target, self._is_wanted, self._dial_failed)
        self._interfaces = list_interfaces()
        await self._open_socket()
        for text in self._static:
            address = _parse_address(text)
            if address.peer is not None:
                self._remember(address.peer)
            self._dialer.add("static", address.peer, (address,))
        for record in sorted(self._book, key=lambda r: -r.last_seen_us):
            if record.address:
                self._dialer.add("known", record.peer_id, (parse_multiaddr(record.address),))
        if self._settings.mdns_interface is not None:
            self._discovery = Discovery(
                self.peer_id, self._settings.mdns_interface, self._multiaddrs, self._heard, self._said_goodbye
            )
            await self._discovery.start()
        self._dialer.start()
        self._spawn(self._watch(), "network watch")
        self._spawn(self._save(), "peer saver")
        self._bus.publish(AddressesChanged())

    async def stop(self) -> None:
        """Close every link politely and leave nothing running. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        if not hasattr(self, "_links"):
            return
        await self._dialer.stop()
        if self._discovery is not None:
            await self._discovery.stop()
        await self._router.stop()
        sessions = tuple(self._sessions.values())
        self._links.stop()
        tasks = [*self._tasks, *(s.task for s in sessions if s.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._save_now()

    # --- link.Network ------------------------------------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        return self._identity.peer_id

    def handle(self, protocol: str, handler: Handler) -> None:
        self._router.handle(protocol, handler)

    async def open(self, peer: PeerId, protocol: str, timeout: float = DIAL_S) -> Stream:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        session = self._sessions.get(peer)
        if session is None:
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

    # --- what a person asks for --------------------------------------------------------------------------------------

    def addresses(self) -> tuple[str, ...]:
        """My multiaddrs with my peer id, best first; empty while there is no network."""
        return tuple(str(a) for a in self._multiaddrs())

    def describe(self) -> str:
        """One line: interface and address in use, or why there is no network."""
        if self._problem:
            return self._problem
        shown = self._shown_interfaces()
        port = self._links.endpoint.port
        if not shown:
            return "No network: this machine has no IP address."
        first = shown[0]
        host = f"[{first.ip}]" if ":" in first.ip else first.ip
        if first.is_loopback and ipaddress.ip_address(self._host).is_unspecified:
            return f"No network: only this machine can connect ({host}:{port})."
        return f"{first.name} {host}:{port} ok".strip()

    def notices(self) -> tuple[str, ...]:
        """What a person should know about the network now."""
        found = [self._port_notice] if self._port_notice else []
        if self._discovery is not None and self._discovery.problem:
            found.append(self._discovery.problem)
        if hasattr(self, "_dialer"):
            found += [f"Not connected to {t.key}: {t.why}" for t in self._dialer.unreached()]
        return tuple(found)

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
        return await self._dial_address(_parse_address(address))

    def resolve(self, text: str) -> PeerId:
        """A peer by full id, name, or unambiguous prefix of at least four characters. Raises UnknownPeer."""
        return self._book.resolve(text)

    def name_of(self, peer: PeerId) -> str:
        """My name for it, else the name on its card, else its short id."""
        if peer == self.peer_id:
            return self._settings.name or socket.gethostname()
        return self._book.name_of(peer)

    async def rename(self, peer: PeerId, name: str) -> None:
        """Give a known peer a name of my own; "" takes it back. Raises UnknownPeer, BadInput."""
        record = self._book.get(peer)
        if record is None:
            raise UnknownPeer(f"No peer {peer[:60]!r} is known.")
        record.name = self._book.check_name(peer, name)
        await self._db.write(lambda tx: store.save(tx, [record]))
        self._bus.publish(PeerChanged(peer))

    def card_of(self, peer: PeerId) -> Card | None:
        """The latest card of a peer, with clean text."""
        return self._book.card_of(peer)

    def card_changed(self) -> None:
        """My card is a new one: push it to everyone connected."""
        for session in self._sessions.values():
            if CARD_PROTOCOL in session.protocols:
                self._spawn(self._tolerate(self._exchange_cards(session)), "card push")

    async def disconnect(self, peer: PeerId, reason: str) -> None:
        """Close the link to ``peer`` if there is one, and do not dial it until asked."""
        if not hasattr(self, "_links"):
            return
        self._dialer.hold(peer)
        link = self._links.link(peer)
        if link is not None:
            link.close(CLOSE_NORMAL if self._admits(peer) else CLOSE_REFUSED, reason)

    def on_lan(self, peer: PeerId) -> bool:
        """Whether the link to ``peer`` stays on the local network."""
        return self._path(peer)[0] == "lan"

    def views(self) -> list[PeerView]:
        """Every known peer: connected ones first, then the most recently seen."""
        records = sorted(self._book, key=lambda r: (r.peer_id not in self._sessions, -r.last_seen_us))
        return [self._view(record) for record in records]

    def view(self, peer: PeerId) -> PeerView:
        """Raises UnknownPeer."""
        record = self._book.get(peer)
        if record is None:
            raise UnknownPeer(f"No peer {peer[:60]!r} is known.")
        return self._view(record)

    # --- links.Listener ----------------------------------------------------------------------------------------------

    def link_up(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        session = Session(connection, lambda: self._bus.publish(PeerChanged(peer)))
        self._sessions[peer] = session
        record = self._remember(peer)
        record.address = str(_multiaddr_of(connection).with_peer(peer))
        record.last_seen_us = self._clock.now_us()
        record.why = ""
        self._changed(peer)
        self._dialer.connected(peer)
        session.task = asyncio.create_task(self._run_session(session), name="session")
        self._bus.publish(PeerConnected(peer))

    def link_down(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        session = self._sessions.pop(peer)
        if session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()
        self._cards.forget(peer)
        record = self._book.get(peer)
        if record is not None:
            record.last_seen_us = self._clock.now_us()
            record.why = connection.reason
            self._changed(peer)
        self._dialer.lost(peer, refused=connection.close_code == CLOSE_REFUSED)
        self._bus.publish(PeerDisconnected(peer, connection.reason))

    def stream_opened(self, stream: WireStream) -> None:
        if not self._stopping:
            self._router.serve(stream)

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def _run_session(self, session: Session) -> None:
        await asyncio.gather(self._introduce(session), session.keep_alive())

    async def _introduce(self, session: Session) -> None:
        await self._tolerate(self._identify(session))
        if session.connection.dialed:
            await self._tolerate(self._exchange_cards(session))

    async def _identify(self, session: Session) -> None:
        stream = await session.open(ID_PROTOCOL)
        try:
            async with asyncio.timeout(DIAL_S):
                message = decode_identify(await stream.read_message(MAX_MESSAGE))
        except TimeoutError:
            raise DeadlineExceeded("No answer in time.") from None
        finally:
            await stream.close()
            stream.reset()
        self._identified(session, message)

    def _identified(self, session: Session, message: Identify) -> None:
        session.protocols = frozenset(message.protocols)
        record = self._remember(session.peer)
        record.agent = message.agent
        record.also = tuple(a.with_peer(session.peer) for a in message.listen)[:MAX_ADDRESSES]
        self._changed(session.peer)
        self._bus.publish(PeerChanged(session.peer))

    async def _exchange_cards(self, session: Session) -> None:
        stream = await session.open(CARD_PROTOCOL)
        try:
            await self._cards.exchange(stream)
        finally:
            await stream.close()
            stream.reset()

    async def _serve_identify(self, stream: Stream) -> None:
        await stream.send(encode_identify(self._my_identify(stream.peer)))

    async def _serve_identify_push(self, stream: Stream) -> None:
        message = decode_identify(await stream.receive(DIAL_S))
        session = self._sessions.get(stream.peer)
        if session is not None:
            kept = message if message.protocols else Identify(b"", message.listen, tuple(session.protocols), b"", "")
            self._identified(session, kept)

    def _my_identify(self, peer: PeerId) -> Identify:
        session = self._sessions.get(peer)
        return Identify(
            public_key_protobuf(self._identity.public_key),
            tuple(a.with_peer(None) for a in self._multiaddrs()),
            self._router.protocols,
            _multiaddr_of(session.connection).encode() if session else b"",
            f"zstui/{__version__}",
        )

    async def _push_identify(self, session: Session) -> None:
        stream = await session.open(PUSH_PROTOCOL)
        await stream.send(encode_identify(self._my_identify(session.peer)))
        await stream.close()

    @staticmethod
    async def _tolerate(work: Work) -> None:
        """Await work with a peer whose failure matters to nobody else."""
        try:
            await work
        except (NetError, Refused, ProtocolError) as error:
            log.debug("A peer: %s", error)

    # --- dialing -----------------------------------------------------------------------------------------------------

    async def _link_to(self, peer: PeerId, timeout: float) -> None:
        if peer in self._sessions:
            return
        record = self._book.get(peer)
        known = [parse_multiaddr(record.address)] if record is not None and record.address else []
        if record is not None:
            known += record.also
        known += self._dialer.addresses(peer)
        if not known:
            raise Unreachable(f"No address of {self.name_of(peer)} is known.")
        await self._links.dial([t for a in known for t in await _ip_targets(a)], peer, timeout)

    async def _dial_address(self, address: Multiaddr) -> PeerId:
        link = await self._links.dial(await _ip_targets(address), address.peer)
        assert link.peer is not None
        return link.peer

    async def _dial_target(self, target: Target) -> PeerId:
        if target.peer is None:
            return await self._dial_address(target.addresses[0])
        await self._link_to(target.peer, DIAL_S)
        return target.peer

    def _dial_failed(self, target: Target) -> None:
        record = self._book.get(target.peer) if target.peer else None
        if record is not None and record.why != target.why:
            record.why = target.why
            self._bus.publish(PeerChanged(record.peer_id))

    def _is_wanted(self, peer: PeerId) -> bool:
        return peer not in self._sessions and self._admits(peer)

    def _heard(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        local = tuple(a for a in addresses if is_local(a.host, self._interfaces))
        if not local or self._stopping:
            return
        record = self._book.get(peer)
        if record is not None:
            record.also = tuple(dict.fromkeys((*local, *record.also)))[:MAX_ADDRESSES]
        self._dialer.add("heard", peer, local, 0.0 if self.peer_id < peer else _HEARD_DELAY_S)

    def _said_goodbye(self, peer: PeerId) -> None:
        self._dialer.forget(peer)

    # --- known peers -------------------------------------------------------------------------------------------------

    def _is_pinned(self, peer: PeerId) -> bool:
        return peer in self._sessions or self._dialer.is_static(peer)

    def _remember(self, peer: PeerId) -> PeerRecord:
        record, forgotten = self._book.add(peer, self._clock.now_us())
        self._forgotten.update(forgotten)
        return record

    def _card_is_new(self, peer: PeerId) -> None:
        self._changed(peer)
        self._bus.publish(PeerChanged(peer))

    def _changed(self, peer: PeerId) -> None:
        self._unsaved.add(peer)
        self._save_soon.set()

    async def _save(self) -> None:
        while True:
            await self._save_soon.wait()
            await asyncio.sleep(_SAVE_S)
            self._save_soon.clear()
            await self._save_now()

    async def _save_now(self) -> None:
        records = [r for r in (self._book.get(p) for p in self._unsaved) if r is not None]
        forgotten = tuple(self._forgotten)
        self._unsaved.clear()
        self._forgotten.clear()
        if not records and not forgotten:
            return

        def write(tx: Tx) -> None:
            store.delete(tx, forgotten)
            store.save(tx, records)

        try:
            await self._db.write(write)
        except StoreError as error:
            self._bus.publish(Notice("error", "net", f"Known peers could not be saved: {error}"))

    # --- my own addresses --------------------------------------------------------------------------------------------

    def _shown_interfaces(self) -> tuple[Interface, ...]:
        return advertised(self._host, self._interfaces) if self._links.endpoint.is_open else ()

    def _multiaddrs(self) -> tuple[Multiaddr, ...]:
        if not hasattr(self, "_links") or not self._links.endpoint.is_open:
            return ()
        port = self._links.endpoint.port
        return tuple(Multiaddr(i.ip, port, self.peer_id) for i in self._shown_interfaces())[:MAX_ADDRESSES]

    async def _open_socket(self) -> None:
        try:
            as_asked = await self._links.endpoint.open(self._host, self._port_asked)
        except OSError as error:
            self._problem = f"No network: cannot listen on {self._settings.listen}: {error.strerror or error}."
            return
        self._problem = ""
        if not as_asked:
            self._port_notice = f"UDP port {self._port_asked} is in use; using {self._links.endpoint.port}."

    async def _watch(self) -> None:
        """Follow the machine's addresses; open the socket as soon as that can be done."""
        while True:
            await asyncio.sleep(_WATCH_S)
            interfaces = list_interfaces()
            was_open = self._links.endpoint.is_open
            if not was_open:
                await self._open_socket()
            if interfaces == self._interfaces and was_open == self._links.endpoint.is_open:
                continue
            self._interfaces = interfaces
            self._dialer.hurry()
            self._bus.publish(AddressesChanged())
            for session in self._sessions.values():
                if PUSH_PROTOCOL in session.protocols:
                    self._spawn(self._tolerate(self._push_identify(session)), "identify push")
            if self._discovery is not None:
                await self._discovery.restart()

    # --- views -------------------------------------------------------------------------------------------------------

    def _path(self, peer: PeerId) -> tuple[PathKind | None, str]:
        session = self._sessions.get(peer)
        if session is None:
            return None, ""
        return path_to(_multiaddr_of(session.connection).host, self._interfaces)

    def _view(self, record: PeerRecord) -> PeerView:
        peer = record.peer_id
        session = self._sessions.get(peer)
        path, why = self._path(peer)
        state: PeerState = "offline"
        if session is not None:
            state = "online"
        elif not self._admits(peer):
            state, why = "blocked", "blocked here"
        elif self._dialer.is_dialing(peer):
            state, why = "connecting", record.why
        else:
            why = record.why or "not seen since the start"
        rtt = tuple(session.rtt_ms) if session is not None else ()
        return PeerView(
            peer_id=peer,
            name=self.name_of(peer),
            address=record.address,
            state=state,
            path=path,
            rtt_ms=rtt[-1] if rtt else None,
            capabilities=capabilities(self.card_of(peer)),
            rtt_history_ms=rtt,
            first_seen_at=record.first_seen_us // US,
            last_seen_at=(self._clock.now_us() if session is not None else record.last_seen_us) // US,
            agent=record.agent,
            why=why,
        )

    def _spawn(self, work: Work, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _listen_ip(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise BadInput(f"The listen address {host!r} must be an IP address, such as 0.0.0.0.") from None


def _parse_address(text: str) -> Multiaddr:
    """A multiaddr or host:port. Raises BadInput."""
    if text.startswith("/"):
        return parse_multiaddr(text)
    host, port = parse_host_port(text)
    if port == 0:
        raise BadInput(f"{text[:80]!r} has no UDP port to connect to.")
    return Multiaddr(host, port)


def _multiaddr_of(connection: Connection) -> Multiaddr:
    host, port = connection.remote[0], connection.remote[1]
    ip = ipaddress.ip_address(host.partition("%")[0])
    return Multiaddr(str(ip), port)


async def _ip_targets(address: Multiaddr) -> list[tuple[str, int]]:
    """IP addresses and port; only a DNS name is looked up. Raises Unreachable."""
    if address.ip_version:
        return [address.target]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DIAL_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Unreachable(f"The name {address.host!r} is not known here.") from error
    return [(str(info[4][0]), int(info[4][1])) for info in found]
