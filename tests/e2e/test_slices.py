"""A long job paid slice by slice between real processes, with the power of either side cut between a note and its payment."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.test_plug import begun, free_port
from tests.e2e.test_workflow import form, link
from tests.support.nodes import NodeProcess, eventually

OPTIONS = ("--max-timeout", "120", "--note-ms", "300", "--accept-ms", "2000", "--price-per-second", "0.1")


class Pair:
    def __init__(self, start: Start) -> None:
        self.payer, self.worker = (
            start(name, "--listen", f"127.0.0.1:{free_port()}", *OPTIONS, mdns=False) for name in ("payer", "worker")
        )
        link(self.payer, self.worker)
        self.guild = form(self.payer, (self.worker, "executor"))

    def submit(self, *options: str) -> str:
        submit = ("job", "submit", "primes", "--arg", "1000000000", "--timeout", "60", "--max-price", "5")
        return str(self.payer.ask(*submit, "--guild", self.guild, *options)["job_id"])

    def job(self, node: NodeProcess, job_id: str) -> dict[str, Any]:
        return node.ask("job", "show", job_id)  # type: ignore[no-any-return]

    def slice_of(self, job_id: str) -> dict[str, Any]:
        def waiting() -> dict[str, Any] | None:
            owed = self.payer.ask("approve", "list")
            return next((a for a in owed if a["job_id"] == job_id and a["kind"] == "note"), None)

        return eventually("slice to pay", waiting)

    def agree(self, job_id: str) -> bool:
        """Both sides hold the same of the job and of what was paid for it."""
        here, there = self.job(self.payer, job_id), self.job(self.worker, job_id)
        same = ("state", "fault", "cost_u", "paid_u", "refund_u", "paid", "receipt_id")
        return here["receipt_id"] != "" and [here[k] for k in same] == [there[k] for k in same]

    def moved_u(self) -> set[int]:
        """What the channel moved, as each side sees it."""
        (mine,), (theirs,) = self.payer.ask("channel", "list"), self.worker.ask("channel", "list")
        return {mine["deposit_mine_u"] - mine["mine_u"], theirs["mine_u"] - theirs["deposit_mine_u"]}


def cut(node: NodeProcess) -> None:
    node.kill()
    node.start()


@pytest.mark.parametrize("after_s", [0.15])
def test_a_payer_without_power_between_note_and_payment_pays_each_slice_once(start: Start, after_s: float) -> None:
    pair = Pair(start)
    job_id = pair.submit()
    request = pair.slice_of(job_id)
    assert eventually("a paused run", lambda: pair.job(pair.worker, job_id)["paused"])
    cut(pair.payer)
    assert pair.slice_of(job_id)["request_id"] == request["request_id"]
    with begun(pair.payer, "approve", "pay", request["request_id"], "--job-up-to", "5"):
        time.sleep(after_s)
        pair.payer.kill()
    pair.payer.start()

    def paid() -> bool:
        if any(a["state"] in ("expired", "failed") for a in pair.payer.ask("approve", "list")):
            pair.payer.run("approve", "reopen", request["request_id"])
        pair.payer.run("approve", "pay", request["request_id"], "--job-up-to", "5")
        return bool(pair.job(pair.worker, job_id)["paid_u"])

    eventually("the first slice", paid)
    eventually("the end of the job", lambda: pair.agree(job_id), 60)
    view = pair.job(pair.payer, job_id)
    assert (view["state"], view["paid"]) == ("done", "paid")
    assert view["paid_u"] == view["cost_u"] > request["amount_u"] > 0
    assert pair.moved_u() == {view["cost_u"]}
    log = pair.payer.ask("policy", "log", "--limit", "1000")
    slices = [d["request_id"] for d in log if d["decision"] in ("pay", "auto")]
    assert len(slices) == len(set(slices)) >= 2


def test_a_worker_without_power_is_paid_for_nothing_more_and_both_sides_know_what_goes_back(start: Start) -> None:
    pair = Pair(start)
    job_id = pair.submit("--pay-up-to", "5", "--attempts", "1")
    eventually("a paid slice", lambda: pair.job(pair.payer, job_id)["paid_u"])
    cut(pair.worker)
    eventually("agreement", lambda: pair.agree(job_id), 40)
    view = pair.job(pair.payer, job_id)
    assert (view["fault"], view["cost_u"]) == ("executor", 0)
    assert view["refund_u"] == view["paid_u"] > 0
    assert pair.moved_u() == {view["paid_u"]}
    eventually(
        "end of the slice that was open",
        lambda: all(a["job_id"] != job_id for a in pair.payer.ask("approve", "list")),
    )

    (back,) = eventually("refund to approve", lambda: pair.worker.ask("approve", "list"))
    assert (back["kind"], back["amount_u"], back["verified"]) == ("refund", view["paid_u"], True)
    pair.worker.ask("approve", "pay", back["request_id"], "--amount", f"{back['amount_u'] / 1e6:.6f}")
    eventually("refund on both sides", lambda: pair.agree(job_id) and not pair.job(pair.payer, job_id)["paid_u"])
    assert pair.moved_u() == {0}
