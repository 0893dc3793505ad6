"""A cable between two network namespaces that can lose frames and carry them late, for kernels that cannot do so themselves.

Run as a program with two pairs of namespace and device: it makes both devices (TAP) and carries frames between them. A line on
standard input, ``LOSS DELAY`` (percent, milliseconds), changes the cable; the end of the input ends it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

_TUNSETIFF = 0x400454CA
_TAP, _NO_INFO = 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_FRAME = 65_536
_WAITING = 20_000
"""Frames on their way; more are lost."""


class Cable:
    """The program, and how it is told."""

    def __init__(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Each a namespace and the name of the device to make there. Raises OSError where this machine cannot do it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cable", *one, *other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise OSError("no device can be made in a namespace")

    def spoil(self, loss_percent: int, delay_ms: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{loss_percent} {delay_ms}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def _device(namespace: str, name: str) -> int:
    """A descriptor that reads what the namespace sends through the device. Raises OSError."""
    where = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(where, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the namespace")
    finally:
        os.close(where)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP | _NO_INFO))
    return device


def main() -> None:
    one, other = _device(sys.argv[1], sys.argv[2]), _device(sys.argv[3], sys.argv[4])
    print("ready", flush=True)
    across = {one: other, other: one}
    loss, delay = 0.0, 0.0
    late: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        readable, _, _ = select.select((0, one, other), (), (), wait)
        if 0 in readable:
            line = sys.stdin.readline()
            if not line:
                return
            loss, delay = int(line.split()[0]) / 100, int(line.split()[1]) / 1000
        for device in across.keys() & set(readable):
            frame = os.read(device, _FRAME)
            number += 1
            if len(late) < _WAITING and random.random() >= loss:
                heapq.heappush(late, (time.monotonic() + delay, number, across[device], frame))
        while late and late[0][0] <= time.monotonic():
            _, _, device, frame = heapq.heappop(late)
            try:
                os.write(device, frame)
            except OSError:  # the other end is down
                continue


if __name__ == "__main__":
    main()
