"""Where this node can be reached: its socket, its addresses as they come and go, and its announcement on the LAN."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from zstui.engine.bus import Bus
from zstui.engine.config import Settings, host_and_port
from zstui.engine.events import AddressesChanged
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.endpoint import Endpoint
from zstui.engine.net.interfaces import advertised, list_interfaces
from zstui.engine.net.limits import MAX_ADDRESSES, MAX_PEERS, WATCH_S
from zstui.engine.net.mdns import Discovery
from zstui.engine.net.model import Interface, is_local, path_to
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.views import PathKind


class Presence:
    """``heard`` is told of peers announced at local addresses, ``gone`` of their goodbyes, ``moved`` of new addresses of mine."""

    def __init__(
        self,
        settings: Settings,
        me: PeerId,
        endpoint: Endpoint,
        bus: Bus,
        *,
        heard: Callable[[PeerId, tuple[Multiaddr, ...]], None],
        gone: Callable[[PeerId], None],
        moved: Callable[[], None],
    ) -> None:
        self._host, self._port_asked = host_and_port(settings.listen)
        self._listen = settings.listen
        self._me = me
        self._endpoint = endpoint
        self._bus = bus
        self._heard = heard
        self._moved = moved
        self._interfaces: tuple[Interface, ...] = ()
        self._local: dict[str, bool] = {}
        """Answers of ``is_local``, while the interfaces stay as they are."""
        self._problem = "The network is not started."
        self._port_notice = ""
        self.discovery: Discovery | None = None
        if settings.mdns_interface is not None:
            self.discovery = Discovery(
                me, settings.mdns_interface, settings.network, self._announced, self._found, gone
            )

    async def start(self) -> None:
        """Open the socket and announce it. Succeeds without a network: see ``describe``."""
        self._interfaces = list_interfaces()
        await self._open()
        if self.discovery is not None:
            await self.discovery.start()
        self._bus.publish(AddressesChanged())

    async def stop(self) -> None:
        """Take back the announcement. The socket is closed with the links."""
        if self.discovery is not None:
            await self.discovery.stop()

    async def watch(self) -> None:
        """Follow the machine's addresses, for ever; open the socket as soon as that can be done."""
        while True:
            await asyncio.sleep(WATCH_S)
            interfaces = list_interfaces()
            was_open = self._endpoint.is_open
            if not was_open:
                await self._open()
            if interfaces != self._interfaces or was_open != self._endpoint.is_open:
                self._interfaces = interfaces
                self._local.clear()
                self._moved()
                self._bus.publish(AddressesChanged())
                if self.discovery is not None:
                    await self.discovery.restart()
            elif self.discovery is not None and not self.discovery.is_running:
                await self.discovery.start()

    def multiaddrs(self) -> tuple[Multiaddr, ...]:
        """With my peer id, best first; empty while there is no network."""
        shown = self._shown()
        wide = tuple(i for i in shown if not i.is_link_local) or shown
        return tuple(Multiaddr(i.ip, self._port(i), self._me) for i in wide)[:MAX_ADDRESSES]

    def _announced(self) -> tuple[Multiaddr, ...]:
        """What the local network is told: link-local addresses, too, for whoever hears them can use them."""
        return tuple(Multiaddr(i.ip, self._port(i), self._me) for i in self._shown())[:MAX_ADDRESSES]

    def describe(self) -> str:
        """One line: interface and address in use, or why there is no network."""
        if self._problem:
            return self._problem
        shown = self._shown()
        if not shown:
            return "No network: this machine has no IP address."
        first = shown[0]
        where = f"{f'[{first.ip}]' if ':' in first.ip else first.ip}:{self._port(first)}"
        if first.is_loopback and ipaddress.ip_address(self._host).is_unspecified:
            return f"No network: only this machine can connect ({where})."
        return f"{first.name} {where} ok".strip()

    def notices(self) -> tuple[str, ...]:
        problem = self.discovery.problem if self.discovery is not None else ""
        return tuple(text for text in (self._port_notice, problem) if text)

    def path_to(self, host: str) -> tuple[PathKind, str]:
        """Badge and reason for a peer at IP address ``host``."""
        return path_to(host, self._interfaces)

    def is_local(self, host: str) -> bool:
        """Whether IP address ``host`` is on a network that this machine is on."""
        if host not in self._local:
            if len(self._local) >= MAX_PEERS:
                self._local.clear()
            self._local[host] = is_local(host, self._interfaces)
        return self._local[host]

    def _shown(self) -> tuple[Interface, ...]:
        return advertised(self._host, self._interfaces, frozenset(self._endpoint.ports))

    def _port(self, interface: Interface) -> int:
        return self._endpoint.ports[interface.version]

    def _found(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        local = tuple(a for a in addresses if a.relay is None and is_local(a.host, self._interfaces))
        if local:
            self._heard(peer, local)

    async def _open(self) -> None:
        try:
            as_asked = await self._endpoint.open(self._host, self._port_asked)
        except OSError as error:
            self._problem = f"No network: cannot listen on {self._listen}: {error.strerror or error}."
            return
        self._problem = ""
        if not as_asked:
            used = next(iter(self._endpoint.ports.values()))
            self._port_notice = f"UDP port {self._port_asked} is in use; using {used}."
