"""One-shot commands in processes that need not import the program first: a process that has, forks one for each command.

What is run is what ``python -m zstui`` runs, in a process of its own, with the given environment and its own standard streams.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn


class Commands:
    """Runs one command at a time, and is of no more use once ``run`` raised; ``close`` ends the process behind it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zstui-oneshot-")
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._answers = self._socket.makefile("rb")

    def run(self, argv: list[str], env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Raises TimeoutError."""
        request = {"argv": argv, "env": env, "cwd": os.getcwd(), "out": str(self._out), "err": str(self._err)}
        self._socket.settimeout(timeout)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        status = int(self._answers.readline())
        return subprocess.CompletedProcess(argv, status, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        """A command that still runs is killed."""
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self._answers.close()
        self._socket.close()
        self._folder.cleanup()


_commands: Commands | None = None
_lock = threading.Lock()


def run(argv: list[str], env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """As ``Commands.run``, by a process that lives as long as this one."""
    global _commands
    with _lock:
        if _commands is None:
            _commands = Commands()
            atexit.register(_end)
        try:
            return _commands.run(argv, env, timeout)
        except BaseException:
            _end()
            raise


def _end() -> None:
    global _commands
    if _commands is not None:
        atexit.unregister(_end)
        _commands.close()
        _commands = None


def main() -> None:
    from zstui import cli

    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as door, door.makefile("rb") as requests:
        for line in requests:
            pid = os.fork()
            if pid == 0:
                _become(cli.main, json.loads(line))
            _, status = os.waitpid(pid, 0)
            door.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(program: Any, request: dict[str, Any]) -> NoReturn:
    """Be the one command, and end as the interpreter does."""
    status = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        status = program(request["argv"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001  the outermost edge of this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
