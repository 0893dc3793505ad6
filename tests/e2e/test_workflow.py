"""The workflow between real processes over loopback QUIC, by the commands a person types."""

from __future__ import annotations

import base64
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.conftest import Start
from tests.support.nodes import NodeProcess, eventually, zstui


def link(a: NodeProcess, b: NodeProcess) -> None:
    a.ask("connect", b.address)
    eventually("link back", lambda: any(p["peer_id"] == a.peer_id for p in b.ask("peers")))


def form(creator: NodeProcess, *others: tuple[NodeProcess, str]) -> str:
    guild_id = str(creator.ask("guild", "create", "farm")["guild_id"])
    for node, role in others:
        eventually("guild", lambda node=node: any(g["guild_id"] == guild_id for g in node.ask("guild", "list")))  # type: ignore[misc]
        node.ask("guild", "join", guild_id, "--role", role)
    return guild_id


def request_for(node: NodeProcess, job_id: str) -> dict[str, Any]:
    def waiting() -> dict[str, Any] | None:
        return next((a for a in node.ask("approve", "list") if a["job_id"] == job_id), None)

    return eventually("payment request", waiting)


def test_the_demo_walks_the_whole_workflow(tmp_path: Path) -> None:
    done = zstui("demo", "--headless", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All sides agree" in done.stdout
    assert not list(tmp_path.glob("zstui-demo-*")), "the demo cleans up after itself"


def test_two_nodes_find_each_other_by_mdns(start: Start) -> None:
    a, b = start("a"), start("b")
    for node, other in ((a, b), (b, a)):
        seen = eventually(
            "peer with its card",
            lambda node=node, other=other: [p for p in node.ask("peers") if p["name"] == other.name],  # type: ignore[misc]
        )
        assert [(p["peer_id"], p["state"]) for p in seen] == [(other.peer_id, "online")]
        assert seen[0]["path"] == "lan"


def test_submit_run_pay_and_verify_offline(start: Start, tmp_path: Path) -> None:
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    guild = form(payer, (worker, "executor"))
    stdin = tmp_path / "text"
    stdin.write_text("one two three\nfour\n")
    job = payer.ask("job", "submit", "wordcount", "--guild", guild, "--stdin", str(stdin), "--wait")
    assert (job["state"], job["exit_code"], job["executor"]) == ("done", 0, worker.peer_id)
    assert "4" in payer.run("job", "output", job["job_id"]).stdout

    request = request_for(payer, job["job_id"])
    assert request["verified"] is True
    assert request["amount_u"] == job["cost_u"] > 0
    before = payer.ask("channel", "list")[0]
    assert before["theirs_u"] == 0, "nothing is paid without being told"
    payer.ask("approve", "pay", request["request_id"])
    assert payer.refuses("approve", "pay", request["request_id"]), "a request is used once"

    for node, mine, theirs in ((payer, "mine_u", "theirs_u"), (worker, "theirs_u", "mine_u")):
        channel = node.ask("channel", "list")[0]
        assert channel[theirs] == job["cost_u"]
        assert channel[mine] == before["mine_u"] - job["cost_u"]
    rank = next(r for r in payer.ask("rank") if r["peer_id"] == worker.peer_id)
    assert rank["completed"] == 1

    receipt = tmp_path / "receipt.json"
    receipt.write_text(payer.run("receipt", "show", job["job_id"], "--json").stdout)
    assert zstui("receipt", "verify", str(receipt)).returncode == 0
    bundle = msgspec.json.decode(receipt.read_bytes())
    forged = bytearray(base64.b64decode(bundle["evidence"]["receipt"]))
    forged[len(forged) // 2] ^= 1
    bundle["evidence"]["receipt"] = base64.b64encode(forged).decode()
    receipt.write_bytes(msgspec.json.encode(bundle))
    assert zstui("receipt", "verify", str(receipt)).returncode == 1

    closed = payer.ask("channel", "close", before["channel_id"])
    assert closed["state"] == "closed"
    there = eventually("close", lambda: [c for c in worker.ask("channel", "list") if c["state"] == "closed"])[0]
    assert (there["mine_u"], there["theirs_u"]) == (closed["theirs_u"], closed["mine_u"])
    assert worker.ask("status")["owed_to_me_u"] == payer.ask("status")["i_owe_u"] == job["cost_u"]


def test_everything_comes_back_after_kill_9_on_both_sides(start: Start) -> None:
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    guild = form(payer, (worker, "executor"))
    job = payer.ask("job", "submit", "hello", "--guild", guild, "--wait")
    request = request_for(payer, job["job_id"])
    channel = payer.ask("channel", "list")[0]
    payer.kill()
    worker.kill()
    worker.start()
    payer.start()
    assert [g["guild_id"] for g in payer.ask("guild", "list") if g["state"] == "joined"] == [guild]
    assert payer.ask("job", "show", job["job_id"])["state"] == "done"
    assert payer.ask("channel", "list")[0]["channel_id"] == channel["channel_id"]
    again = request_for(payer, job["job_id"])
    assert again["request_id"] == request["request_id"]
    payer.ask("connect", worker.address)
    payer.ask("approve", "pay", request["request_id"])
    eventually("payment", lambda: payer.ask("job", "show", job["job_id"])["paid"] == "paid")
    eventually("payment", lambda: worker.ask("job", "show", job["job_id"])["paid"] == "paid")
    assert worker.ask("channel", "list")[0]["mine_u"] == job["cost_u"]


def test_nobodys_code_runs_without_consent(start: Start) -> None:
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    guild = form(payer, (worker, "member"))
    said = payer.refuses("job", "submit", "hello", "--guild", guild, "--wait")
    assert "runs jobs for others" in said


@pytest.fixture
def pair(start: Start) -> tuple[NodeProcess, NodeProcess, str]:
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    return payer, worker, form(payer, (worker, "executor"))


def test_bad_input_gets_one_clear_sentence(pair: tuple[NodeProcess, NodeProcess, str], tmp_path: Path) -> None:
    payer, worker, guild = pair
    text = tmp_path / "text.wasm"
    text.write_text("(module)")
    submit = ("job", "submit", "--guild", guild)
    assert "WebAssembly" in payer.refuses(*submit, str(text))
    assert "nothing.wasm" in payer.refuses(*submit, str(tmp_path / "nothing.wasm"))
    assert "nofunc" in payer.refuses(*submit, "hello", "--function", "nofunc")
    assert "128" in payer.refuses(*submit, "hello", "--memory", "4096")
    assert payer.refuses(*submit, "hello", "--to", "12D3KooWnobody")
    assert payer.refuses(*submit, "hello", "--to", worker.peer_id, "--max-price", "5000", "--price-per-second", "100")
    assert payer.refuses("job", "submit", "hello", "--guild", "ffffffffffff")
    assert payer.refuses("connect", "127.0.0.1:1")
    assert payer.refuses("channel", "open", worker.peer_id, "5000")
    assert payer.refuses("channel", "show", "00000000")
    assert payer.refuses("approve", "pay", "00000000")
    assert payer.run("channel", "open", worker.peer_id, "1,5").returncode == 2
    assert payer.run("frobnicate").returncode == 2
    job = payer.ask("job", "submit", "misbehave", "--arg", "trap", "--guild", guild)
    ended = eventually(
        "end", lambda: (j := payer.ask("job", "show", job["job_id"]))["state"] in ("failed", "done") and j
    )
    assert (ended["state"], ended["fault"]) == ("failed", "payer")
    assert ended["why"]


def test_a_full_and_an_expired_guild(start: Start) -> None:
    creator, first, second = (start(n, mdns=False) for n in ("creator", "first", "second"))
    for node in (first, second):
        link(node, creator)
    small = creator.ask("guild", "create", "small", "--max", "2", "--ttl", "60")
    eventually("guild", lambda: len(second.ask("guild", "list")) == 1)
    first.ask("guild", "join", small["guild_id"])
    assert "full 2/2" in second.refuses("guild", "join", small["guild_id"])
    creator.ask("guild", "dissolve", small["guild_id"])
    assert second.refuses("guild", "join", small["guild_id"])


def test_commands_without_a_node_say_so(tmp_path: Path) -> None:
    done = zstui("status", home=tmp_path / "none")
    assert done.returncode == 2
    assert "zstui node" in done.stderr


def test_no_terminal_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = zstui(home=tmp_path / "h")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_metrics_and_health_are_served(start: Start) -> None:
    node = start("solo", mdns=False)
    node.ask("guild", "create", "g")
    base = node.ready["metrics"]
    base = base if base.startswith("http") else f"http://{base}"
    base = base.removesuffix("/metrics")
    time.sleep(0.2)
    text = urllib.request.urlopen(f"{base}/metrics", timeout=5).read().decode()
    assert "guild_creations_total 1.0" in text
    assert urllib.request.urlopen(f"{base}/healthz", timeout=5).status == 200
