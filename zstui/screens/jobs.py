"""Pane 3: jobs I sent, alone and in batches, and jobs I run for others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.bridge import Bridge, WatchedArea
from zstui.engine.commands import (
    Calibrate,
    CancelBatch,
    CancelJob,
    JobSpec,
    RerunJob,
    SetWorking,
    SubmitBatch,
    SubmitJob,
)
from zstui.engine.errors import ZsError
from zstui.engine.money import format_amount
from zstui.engine.views import BatchView, JobView
from zstui.screens.dialogs import ConfirmScreen, OutputScreen, ReceiptScreen
from zstui.screens.dispute_dialogs import DisputeScreen
from zstui.screens.dispute_forms import DisputeOutputScreen
from zstui.screens.dispute_text import dispute_of
from zstui.screens.job_details import batch_details, cost_words, job_details, reason
from zstui.screens.job_rows import Row, Rows, counts, key_of
from zstui.screens.owner import OwnerScreen, StopAllScreen
from zstui.screens.pane import Pane
from zstui.screens.preview import PreviewScreen, copy_path
from zstui.screens.previews.gallery import Gallery
from zstui.screens.previews.results import Results, result_names
from zstui.screens.submit import SubmitScreen
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Line, clip, plain, short_id


class JobsPane(Pane[Row]):
    TITLE = "Jobs"
    RECORD = "Job"
    AREA = "jobs"
    MORE: ClassVar[tuple[WatchedArea, ...]] = ("batches",)
    ALSO = ("output",)
    SORT = "State"
    HELP = (
        "A job is a WebAssembly module that runs in a sandbox on another member's machine, under limits of time, memory "
        "and price that you set. Its receipt is signed; you pay for the time and memory it says, never above the cap. "
        "A batch runs one module over many inputs, on everybody who can take some; e lists its jobs, p shows what they "
        "made so far; each of its jobs asks to be paid, unless Pay up to in its form or a grant (6, P) covers it. "
        "What others run here you can "
        "drain (d), stop at once (!) and limit (L)."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "Submit", id="jobs.submit", tooltip="Submit a .wasm module as a job or a batch of jobs"),
        Binding("p", "look", "Look", id="jobs.look", tooltip="Look at the result: picture, JSON or text"),
        Binding("o", "output", "Output", id="jobs.output", tooltip="Everything the job printed"),
        Binding("e", "unfold", "Jobs", id="jobs.unfold", tooltip="Show or hide the jobs of a batch"),
        Binding("x", "stop", "Stop", id="jobs.stop", tooltip="Stop a queued or running job, or a batch"),
        Binding("R", "rerun", "Rerun", id="jobs.rerun", tooltip="Submit the same job again"),
        Binding("v", "receipt", "Receipt", id="jobs.receipt", tooltip="The signed receipt of a finished job"),
        Binding("D", "dispute", "Dispute", id="jobs.dispute", tooltip="Say that an output you paid for is wrong"),
        Binding("d", "drain", "Drain", id="jobs.drain", tooltip="Take no new jobs from others; again to take them"),
        Binding("exclamation_mark", "panic", "Panic", id="jobs.panic", tooltip="Stop all that runs here for others"),
        Binding("Y", "path", "Path", id="jobs.path", tooltip="Copy the path of the job's result, and show it"),
        Binding("c", "calibrate", "Measure", id="jobs.calibrate", tooltip="Measure how fast this machine runs jobs"),
        Binding("L", "limits", "Limits", id="jobs.limits", tooltip="Hours and limits for others' jobs here"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        self._rows = Rows(self._head_of, self._is_open, self._is_backwards, bridge.guilds)
        self._open: set[str] = set()
        """Batches whose jobs are listed."""
        super().__init__(bridge)

    def on_mount(self) -> None:
        gallery = Gallery(self.run_worker, self._seen, colours=not self.app.no_color)
        self.results = Results(self.bridge, gallery)

    def _seen(self) -> None:
        """A result was read: show it where it is looked at."""
        self.post_message(self.Note())
        if isinstance(self.app.screen, PreviewScreen):
            self.app.screen.update()

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _head_of(self, row: Row) -> Row:
        if isinstance(row, JobView) and row.batch_id and row.mine:
            return self.bridge.batches.get(row.batch_id) or row
        return row

    def _is_open(self, batch_id: str) -> bool:
        return bool(self.filter) or batch_id in self._open

    def _is_backwards(self) -> bool:
        return self.table.descending

    def columns(self) -> Sequence[Column[Row]]:
        return self._rows.columns()

    def key(self, record: Row) -> str:
        return key_of(record)

    def records(self) -> Iterable[Row]:
        yield from self.bridge.batches.values()
        yield from (job for job in self.bridge.jobs.values() if self._is_listed(job))

    def _is_listed(self, job: JobView) -> bool:
        head = self._head_of(job)
        return head is job or (self._is_open(job.batch_id) and not job.retried_as)

    def find(self, key: str) -> Row | None:
        job = self.bridge.jobs.get(key)
        if job is None:
            return self.bridge.batches.get(key)
        return job if self._is_listed(job) else None

    def moves_others(self, keys: set[str]) -> bool:
        heads = (self.bridge.batches.get(key) for key in keys & self._open)
        return any(head is None or self.table.moves(head) for head in heads)

    def words(self, record: Row) -> str:
        if isinstance(record, BatchView):
            return f"{record.batch_id} {record.name} {self._rows.guild(record)} {record.state} batch"
        return (
            f"{record.job_id} {record.module} {record.guild_name} {record.executor_name} {record.submitter_name} "
            f"{record.state} {record.paid} {' '.join(record.args)}"
        )

    # --- what is said about one ---------------------------------------------------------------------------------------

    def note(self, record: Row) -> tuple[str, str]:
        if isinstance(record, BatchView):
            text = f"{''.join(span.text for span in counts(record))}; {cost_words(record.cost_u, record.max_cost_u)} for all."
            return (f"{text} {record.why}", "warn" if record.failed or record.why else "muted")
        if record.state == "failed":
            return (reason(record), "error")
        if record.state == "done" and record.mine and record.paid == "unpaid":
            return (f"Done, {format_amount(record.cost_u)} to pay. a opens what waits for your approval.", "warn")
        if record.why:
            return (record.why, "warn" if record.paused else "muted")
        if record.state == "running" and (tail := self._last_line(record.job_id)):
            return ("> " + tail, "muted")
        return ("", "")

    def _last_line(self, job_id: str) -> str:
        """The last line that the job printed, cleaned; "" where it prints no text."""
        data = bytes(self.bridge.output.get(job_id, b""))[-2048:]
        lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
        return clip(plain(lines[-1]), 200) if lines and "\ufffd" not in lines[-1] else ""

    def details(self, record: Row, width: int) -> list[Line]:
        if isinstance(record, BatchView):
            return batch_details(record, self.bridge, self.results, width)
        return job_details(record, self.bridge, self.results, width)

    def empty(self) -> list[str]:
        return ["No jobs.", "n  submit a .wasm module (samples come with zstui)"]

    # --- submitting ---------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        guild = next((g.guild_id for g in self.bridge.guilds.values() if g.state == "joined"), None)
        self._submit(SubmitJob(spec=JobSpec(module="", guild=guild or "")), "")

    def _submit(self, start: SubmitJob | SubmitBatch, error: str) -> None:
        """Ask for a job or batch and send it; one that is refused opens again as it was."""

        def chosen(command: SubmitJob | SubmitBatch) -> None:
            async def work() -> None:
                try:
                    row: Row
                    if isinstance(command, SubmitBatch):
                        row = await self.bridge.execute(command)
                        what = f"{row.name}, {row.total:,} jobs,"
                    else:
                        row = await self.bridge.execute(command)
                        what = row.module
                except (ZsError, OSError) as refused:
                    self._submit(command, str(refused))
                else:
                    self.select(key_of(row))
                    self.say(f"{what} is {row.state}.")

            self.app.run_worker(work(), name=type(command).__name__, exit_on_error=True)

        self.ask(SubmitScreen(self.bridge, samples=self.bridge.samples, start=start, error=error), chosen)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _need_job(self, batch_says: str) -> JobView | None:
        """The cursor's job; on a batch a word about what to do instead."""
        row = self.need("job")
        if isinstance(row, BatchView):
            self.say(batch_says)
            return None
        return row

    def action_look(self) -> None:
        row = self.need("job")
        if row is None:
            return
        if isinstance(row, JobView) and row.state == "queued":
            self.say("There is nothing to look at before the job runs.")
            return
        table = self.bridge.batches if isinstance(row, BatchView) else self.bridge.jobs
        self.ask(PreviewScreen(row, self.results, lambda: table.get(key_of(row))))

    def action_output(self) -> None:
        if job := self._need_job("e lists the jobs of a batch; each has its own output. p shows all results."):
            self.ask(OutputScreen(self.bridge, job.job_id))

    def action_path(self) -> None:
        if job := self._need_job("e lists the jobs of a batch; each has its own files."):
            self.run_worker(copy_path(self.app, self.results, job, result_names(job)[0]))

    def action_unfold(self) -> None:
        row = self.need("batch")
        if row is None:
            return
        head = self._head_of(row)
        if not isinstance(head, BatchView):
            self.say("This job belongs to no batch.")
            return
        self._open ^= {head.batch_id}
        self.table.cursor = head.batch_id if head.batch_id not in self._open else self.table.cursor
        self.reload()

    # --- acting -------------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        row = self.need("job")
        if row is None:
            return
        what = "Batch" if isinstance(row, BatchView) else "Job"
        if row.state not in ("queued", "running"):
            self.say(f"{what} {short_id(key_of(row))} has ended already: {row.state}.")
        elif isinstance(row, BatchView):
            batch_id, left = row.batch_id, row.running + row.queued
            self.ask(
                ConfirmScreen(
                    f"Stop the batch {plain(row.name)}?",
                    f"{left:,} of {row.total:,} jobs are stopped or never begun. Results that are in stay; work done "
                    "until now may still be charged.",
                    "Stop the batch",
                ),
                lambda _: self.execute(CancelBatch(batch=batch_id), lambda view: f"{view.name} is {view.state}."),
            )
        else:
            job_id = row.job_id
            self.ask(
                ConfirmScreen(
                    f"Stop {plain(row.module)}?",
                    "Work done until now may still be charged."
                    if row.mine
                    else "The submitter is told; you are not paid.",
                    "Stop",
                ),
                lambda _: self.execute(CancelJob(job=job_id), lambda view: f"{view.module} is {view.state}."),
            )

    def action_rerun(self) -> None:
        job = self._need_job("A batch cannot be run again as a whole; e lists its jobs, R runs one of them again.")
        if job is None:
            return
        if not job.mine:
            self.say("Only the submitter can run a job again.")
            return

        def again(view: JobView) -> str:
            self.select(view.job_id)
            return f"{view.module} is {view.state} again."

        self.execute(RerunJob(job=job.job_id), again)

    def action_dispute(self) -> None:
        job = self._need_job("e lists the jobs of a batch; D disputes the output of one of them.")
        if job is None:
            return
        if (dispute := dispute_of(self.bridge, job.job_id)) is not None:
            self.ask(DisputeScreen(self.bridge, dispute.key))
        elif not job.mine:
            self.say("Only the submitter can dispute an output.")
        elif job.paid != "paid":
            self.say("Only an output that was paid for can be disputed; an unpaid one is rejected (6).")
        else:
            self.ask(DisputeOutputScreen(self.bridge, job), lambda view: self.say(view.text))

    def action_receipt(self) -> None:
        job = self._need_job("e lists the jobs of a batch; each has its own receipt.")
        if job is None:
            return
        if not job.receipt_id:
            self.say("A job has a receipt once it has run.")
            return
        self.ask(ReceiptScreen(self.bridge, job.receipt_id))

    # --- the owner ----------------------------------------------------------------------------------------------------

    def action_drain(self) -> None:
        status = self.bridge.status
        accept = status is not None and not status.accepting
        self.execute(
            SetWorking(accept=accept),
            lambda work: (
                "New jobs from others are taken again."
                if work.accepting
                else f"No new jobs from others are taken; {work.running + work.waiting} here run to their end. "
                "d takes new ones again."
            ),
        )

    def action_panic(self) -> None:
        self.ask(
            StopAllScreen(self.bridge),
            lambda work: self.say("Stopped. No new work is taken until you press d in Jobs."),
        )

    def action_calibrate(self) -> None:
        self.say("Measuring; about a second.")
        self.execute(
            Calibrate(),
            lambda view: f"This machine runs jobs {view.score:.2f} times as fast as {view.reference}.",
        )

    def action_limits(self) -> None:
        self.ask(OwnerScreen(self.bridge), lambda work: self.say("The limits are set."))
