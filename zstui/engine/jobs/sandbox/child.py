"""The inside of a sandbox process: its end of the socket, and how it locks itself down before it meets a module."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading

from zstui.engine.jobs.sandbox import seccomp
from zstui.engine.jobs.sandbox.messages import ALL_IN_FORCE, HEADER, FromChild, ToChild, encode, to_child

_FILE_BYTES = 64 << 20
"""Largest file that the process may write to: it has none but its stderr, and memory files of wasmtime."""
_OPEN_FILES = 64
_HOLD_BYTES = 32 << 10


class Channel:
    """Blocking frames over the socket that the engine handed down. ``send`` may be called from any thread."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._held = bytearray()

    def send(self, *messages: FromChild, hold: bool = False) -> None:
        """Blocks while the engine does not read. The process ends where the engine is gone.

        With ``hold`` small messages wait for the next call without it.
        """
        with self._sending:
            for message in messages:
                self._held += encode(message)
            if hold and len(self._held) < _HOLD_BYTES:
                return
            data, self._held = self._held, bytearray()
            try:
                self._socket.sendall(data)
            except OSError:
                os._exit(1)

    @property
    def holding(self) -> bool:
        """Something waits to be sent."""
        return bool(self._held)

    @property
    def more(self) -> bool:
        """The next message is here already."""
        size = len(self._buffer)
        return size >= HEADER.size and size >= HEADER.size + HEADER.unpack_from(self._buffer)[0]

    def receive(self) -> ToChild:
        """The next message. The process ends at the end of the stream."""
        while True:
            if len(self._buffer) >= HEADER.size:
                end = HEADER.size + HEADER.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    message = to_child.decode(memoryview(self._buffer)[HEADER.size : end])
                    del self._buffer[:end]
                    return message
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                os._exit(0)
            self._buffer += data


def lock_down(data_bytes: int, cpu_seconds: int) -> str:
    """Give up, for good, what running or compiling a module does not need; returns what is in force, for people.

    ``data_bytes`` caps writable memory and ``cpu_seconds`` processor time; 0 leaves them to the engine.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _FILE_BYTES,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if data_bytes:
        limits[resource.RLIMIT_DATA] = data_bytes
    if cpu_seconds:
        limits[resource.RLIMIT_CPU] = cpu_seconds
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (value, value))
    missing = seccomp.install()
    return f"rlimits only ({missing})" if missing else ALL_IN_FORCE


def main() -> None:
    """``ROLE FD STOP_FD DATA_BYTES CPU_SECONDS``: what ``process.Child.spawn`` passes."""
    role = sys.argv[1]
    fd, stop_fd, data_bytes, cpu_seconds = map(int, sys.argv[2:6])
    channel, stops = Channel(fd), socket.socket(fileno=stop_fd)
    if role == "worker":
        from zstui.engine.jobs.sandbox.worker import Worker

        Worker(channel, stops).serve(lambda: lock_down(data_bytes, cpu_seconds))
    else:
        from zstui.engine.jobs.sandbox.compiler import serve

        threading.Thread(target=_end_with, args=(stops,), daemon=True).start()
        serve(channel, lambda: lock_down(data_bytes, cpu_seconds))


def _end_with(connection: socket.socket) -> None:
    """End the process when the engine is gone, whatever the main thread is in the middle of."""
    while connection.recv(64):
        pass
    os._exit(1)
