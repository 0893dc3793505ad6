"""Peers on the local network: multicast DNS as libp2p specifies it.

Service ``_p2p._udp.local``, a random instance name, and TXT attributes ``dnsaddr=`` with one multiaddr each. An announcement
proves nothing; it only says where to dial. A node of a named network adds ``zs-network=`` and finds only its own kind.
js-libp2p sends no SRV record, so the TXT record is all that is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
import string
from collections.abc import Awaitable, Callable, Iterator

from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from zstui.engine.errors import BadInput
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.interfaces import list_interfaces
from zstui.engine.net.limits import MAX_ADDRESSES, MAX_CANDIDATES
from zstui.engine.net.multiaddr import Multiaddr, parse_multiaddr

log = logging.getLogger(__name__)

SERVICE = "_p2p._udp.local."
_KEY = b"dnsaddr="
_NETWORK_KEY = b"zs-network="
_LOOKUP_MS = 1500
_LOOKUPS = 16
"""TXT look-ups at the same time; more are dropped."""


def encode_txt(addresses: tuple[Multiaddr, ...], network: str = "") -> bytes:
    """TXT record data with one ``dnsaddr=`` attribute for each address, and the network's name if it has one."""
    texts = [_KEY + str(address).encode() for address in addresses[:MAX_ADDRESSES]]
    if network:
        texts.append(_NETWORK_KEY + network.encode())
    return b"".join(bytes((len(text),)) + text for text in texts if len(text) < 256) or b"\0"


def network_of(data: bytes) -> str:
    """Name of the network that untrusted TXT data belongs to, "" for the open one."""
    for text in _attributes(data):
        if text.lower().startswith(_NETWORK_KEY):
            return text[len(_NETWORK_KEY) :].decode(errors="replace")
    return ""


def _attributes(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        end = offset + 1 + data[offset]
        yield data[offset + 1 : end]
        offset = end


def decode_txt(data: bytes) -> dict[PeerId, tuple[Multiaddr, ...]]:
    """Dialable addresses by peer, from untrusted TXT data; whatever is not one is left out. At most four peers."""
    found: dict[PeerId, tuple[Multiaddr, ...]] = {}
    for text in _attributes(data):
        if not text.lower().startswith(_KEY):
            continue
        try:
            address = parse_multiaddr(text[len(_KEY) :].decode("ascii"))
        except (BadInput, UnicodeDecodeError):
            continue
        address = address.in_zone("")
        if address.peer is None or not address.ip_version or (address.peer not in found and len(found) == 4):
            continue
        have = found.get(address.peer, ())
        if address not in have and len(have) < MAX_ADDRESSES:
            found[address.peer] = (*have, address)
    return found


class Discovery:
    """Announces ``addresses`` and calls ``found`` and ``gone`` for what others announce."""

    def __init__(
        self,
        me: PeerId,
        interface: str,
        network: str,
        addresses: Callable[[], tuple[Multiaddr, ...]],
        found: Callable[[PeerId, tuple[Multiaddr, ...]], None],
        gone: Callable[[PeerId], None],
    ) -> None:
        self._me = me
        self._interface = interface
        self._network = network
        self._addresses = addresses
        self._found = found
        self._gone = gone
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._instance = ""
        self._peers: dict[str, tuple[PeerId, ...]] = {}
        """Who was announced under which instance name."""
        self.problem = ""
        """Why there is no discovery; "" if there is."""

    @property
    def is_running(self) -> bool:
        return self._zeroconf is not None

    async def start(self) -> None:
        """Begin to announce and browse. Does not raise for a network that is not there: see ``problem``."""
        interfaces = list_interfaces()
        present = {i.ip for i in interfaces}
        if not present or self._interface not in ("all", *present):
            self.problem = f"No discovery on the local network (mDNS): no interface {self._interface}."
            return
        try:
            self._zeroconf = self._listen({i.version for i in interfaces if not i.is_loopback})
        except (OSError, RuntimeError) as error:
            self.problem = f"No discovery on the local network (mDNS): {getattr(error, 'strerror', None) or error}."
            return
        self.problem = ""
        self._instance = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(32))
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._changed])
        addresses = self._addresses()
        if addresses:
            announcing = await self._zeroconf.async_register_service(self._info(addresses), cooperating_responders=True)
            self._keep(asyncio.create_task(_finish(announcing)))

    def _listen(self, versions: set[int]) -> AsyncZeroconf:
        if self._interface != "all":
            return AsyncZeroconf(interfaces=[self._interface])
        spoken = IPVersion.All if versions == {4, 6} else IPVersion.V6Only if versions == {6} else IPVersion.V4Only
        return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=spoken)

    async def stop(self) -> None:
        """Say goodbye and close. Idempotent."""
        zeroconf, browser = self._zeroconf, self._browser
        self._zeroconf = self._browser = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            goodbye = zeroconf.zeroconf.generate_unregister_all_services()
            if goodbye is not None:
                zeroconf.zeroconf.async_send(goodbye)
            await zeroconf.async_close()
        self._peers.clear()

    async def restart(self) -> None:
        """My addresses or interfaces changed."""
        await self.stop()
        await self.start()

    def _info(self, addresses: tuple[Multiaddr, ...]) -> AsyncServiceInfo:
        packed = [ipaddress.ip_address(a.host).packed for a in addresses]
        return AsyncServiceInfo(
            SERVICE,
            f"{self._instance}.{SERVICE}",
            port=addresses[0].port,
            addresses=packed,
            properties=encode_txt(addresses, self._network),
            server=f"{self._instance}.local.",
        )

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name.startswith(self._instance):
            return
        if state_change is ServiceStateChange.Removed:
            for peer in self._peers.pop(name, ()):
                self._gone(peer)
            return
        info = AsyncServiceInfo(service_type, name)
        info.load_from_cache(zeroconf)
        if info.text and (_zones(info) or not _needs_zone(info.text)):
            self._read(name, info)
        elif len(self._tasks) < _LOOKUPS:
            self._keep(asyncio.create_task(self._look_up(zeroconf, info, name)))

    async def _look_up(self, zeroconf: Zeroconf, info: AsyncServiceInfo, name: str) -> None:
        await info.async_request(zeroconf, _LOOKUP_MS)
        if info.text:
            self._read(name, info)

    def _read(self, name: str, info: AsyncServiceInfo) -> None:
        text = info.text
        if text is None or network_of(text) != self._network:
            return
        found = {peer: _in_zones(addresses, _zones(info)) for peer, addresses in decode_txt(text).items()}
        found.pop(self._me, None)
        if len(self._peers) >= MAX_CANDIDATES and name not in self._peers:
            del self._peers[next(iter(self._peers))]
        self._peers[name] = tuple(found)
        for peer, addresses in found.items():
            self._found(peer, addresses)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _zones(info: AsyncServiceInfo) -> list[str]:
    """The interfaces on which the announcer's link-local addresses were heard."""
    zones = []
    for text in info.parsed_scoped_addresses(IPVersion.V6Only):
        _, _, index = text.partition("%")
        with contextlib.suppress(OSError, ValueError, OverflowError):
            zones.append(socket.if_indextoname(int(index)))
    return list(dict.fromkeys(zones))


def _needs_zone(text: bytes) -> bool:
    return any(address.is_link_local for addresses in decode_txt(text).values() for address in addresses)


def _in_zones(addresses: tuple[Multiaddr, ...], zones: list[str]) -> tuple[Multiaddr, ...]:
    """``addresses`` as they can be dialed: a link-local one only behind an interface."""
    placed: list[Multiaddr] = []
    for address in addresses:
        placed += [address.in_zone(zone) for zone in zones] if address.is_link_local else [address]
    return tuple(placed[:MAX_ADDRESSES])


async def _finish(announcing: Awaitable[object]) -> None:
    """Wait for the repeated announcements; the network may go away meanwhile."""
    try:
        await announcing
    except OSError as error:
        log.debug("mDNS: %s", error)
