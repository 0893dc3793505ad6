"""This machine's addresses, as the system reports them."""

from __future__ import annotations

import ipaddress

import ifaddr

from zstui.engine.net.model import Interface


def list_interfaces() -> tuple[Interface, ...]:
    """Every IPv4 address and every routable IPv6 address, loopback last."""
    found: set[tuple[bool, str, str, int]] = set()
    for adapter in ifaddr.get_adapters():
        for address in adapter.ips:
            text = address.ip if isinstance(address.ip, str) else address.ip[0]
            ip = ipaddress.ip_address(text.partition("%")[0])
            if ip.version == 6 and ip.is_link_local:
                continue
            found.add((ip.is_loopback, adapter.nice_name, str(ip), address.network_prefix))
    return tuple(Interface(name, ip, prefix) for _, name, ip, prefix in sorted(found))


def advertised(listen: str, interfaces: tuple[Interface, ...], versions: frozenset[int]) -> tuple[Interface, ...]:
    """The addresses at which sockets of these IP ``versions`` bound to ``listen`` can be reached, IPv4 first; loopback only if
    there is nothing else."""
    if not versions:
        return ()
    ip = ipaddress.ip_address(listen)
    if not ip.is_unspecified:
        return tuple(i for i in interfaces if i.ip == listen) or (Interface("", listen, ip.max_prefixlen),)
    bound = sorted((i for i in interfaces if i.version in versions), key=lambda i: i.version)
    return tuple(i for i in bound if not i.is_loopback) or tuple(bound)
