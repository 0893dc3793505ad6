"""However the app ends, the terminal is as it was and ``on_exit`` has run."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time

import pytest

from tests.support.terminal import PtyProgram

PROGRAM = textwrap.dedent(
    """
    import asyncio
    from tests.support.fake_engine import FakeEngine
    from tests.support import samples
    from zstui.app import run_app

    async def on_exit():
        print("GOODBYE", flush=True)

    status = asyncio.run(run_app(FakeEngine(samples.empty()), on_exit=on_exit))
    print(f"STATUS {status} END", flush=True)
    """
)
ALTERNATE_SCREEN_OFF, MOUSE_OFF, CURSOR_ON = b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, b"q", b"\x03", b"\x11"])
def test_terminal_is_restored(end: signal.Signals | bytes) -> None:
    program = PtyProgram([sys.executable, "-c", PROGRAM], 80, 24, {})
    try:
        program.wait_for(b"Nobody yet", 30)
        program.drain(0.3)
        if isinstance(end, bytes):
            os.write(program._fd, end)
        else:
            os.kill(program.pid, end)
        out, until = b"", time.monotonic() + 20
        while b" END" not in out and time.monotonic() < until:
            out += program.read(0.5)
        for code in (ALTERNATE_SCREEN_OFF, MOUSE_OFF, CURSOR_ON):
            assert code in out
        assert out.index(ALTERNATE_SCREEN_OFF) < out.index(b"GOODBYE") < out.index(b"STATUS 0")
        assert b"Traceback" not in out
    finally:
        program.stop()


REFUSED = textwrap.dedent(
    """
    import asyncio
    from tests.support.fake_engine import FakeEngine
    from zstui.app import run_app
    from zstui.engine.errors import NotRunning

    class Gone(FakeEngine):
        async def snapshot(self):
            raise NotRunning("No node runs here.")

    raise SystemExit(asyncio.run(run_app(Gone())))
    """
)


def test_a_node_that_is_gone_at_the_start_is_one_sentence() -> None:
    program = PtyProgram([sys.executable, "-c", REFUSED], 80, 24, {})
    try:
        out = program.drain(2.0, 20.0)
        assert b"No node runs here." in out[out.index(ALTERNATE_SCREEN_OFF) :]
        assert b"Traceback" not in out
    finally:
        program.stop()


BROKEN = textwrap.dedent(
    """
    import asyncio
    from tests.support.fake_engine import FakeEngine
    from tests.support import samples
    from zstui.app import run_app

    async def run():
        failed = asyncio.Event()
        asyncio.get_running_loop().call_later(1, failed.set)
        return await run_app(FakeEngine(samples.empty()), failed=failed)

    print(f"STATUS {asyncio.run(run())} END", flush=True)
    """
)


def test_a_node_that_cannot_write_ends_the_app_with_a_sentence() -> None:
    program = PtyProgram([sys.executable, "-c", BROKEN], 80, 24, {})
    try:
        out = program.drain(4.0, 20.0)
        assert b"STATUS 1 END" in out
        assert b"The database could not be written" in out[out.index(ALTERNATE_SCREEN_OFF) :]
        assert b"Traceback" not in out
    finally:
        program.stop()
