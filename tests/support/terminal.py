"""The real program in a pseudo-terminal, for measuring; and in tmux, for reading its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class PtyProgram:
    """A program on a pty of its own; close it with ``stop``."""

    def __init__(self, argv: Sequence[str], columns: int, rows: int, env: Mapping[str, str]) -> None:
        self.started = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], list(argv), {**os.environ, "TERM": "xterm-256color", **env})
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds: float) -> bytes:
        """What arrives next, at the latest after ``seconds``; empty if nothing did."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        try:
            return os.read(self._fd, 1 << 16) if ready else b""
        except OSError:
            return b""

    def drain(self, quiet_s: float, limit_s: float = 10.0) -> bytes:
        """All output until nothing came for ``quiet_s``."""
        out, end = b"", time.monotonic() + limit_s
        while time.monotonic() < end and (data := self.read(quiet_s)):
            out += data
        return out

    def wait_for(self, text: bytes, seconds: float) -> float:
        """Seconds from the start of the program until ``text`` was painted. Raises TimeoutError."""
        out = b""
        while time.perf_counter() - self.started < seconds:
            out += self.read(0.5)
            if text in out:
                return time.perf_counter() - self.started
        raise TimeoutError(f"{text!r} was not painted; got {out[-400:]!r}")

    def key(self, keys: bytes, limit_s: float = 2.0) -> float:
        """Press and return the seconds until the first output after it. Raises TimeoutError."""
        begin = time.perf_counter()
        os.write(self._fd, keys)
        if not self.read(limit_s):
            raise TimeoutError(f"Nothing was painted after {keys!r}.")
        return time.perf_counter() - begin

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        try:
            os.kill(self.pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                self.read(0.05)
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    break
            else:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._fd)


class Tmux:
    """The program in a tmux server of its own. ``screen`` is what a person sees."""

    def __init__(self, argv: Sequence[str], columns: int, rows: int, env: Mapping[str, str]) -> None:
        self._socket = f"zstui-test-{uuid.uuid4().hex[:8]}"
        self._env = {k: v for k, v in os.environ.items() if k != "TMUX"} | {"TERM": "xterm-256color"}
        shell = " ".join(f"{k}='{v}'" for k, v in env.items()) + " exec " + " ".join(f"'{a}'" for a in argv)
        self._run("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), shell)
        self._run("set-option", "-g", "remain-on-exit", "on")

    def _run(self, *args: str) -> str:
        done = subprocess.run(
            [shutil.which("tmux") or "tmux", "-L", self._socket, *args],
            capture_output=True,
            text=True,
            env=self._env,
            check=True,
            timeout=20,
        )
        return done.stdout

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        """tmux key names: "a", "Enter", "Escape", "C-c"."""
        self._run("send-keys", *keys)

    def text(self, text: str) -> None:
        """Typed as it is."""
        self._run("send-keys", "-l", text)

    def wait(self, text: str, seconds: float = 20.0) -> str:
        """The screen once it shows ``text``. Raises AssertionError with the last screen."""
        end = time.monotonic() + seconds
        screen = ""
        while time.monotonic() < end:
            screen = self.screen()
            if text in screen:
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{text!r} did not appear within {seconds} s:\n{screen}")

    def gone(self, text: str, seconds: float = 20.0) -> str:
        """The screen once it no longer shows ``text``. Raises AssertionError with the last screen."""
        end = time.monotonic() + seconds
        while text in (screen := self.screen()):
            if time.monotonic() > end:
                raise AssertionError(f"{text!r} was still there after {seconds} s:\n{screen}")
            time.sleep(0.05)
        return screen

    def pid(self) -> int:
        return int(self._run("display-message", "-p", "#{pane_pid}"))

    def dead(self) -> bool:
        return self._run("display-message", "-p", "#{pane_dead}").strip() == "1"

    def close(self) -> None:
        subprocess.run(
            [shutil.which("tmux") or "tmux", "-L", self._socket, "kill-server"],
            capture_output=True,
            env=self._env,
            check=False,
            timeout=20,
        )


ZSTUI = (sys.executable, "-m", "zstui")
