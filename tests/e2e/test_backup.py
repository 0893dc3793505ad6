"""Backups and restores between real processes, by the commands a person types."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from tests.e2e.conftest import Start
from tests.e2e.test_workflow import form, link, request_for
from tests.support.nodes import NodeProcess, eventually, zstui


def pay_a_job(payer: NodeProcess, guild: str) -> int:
    """Run and pay one job; returns what it cost."""
    job = payer.ask("job", "submit", "hello", "--guild", guild, "--wait")
    payer.ask("approve", "pay", request_for(payer, job["job_id"])["request_id"])
    eventually("payment", lambda: payer.ask("job", "show", job["job_id"])["paid"] == "paid")
    return int(job["cost_u"])


def test_pay_back_up_pay_more_lose_everything_and_restore(start: Start, tmp_path: Path) -> None:
    payer, worker = start("payer", mdns=False), start("worker", mdns=False)
    link(payer, worker)
    guild = form(payer, (worker, "executor"))
    spent = pay_a_job(payer, guild)
    payer.ask("policy", "grant", "peer", worker.peer_id, "--per-payment", "0.000001", "--per-day", "1", "--total", "1")
    secret, file = tmp_path / "secret", tmp_path / "backup"
    secret.write_text("correct horse battery\n")
    taken = payer.ask("backup", str(file), "--passphrase-file", str(secret))
    assert taken["channels"][0]["theirs_u"] == spent
    spent += pay_a_job(payer, guild)
    channel = payer.ask("channel", "list")[0]
    assert channel["theirs_u"] == spent
    payer.kill()
    shutil.rmtree(payer.home)

    restore = ("restore", str(file), "--passphrase-file", str(secret))
    asked = payer.run(*restore)
    assert (asked.returncode, payer.home.exists()) == (1, False), "nothing without being told"
    assert f"theirs {taken['channels'][0]['theirs_u'] / 1e6:.3f}" in asked.stdout
    assert worker.peer_id in asked.stdout
    preview = msgspec.json.decode(payer.run(*restore, "--yes", "--json").stdout)
    assert preview["backup"]["channels"] == taken["channels"]
    payer.start()
    assert "stop it first" in payer.refuses("restore", str(file), "--passphrase-file", str(secret), "--yes")
    assert payer.ask("policy", "show")["grants"] == [], "an old copy gives no authority back"
    payer.ask("connect", worker.address)
    there = eventually(
        "the latest balance", lambda: [c for c in payer.ask("channel", "list") if c["theirs_u"] == spent]
    )[0]
    assert (there["mine_u"], there["sequence"]) == (channel["mine_u"], channel["sequence"])
    assert worker.ask("channel", "list")[0]["mine_u"] == spent

    payer.ask("channel", "close", there["channel_id"])
    eventually("close", lambda: all(c["state"] == "closed" for c in worker.ask("channel", "list")))
    assert payer.ask("status")["i_owe_u"] == worker.ask("status")["owed_to_me_u"] == spent
    offered = worker.ask("channel", "discharge", payer.peer_id, f"{spent / 1e6:.6f}", "--note", "cash")
    eventually("discharge", lambda: payer.ask("channel", "discharges"))
    payer.ask("channel", "confirm", offered["discharge_id"][:8])
    eventually("nothing owed", lambda: worker.ask("status")["owed_to_me_u"] == payer.ask("status")["i_owe_u"] == 0)
    statement, table = tmp_path / "statement.json", tmp_path / "statement.csv"
    assert payer.run("channel", "statement", worker.peer_id, "--json", str(statement)).returncode == 0
    assert payer.run("channel", "statement", "--csv", str(table)).returncode == 0
    assert len(table.read_text().splitlines()) == 1 + 3, "two payments and the discharge"
    checked = zstui("channel", "verify", str(statement))
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "VERIFIED"), checked.stdout
    statement.write_text(statement.read_text().replace('"paid_u":', '"paid_u":1', 1))
    assert "FAIL" in (bad := zstui("channel", "verify", str(statement))).stdout
    assert bad.returncode == 1
    fresh = payer.ask("channel", "open", worker.peer_id, "1", "--driver", "manual")
    assert (fresh["state"], fresh["epoch"]) == ("active", channel["epoch"] + 1)


def test_what_cannot_be_restored_is_said_in_one_sentence(start: Start, tmp_path: Path) -> None:
    node, other = start("node", mdns=False), start("other", mdns=False)
    secret, file = tmp_path / "secret", tmp_path / "backup"
    secret.write_text("correct horse battery\n")
    node.ask("backup", str(file), "--passphrase-file", str(secret))
    assert "exists already" in node.refuses("backup", str(file), "--passphrase-file", str(secret))
    wrong = tmp_path / "wrong"
    wrong.write_text("another horse\n")
    node.stop()
    other.stop()
    assert "wrong" in node.refuses("restore", str(file), "--passphrase-file", str(wrong), "--yes")
    assert "another identity" in other.refuses("restore", str(file), "--passphrase-file", str(secret), "--yes")
    cut = tmp_path / "cut"
    cut.write_bytes(file.read_bytes()[:-100])
    before = (node.home / "zstui.db").read_bytes()
    assert "cut short" in node.refuses("restore", str(cut), "--passphrase-file", str(secret), "--yes")
    assert (node.home / "zstui.db").read_bytes() == before
    assert zstui("restore", home=node.home).returncode == 2


def test_with_the_key_alone_the_peers_bring_it_back(start: Start, tmp_path: Path) -> None:
    payer, worker, friend = start("payer", mdns=False), start("worker", mdns=False), start("friend", mdns=False)
    link(payer, worker)
    link(payer, friend)
    guild = form(payer, (worker, "executor"), (friend, "member"))
    spent = pay_a_job(payer, guild)
    channel = payer.ask("channel", "list")[0]
    payer.stop()
    key = (payer.home / "key").read_bytes()
    shutil.rmtree(payer.home)
    payer.home.mkdir(mode=0o700)
    (payer.home / "key").touch(0o600)
    (payer.home / "key").write_bytes(key)
    payer.start()
    assert payer.ask("channel", "list") == []
    payer.ask("connect", friend.address)
    eventually("worker, whose address the friend kept", lambda: len(payer.ask("peers")) == 2)
    there = eventually("channel", lambda: [c for c in payer.ask("channel", "list") if c["theirs_u"] == spent])[0]
    assert (there["channel_id"], there["mine_u"]) == (channel["channel_id"], channel["mine_u"])
    closed = payer.ask("channel", "close", there["channel_id"])
    assert closed["state"] == "closed"
    assert payer.ask("status")["i_owe_u"] == spent
