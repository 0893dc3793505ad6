"""Two LANs behind NATs and a relay in the internet between them, as network namespaces. Needs root, iproute2 and nftables.

``alpha`` 10.91.0.2 - ``nat_a`` 8.92.0.1 - the relay 8.92.0.9 - ``nat_b`` 8.92.0.3 - ``beta`` 10.93.0.2. The public addresses
are so only by name: nothing leads out of the namespaces.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from types import TracebackType
from typing import Literal, Self

Kind = Literal["port-restricted", "symmetric"]
RELAY_IP = "8.92.0.9"

_TABLE = """
table ip nat {{
  chain out {{ type nat hook postrouting priority srcnat; oifname "wan" masquerade {flags}; }}
}}
table ip guard {{
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }}
  chain in {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }}
}}
"""
_LOSSY = """
table ip lossy {{
  chain lose {{
    type filter hook forward priority -1
    numgen random mod 100 < {} drop
  }}
}}
"""
_FLAGS = {"port-restricted": "", "symmetric": "random,fully-random"}


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
                self._cable((nat, "wan", f"8.92.0.{number}/24"), (self.relay, f"net{number}", ""))
                run("ip", "-n", self.relay, "link", "set", f"net{number}", "master", "net")
                run("ip", "-n", host, "route", "add", "default", "via", f"10.9{number}.0.1")
                run("ip", "netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.set_nats("symmetric")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._all:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def set_nats(self, kind: Kind) -> None:
        """A symmetric NAT maps each destination to a port of its own, a port-restricted one all to the same; both let in only
        what answers."""
        for nat in (self.nat_a, self.nat_b):
            table = "flush ruleset\n" + _TABLE.format(flags=_FLAGS[kind])
            run("ip", "netns", "exec", nat, "nft", "-f", "-", text=table)

    def spoil(self, loss_percent: int, delay_ms: int) -> None:
        """Make what goes through the NATs get lost and, where the kernel can delay, late. (0, 0) makes it good again."""
        text = "table ip lossy {}\ndelete table ip lossy\n" + (_LOSSY.format(loss_percent) if loss_percent else "")
        for nat in (self.nat_a, self.nat_b):
            run("ip", "netns", "exec", nat, "nft", "-f", "-", text=text)
        for device in ("net1", "net3"):
            with contextlib.suppress(OSError):  # a kernel without netem
                run(
                    "tc", "-n", self.relay, "qdisc", "replace", "dev", device, "root", "netem", "delay", f"{delay_ms}ms"
                )

    @staticmethod
    def _cable(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        run("ip", "link", "add", one[1], "netns", one[0], "type", "veth", "peer", "name", other[1], "netns", other[0])
        for namespace, device, address in (one, other):
            if address:
                run("ip", "-n", namespace, "addr", "add", address, "dev", device)
            run("ip", "-n", namespace, "link", "set", device, "up")
