"""What an owner decides about others' jobs on this machine: when and how much may run, and the panic key."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import SetHours, SetJobLimits, ShowWork, StopAllJobs
from zstui.engine.views import JobView, WorkView
from zstui.screens.dialog import Guarded, Keys
from zstui.screens.form import Field, FieldError, Form, plain_input
from zstui.screens.values import parse_count, safe
from zstui.screens.widgets.text import seconds, short_id

LISTED = 8


def others_jobs(bridge: Bridge) -> list[JobView]:
    """What runs or waits here for others."""
    return [job for job in bridge.jobs.values() if not job.mine and job.state in ("running", "queued")]


class StopAllScreen(Guarded[WorkView | None]):
    """The panic key: everything that runs here for others stops at once. Dismissed with what is left, or None."""

    danger = True
    heading = "STOP EVERYTHING that runs here for others?"
    GUARDED = frozenset({"stop"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("S", "stop", "Stop everything", id="panic.stop")]

    def content(self) -> ComposeResult:
        yield Static("", id="jobs", markup=False)
        yield Static(
            "What runs ends now and counts as your fault: submitters are told, you are paid only for what was already "
            "acknowledged. No new work is taken until you allow it again (d). Your own jobs at others go on.",
            classes="gap",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("S", "Stop everything now"), ("Esc", "Back, let them run"))

    def on_mount(self) -> None:
        self.follow("jobs", self._list)
        self._list()

    def _list(self) -> None:
        jobs = others_jobs(self.bridge)
        lines = [
            f"{short_id(job.job_id)}  {safe(job.module, 24)}  for {safe(job.submitter_name, 20)}, {job.state}"
            + (f" {seconds(job.elapsed_us)}" if job.elapsed_us else "")
            for job in jobs[:LISTED]
        ]
        if len(jobs) > LISTED:
            lines.append(f"and {len(jobs) - LISTED} more")
        text = "\n".join(lines) or "Nothing runs here for others now; this only takes no new work."
        self.query_one("#jobs", Static).update(Content(text))

    def action_stop(self) -> None:
        self.execute(StopAllJobs(), self.dismiss, closed="Everything that ran here for others is stopped.")


class OwnerScreen(Form[WorkView | None]):
    """Hours and limits for others' jobs. Dismissed with them as they are now, or None."""

    heading = "What others' jobs may do here"

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._known: WorkView | None = None

    def content(self) -> ComposeResult:
        yield Field("From", plain_input("", "HH:MM, or nothing for always", 5), id="start")
        yield Field("Until", plain_input("", "HH:MM, past midnight too", 5), id="end")
        yield Field("At once", plain_input(), id="jobs", unit="jobs")
        yield Field("Memory", plain_input(), id="memory", unit="MiB for each")
        yield Static("", id="now", classes="gap", markup=False)

    def keys(self) -> Keys:
        return (("Enter", "Set"), ("Tab", "Next field"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self.reread(partial(self.attempt, ShowWork(), self._fill))

    def _fill(self, work: WorkView) -> None:
        self._known = work
        for field, value in (("start", work.hours_start), ("end", work.hours_end)):
            self.query_one(f"#{field}", Field).set_text(value)
        self.query_one("#jobs", Field).set_text(str(work.max_jobs))
        self.query_one("#memory", Field).set_text(str(work.memory_mib))
        state = "New work is taken" if work.accepting else f"No new work is taken: {safe(work.why, 120)}"
        self.query_one("#now", Static).update(Content(f"{state}. {work.running} running, {work.waiting} waiting."))

    def submit(self) -> None:
        start, end = self.text_of("start"), self.text_of("end")
        if bool(start) != bool(end):
            raise FieldError("end" if start else "start", "Give both times, or neither for always.")
        jobs = self.read("jobs", lambda text: parse_count(text, 1, 4096))
        memory = self.read("memory", lambda text: parse_count(text, 1, 4096))
        limits = SetJobLimits(max_jobs=jobs, memory_mib=memory)
        self.send(SetHours(start=start, end=end), lambda _: self.send(limits, self.dismiss))
