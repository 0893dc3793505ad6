"""Payer and executor lose their power at random moments; afterwards their books agree to the last µ.

``ZSTUI_EXAMPLES`` sets the number of rounds, ``ZSTUI_SEED`` which ones.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Start
from tests.e2e.test_workflow import form, link, request_for
from tests.support.nodes import NodeProcess, eventually
from tests.support.terminal import ZSTUI

ROUNDS = int(os.environ.get("ZSTUI_EXAMPLES", "6"))
SEED = int(os.environ.get("ZSTUI_SEED", "1"))
MOMENTS = ("submit", "run", "pay", "close", "pay", "submit")
HEAL_S = 40.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def begun(node: NodeProcess, *args: str) -> Iterator[None]:
    """A command that is under way inside the block, whatever becomes of it."""
    command = subprocess.Popen(
        [*ZSTUI, "--home", str(node.home), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield
        _, said = command.communicate(timeout=60)
        assert b"Traceback" not in said, said.decode()
    finally:
        command.kill()
        command.communicate()


class Pair:
    def __init__(self, payer: NodeProcess, worker: NodeProcess, guild: str) -> None:
        self.payer, self.worker, self.guild = payer, worker, guild
        self.submit = ("job", "submit", "hello", "--guild", guild)

    def linked(self) -> bool:
        return all(
            any(p["peer_id"] == other.peer_id and p["state"] == "online" for p in node.ask("peers"))
            for node, other in ((self.payer, self.worker), (self.worker, self.payer))
        )

    def pull(self, rng: random.Random, moment: str) -> None:
        """Begin ``moment``, kill one side or both somewhere in it, and start them again, at times in two attempts."""
        victims = rng.choice(((self.payer,), (self.worker,), (self.payer, self.worker)))
        if moment in ("pay", "close"):
            job = self.payer.ask(*self.submit, "--wait")
            if job["state"] == "done" and moment == "pay":
                request = request_for(self.payer, job["job_id"])
        active = [c for c in self.payer.ask("channel", "list") if c["state"] == "active"]
        if moment == "pay" and job["state"] == "done":
            command: tuple[str, ...] = ("approve", "pay", request["request_id"])
        elif moment == "close" and active:
            command = ("channel", "close", active[0]["channel_id"])
        else:
            command = (*self.submit, "--wait") if moment == "run" else self.submit
        with begun(self.payer, *command):
            time.sleep(rng.uniform(0.1, 0.8 if moment == "run" else 0.35))
            for node in victims:
                node.kill()
        for node in victims:
            node.launch()
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0.1, 0.6))
            for node in victims:
                node.kill()
        for node in victims:
            node.start()

    def settled(self) -> bool:
        """Every job of the payer has ended and what is owed is paid, by hand, as often as it takes."""
        for owed in self.payer.ask("approve", "list"):
            if owed["state"] in ("expired", "failed", "declined"):
                self.payer.run("approve", "reopen", owed["request_id"])
            if owed["state"] != "paying":
                self.payer.run("approve", "pay", owed["request_id"])
        return not self.payer.ask("approve", "list") and all(
            j["state"] in ("done", "failed", "cancelled") and j["paid"] not in ("unpaid", "paying")
            for node in (self.payer, self.worker)
            for j in node.ask("job", "list")
        )


def channels(node: NodeProcess, mine: str, theirs: str) -> dict[str, tuple[Any, ...]]:
    """By id: what both sides must agree on, as seen from the payer."""
    numbers = ("sequence", "sequence_theirs") if mine == "mine_u" else ("sequence_theirs", "sequence")
    return {
        c["channel_id"]: (c["state"], c["epoch"], c[mine], c[theirs], *(c[n] for n in numbers))
        for c in node.ask("channel", "list")
        if c["reason"] != "void"
    }


def test_no_kill_9_loses_or_doubles_a_payment(start: Start) -> None:
    ports = free_port(), free_port()
    payer, worker = (
        start(name, "--listen", f"127.0.0.1:{port}", mdns=False)
        for name, port in zip(("payer", "worker"), ports, strict=True)
    )
    link(payer, worker)
    pair = Pair(payer, worker, form(payer, (worker, "executor")))
    rng = random.Random(SEED)
    for n in range(ROUNDS):
        pair.pull(rng, MOMENTS[n % len(MOMENTS)])
        eventually(f"link after round {n}", pair.linked, HEAL_S)
    eventually("end of every job and payment", pair.settled, HEAL_S * 2)

    jobs = {j["job_id"]: j for j in payer.ask("job", "list")}
    theirs = {j["job_id"]: j for j in worker.ask("job", "list")}
    paid = {id for id, j in jobs.items() if j["paid"] == "paid"}
    assert paid, "the sequence paid for something"
    assert paid == {id for id, j in theirs.items() if j["paid"] == "paid"}
    assert all(jobs[id]["receipt_id"] == theirs[id]["receipt_id"] for id in paid)
    assert all(jobs[id]["cost_u"] == theirs[id]["cost_u"] > 0 for id in paid)
    due = sum(jobs[id]["cost_u"] for id in paid)

    def agree() -> bool:
        return channels(payer, "mine_u", "theirs_u") == channels(worker, "theirs_u", "mine_u")

    eventually("agreement on channels", agree)
    assert sum(c["mine_u"] - c["deposit_mine_u"] for c in worker.ask("channel", "list")) == due
    assert sum(c["deposit_mine_u"] - c["mine_u"] for c in payer.ask("channel", "list")) == due

    for channel in payer.ask("channel", "list"):
        if channel["state"] != "closed":
            payer.run("channel", "close", channel["channel_id"])

    def closed() -> bool:
        return agree() and {c[0] for c in channels(payer, "mine_u", "theirs_u").values()} == {"closed"}

    eventually("cooperative close", closed, HEAL_S)
    assert payer.ask("status")["i_owe_u"] == worker.ask("status")["owed_to_me_u"] == due
    assert payer.ask("status")["owed_to_me_u"] == worker.ask("status")["i_owe_u"] == 0
    assert {c["reason"] for c in payer.ask("channel", "list")} <= {"cooperative", "void"}
    for node in (payer, worker):
        assert node.stop() == 0
        assert "Traceback" not in node.stderr.read_text()


def test_a_kill_9_during_the_first_start_spoils_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for n in range(ROUNDS // 2):
        node = NodeProcess(tmp_path / f"node{n}", mdns=False, start=False)
        try:
            for _ in range(2):
                node.launch()
                time.sleep(rng.uniform(0.1, 0.6))
                node.kill()
            node.start()
            assert node.ask("status")["peer_id"] == node.peer_id
            assert node.stop() == 0
            assert "Traceback" not in node.stderr.read_text()
        finally:
            node.kill()
