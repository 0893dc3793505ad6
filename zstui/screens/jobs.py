"""Pane 3: jobs I sent and jobs I run for others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.engine.commands import CancelJob, JobSpec, RerunJob, SubmitJob
from zstui.engine.errors import ZsError
from zstui.engine.money import format_amount
from zstui.engine.views import JobView
from zstui.screens.dialogs import ConfirmScreen, OutputScreen, ReceiptScreen
from zstui.screens.pane import Pane
from zstui.screens.submit import SubmitScreen
from zstui.screens.widgets.lines import field, heading, mixed
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import (
    Cell,
    Line,
    Span,
    amount,
    bar,
    clip,
    clock_time,
    mebibytes,
    plain,
    seconds,
    short_id,
)

STATES = {"queued": "info", "running": "accent", "done": "ok", "failed": "error", "cancelled": "muted"}
ORDER = {"running": 0, "queued": 1, "done": 2, "failed": 2, "cancelled": 2}
PAID = {"unpaid": "warn", "paying": "info", "paid": "ok", "declined": "error", "free": "muted", "": "muted"}
FAULTS = {
    "none": "",
    "payer": "the program's fault",
    "executor": "the executor's fault",
    "network": "the network's fault",
    "payment": "a fault in paying",
}


def share(job: JobView) -> float:
    """How far a running job is: as it reports, else how much of its time is used."""
    if job.progress is not None:
        return job.progress
    return job.elapsed_us / job.timeout_us if job.timeout_us else 0.0


def _progress(job: JobView) -> Cell:
    if job.state == "running":
        limit = job.timeout_us // 1_000_000
        return (*bar(share(job), 6), Span(f" {job.elapsed_us // 1_000_000}/{limit}s"))
    if job.state == "queued":
        return Span("waits", "muted")
    if job.exit_code is not None:
        took = seconds(job.duration_us or job.elapsed_us)
        return Span(f"exit {job.exit_code} {took}", "" if job.exit_code == 0 else "error")
    return Span(seconds(job.duration_us or job.elapsed_us) if job.elapsed_us else "-", "muted")


def _memory(job: JobView) -> Cell:
    if not job.memory_bytes:
        return Span("-", "faint")
    used, limit = mebibytes(job.memory_bytes), job.max_memory_bytes
    tight = limit and job.memory_bytes > limit * 0.9
    return Span(used if limit in (0, 128 << 20) else f"{used[:-1]}/{limit >> 20}M", "warn" if tight else "")


def _who(job: JobView) -> Cell:
    if job.mine:
        return (Span("at ", "muted"), Span(plain(job.executor_name) or "nobody"))
    return (Span("for ", "accent"), Span(plain(job.submitter_name)))


def _cost(job: JobView) -> Cell:
    if not job.cost_u:
        return Span("-", "faint")
    return Span(amount(job.cost_u), PAID[job.paid] if job.paid != "paid" else "")


class JobsPane(Pane[JobView]):
    TITLE = "Jobs"
    RECORD = "Job"
    AREA = "jobs"
    ALSO = ("output",)
    SORT = "State"
    HELP = (
        "A job is a WebAssembly module that runs in a sandbox on another member's machine, under limits of time, memory "
        "and price that you set. Its receipt is signed; you pay for the time and memory it says, never above the cap."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "Submit", id="jobs.submit", tooltip="Submit a .wasm module as a job"),
        Binding("o", "output", "Output", id="jobs.output", tooltip="Everything the job printed"),
        Binding("x", "stop", "Stop", id="jobs.stop", tooltip="Stop a queued or running job"),
        Binding("R", "rerun", "Rerun", id="jobs.rerun", tooltip="Submit the same job again"),
        Binding("v", "receipt", "Receipt", id="jobs.receipt", tooltip="The signed receipt of a finished job"),
    ]

    def columns(self) -> Sequence[Column[JobView]]:
        return (
            Column("Job", 4, lambda j: Span(short_id(j.job_id), "muted")),
            Column(
                "Module", 11, lambda j: Span(plain(j.module), "strong"), lambda j: j.module.casefold(), flex=1, limit=20
            ),
            Column(
                "Guild",
                8,
                lambda j: plain(j.guild_name) or short_id(j.guild_id),
                lambda j: j.guild_name.casefold(),
                flex=2,
                limit=20,
                above=70,
            ),
            Column(
                "For",
                9,
                _who,
                lambda j: (j.mine, j.executor_name.casefold(), j.submitter_name.casefold()),
                flex=1,
                limit=20,
            ),
            Column("State", 9, lambda j: Span(j.state, STATES[j.state]), lambda j: (ORDER[j.state], -j.created_at)),
            Column("Progress", 13, _progress, lambda j: -share(j), flex=1, limit=18),
            Column("Mem/128", 7, _memory, lambda j: -j.memory_bytes, align="right", above=70),
            Column("Cost", 8, _cost, lambda j: -j.cost_u, align="right", flex=1, limit=11),
            Column(
                "Paid",
                8,
                lambda j: Span(j.paid or "-", PAID[j.paid] if j.paid else "faint"),
                lambda j: j.paid,
                above=90,
            ),
        )

    def key(self, record: JobView) -> str:
        return record.job_id

    def records(self) -> Iterable[JobView]:
        return self.bridge.jobs.values()

    def find(self, key: str) -> JobView | None:
        return self.bridge.jobs.get(key)

    def words(self, record: JobView) -> str:
        return (
            f"{record.job_id} {record.module} {record.guild_name} {record.executor_name} {record.submitter_name} "
            f"{record.state} {record.paid}"
        )

    def note(self, record: JobView) -> tuple[str, str]:
        if record.state == "failed":
            return (self._reason(record), "error")
        if record.state == "done" and record.mine and record.paid == "unpaid":
            return (f"Done, {format_amount(record.cost_u)} to pay. a opens what waits for your approval.", "warn")
        if record.why:
            return (record.why, "muted")
        if record.state == "running" and (tail := self.tail(record.job_id, 1, 200)):
            return ("> " + tail[-1], "muted")
        return ("", "")

    def _reason(self, job: JobView) -> str:
        code = f"exit {job.exit_code}" if job.exit_code is not None else ""
        facts = ", ".join(fact for fact in (code, FAULTS[job.fault]) if fact)
        return (job.why or "Failed").rstrip(".") + (f" ({facts})." if facts else ".")

    def tail(self, job_id: str, count: int, width: int) -> list[str]:
        """The last lines that the job printed, cleaned."""
        data = bytes(self.bridge.output.get(job_id, b""))[-8192:].decode(errors="replace")
        return [clip(plain(line), width) for line in data.splitlines() if line.strip()][-count:]

    def details(self, record: JobView, width: int) -> list[Line]:
        lines: list[Line] = [
            *field("Job", f"{record.module}  {short_id(record.job_id)}", "strong", width),
            mixed("State", [Span(record.state, STATES[record.state])]),
        ]
        if record.state == "running":
            lines.append(mixed("Progress", [*bar(share(record), 20), Span(f" {share(record):.0%}")]))
        if record.state == "failed":
            lines += field("Why", self._reason(record), "error", width)
        elif record.why:
            lines += field("Why", record.why, "warn", width)
        lines += field("Guild", record.guild_name, "", width)
        lines += field("From", record.submitter_name + (" (me)" if record.mine else ""), "", width)
        lines += field("Runs at", (record.executor_name or "nobody yet") + ("" if record.mine else " (me)"), "", width)
        call = record.function + (" " + " ".join(record.args) if record.args else "")
        lines += field("Calls", call, "", width)
        lines += field(
            "Time", f"{seconds(record.duration_us or record.elapsed_us)} of {seconds(record.timeout_us)}", "", width
        )
        lines += field("Memory", f"{mebibytes(record.memory_bytes)} of {mebibytes(record.max_memory_bytes)}", "", width)
        if record.gas:
            lines += field("Gas", f"{record.gas:,}{'' if record.gas_exact else ' (estimated)'}", "", width)
        cost = f"{format_amount(record.cost_u)}, at most {format_amount(record.max_cost_u)}"
        lines += field("Cost", cost if record.cost_u else f"at most {format_amount(record.max_cost_u)}", "", width)
        if record.paid:
            lines.append(mixed("Paid", [Span(record.paid, PAID[record.paid])]))
        if record.exit_code is not None:
            lines += field("Exit", str(record.exit_code), "ok" if record.exit_code == 0 else "error", width)
        if record.receipt_id:
            lines += field("Receipt", record.receipt_id, "", width)
        if record.attestations:
            names = [self._peer_name(peer) for peer in record.attestations]
            lines += field("Witnesses", f"{', '.join(names)} got the same result", "ok", width)
        if record.output_hash:
            lines += field("Output", f"sha256 {record.output_hash}", "", width)
        lines += field("Id", record.job_id, "", width)
        lines += field("Module", record.module_cid, "", width)
        if tail := self.tail(record.job_id, 10, width):
            lines += heading("Output, latest lines", width)
            lines += [(Span(row),) for row in tail]
        if story := [line for line in self.bridge.log if line.subject == record.job_id and line.level != "debug"]:
            lines += heading("What happened", width)
            for entry in story[-12:]:
                style = {"warning": "warn", "error": "error"}.get(entry.level, "")
                lines += field(clock_time(entry.at_us / 1e6), entry.text, style, width)
        return lines

    def _peer_name(self, peer_id: str) -> str:
        peer = self.bridge.peers.get(peer_id)
        return plain(peer.name) if peer and peer.name else short_id(peer_id[-8:])

    def empty(self) -> list[str]:
        return ["No jobs.", "n  submit a .wasm module (samples come with zstui)"]

    # --- actions ------------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        guild = next((g.guild_id for g in self.bridge.guilds.values() if g.state == "joined"), None)
        self._submit(JobSpec(module="", guild=guild or ""), "")

    def _submit(self, start: JobSpec, error: str) -> None:
        """Ask for a job and send it; one that is refused opens again as it was."""

        def chosen(spec: JobSpec) -> None:
            async def work() -> None:
                try:
                    job = await self.bridge.execute(SubmitJob(spec=spec))
                except (ZsError, OSError) as refused:
                    self._submit(spec, str(refused))
                else:
                    self.select(job.job_id)
                    self.say(f"{job.module} is {job.state}.")

            self.app.run_worker(work(), name="SubmitJob", exit_on_error=True)

        self.ask(SubmitScreen(self.bridge, samples=self.bridge.samples, spec=start, error=error), chosen)

    def action_output(self) -> None:
        if job := self.need("job"):
            self.ask(OutputScreen(self.bridge, job.job_id))

    def action_stop(self) -> None:
        if not (job := self.need("job")):
            return
        if job.state not in ("queued", "running"):
            self.say(f"Job {short_id(job.job_id)} has ended already: {job.state}.")
            return
        self.ask(
            ConfirmScreen(
                f"Stop {plain(job.module)}?",
                "Work done until now may still be charged." if job.mine else "The submitter is told; you are not paid.",
                "Stop",
            ),
            lambda _: self.execute(CancelJob(job=job.job_id), lambda view: f"{view.module} is {view.state}."),
        )

    def action_rerun(self) -> None:
        if not (job := self.need("job")):
            return
        if not job.mine:
            self.say("Only the submitter can run a job again.")
            return

        def again(view: JobView) -> str:
            self.select(view.job_id)
            return f"{view.module} is {view.state} again."

        self.execute(RerunJob(job=job.job_id), again)

    def action_receipt(self) -> None:
        if not (job := self.need("job")):
            return
        if not job.receipt_id:
            self.say("A job has a receipt once it has run.")
            return
        self.ask(ReceiptScreen(self.bridge, job.receipt_id))
