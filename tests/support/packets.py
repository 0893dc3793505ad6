"""Watches what leaves a network namespace: ``python -m tests.support.packets INTERFACE NETWORK...``, ended by closing stdin.

Prints, as a JSON list, the destinations outside the given networks that a packet was sent to or whose address was asked for.
"""

from __future__ import annotations

import ipaddress
import json
import os
import select
import socket
import subprocess
import sys

ALL = 0x0003
OUTGOING = 4
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
MULTICAST = ("224.0.0.0/4", "ff00::/8")


def destination(kind: int, packet: bytes) -> str | None:
    """Of an IP packet, or the address that an ARP request asks for."""
    where = {IPV4: packet[16:20], ARP: packet[24:28], IPV6: packet[24:40]}.get(kind, b"")
    return str(ipaddress.ip_address(where)) if where else None


def watch(interface: str, networks: list[str]) -> list[str]:
    local = [ipaddress.ip_network(n) for n in (*networks, *MULTICAST, "fe80::/10")]
    outside: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL)) as sock:
        sock.bind((interface, ALL))
        print("watching", flush=True)
        while True:
            ready, _, _ = select.select([sock, sys.stdin], [], [], 60)
            if sock not in ready:
                return sorted(outside)
            packet, address = sock.recvfrom(65536)
            found = destination(address[1], packet) if address[2] == OUTGOING else None
            if found and not any(ipaddress.ip_address(found) in n for n in local):
                outside.add(found)


class Watch:
    """The same, of a namespace whose one interface bears its name, from now until ``destinations`` is called."""

    def __init__(self, namespace: str, *networks: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-m", __name__, namespace, *networks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"watching\n"

    def destinations(self) -> list[str]:
        out, _ = self._process.communicate(timeout=10)
        found: list[str] = json.loads(out)
        return found


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1], sys.argv[2:])))
