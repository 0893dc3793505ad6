"""One sandbox process as the engine sees it: started locked down, spoken to in frames, killed and reaped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import msgspec

import zstui
from zstui.engine.errors import JobError
from zstui.engine.jobs.sandbox.messages import (
    ASK,
    HEADER,
    MAX_FROM_COMPILER,
    MAX_FROM_WORKER,
    STOP,
    FromChild,
    Ready,
    ToChild,
    encode,
    from_child,
)

BOOT_TIMEOUT_S = 30.0

_BOOT = """\
import sys
sys.path[:] = sys.argv.pop(1).split(":")
from zstui.engine.jobs.sandbox.child import main
main()
"""
_PATH = ":".join([*filter(None, sys.path), str(Path(zstui.__file__).resolve().parent.parent)])
"""Where the child finds modules: it ignores its environment and working directory (-I), and looks nowhere else (-S)."""
_STDERR_TAIL = 400

Role = Literal["worker", "compiler"]


class Child(asyncio.Protocol):
    """Use ``spawn``. ``on_message`` and ``on_lost`` may be reassigned while no message is due.

    The process has an empty environment, an empty working directory, no terminal, no inherited file but one end of a socket
    pair, and a session of its own, so that Ctrl-C in a terminal is the engine's to handle. It ends when the socket closes.
    """

    on_message: Callable[[FromChild], None]
    on_lost: Callable[[], None]

    def __init__(self, role: Role, process: subprocess.Popen[bytes], stderr: IO[bytes], stops: socket.socket) -> None:
        self._process = process
        self._stops = stops
        self._stderr = stderr
        self._limit = MAX_FROM_WORKER if role == "worker" else MAX_FROM_COMPILER
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._reaping: asyncio.Task[int] | None = None
        self.lost = False
        """The socket is closed: no message will come any more."""
        self.broken = ""
        """How the process broke the protocol, if it did."""
        self.on_message = lambda message: None
        self.on_lost = lambda: None

    @classmethod
    async def spawn(cls, role: Role, empty_dir: Path, data_bytes: int = 0, cpu_seconds: int = 0) -> tuple[Child, Ready]:
        """A process that has locked itself down. Raises JobError where none comes up."""
        ours, theirs = socket.socketpair()
        our_stops, their_stops = socket.socketpair()
        fds = (theirs.fileno(), their_stops.fileno())
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process is reaped
        try:
            with theirs, their_stops:
                process = subprocess.Popen(  # noqa: ASYNC220 - a fork of a millisecond, from the thread that will wait for it
                    [sys.executable, "-I", "-S", "-c", _BOOT, _PATH, role, *map(str, (*fds, data_bytes, cpu_seconds))],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    cwd=empty_dir,
                    env={},
                    pass_fds=fds,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            our_stops.close()
            stderr.close()
            raise JobError(f"The job sandbox could not start a process: {error}.") from error
        child = cls(role, process, stderr, our_stops)
        ours.setblocking(False)
        our_stops.setblocking(False)
        try:
            async with asyncio.timeout(BOOT_TIMEOUT_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: child, sock=ours)
                return child, await asyncio.shield(child._ready)
        except (TimeoutError, ConnectionError):
            await child.close()
            code = await child.reap()
            raise JobError(f"The job sandbox did not start ({_death(code)}): {child.stderr_tail()}") from None
        except asyncio.CancelledError:
            await child.close()
            ours.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, *messages: ToChild) -> None:
        """Queue messages; dropped where the process is gone, which ``on_lost`` tells."""
        if self._transport and not self.lost:
            self._transport.write(b"".join(map(encode, messages)))

    def stop(self, job: int) -> None:
        """Tell a worker to end that job, and all before it, ahead of whatever else it was sent."""
        self._tell(job)

    def ask_memory(self, job: int) -> None:
        """Have a worker tell how much memory that job has."""
        self._tell(job | ASK)

    def _tell(self, number: int) -> None:
        if not self.lost:
            with contextlib.suppress(OSError):
                self._stops.send(STOP.pack(number))

    def suspend(self, suspended: bool) -> None:
        """SIGSTOP or SIGCONT. Idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGSTOP if suspended else signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL. What it had sent before is still delivered, then ``on_lost``. Idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._reap_soon()

    async def close(self) -> None:
        """Kill it, drop the socket, wait for its end."""
        self.on_message = lambda message: None
        self.on_lost = lambda: None
        self.kill()
        if self._transport:
            self._transport.abort()
        await self.reap()

    async def reap(self) -> int:
        """Wait for the end of the process; its return code, negative for a signal."""
        return await asyncio.shield(self._reap_soon())

    async def describe_death(self) -> str:
        """How a process that is gone ended, for a person."""
        return self.broken or _death(await self.reap())

    def stderr_tail(self) -> str:
        if self._stderr.closed:
            return self._tail
        self._stderr.seek(0, 2)
        self._stderr.seek(max(self._stderr.tell() - _STDERR_TAIL, 0))
        return self._stderr.read().decode(errors="replace").strip()

    _tail = ""

    def _reap_soon(self) -> asyncio.Task[int]:
        if self._reaping is None:
            self._reaping = asyncio.get_running_loop().create_task(self._reap())
        return self._reaping

    async def _reap(self) -> int:
        code = await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._tail = self.stderr_tail()
        self._stderr.close()
        self._stops.close()
        return code

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while not self.broken and len(self._buffer) - at >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer, at)
            if length > self._limit:
                self._break(f"it sent a message of {length:,} bytes")
            elif len(self._buffer) - at < HEADER.size + length:
                break
            else:
                start = at + HEADER.size
                at = start + length
                self._take(bytes(memoryview(self._buffer)[start:at]))
        del self._buffer[:at]

    def _take(self, body: bytes) -> None:
        try:
            message = from_child.decode(body)
        except msgspec.DecodeError as error:
            self._break(f"it sent what cannot be read: {error}")
            return
        if isinstance(message, Ready):
            if not self._ready.done():
                self._ready.set_result(message)
        else:
            self.on_message(message)

    def _break(self, how: str) -> None:
        self.broken = how
        self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._buffer.clear()
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError())
            self._ready.exception()
        self.kill()
        self.on_lost()


def _death(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
