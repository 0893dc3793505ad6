"""A wrong output that was paid for: witnesses run the job again, and what it cost is returned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.engine.channels.disputes.court import DAY, HOUR
from tests.engine.channels.rig import until
from tests.engine.complaints.rig import MODULE, Trade, trade
from tests.engine.jobs.rig import Guest
from zstui.engine.errors import BadInput
from zstui.engine.verification import verify_document

pytestmark = pytest.mark.usefixtures("clean")


async def test_a_wrong_output_is_judged_and_refunded(full: Trade) -> None:
    job = await full.run_and_pay()
    assert job.cost_u == job.paid_u > 0
    view = await full.payer.complaints.complain(job.job_id)
    assert (view.kind, view.state, view.filed_by_me, view.refund_u) == ("output", "filed", True, job.cost_u)
    assert [c.key for c in view.choices] == ["wait"]
    await full.judged("upheld")
    for witness in full.witnesses:
        assert [run.seed for run in witness.sandbox.runs] == [full.executor.sandbox.runs[0].seed]
        assert witness.complaint().role == "witness"
    mine = full.executor.complaint()
    assert {c.key: c.cost_u for c in mine.choices} == {"refund": job.cost_u, "refuse": 0}
    assert mine.must_act.startswith("you must return")
    assert mine.act_by is not None
    assert "24 hours" in mine.choices[1].text

    await full.executor.refund()
    await full.judged("refunded")
    await until(lambda: full.payer.jobs.view(job.job_id).paid_u == 0)
    channel = full.payer.service.views()[0]
    assert (channel.mine_u, channel.theirs_u) == (5_000_000, 0)
    await until(lambda: [o.success for o in full.payer.outcomes] == [True, False])  # it counts against the executor
    again = await full.payer.complaints.complain(job.job_id)
    assert (again.case_id, again.state) == (view.case_id, "refunded"), "a job has one case"
    verdict = await full.payer.complaints.verdict(view.case_id)
    assert (verdict.finding, verdict.final, verdict.mine_u) == ("upheld", True, job.cost_u)
    assert all(check.ok for check in verify_document(verdict.file))


async def test_a_right_output_is_confirmed_and_costs_nothing(full: Trade) -> None:
    job = await full.run_and_pay(wrong=False)
    await full.payer.complaints.complain(job.job_id)
    await full.judged("rejected")
    assert full.executor.complaint().choices == ()
    assert not [v for v in full.executor.approvals.views() if v.kind == "refund"]
    full.shift(4 * DAY)
    for node in full.nodes:
        await node.complaints._expire()
        assert not node.blocked
        assert not node.blacklisted


async def test_a_refund_that_is_refused_is_a_fault_in_that_guild(full: Trade) -> None:
    job = await full.run_and_pay()
    await full.payer.complaints.complain(job.job_id)
    await full.judged("upheld")
    await until(lambda: bool(full.executor.approvals.views()))
    (request,) = full.executor.approvals.views()
    await full.executor.approvals.reject(request.request_id)
    await full.payer.service.close(full.payer.service.views()[0].channel_id)
    full.shift(2 * DAY - HOUR)
    for node in full.nodes:
        await node.complaints._expire()
    assert full.payer.knows("upheld")
    full.shift(2 * HOUR)
    await full.judged("unpaid")
    await until(lambda: all(node.blocked for node in (full.payer, *full.witnesses)))
    for node in (full.payer, *full.witnesses):
        ((_, peer), (hours, why)) = next(iter(node.blocked.items()))
        assert (peer, hours) == (full.executor.id, 24)
        assert "wrong output" in why
        assert not node.blacklisted, "not everywhere"
        assert [f.kind for f in node.complaint().frauds] == ["NO_REFUND"]
    assert not full.executor.blocked
    await full.executor.service.open(full.payer.id, 1_000_000, 0, 86_400)
    await full.executor.refund()
    await full.judged("refunded")


async def test_a_witness_that_cannot_run_it_says_so_and_the_others_decide(full: Trade) -> None:
    job = await full.run_and_pay()
    full.witnesses[0].sandbox.guests[MODULE] = Guest(status="timeout", fault="payer", exit_code=None)
    await full.payer.complaints.complain(job.job_id)
    await full.judged("upheld")


async def test_witnesses_with_another_sandbox_run_nothing_and_accuse_nobody(full: Trade) -> None:
    job = await full.run_and_pay()
    for node in full.witnesses:
        object.__setattr__(node.jobs._room, "engine", "wasmtime 49 profile 1")
    await full.payer.complaints.complain(job.job_id)
    await full.judged("unjudgeable")
    assert not any(node.sandbox.runs for node in full.witnesses)
    assert not full.payer.blocked


async def test_without_enough_that_can_run_it_nothing_follows(full: Trade) -> None:
    job = await full.run_and_pay()
    for node in full.witnesses[:2]:
        await node.stop()
    await full.payer.complaints.complain(job.job_id)
    await until(lambda: full.payer.complaint().verdict is not None)
    await until(lambda: full.payer.complaint().verdict.signatures == 2)  # type: ignore[union-attr]
    assert full.payer.complaint().must_act.startswith("1 more of 4 witnesses")
    full.shift(11 * DAY)
    await full.judged("unresolved", nodes=full.up)
    assert not full.payer.blocked


async def test_a_witness_restored_from_an_older_copy_abstains(full: Trade) -> None:
    job = await full.run_and_pay()
    witness = full.witnesses[0]
    witness.sandbox.guests[MODULE] = Guest(hold=asyncio.Event())
    for other in full.witnesses[1:3]:
        await other.stop()
    await full.payer.complaints.complain(job.job_id)
    await until(lambda: witness.knows("filed"))
    await witness.stop()
    witness.tainted = True
    await witness.start()
    assert witness.knows("unresolved")
    await full.witnesses[1].start()
    await full.witnesses[2].start()
    await full.judged("upheld")
    verdict = witness.complaint().verdict
    assert verdict is not None
    assert not verdict.signed_by_me


async def test_what_cannot_be_disputed(full: Trade, tmp_path: Path) -> None:
    job = await full.run_and_pay(pay=False)
    with pytest.raises(BadInput, match="Nothing was paid"):
        await full.payer.complaints.complain(job.job_id)
    with pytest.raises(BadInput, match="Only who submitted"):
        await full.executor.complaints.complain(job.job_id)
    full.executor.sandbox.guests[MODULE] = Guest(status="timeout", fault="payer", exit_code=None)
    timed_out = await full.run_and_pay(wrong=False)
    with pytest.raises(BadInput, match="cannot be repeated"):
        await full.payer.complaints.complain(timed_out.job_id)
    paid = await full.run_and_pay(timeout_s=20)
    for path in (full.payer.home / "output" / ".artifacts").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match="no longer stored"):
        await full.payer.complaints.complain(paid.job_id)


async def test_a_channel_without_witnesses_has_no_judges(tmp_path: Path) -> None:
    alone = await trade(tmp_path, 0)
    job = await alone.run_and_pay()
    with pytest.raises(BadInput, match="no witnesses"):
        await alone.payer.complaints.complain(job.job_id)


async def test_everything_goes_on_after_a_restart(full: Trade) -> None:
    job = await full.run_and_pay()
    for node in full.witnesses:
        await node.stop()
    await full.payer.complaints.complain(job.job_id)
    await full.payer.stop()
    for node in full.witnesses:
        await node.start()
    await full.executor.stop()
    await full.payer.start()
    await until(lambda: full.payer.knows("upheld"))
    for node in full.witnesses:
        await node.stop()
        await node.start()
    await full.executor.start()
    await until(lambda: full.executor.knows("upheld"))
    await full.executor.stop()
    await full.executor.start()
    await full.executor.refund()
    await full.judged("refunded")
