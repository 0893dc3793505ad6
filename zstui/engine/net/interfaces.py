"""This machine's addresses, as the system reports them."""

from __future__ import annotations

import ipaddress
import socket

import ifaddr

from zstui.engine.net.model import Interface


def list_interfaces() -> tuple[Interface, ...]:
    """Every address in use, loopback last; link-local IPv6 addresses only of adapters that have no other."""
    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        mine = [
            Interface(adapter.nice_name, _canonical(a.ip if isinstance(a.ip, str) else a.ip[0]), a.network_prefix)
            for a in adapter.ips
            if isinstance(a.ip, str) or _is_in_use(a.ip)
        ]
        found += [i for i in mine if not i.is_link_local] or mine
    return tuple(sorted(set(found), key=lambda i: (i.is_loopback, i.name, i.ip)))


def _is_in_use(address: tuple[str, int, int]) -> bool:
    """False while the system still asks whether another machine has an IPv6 address (RFC 4862, 5.4): for a second or two after
    a cable was plugged in nothing can be sent from it."""
    host, flow, zone = address
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host.partition("%")[0], 0, flow, zone))
    except OSError:
        return False
    return True


def _canonical(text: str) -> str:
    return str(ipaddress.ip_address(text.partition("%")[0]))


def advertised(listen: str, interfaces: tuple[Interface, ...], versions: frozenset[int]) -> tuple[Interface, ...]:
    """The addresses at which sockets of these IP ``versions`` bound to ``listen`` can be reached, IPv4 first, link-local ones
    last; loopback only if there is nothing else."""
    if not versions:
        return ()
    ip = ipaddress.ip_address(listen)
    if not ip.is_unspecified:
        return tuple(i for i in interfaces if i.ip == listen) or (Interface("", listen, ip.max_prefixlen),)
    bound = sorted((i for i in interfaces if i.version in versions), key=lambda i: (i.is_link_local, i.version))
    return tuple(i for i in bound if not i.is_loopback) or tuple(bound)
