"""The real program in a real terminal, by the keys a person presses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.support.nodes import eventually
from tests.support.terminal import ZSTUI, Tmux

QUIET = {"ZSTUI_LISTEN": "127.0.0.1:0", "ZSTUI_MDNS_INTERFACE": "none", "ZSTUI_METRICS": "none", "ZSTUI_NAME": "me"}


@pytest.fixture(params=[(80, 24), (160, 50)], ids=["80x24", "160x50"])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tmux]:
    columns, rows = request.param
    terminal = Tmux([*ZSTUI, "demo"], columns, rows, {"TMPDIR": str(tmp_path)})
    yield terminal
    terminal.close()
    eventually("end of the demo's processes", lambda: not list(tmp_path.glob("zstui-demo-*")))


def test_a_newcomer_joins_submits_and_pays(demo: Tmux) -> None:
    demo.wait("3 peers", 40)
    demo.keys("2")
    demo.wait("render-farm")
    demo.wait("3/50")
    demo.keys("J")
    demo.wait("Join render-farm")
    demo.keys("Enter")
    demo.wait("joined")
    demo.keys("3", "n")
    demo.wait("Submit a job")
    demo.text("hello")
    demo.wait("at most")
    demo.keys("Enter")
    demo.wait("! 1 waiting", 40)
    demo.keys("a")
    demo.wait("VERIFIED")
    demo.keys("Enter")
    demo.wait("READY")
    assert "0.000 ->" in demo.screen(), "the window shows what the payee had before"
    demo.keys("p")
    demo.wait("acknowledged by")
    demo.keys("Escape")
    demo.gone("acknowledged by")
    demo.keys("5")
    demo.wait("few jobs")
    demo.keys("q")
    eventually("end of the program", demo.dead)


def test_a_signal_ends_it_and_gives_the_terminal_back(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        home = tmp_path / number.name
        argv = " ".join(f'"{part}"' for part in (*ZSTUI, "--home", str(home)))
        terminal = Tmux(["bash", "-mc", f"{argv}; echo status $?; stty -a; sleep 60"], 80, 24, QUIET)
        try:
            terminal.wait("Peers", 30)
            pid = int((home / "lock").read_text())
            os.kill(pid, number)
            screen = terminal.wait("status 0")
            assert "Peers" not in screen, "the alternate screen is left"
            eventually("echo", lambda terminal=terminal: " echo " in f" {terminal.screen()} ")  # type: ignore[misc]
            terminal.text("x-marks")
            terminal.wait("x-marks")
        finally:
            terminal.close()


def test_the_app_attaches_to_a_node_that_runs(start: Start) -> None:
    node = start("alpha", mdns=False)
    terminal = Tmux([*ZSTUI, "--home", str(node.home)], 80, 24, {})
    try:
        terminal.wait("alpha", 30)
        terminal.keys("q")
        eventually("end of the app", terminal.dead)
        assert node.ask("status")["peer_id"] == node.peer_id, "the node goes on"
    finally:
        terminal.close()


def test_a_node_that_dies_is_said_so(start: Start) -> None:
    node = start("alpha", mdns=False)
    terminal = Tmux([*ZSTUI, "--home", str(node.home)], 80, 24, {})
    try:
        terminal.wait("alpha", 30)
        node.kill()
        eventually("word of it", lambda: "node" in terminal.screen().lower())
    finally:
        terminal.close()


def test_idle_it_does_almost_nothing(tmp_path: Path) -> None:
    terminal = Tmux([*ZSTUI, "--home", str(tmp_path / "h")], 80, 24, QUIET)
    try:
        terminal.wait("Peers", 30)
        time.sleep(2)
        before = terminal.screen()
        time.sleep(2)
        assert terminal.screen() == before
    finally:
        terminal.close()
