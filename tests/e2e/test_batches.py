"""Batches and queues between real processes, through the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.conftest import Start
from tests.e2e.test_workflow import form, link
from tests.support.nodes import eventually
from tests.support.terminal import ZSTUI


def test_a_batch_goes_to_both_executors_and_survives_kill_9_of_one_and_of_its_submitter(
    start: Start, tmp_path: Path
) -> None:
    payer, one, two = (start(name, mdns=False) for name in ("payer", "one", "two"))
    link(payer, one)
    link(payer, two)
    guild = form(payer, (one, "executor"), (two, "executor"))
    inputs = tmp_path / "lines"
    inputs.write_text("".join(f"word {n} here\n" for n in range(12)))
    submit = ("job", "submit", "wordcount", "--guild", guild, "--timeout", "5", "--memory", "8", "--max-price", "20")
    batch = payer.ask(*submit, "--map", str(inputs))
    eventually("first results", lambda: payer.ask("job", "batch", batch["batch_id"])["done"] >= 2, 30)
    one.kill()
    payer.kill()
    payer.start()
    link(payer, two)

    def ended() -> bool:
        return bool(payer.ask("job", "batch", batch["batch_id"])["state"] != "running")

    eventually("end of the batch", ended, 60)
    shown = payer.ask("job", "batch", batch["batch_id"])
    assert (shown["state"], shown["done"]) == ("done", 12), shown
    jobs = {j["job_id"]: j for j in payer.ask("job", "list")}
    assert [jobs[j]["batch_index"] for j in shown["jobs"]] == list(range(12))
    assert shown["cost_u"] == sum(jobs[j]["cost_u"] for j in shown["jobs"]) <= shown["max_cost_u"] == 20_000_000
    assert payer.run("job", "output", shown["jobs"][7]).stdout.startswith("1 lines, 3 words")
    waited = payer.run("job", "wait-batch", batch["batch_id"])
    assert waited.returncode == 0
    assert f"zstui job collect {batch['batch_id'][:8]} DIR" in waited.stdout
    collected = payer.ask("job", "collect", batch["batch_id"], str(tmp_path / "results"))
    assert (collected["jobs"], collected["files"]) == (12, 12)
    assert (tmp_path / "results" / "07.stdout").read_text().startswith("1 lines, 3 words")
    assert "12/12" in payer.run("job", "batches").stdout


def test_a_closed_executor_is_waited_for_and_the_reason_is_said(start: Start, tmp_path: Path) -> None:
    payer, worker = (start(name, mdns=False) for name in ("payer", "worker"))
    link(payer, worker)
    guild = form(payer, (worker, "executor"))
    assert worker.ask("work", "off")["accepting"] is False
    job = payer.ask("job", "submit", "hello", "--guild", guild)

    def why() -> bool:
        return "worker: its owner takes no new work right now" in str(payer.ask("job", "show", job["job_id"])["why"])

    eventually("the reason", why)
    waiting = subprocess.Popen(
        [*ZSTUI, "--home", str(payer.home), "job", "wait", job["job_id"]], stdout=subprocess.PIPE
    )
    worker.ask("work", "on")
    assert waiting.wait(20) == 0
    waiting.communicate()
    cancelled = payer.ask("job", "submit", "hello", "--guild", guild, "--queue-for", "0", "--to", "worker")
    assert payer.run("job", "wait", cancelled["job_id"]).returncode == 0
    trapped = payer.ask("job", "submit", "misbehave", "--guild", guild, "--arg", "trap")
    ended = payer.run("job", "wait", trapped["job_id"])
    assert ended.returncode == 1
    assert "The job failed: " in ended.stderr
    (tmp_path / "lines").write_text("trap\n")
    failing = ("--map", str(tmp_path / "lines"), "--arg", "{}")
    batch = payer.ask("job", "submit", "misbehave", "--guild", guild, *failing)
    ended = payer.run("job", "wait-batch", batch["batch_id"])
    assert ended.returncode == 1
    assert "The batch failed: 1 of 1 jobs failed." in ended.stderr
    limits = worker.ask("work", "limit", "--memory", "64")
    assert limits["memory_mib"] == 64

    def refused() -> bool:
        said = payer.run("job", "submit", "hello", "--guild", guild)
        return said.returncode == 1 and "too little memory: offers 64 MiB" in said.stderr

    eventually("a card with the new limit", refused)
