"""The UDP sockets of a node: one for each address family it listens on, all on one port where that is free."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from typing import cast

from zstui.engine.net.connection import Address

log = logging.getLogger(__name__)

_BATCH = 64
_DATAGRAM = 4096
_BUFFER = 2 * 1024 * 1024
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {4: "0.0.0.0", 6: "::"}
_IP_PKTINFO = 8
"""Of Linux; Python's socket module does not name it everywhere."""
_ANCILLARY = socket.CMSG_SPACE(20) if hasattr(socket, "CMSG_SPACE") else 0
"""Room for what the system says of a datagram: the larger of ``in_pktinfo`` and ``in6_pktinfo``."""


class Sockets(asyncio.DatagramProtocol):
    """Reads in batches: ``receive`` is called for every datagram, ``flush`` after each batch.

    ``receive(data, address, local)``: ``local`` is the address of this machine at which it came, in the form that ``send`` takes;
    b"" where the socket has only one or the system does not tell.
    """

    def __init__(self, receive: Callable[[bytes, Address, bytes], None], flush: Callable[[], None]) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._receive = receive
        self._flush = flush
        self._open: dict[int, socket.socket] = {}
        """By IP version."""
        self._transports: dict[int, asyncio.DatagramTransport] = {}
        """Instead of readers, on systems whose loop has none."""

    @property
    def ports(self) -> dict[int, int]:
        """UDP port in use, by IP version; empty while not open."""
        return {version: int(sock.getsockname()[1]) for version, sock in self._open.items()}

    async def open(self, host: str, port: int) -> bool:
        """Bind, to any free port if ``port`` is in use; False in that case. Raises OSError.

        An unspecified host (0.0.0.0 or ::) means every address of this machine of both families; one family is enough.
        """
        self._loop = asyncio.get_running_loop()
        ip = ipaddress.ip_address(host)
        if not ip.is_unspecified:
            sock, as_asked = _bind(ip.version, host, port)
            await self._add(sock)
            return as_asked
        try:
            sock, as_asked = _bind(4, _ANY[4], port)
        except OSError:
            sock, as_asked = _bind(6, _ANY[6], port)
            await self._add(sock)
            return as_asked
        await self._add(sock)
        with contextlib.suppress(OSError):  # a machine without IPv6
            await self._add(_bind(6, _ANY[6], self.ports[4])[0])
        return as_asked

    async def _add(self, sock: socket.socket) -> None:
        version = 6 if sock.family == socket.AF_INET6 else 4
        try:
            self._loop.add_reader(sock, self._read_ready, sock)
        except NotImplementedError:
            transport, _ = await self._loop.create_datagram_endpoint(lambda: self, sock=sock)
            self._transports[version] = transport
        except BaseException:
            sock.close()
            raise
        self._open[version] = sock

    def close(self) -> None:
        """Idempotent."""
        for version, sock in self._open.items():
            if version in self._transports:
                self._transports.pop(version).close()
            else:
                self._loop.remove_reader(sock)
                sock.close()
        self._open.clear()

    def send(self, data: bytes, address: Address, local: bytes = b"") -> OSError | None:
        """Send one datagram now, from ``local`` while that is an address of this machine; the error if the system refused it."""
        version = 6 if ":" in address[0] else 4
        try:
            if version in self._transports:
                self._transports[version].sendto(data, address)
            elif version in self._open and not _sent_from(self._open[version], version, data, address, local):
                self._open[version].sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return None  # as good as lost on the way: QUIC sends it again
        except OSError as error:
            return error
        return None

    # --- datagrams in ------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._receive(data, _without_zone(cast(Address, addr)), b"")
        self._flush()

    def error_received(self, exc: Exception) -> None:
        log.debug("UDP: %s", exc)

    def _read_ready(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            if sock.fileno() < 0:
                break
            try:
                data, ancillary, _, address = sock.recvmsg(_DATAGRAM, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                log.debug("UDP: %s", error)
                break
            self._receive(data, _without_zone(address), _local(ancillary))
        self._flush()


def _without_zone(address: Address) -> Address:
    """The zone of a link-local address is its last number alone, so that a peer's address compares equal however it came."""
    if len(address) == 4 and address[3]:
        return address[0].partition("%")[0], address[1], address[2], address[3]
    return address


def _local(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """To what address a datagram came, as ``_sent_from`` takes it: without the interface, which routing chooses."""
    for _, _, data in ancillary:
        return b"\0\0\0\0" + data[4:8] + b"\0\0\0\0" if len(data) == 12 else data[:16] + b"\0\0\0\0"
    return b""


def _sent_from(sock: socket.socket, version: int, data: bytes, address: Address, local: bytes) -> bool:
    """False if ``local`` is b"" or no address of this machine any more. Raises BlockingIOError."""
    if not local:
        return False
    kind = (socket.IPPROTO_IP, _IP_PKTINFO) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    try:
        sock.sendmsg((data,), ((*kind, local),), 0, address)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _bind(version: int, host: str, port: int) -> tuple[socket.socket, bool]:
    """A bound socket, and whether it got the port asked for. Raises OSError."""
    sock = socket.socket(_FAMILIES[version], socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if ipaddress.ip_address(host).is_unspecified and sys.platform == "linux":
            if version == 4:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or port == 0:
                raise
            sock.bind((host, 0))
            return sock, False
    except BaseException:
        sock.close()
        raise
    return sock, True
