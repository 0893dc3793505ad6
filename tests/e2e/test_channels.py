"""Channels between real processes where the ground gives way: a full disk, and one key in two places."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.e2e.test_backup import pay_a_job
from tests.e2e.test_workflow import form, link
from tests.support.nodes import NodeProcess, eventually

ROOM = 3 << 20
"""Bytes of the small disk: less than a database and its log grow to."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty directory that is a disk of its own."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounts a file system")
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts no file systems")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Use up every byte of ``disk``; the file to delete."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return path


def test_a_full_disk_stops_the_node_and_both_agree_once_there_is_room(start: Start, small_disk: Path) -> None:
    worker, payer = start("worker", mdns=False), start("small", mdns=False)
    link(payer, worker)
    channel = payer.ask("channel", "open", worker.peer_id, "1")["channel_id"]
    filler = fill(small_disk)
    assert payer.run("channel", "close", channel).returncode != 0
    assert payer.process is not None
    assert payer.process.wait(15) == 1
    assert "could not be written; the node stopped to keep what it has" in payer.stderr.read_text()
    assert "Traceback" not in payer.stderr.read_text()
    payer.stop()
    filler.unlink()
    payer.start()
    payer.ask("connect", worker.address)
    payer.run("channel", "close", channel)
    for node in (payer, worker):
        eventually("closing", lambda node=node: ended(node) == ("closed", "cooperative"))  # type: ignore[misc]


def ended(node: NodeProcess) -> tuple[str, str]:
    view = node.ask("channel", "list")[0]
    return view["state"], view["reason"]


def test_one_key_in_two_places_pays_nothing_twice(start: Start, tmp_path: Path) -> None:
    """A copy of a home, taken before a payment, runs beside the original: it learns of the payment before it signs."""
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    guild = form(payer, (worker, "executor"))
    spent = pay_a_job(payer, guild)
    payer.stop()
    shutil.copytree(payer.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock", "*lock*", "cache"))
    payer.start()
    link(payer, worker)
    spent += pay_a_job(payer, guild)
    copy = start("copy", mdns=False)
    assert copy.peer_id == payer.peer_id
    copy.ask("connect", worker.address)
    eventually("the payment it never made", lambda: copy.ask("channel", "list")[0]["theirs_u"] == spent)
    copy.ask("channel", "close", copy.ask("channel", "list")[0]["channel_id"])
    for node in (copy, worker):
        eventually("closing", lambda node=node: ended(node) == ("closed", "cooperative"))  # type: ignore[misc]
    assert copy.ask("status")["i_owe_u"] == worker.ask("status")["owed_to_me_u"] == spent
