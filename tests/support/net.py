"""Real ``NetService`` nodes on loopback, and hostile QUIC peers made of the bare library."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import SystemClock
from zstui.engine.config import Settings
from zstui.engine.dht import store as dht_store
from zstui.engine.errors import ZsError
from zstui.engine.events import Event
from zstui.engine.identity.card import Card
from zstui.engine.identity.certificate import EXTENSION, encode_signed_key
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId, public_key_protobuf
from zstui.engine.net import store
from zstui.engine.net.link import Stream
from zstui.engine.net.service import NetService
from zstui.engine.store.database import Database

ECHO = "/test/echo/1.0.0"


class NetNode:
    """One started service with its database and bus, and a card that can be changed."""

    def __init__(self, identity: Identity, settings: Settings, db: Database) -> None:
        self.identity = identity
        self.db = db
        self.bus = Bus()
        self.events: Subscription[Event] = self.bus.subscribe(Event)
        self.clock = SystemClock()
        self.refused: set[PeerId] = set()
        self.price = 10
        self.streams: list[Stream] = []
        """Inbound echo streams, in order."""
        self.net = NetService(
            identity,
            settings,
            db,
            self.bus,
            self.clock,
            admits=lambda peer: peer not in self.refused,
            my_card=lambda: self.card(settings.name),
        )
        self.net.handle(ECHO, self._echo)

    @property
    def id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def address(self) -> str:
        return self.net.addresses()[0]

    @property
    def port(self) -> int:
        return int(self.address.split("/")[4])

    def card(self, name: str) -> bytes:
        return seal(self.identity, Card(name, True, 2, 128, 30, self.price, 1, ("tag",), self.clock.now_us()))

    async def _echo(self, stream: Stream) -> None:
        self.streams.append(stream)
        while True:
            await stream.send(await stream.receive())


@asynccontextmanager
async def net_node(
    home: Path, name: str = "node", *, identity: Identity | None = None, start: bool = True, **settings: Any
) -> AsyncIterator[NetNode]:
    """A node on 127.0.0.1 without mDNS unless ``settings`` say otherwise; its database is ``home/name.db``."""
    settings = {"listen": "127.0.0.1:0", "mdns_interface": None, **settings}
    db = await Database.open(home / f"{name}.db", (*store.SCHEMA, *dht_store.SCHEMA))
    try:
        node = NetNode(identity or Identity.generate(), Settings(home=home, name=name, **settings), db)
        try:
            if start:
                await node.net.start()
            yield node
        finally:
            await node.net.stop()
    finally:
        await db.close()


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return once ``condition()`` is true; fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  any condition, without a hook in what is tested
            await asyncio.sleep(0.005)


async def fails(work: Any, error: type[ZsError]) -> ZsError:
    """Await ``work``, which must raise ``error``."""
    try:
        await work
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")


def smaller_and_larger() -> tuple[Identity, Identity]:
    """Two identities ordered by peer id."""
    a, b = sorted((Identity.generate(), Identity.generate()), key=lambda i: i.peer_id)
    return a, b


# --- certificates that should not pass -------------------------------------------------------------------------------


def make_tls_certificate(
    host: Identity | None,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    signed_spki: bytes | None = None,
    extension: bytes | None = None,
    signer: ec.EllipticCurvePrivateKey | None = None,
    critical_unknown: bool = False,
    not_before: datetime.datetime = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
    not_after: datetime.datetime = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC),
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate built independently of the product's code, good unless an argument says otherwise.

    ``host`` None: no extension. ``signed_spki``: the key that the host claims to vouch for. ``signer``: not self-signed.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if host is not None:
        signature = host.sign(b"libp2p-tls-handshake:" + (signed_spki or spki))
        value = extension or encode_signed_key(public_key_protobuf(host.public_key), signature)
        builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION, value), critical=False)
    if critical_unknown:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.53594.99")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)
    return builder.sign(signer or key, SHA256()), key


def stolen_certificate(victim: x509.Certificate) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for another key that carries the victim's extension."""
    value = victim.extensions.get_extension_for_oid(EXTENSION).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return make_tls_certificate(Identity.generate(), extension=value.value)


# --- bare QUIC peers -------------------------------------------------------------------------------------------------


def bare_configuration(
    is_client: bool,
    certificate: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey | None,
    chain: Sequence[x509.Certificate] = (),
    alpn: str | None = "libp2p",
) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[alpn] if alpn else None,
        certificate=certificate,
        certificate_chain=list(chain),
        is_client=is_client,
        private_key=key,
        verify_mode=ssl.CERT_NONE,
        max_datagram_size=1350,
    )


class BarePeer(QuicConnectionProtocol):
    """Keeps every event; ``quic`` can be made to do anything."""

    def __init__(self, quic: QuicConnection, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler)
        self.quic = quic
        self.seen: list[quic_events.QuicEvent] = []
        self.ended = asyncio.Event()
        self.on_handshake: Callable[[BarePeer], None] = lambda peer: None

    def quic_event_received(self, event: quic_events.QuicEvent) -> None:
        self.seen.append(event)
        if isinstance(event, quic_events.HandshakeCompleted):
            self.on_handshake(self)
        if isinstance(event, quic_events.ConnectionTerminated):
            self.ended.set()

    def send(self, stream_id: int, data: bytes, end: bool = False) -> None:
        self.quic.send_stream_data(stream_id, data, end)
        self.transmit()

    def received(self, stream_id: int) -> bytes:
        """All data of one stream so far."""
        return b"".join(
            e.data for e in self.seen if isinstance(e, quic_events.StreamDataReceived) and e.stream_id == stream_id
        )

    def has_ended(self, stream_id: int) -> bool:
        """The other side has closed its half of a stream."""
        return any(
            isinstance(e, quic_events.StreamDataReceived) and e.end_stream and e.stream_id == stream_id
            for e in self.seen
        )

    @property
    def termination(self) -> quic_events.ConnectionTerminated | None:
        return next((e for e in self.seen if isinstance(e, quic_events.ConnectionTerminated)), None)


@asynccontextmanager
async def bare_client(
    port: int,
    configuration: QuicConfiguration,
    on_handshake: Callable[[BarePeer], None] = lambda peer: None,
) -> AsyncIterator[BarePeer]:
    """A bare client that has sent its first flight to 127.0.0.1."""
    quic = QuicConnection(configuration=configuration)
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: BarePeer(quic), local_addr=("127.0.0.1", 0)
    )
    peer.on_handshake = on_handshake
    try:
        peer.connect(("127.0.0.1", port))
        yield peer
    finally:
        peer.close()
        if peer._timer is not None:
            peer._timer.cancel()
        transport.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def bare_server(configuration: QuicConfiguration) -> AsyncIterator[tuple[int, list[BarePeer]]]:
    """A bare server on 127.0.0.1: its port and the connections it has had."""
    accepted: list[BarePeer] = []

    def create(quic: QuicConnection, stream_handler: Any = None) -> BarePeer:
        accepted.append(BarePeer(quic, stream_handler))
        return accepted[-1]

    server: QuicServer = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=create)
    assert server._transport is not None
    try:
        yield server._transport.get_extra_info("sockname")[1], accepted
    finally:
        server.close()
        for peer in accepted:
            if peer._timer is not None:
                peer._timer.cancel()
        await asyncio.sleep(0)
