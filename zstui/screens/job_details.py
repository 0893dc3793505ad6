"""Everything about one job or one batch, as lines for the detail column and the detail window."""

from __future__ import annotations

from collections import Counter

from zstui.bridge import Bridge
from zstui.engine.money import format_amount
from zstui.engine.views import BatchView, JobView
from zstui.screens.dispute_text import acts, dispute_of
from zstui.screens.job_rows import PAID, STATES, batch_bar, counts, share, state_of
from zstui.screens.previews.content import Space
from zstui.screens.previews.results import STDOUT, Results, batch_jobs, file_of, result_names
from zstui.screens.widgets.lines import field, heading, mixed
from zstui.screens.widgets.text import (
    Line,
    Span,
    bar,
    clip,
    clock_time,
    duration,
    mebibytes,
    now,
    plain,
    seconds,
    short_id,
    width_of,
)

FAULTS = {
    "none": "",
    "payer": "the program's fault",
    "executor": "the executor's fault",
    "network": "the network's fault",
    "payment": "a fault in paying",
}
PREVIEW_LINES = 20
EVENTS = 12
FAILURES = 5
LABEL = 10
"""Cells before a value."""


def reason(job: JobView) -> str:
    """Why a job failed, its exit code, and whose fault it was."""
    code = f"exit {job.exit_code}" if job.exit_code is not None else ""
    facts = ", ".join(fact for fact in (code, FAULTS[job.fault]) if fact)
    return (job.why or "Failed").rstrip(".") + (f" ({facts})." if facts else ".")


def bytes_size(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / 1024:,.0f} KiB" if size < 10 << 20 else mebibytes(size)


def result_title(results: Results, job: JobView, name: str) -> str:
    """ "stdout, picture 80 x 50" or "out/a.json, 2 KiB, JSON"."""
    file = file_of(job, name)
    parts = ["Output" if name == STDOUT else f"/out/{clip(plain(name), 30)}", bytes_size(file.size) if file else ""]
    partial = "as it was when stopped" if file and job.state != "done" and job.exit_code is None else ""
    return ", ".join(part for part in (*parts, results.kind(job, name), partial) if part)


def cost_words(cost_u: int, max_cost_u: int) -> str:
    most = f"at most {format_amount(max_cost_u)}"
    return f"{format_amount(cost_u)}, {most}" if cost_u else most


def job_details(job: JobView, bridge: Bridge, results: Results, width: int) -> list[Line]:
    lines = _standing(job, bridge, width)
    if job.mine or job.state == "running":
        lines += _result(job, results, width)
    lines += [(), *_terms(job, bridge, width)]
    if story := [line for line in bridge.log if line.subject == job.job_id and line.level != "debug"]:
        lines += heading("What happened", width)
        for entry in story[-EVENTS:]:
            style = {"warning": "warn", "error": "error"}.get(entry.level, "")
            lines += field(clock_time(entry.at_us / 1e6), entry.text, style, width)
    return lines


def _standing(job: JobView, bridge: Bridge, width: int) -> list[Line]:
    """How it goes, and what stands in its way."""
    lines: list[Line] = [
        *field("Job", f"{job.module}  {short_id(job.job_id)}", "strong", width),
        mixed("State", [state_of(job)]),
    ]
    if job.state == "running":
        lines.append(mixed("Progress", [*bar(share(job), 20), Span(f" {share(job):.0%}")]))
    if job.state == "failed":
        lines += field("Why", reason(job), "error", width)
    elif job.why:
        lines += field("Why", job.why, "warn", width)
    if job.state == "queued" and job.queued_until is not None:
        lines += field("Waits", f"{duration(job.queued_until - now())} more for somebody to take it", "", width)
    if job.attempts > 1 or job.retried_as:
        before = f", after {short_id(job.retry_of)}" if job.retry_of else ""
        after = f"; tried again as {short_id(job.retried_as)}" if job.retried_as else ""
        lines += field("Attempt", f"{job.attempts}{before}{after}", "", width)
    lines += field("Runs at", (job.executor_name or "nobody yet") + ("" if job.mine else " (me)"), "", width)
    lines += field("Time", f"{seconds(job.duration_us or job.elapsed_us)} of {seconds(job.timeout_us)}", "", width)
    lines += field("Cost", cost_words(job.cost_u, job.max_cost_u), "", width)
    if job.paid:
        lines.append(mixed("Paid", [Span(job.paid, PAID[job.paid])]))
    if (dispute := dispute_of(bridge, job.job_id)) is not None:
        style = "ok" if dispute.state in ("refunded", "rejected") else "warn"
        lines += field(
            "Dispute", f"{dispute.state}; {acts(dispute)}" if dispute.must_act else dispute.state, style, width
        )
    return lines + _in_parts(job, width)


def _in_parts(job: JobView, width: int) -> list[Line]:
    """What a job that is billed while it runs has cost and been paid so far, and who carries the rest."""
    lines: list[Line] = []
    if job.due_u and job.state == "running":
        lines += field("So far", f"{format_amount(job.due_u)}, of that paid {format_amount(job.paid_u)}", "", width)
    if job.at_risk_u:
        whose = f"the risk of {job.executor_name}" if job.mine else "my risk"
        lines += field("Unpaid", f"{format_amount(job.at_risk_u)}, {whose}", "warn", width)
    if job.refund_u:
        owes = f"{job.executor_name} owes it back" if job.mine else "I owe it back"
        lines += field("Refund", f"{format_amount(job.refund_u)}: {owes}", "warn", width)
    return lines


def _result(job: JobView, results: Results, width: int) -> list[Line]:
    """The first result, and the names of the others."""
    if job.state == "queued":
        return []
    first, *others = result_names(job)
    lines = [
        *heading(result_title(results, job, first), width),
        *results.job_lines(job, first, Space(width, PREVIEW_LINES, PREVIEW_LINES)),
    ]
    if files := [name for name in others if name != STDOUT]:
        lines.append((Span(f"and {len(files)} more in /out; p shows them", "muted"),))
    return lines


def _terms(job: JobView, bridge: Bridge, width: int) -> list[Line]:
    """What was agreed, used and signed."""
    lines = field("Guild", job.guild_name, "", width)
    lines += field("From", job.submitter_name + (" (me)" if job.mine else ""), "", width)
    lines += field("Calls", job.function + (" " + " ".join(job.args) if job.args else ""), "", width)
    for file in job.inputs[:FAILURES]:
        lines += field("Reads", f"/in/{file.name}, {bytes_size(file.size)}", "", width)
    lines += field("Memory", f"{mebibytes(job.memory_bytes)} of {mebibytes(job.max_memory_bytes)}", "", width)
    if job.gas:
        lines += field("Gas", f"{job.gas:,}{'' if job.gas_exact else ' or more'}", "", width)
    if job.exit_code is not None:
        lines += field("Exit", str(job.exit_code), "ok" if job.exit_code == 0 else "error", width)
    if job.receipt_id:
        lines += field("Receipt", job.receipt_id, "", width)
    if job.attestations:
        names = [_peer_name(bridge, peer) for peer in job.attestations]
        lines += field("Witnesses", f"{', '.join(names)} got the same result", "ok", width)
    if job.output_hash:
        lines += field("Output", f"sha256 {job.output_hash}", "", width)
    return [*lines, *field("Id", job.job_id, "", width), *field("Module", job.module_cid, "", width)]


def _peer_name(bridge: Bridge, peer_id: str) -> str:
    peer = bridge.peers.get(peer_id)
    return plain(peer.name) if peer and peer.name else short_id(peer_id[-8:])


# --- batches ---------------------------------------------------------------------------------------------------------


def batch_summary(batch: BatchView, width: int) -> list[Line]:
    """State, bar, counts, time and cost under the one cap."""
    took = (batch.finished_at or int(now())) - batch.created_at
    span = f" {'for' if batch.finished_at is None else 'after'} {duration(took)}" if took else ""
    lines: list[Line] = [
        mixed("State", [Span(batch.state, STATES[batch.state]), Span(span, "muted")]),
        mixed("Progress", [*batch_bar(batch, min(20, width - 22)), Span(f" {share(batch):.0%} of {batch.total:,}")]),
        *_counts(batch, width),
        *field("Cost", cost_words(batch.cost_u, batch.max_cost_u) + " for all", "", width),
    ]
    return lines + (field("Why", batch.why, "warn", width) if batch.why else [])


def _counts(batch: BatchView, width: int) -> list[Line]:
    """How many jobs are in which state, on two lines where one is too narrow."""
    parts = counts(batch)
    if width_of(parts) + LABEL <= width:
        return [mixed("Jobs", parts)]
    return [mixed("Jobs", parts[:3]), mixed("", parts[4:])]


def batch_details(batch: BatchView, bridge: Bridge, results: Results, width: int) -> list[Line]:
    jobs = batch_jobs(bridge, batch.batch_id)
    lines = [*field("Batch", f"{batch.name}  {short_id(batch.batch_id)}", "strong", width)]
    lines += batch_summary(batch, width)
    lines += _by_executor(jobs, width)
    heads = "Results so far" if batch.finished_at is None else "Results"
    title = ", ".join(part for part in (heads, results.batch_kind(batch)) if part)
    lines += [*heading(title, width), *results.batch_lines(batch, Space(width, PREVIEW_LINES, PREVIEW_LINES))]
    if failed := [job for job in jobs if job.state == "failed"]:
        lines += heading("Failed", width)
        for job in failed[:FAILURES]:
            lines += field(f"{job.batch_index or 0}", reason(job), "error", width, 5)
        if len(failed) > FAILURES:
            lines.append((Span(f"and {len(failed) - FAILURES:,} more; e lists all jobs", "muted"),))
    return [*lines, (), *field("Id", batch.batch_id, "", width)]


def _by_executor(jobs: list[JobView], width: int) -> list[Line]:
    """Who did how many of them, and how fast."""
    done = Counter(job.executor_name for job in jobs if job.state == "done")
    spent = Counter[str]()
    for job in jobs:
        if job.state == "done":
            spent[job.executor_name] += job.duration_us
    text = ", ".join(
        f"{plain(name)} {count} ({seconds(spent[name] // count)} each)" for name, count in done.most_common(4)
    )
    return field("Done by", text, "", width) if text else []
