"""Host names to IP addresses, through the system. The only step that may leave the local network, and only for a name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from zstui.engine.errors import Unreachable
from zstui.engine.net.limits import DIAL_S
from zstui.engine.net.multiaddr import Multiaddr


async def ip_targets(addresses: Iterable[Multiaddr], *, names: bool = True) -> list[tuple[str, int]]:
    """IP addresses and ports; only DNS names are looked up, and none unless ``names``. Addresses through relays are passed over.

    Raises Unreachable if a name is all there is and is unknown.
    """
    loop = asyncio.get_running_loop()
    found: list[tuple[str, int]] = []
    unknown: Unreachable | None = None
    for address in addresses:
        if address.relay is not None:
            continue
        if address.ip_version:
            found.append(address.target)
            continue
        if not names:
            unknown = Unreachable(f"The name {address.host!r} is not looked up: this node stays on the LAN (lan_only).")
            continue
        try:
            async with asyncio.timeout(DIAL_S):
                infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError, TimeoutError):
            unknown = Unreachable(f"The name {address.host!r} is not known here.")
        else:
            found += [(str(info[4][0]), int(info[4][1])) for info in infos]
    if unknown is not None and not found:
        raise unknown
    return found
