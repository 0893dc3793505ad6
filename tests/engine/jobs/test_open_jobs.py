"""The running totals are what adding up would give, whatever happens to jobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.jobs.docs import manifest
from zstui.engine.jobs.model import Job, new_job
from zstui.engine.jobs.open_jobs import OpenJobs

PEERS = ("a", "b")
SAMPLE = new_job("", manifest(), "", mine=True, terms=manifest().terms, now_us=1)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    return replace(
        SAMPLE,
        job_id=draw(st.sampled_from(("1", "2", "3"))),
        mine=draw(st.booleans()),
        executor=draw(st.sampled_from(PEERS)),
        submitter=draw(st.sampled_from(PEERS)),
        agreed=draw(st.booleans()),
        state=draw(st.sampled_from(("queued", "running", "done", "failed"))),
        paid=draw(st.sampled_from(("", "unpaid", "paid", "free"))),
        outcome=draw(st.sampled_from(("", "success", "recorded"))),
        cost_u=draw(st.integers(0, 9)),
        exposure_u=draw(st.integers(0, 9)),
        paid_u=draw(st.integers(0, 9)),
    )


@given(st.lists(jobs() | st.sampled_from(("1", "2", "3"))))
def test_totals_are_the_sums(steps: list[Job | str]) -> None:
    found = OpenJobs()
    known: dict[str, Job] = {}
    for step in steps:
        if isinstance(step, str):
            found.drop(step)
            known.pop(step, None)
        else:
            found.put(step)
            known[step.job_id] = step
    still = {j.job_id: j for j in known.values() if not j.settled}
    assert {j.job_id: j for j in found} == still
    assert set(found.unfinished()) == {j for j in still.values() if not j.final}
    for mine in (True, False):
        for peer in PEERS:
            theirs = [j for j in still.values() if (j.mine, j.peer) == (mine, peer)]
            assert set(found.between(mine, peer)) == set(theirs)
            assert found.promised_u(mine, peer) == sum(j.promised_u for j in theirs if j.agreed)
            assert found.due_u(mine, peer) == sum(j.promised_u for j in theirs if j.final)
