"""What the command line says of jobs."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support import samples
from zstui import job_text, tables
from zstui.engine.views import BatchView, CalibrationView, CollectedView, WorkView
from zstui.screens.receipt_text import receipt_text


def test_one_job_is_said_whole() -> None:
    job = next(iter(samples.jobs()))
    text = job_text.job(replace(job, why="It is paused.", attempts=2, retry_of="ab" * 32, gas=1234, due_u=5, paid_u=3))
    for line in (
        f"job       {job.job_id}",
        "why       It is paused.",
        "attempt   2, after abababab",
        "gas       1,234 or more",
        "cost      0.000005, of that paid 0.000003, at most",
    ):
        assert line in text
    assert not [line for line in text.splitlines() if len(line.split(maxsplit=1)) < 2]


def test_batches_work_and_results_are_said_in_words() -> None:
    batch = BatchView(
        batch_id="cd" * 32, name="b", guild_id="", total=9, done=1, failed=2, cancelled=3, state="cancelled"
    )
    assert tables.render(batch).splitlines()[1].split()[:8] == ["cdcdcdcd", "b", "cancelled", "1/9", "2", "3", "0", "0"]
    assert "zstui job list --batch cdcdcdcd" in job_text.batch_hints(batch)
    work = WorkView(accepting=False, why="outside its hours", hours_start="22:00", hours_end="06:00", max_jobs=2)
    assert "no new work is taken: outside its hours" in tables.render(work)
    assert "from 22:00 to 06:00" in tables.render(work)
    assert "always" in tables.render(WorkView(accepting=True))
    done = CollectedView(batch_id="", directory="/r", jobs=2, files=3, size=4567)
    assert tables.render(done) == "3 files of 2 jobs, 4,567 bytes, are in /r"
    speed = CalibrationView(score=1.5, kernels={"float": 20_500}, reference="the reference", at=0)
    assert tables.render(speed) == "This machine runs jobs 1.50 times as fast as the reference (float 20 ms)."


def test_a_receipt_is_read_whatever_is_in_it() -> None:
    assert "Cost       0.00002" in receipt_text({"cost_u": 20, "outputs": [{"name": "a", "size": 1, "sha256": "ff"}]})
    assert "Left       /out/a  1 bytes  ff" in receipt_text({"outputs": [{"name": "a", "size": 1, "sha256": "ff"}]})
    receipt_text({"cost_u": "x", "outputs": 3, "attestations": {}, "results": 5, "started_us": None, "gas": []})
