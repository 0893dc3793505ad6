"""Pure decisions of the network: which of two connections is kept, when to dial again, how a path is called."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.net.limits import IDLE_LINK_S, MAX_IDLE_LINKS
from zstui.engine.views import PathKind

SIMULTANEOUS_S = 5.0
"""A second connection within this time of the first is a simultaneous dial; later, the other side has lost the first."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0


def keeps_new(
    me: PeerId,
    peer: PeerId,
    *,
    new_dialed: bool,
    old_dialed: bool,
    old_age_s: float,
    new_relayed: bool = False,
    old_relayed: bool = False,
) -> bool:
    """Whether a second authenticated connection to ``peer`` replaces the first. ``dialed``: by me.

    Of simultaneous dials the one of the smaller peer id is kept, on both sides. A connection that I dialed has not yet told
    the peer that it is complete, so dropping it is always safe. A direct connection is better than one through a relay.
    """
    if new_relayed != old_relayed:
        return old_relayed
    if new_dialed:
        return False
    if not old_dialed:
        return True
    return peer < me or old_age_s > SIMULTANEOUS_S


def backoff_s(attempts: int, unit: float) -> float:
    """Seconds to wait after ``attempts`` failed dials in a row; ``unit`` is uniform in [0, 1)."""
    if attempts <= 0:
        return unit * BACKOFF_FIRST_S
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempts, 16))) * (0.5 + unit)


def superfluous(used_at: Mapping[PeerId, float], now: float) -> list[PeerId]:
    """Of links made in passing, by when each was used last: those to close, of which at most ``MAX_IDLE_LINKS`` stay for good."""
    longest = sorted(used_at, key=lambda peer: used_at[peer])
    return [p for p in longest[: max(0, len(longest) - MAX_IDLE_LINKS)] if now - used_at[p] >= IDLE_LINK_S]


class Interface(msgspec.Struct, frozen=True):
    """One address of this machine."""

    name: str
    ip: str
    prefix: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.ip).version

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.ip).is_loopback

    @property
    def is_link_local(self) -> bool:
        """An IPv6 address that is known on its own cable alone."""
        return self.version == 6 and ipaddress.ip_address(self.ip).is_link_local

    @property
    def network(self) -> str:
        """For example "192.168.1.0/24"."""
        return str(ipaddress.ip_network(f"{self.ip}/{self.prefix}", strict=False))


def path_to(remote: str, interfaces: Iterable[Interface]) -> tuple[PathKind, str]:
    """The badge for a peer at IP address ``remote``, and why it got that one."""
    ip = ipaddress.ip_address(remote)
    if ip.is_loopback or any(i.ip == remote for i in interfaces):
        return "lan", "on this machine"
    if ip.is_link_local:
        return "lan", "link-local address"
    for interface in interfaces:
        network = ipaddress.ip_network(interface.network)
        if ip.version == network.version and ip in network:
            return "lan", f"same network as {interface.name} ({network})"
    return "direct", "direct UDP to another network"


def is_local(remote: str, interfaces: Iterable[Interface]) -> bool:
    """Whether an IP address can be reached without leaving the local network."""
    return path_to(remote, interfaces)[0] == "lan"


def source(host: str) -> str:
    """What a limit for each address counts: an IPv4 address, or the /64 network that one IPv6 host may use as it likes."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
