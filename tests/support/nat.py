"""Two LANs behind NATs and a relay in the internet between them, as network namespaces. Needs root, iproute2 and nftables.

``alpha`` 10.91.0.2 - ``nat_a`` 8.92.0.1 - the relay 8.92.0.9 - ``nat_b`` 8.92.0.3 - ``beta`` 10.93.0.2. The public addresses
are so only by name: nothing leads out of the namespaces.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from types import TracebackType
from typing import Literal, Self

from tests.support.cable import Cable

Kind = Literal["full-cone", "port-restricted", "symmetric"]
RELAY_IP = "8.92.0.9"

_NAT = """
table ip nat {{
  chain out {{ type nat hook postrouting priority srcnat; oifname "wan" masquerade {flags}; }}
}}
"""
_GUARD = """
table ip guard {{
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }}
  chain in {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }}
}}
"""
_FULL_CONE = """
table ip nat {{
  set open {{ type inet_service; flags dynamic,timeout; timeout 60s; }}
  chain note {{ type filter hook forward priority mangle; iifname "lan" meta l4proto udp update @open {{ udp sport }}; }}
  chain in {{ type nat hook prerouting priority dstnat; iifname "wan" udp dport @open dnat to {host}; }}
  chain out {{ type nat hook postrouting priority srcnat; oifname "wan" masquerade; }}
}}
"""
"""A port from which something went out is the host's, for whoever sends to it."""
_FLAGS: dict[Kind, str] = {"port-restricted": "", "symmetric": "random,fully-random"}


def run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class TwoLans:
    """Use as a context manager; raises OSError where this machine cannot do it."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:5]
        self.alpha, self.nat_a, self.relay, self.nat_b, self.beta = (
            f"zs{n}{tag}" for n in ("al", "na", "re", "nb", "be")
        )
        self._cables: list[Cable] = []
        self._all = (self.alpha, self.nat_a, self.relay, self.nat_b, self.beta)

    def __enter__(self) -> Self:
        if shutil.which("nft") is None:
            raise OSError("there is no nft here")
        try:
            for name in self._all:
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", self.relay, "link", "add", "net", "type", "bridge")
            run("ip", "-n", self.relay, "addr", "add", f"{RELAY_IP}/24", "dev", "net")
            run("ip", "-n", self.relay, "link", "set", "net", "up")
            for number, (host, nat) in ((1, (self.alpha, self.nat_a)), (3, (self.beta, self.nat_b))):
                self._cable((host, "eth0", f"10.9{number}.0.2/24"), (nat, "lan", f"10.9{number}.0.1/24"))
                self._cables.append(Cable((nat, "wan"), (self.relay, f"net{number}")))
                run("ip", "-n", nat, "addr", "add", f"8.92.0.{number}/24", "dev", "wan")
                run("ip", "-n", nat, "link", "set", "wan", "up")
                run("ip", "-n", self.relay, "link", "set", f"net{number}", "up")
                run("ip", "-n", self.relay, "link", "set", f"net{number}", "master", "net")
                run("ip", "-n", host, "route", "add", "default", "via", f"10.9{number}.0.1")
                run("ip", "netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.set_nats("symmetric", "symmetric")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for cable in self._cables:
            cable.close()
        for name in self._all:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def set_nats(self, alpha: Kind, beta: Kind) -> None:
        """A symmetric NAT maps each destination to a port of its own, the others all to the same; a full cone lets in whoever
        sends to a port in use, the others only what answers."""
        for nat, kind, host in ((self.nat_a, alpha, "10.91.0.2"), (self.nat_b, beta, "10.93.0.2")):
            table = "flush ruleset\n" + (_FULL_CONE if kind == "full-cone" else _NAT) + _GUARD
            text = table.format(host=host, flags=_FLAGS.get(kind, ""))
            run("ip", "netns", "exec", nat, "nft", "-f", "-", text=text)

    def spoil(self, loss_percent: int, delay_ms: int) -> None:
        """Make what goes through the NATs get lost, and arrive so much later in each direction. (0, 0) makes it good again."""
        for cable in self._cables:
            cable.spoil(loss_percent, delay_ms)

    @staticmethod
    def _cable(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        run("ip", "link", "add", one[1], "netns", one[0], "type", "veth", "peer", "name", other[1], "netns", other[0])
        for namespace, device, address in (one, other):
            if address:
                run("ip", "-n", namespace, "addr", "add", address, "dev", device)
            run("ip", "-n", namespace, "link", "set", device, "up")
