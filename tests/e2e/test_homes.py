"""Homes that cannot serve, ports that are taken, networks that are not there."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.support.nodes import zstui

QUIET = ("node", "--listen", "127.0.0.1:0", "--mdns-interface", "none", "--metrics", "none")


def test_a_second_node_on_one_home_is_refused(start: Start) -> None:
    node = start("one", mdns=False)
    done = zstui(*QUIET, home=node.home)
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert node.ask("status")["peer_id"] == node.peer_id


def test_a_database_from_a_newer_version_is_left_alone(start: Start) -> None:
    node = start("one", mdns=False)
    node.stop()
    with sqlite3.connect(node.home / "zstui.db") as db:
        db.execute("UPDATE schema_version SET version = 99 WHERE component = 'channels'")
    db.close()
    done = zstui(*QUIET, home=node.home)
    assert done.returncode == 1
    assert "newer zstui" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_home(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir(mode=0o000)
    assert "Cannot use the home directory" in zstui(*QUIET, home=tmp_path / "h").stderr


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("")
    done = zstui(*QUIET, home=tmp_path / "h")
    assert done.returncode == 1
    assert "Cannot use the home directory" in done.stderr


def test_a_key_that_others_can_read_is_refused(start: Start) -> None:
    node = start("one", mdns=False)
    node.stop()
    assert (node.home / "key").stat().st_mode & 0o777 == 0o600
    (node.home / "key").chmod(0o644)
    done = zstui(*QUIET, home=node.home)
    assert done.returncode == 1
    assert "chmod 600" in done.stderr


def test_a_port_in_use_is_replaced_and_said(start: Start) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        node = start("one", "--listen", f"127.0.0.1:{port}", mdns=False)
        assert any(str(port) in notice and "in use" in notice for notice in node.ready["notices"])
        assert f"/udp/{port}/" not in node.address


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="makes a network namespace")
def test_no_network_at_all(tmp_path: Path) -> None:
    name = f"zs{uuid.uuid4().hex[:8]}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        pytest.skip("this machine makes no network namespaces")
    try:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", name, sys.executable, "-m", "zstui"),
                *("--home", str(tmp_path / "h"), "node", "--metrics", "none"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        assert b'"ready"' in process.stdout.readline()
        status = zstui("status", home=tmp_path / "h")
        assert status.returncode == 0
        assert "no network" in status.stdout.lower()
        process.terminate()
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 0, stderr.decode()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)
