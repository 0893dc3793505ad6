"""One UDP port for dialing and listening, with every datagram handed to its connection by connection id.

Datagrams are read in batches; each connection touched by a batch is processed and transmits once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from zstui.engine.errors import Unreachable
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.connection import Address, Connection
from zstui.engine.net.contract import LinkOwner
from zstui.engine.net.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_HALF_OPEN, RETRY_ABOVE
from zstui.engine.net.model import source
from zstui.engine.net.quic import CONNECTION_ID_BYTES, VERSIONS, Quic, configurations
from zstui.engine.net.sockets import Sockets


class Endpoint:
    """``reachable`` says whether datagrams may be exchanged with an IP address at all."""

    def __init__(self, identity: Identity, owner: LinkOwner, reachable: Callable[[str], bool]) -> None:
        self._owner = owner
        self._reachable = reachable
        self._loop: asyncio.AbstractEventLoop
        self._dialing, self._accepting = configurations(identity)
        self._retry = QuicRetryTokenHandler()
        self._by_id: dict[bytes, Connection] = {}
        self._connections: dict[Connection, set[bytes]] = {}
        self._inbound_by_source: Counter[str] = Counter()
        self._dirty: dict[Connection, None] = {}
        self._sockets = Sockets(self._receive, self._flush)

    @property
    def is_open(self) -> bool:
        return bool(self._sockets.ports)

    @property
    def ports(self) -> dict[int, int]:
        """UDP port in use, by IP version; empty while not open."""
        return self._sockets.ports

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._connections)

    async def open(self, host: str, port: int) -> bool:
        """Bind, to any free port if ``port`` is in use; False in that case. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        return await self._sockets.open(host, port)

    def close(self) -> None:
        """Close every connection politely, then the sockets. Idempotent."""
        for connection in self.connections:
            connection.close(reason="shutting down")
        self._sockets.close()

    def dial(self, address: tuple[str, int], expected: PeerId | None) -> Connection:
        """Begin to connect to an IP address and port. Raises Unreachable at once if there is no socket for it."""
        if not self.is_open:
            raise Unreachable("There is no network.")
        is_v6 = ":" in address[0]
        if not self._reachable(address[0]):
            raise Unreachable(f"{address[0]} is not on the local network, and this node stays on it (lan_only).")
        if (6 if is_v6 else 4) not in self.ports:
            raise Unreachable(f"{address[0]} is of an address family that this node does not listen on.")
        quic = Quic(self._dialing)
        target = _socket_address(address)
        connection = Connection(self, self._owner, quic, target, dialed=True, expected=expected)
        self._connections[connection] = set()
        self.register(quic.host_cid, connection)
        connection.connect()
        return connection

    def punch(self, address: tuple[str, int]) -> None:
        """Send one meaningless datagram, so that a NAT on this side lets in what comes back from there."""
        if self.is_open:
            self.send(os.urandom(64), _socket_address(address))

    # --- for connections ---------------------------------------------------------------------------------------------

    def send(self, data: bytes, address: Address, local: bytes = b"") -> OSError | None:
        return self._sockets.send(data, address, local) if self._reachable(address[0]) else None

    def register(self, connection_id: bytes, connection: Connection) -> None:
        self._by_id[connection_id] = connection
        self._connections[connection].add(connection_id)

    def unregister(self, connection_id: bytes, connection: Connection) -> None:
        self._by_id.pop(connection_id, None)
        self._connections[connection].discard(connection_id)

    def forget(self, connection: Connection) -> None:
        for connection_id in self._connections.pop(connection, ()):
            self._by_id.pop(connection_id, None)
        self._dirty.pop(connection, None)
        if not connection.dialed:
            where = source(connection.address[0])
            self._inbound_by_source[where] -= 1
            if self._inbound_by_source[where] <= 0:
                del self._inbound_by_source[where]

    # --- datagrams in ------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes, address: Address, local: bytes) -> None:
        if len(data) < 1 + CONNECTION_ID_BYTES:
            return
        if data[0] & 0x80:
            connection = self._by_id.get(data[6 : 6 + data[5]]) or self._accept(data, address, local)
        else:
            connection = self._by_id.get(data[1 : 1 + CONNECTION_ID_BYTES])
        if connection is not None:
            connection.receive(data, address, local)
            if not connection.is_closed:
                self._dirty[connection] = None

    def _flush(self) -> None:
        while self._dirty:
            connection = next(iter(self._dirty))
            del self._dirty[connection]
            connection.process()
            if connection.is_ready:
                connection.transmit_later()
            else:  # The next flight of a handshake.
                connection.transmit()

    def _accept(self, data: bytes, address: Address, local: bytes) -> Connection | None:
        """A new inbound connection for a valid first datagram, while there is room."""
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE or not self._reachable(address[0]):
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return None
        if header.version not in VERSIONS:
            self.send(
                encode_quic_version_negotiation(
                    source_cid=header.destination_cid,
                    destination_cid=header.source_cid,
                    supported_versions=list(VERSIONS),
                ),
                address,
                local,
            )
            return None
        if header.packet_type != QuicPacketType.INITIAL or len(header.destination_cid) < CONNECTION_ID_BYTES:
            return None
        inbound = [c for c in self._connections if not c.dialed]
        half_open = sum(c.peer is None for c in inbound)
        if (
            len(inbound) >= MAX_CONNECTIONS
            or half_open >= MAX_HALF_OPEN
            or self._inbound_by_source[source(address[0])] >= MAX_CONNECTIONS_PER_ADDRESS
        ):
            return None
        original, retried = header.destination_cid, None
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=self._loop.time()
                )
            except ValueError:
                return None
            retried = header.destination_cid
        elif half_open >= RETRY_ABOVE:
            self._send_retry(header.version, header.source_cid, header.destination_cid, address, local)
            return None
        quic = Quic(self._accepting, original_destination_connection_id=original, retry_source_connection_id=retried)
        connection = Connection(self, self._owner, quic, address, dialed=False, expected=None)
        self._connections[connection] = set()
        self._inbound_by_source[source(address[0])] += 1
        self.register(header.destination_cid, connection)
        self.register(quic.host_cid, connection)
        return connection

    def _send_retry(self, version: int, client_id: bytes, original: bytes, address: Address, local: bytes) -> None:
        source = os.urandom(CONNECTION_ID_BYTES)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=original,
            retry_source_connection_id=source,
            now=self._loop.time(),
        )
        self.send(
            encode_quic_retry(
                version=version,
                source_cid=source,
                destination_cid=client_id,
                original_destination_cid=original,
                retry_token=token,
            ),
            address,
            local,
        )


def _socket_address(address: tuple[str, int]) -> Address:
    """Raises Unreachable for a zone that is no interface of this machine."""
    host, _, zone = address[0].partition("%")
    if ":" not in host:
        return address
    try:
        return host, address[1], 0, socket.if_nametoindex(zone) if zone else 0
    except OSError:
        raise Unreachable(f"This machine has no interface {zone}.") from None
