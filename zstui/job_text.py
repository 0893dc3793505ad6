"""Jobs, batches and this node's work for others as plain text."""

from __future__ import annotations

from zstui.columns import Row, clock
from zstui.engine.money import format_amount
from zstui.engine.views import BatchView, CalibrationView, CollectedView, JobOutputView, JobView, WorkView

JOBS: Row = ("JOB", "MODULE", "PEER", "STATE", "EXIT", "TIME", "COST", "PAID", "WHY")
BATCHES: Row = (
    "BATCH", "NAME", "STATE", "DONE", "FAILED", "CANCELLED", "RUNNING", "QUEUED", "COST", "CAP", "WHY",
)  # fmt: skip
_FAULTS = {"payer": "the program's", "executor": "the executor's", "network": "the network's", "payment": "in paying"}
LABEL = 10


def job_row(v: JobView) -> Row:
    other = v.executor_name if v.mine else f"for {v.submitter_name}"
    cost = format_amount(v.cost_u)
    ended = "-" if v.exit_code is None else str(v.exit_code)
    return v.job_id[:8], v.module, other or "-", v.state, ended, _took(v), cost, v.paid or "-", v.why


def batch_row(v: BatchView) -> Row:
    counts = f"{v.done}/{v.total}", *map(str, (v.failed, v.cancelled, v.running, v.queued))
    return v.batch_id[:8], v.name, v.state, *counts, format_amount(v.cost_u), format_amount(v.max_cost_u), v.why


def job(v: JobView) -> str:
    """Everything about one."""
    call = " ".join((v.function, *v.args)) if v.function != "_start" or v.args else ""
    after = f", after {v.retry_of[:8]}" if v.retry_of else ""
    again = f"; tried again as {v.retried_as[:8]}" if v.retried_as else ""
    batch = f"{v.batch_id[:8]}, input {v.batch_index}" if v.batch_id else ""
    gas = f"{v.gas:,}{'' if v.gas_exact else ' or more'}" if v.gas else ""
    owed = f", of that paid {format_amount(v.paid_u)}" if v.due_u != v.paid_u else ""
    due = f"{format_amount(v.due_u)}{owed}, " if v.due_u else ""
    exit_code = "" if v.exit_code is None else str(v.exit_code)
    return _lines(
        ("job", v.job_id),
        ("module", f"{v.module}  {v.module_cid}"),
        ("calls", call),
        ("guild", v.guild_name or v.guild_id[:8]),
        ("from", f"{v.submitter_name}{' (this node)' if v.mine else ''}"),
        ("runs at", f"{v.executor_name or 'nobody yet'}{'' if v.mine else ' (this node)'}"),
        ("batch", batch),
        ("attempt", f"{v.attempts}{after}{again}" if after or again else ""),
        ("state", "paused" if v.paused else v.state),
        ("why", v.why),
        ("fault", _FAULTS.get(v.fault, "") if v.state == "failed" else ""),
        ("waits", f"until {clock(v.queued_until)}" if v.queued_until else ""),
        ("time", f"{_took(v)} of {v.timeout_us / 1e6:g} s"),
        ("memory", f"{v.memory_bytes / 2**20:.1f} of {v.max_memory_bytes / 2**20:g} MiB"),
        ("gas", gas),
        ("cost", f"{due}at most {format_amount(v.max_cost_u)}{f': {v.paid}' if v.paid else ''}"),
        ("refund", f"{format_amount(v.refund_u)} is owed back" if v.refund_u else ""),
        ("exit", exit_code),
        *(("read", f"/in/{f.name}  {f.size} bytes") for f in v.inputs),
        *(("wrote", f"/out/{f.name}  {f.size} bytes  {f.path or 'not here'}") for f in v.outputs),
        ("stdout", f"sha256 {v.output_hash}" if v.output_hash else ""),
        ("receipt", v.receipt_id),
        ("witnesses", f"{len(v.attestations)} got the same result" if v.attestations else ""),
        ("since", f"{clock(v.created_at)}{f', ended {clock(v.finished_at)}' if v.finished_at else ''}"),
    )


def work(v: WorkView) -> str:
    """What this node does for others."""
    taken = "new work is taken" if v.accepting else f"no new work is taken: {v.why}"
    hours = f"from {v.hours_start} to {v.hours_end}" if v.hours_start else "always"
    return _lines(
        ("work", taken),
        ("now", f"{v.running} running, {v.waiting} waiting"),
        ("limits", f"{v.max_jobs} jobs at once, {v.memory_mib} MiB each"),
        ("hours", hours),
    )


def calibration(v: CalibrationView) -> str:
    times = ", ".join(f"{name} {took_us / 1000:.0f} ms" for name, took_us in v.kernels.items())
    return f"This machine runs jobs {v.score:.2f} times as fast as {v.reference} ({times})."


def collected(v: CollectedView) -> str:
    return f"{v.files} files of {v.jobs} jobs, {v.size:,} bytes, are in {v.directory}"


def batch_hints(v: BatchView) -> str:
    """Where to look further."""
    batch = v.batch_id[:8]
    return f"Its jobs: zstui job list --batch {batch}\nIts results, by input: zstui job collect {batch} DIR"


def left_files(v: JobOutputView) -> str:
    """A line for each file that a job left in /out: its name there, its size, and where its content is."""
    return "".join(f"/out/{f.name}  {f.size} bytes  {f.path or 'not here yet'}\n" for f in v.files)


def progress(v: BatchView) -> str:
    """One line on how far a batch is."""
    ended = v.done + v.failed + v.cancelled
    bar = "#" * (20 * ended // v.total)
    return f"[{bar:<20}] {ended}/{v.total}  {v.running} running  {v.failed} failed  cost {format_amount(v.cost_u)}"


def _took(v: JobView) -> str:
    return f"{(v.duration_us or v.elapsed_us) / 1e6:.2f} s"


def _lines(*fields: tuple[str, str]) -> str:
    """A line for each field that has a value."""
    return "\n".join(f"{name:<{LABEL}}{value}" for name, value in fields if value)
