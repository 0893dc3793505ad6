"""A terminal that goes away without a signal ends the app, and frees the home."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

from tests.support.terminal import ZSTUI

RESIZES = 60
"""Each draws the screen again: more writes than the output's queue holds."""


def test_a_lost_terminal_ends_the_app(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    quiet = {"ZSTUI_LISTEN": "127.0.0.1:0", "ZSTUI_MDNS_INTERFACE": "none", "ZSTUI_METRICS": "none"}
    app = subprocess.Popen(
        [*ZSTUI, "--home", str(tmp_path / "h")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", **quiet},
    )
    os.close(theirs)
    try:
        shown, end = b"", time.monotonic() + 20
        while b"Peers" not in shown and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 1 << 16)
        assert b"Peers" in shown
        os.close(ours)
        for _ in range(RESIZES):
            with contextlib.suppress(ProcessLookupError):
                app.send_signal(signal.SIGWINCH)
            time.sleep(0.02)
        app.wait(15)
    finally:
        app.kill()
        app.wait()
