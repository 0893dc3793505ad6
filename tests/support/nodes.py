"""Real ``zstui node`` processes and one-shot commands for end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tests.support import oneshot
from tests.support.terminal import ZSTUI

T = TypeVar("T")


def eventually(what: str, probe: Callable[[], T | None], seconds: float = 20.0) -> T:
    """The first true result of ``probe``. Raises AssertionError that names ``what``."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        last = found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {what} within {seconds} s; last: {last!r}")


def zstui(*args: str, home: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a one-shot command to its end."""
    chosen = ("--home", str(home)) if home is not None else ()
    return oneshot.run([*chosen, *args], {**os.environ, **env}, timeout=90)


class NodeProcess:
    """One node on loopback. ``ask`` runs a one-shot command against it and decodes its JSON."""

    def __init__(
        self,
        home: Path,
        *options: str,
        mdns: bool = True,
        start: bool = True,
        namespace: str = "",
        clock: Path | None = None,
    ) -> None:
        """In a network ``namespace`` the node listens and discovers as it does by default, else on loopback only. ``clock``:
        a file that says by how many seconds its clock is shifted. No job is audited by chance."""
        self.home = home
        self.name = home.name
        self._options = options
        self._program = ZSTUI if clock is None else (sys.executable, "-m", "tests.support.shifted")
        shifted = {} if clock is None else {"ZSTUI_TEST_CLOCK": str(clock)}
        self._environ = {"ZSTUI_AUDIT_SHARE": "0", **os.environ, **shifted}
        self._namespace = namespace
        self._mdns = "127.0.0.1" if mdns else "none"
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr = home.parent / f"{home.name}.stderr"
        """File with what every process of this node said on stderr."""
        self.ready: dict[str, Any] = {}
        if start:
            self.start()

    def launch(self) -> None:
        """Begin to start, and do not wait."""
        where = ("ip", "netns", "exec", self._namespace) if self._namespace else ()
        local = () if self._namespace else ("--mdns-interface", self._mdns, "--listen", "127.0.0.1:0")
        errors = self.stderr.open("ab")
        self.process = subprocess.Popen(
            [
                *(*where, *self._program, "--home", str(self.home), "node", "--name", self.name, *local),
                *("--network", self.home.parent.name, "--metrics", "127.0.0.1:0", *self._options),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=self._environ,
        )
        errors.close()

    def start(self) -> None:
        """Return once the node is ready; it may have been launched before."""
        if self.process is None:
            self.launch()
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.stderr.read_text())
        self.ready = msgspec.json.decode(line)

    @property
    def peer_id(self) -> str:
        return str(self.ready["peer_id"])

    @property
    def address(self) -> str:
        return str(self.ready["addresses"][0])

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return zstui(*args, home=self.home)

    def ask(self, *args: str) -> Any:
        """Raises AssertionError with what was said on stderr unless the exit status is 0."""
        done = self.run(*args, "--json")
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return msgspec.json.decode(done.stdout)

    def refuses(self, *args: str) -> str:
        """The one sentence of a refused command."""
        done = self.run(*args)
        assert done.returncode == 1, f"{args}: exit {done.returncode} {done.stdout} {done.stderr}"
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return lines[0]

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process = self.process
        if process is None:
            return 0
        process.send_signal(number)
        try:
            process.wait(15)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.process = None
        return process.returncode
