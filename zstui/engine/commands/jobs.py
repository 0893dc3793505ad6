"""Jobs and receipts."""

from __future__ import annotations

from typing import Literal

import msgspec

from zstui.engine.commands.base import Command
from zstui.engine.views import BatchView, CalibrationView, CollectedView, EstimateView, JobOutputView, JobView, WorkView

MAX_WANTS = 200
"""Characters of what a job wants of its executor."""
MAX_PRIORITY = 9


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run and under which limits. Prices are what the submitter is willing to pay at most."""

    module: str
    """Path of a .wasm file on the node's machine, or the name of a sample in assets."""
    guild: str
    executor: str | None = None
    """A peer, or None for the best ranked."""
    function: str = "_start"
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    memory_mib: int = 128
    timeout_s: int = 30
    price_per_second_nano: int | None = None
    """None: the executor's own price."""
    price_per_mib_nano: int | None = None
    max_price_u: int = 1_000_000
    """For all attempts together; of a batch, for all of its jobs together."""
    witnesses: int = 0
    inputs: tuple[str, ...] = ()
    """Files on the node's machine; the job reads each at /in/<its name>."""
    outputs: bool = False
    """Whether what the job writes to /out is brought here."""
    priority: int = 4
    """0 to 9: on an executor the higher one of my jobs runs first."""
    queue_s: int = 3600
    """How long the job waits for an executor that can take it; 0: it does not wait."""
    attempts: int = 3
    """Executors tried at most, where one fails or is lost."""
    wants: str = ""
    """What the executor should offer, in words such as "gpu berlin 8 cores": those that say more of it come first."""
    min_reputation: int = 0
    """Of the executor's score, thousandths."""
    max_failure_rate: int = 1000
    """Of the executor's jobs for me, thousandths."""
    min_uptime: int = 0
    """Share of the time since this node first saw the executor, and while it ran, that it was online, thousandths."""
    input_format: Literal["bytes", "text", "json"] = "bytes"
    input_schema: str = ""
    """A JSON Schema document (draft 2020-12, which refers to nothing outside of itself) for stdin; "" for any."""
    output_format: Literal["bytes", "text", "json"] = "bytes"
    output_schema: str = ""
    """The same for stdout; a job whose output violates it counts as not delivered."""


class EstimateJob(Command[EstimateView], frozen=True, kw_only=True):
    spec: JobSpec


class SubmitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns at once with the job queued or running."""

    spec: JobSpec
    pay_up_to_u: int = 0
    """Pay what this job asks for without asking, up to so much in all: a grant for it alone, which ends within 25 hours."""


class WaitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns when the job has ended (done, failed or cancelled) and asked-for attestations are in or given up."""

    job: str


class ListJobs(Command[list[JobView]], frozen=True, kw_only=True):
    """Newest first."""

    batch: str = ""
    """Only those of this batch, further attempts included."""


class ShowJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class GetOutput(Command[JobOutputView], frozen=True, kw_only=True):
    job: str


class CancelJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class RerunJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class ShowReceipt(Command[dict[str, object]], frozen=True, kw_only=True):
    """The receipt with agreement, attestations and module id: everything ``receipt verify`` needs, offline."""

    receipt: str
    """Receipt id or job id."""


class SubmitBatch(Command[BatchView], frozen=True, kw_only=True):
    """One module over many inputs, a job for each; exactly one of ``map_lines`` and ``map_files`` is given.

    ``spec.max_price_u`` holds for the whole batch. Returns at once; jobs are begun as executors become free.
    """

    spec: JobSpec
    name: str = ""
    """For people; "" means the module's name."""
    map_lines: tuple[str, ...] | None = None
    """One job a line: it takes the place of ``{}`` in the arguments, or is the job's stdin where no argument has one."""
    map_files: tuple[str, ...] | None = None
    """Files or glob patterns on the node's machine, one job a file: mounted at /in/<its name>, which replaces ``{}``."""
    pay_up_to_u: int = 0
    """Leave to pay what its jobs ask for without asking, up to this in all, for a day. 0: every payment asks."""


class ListBatches(Command[list[BatchView]], frozen=True, kw_only=True):
    """Newest first, without their jobs' ids."""


class ShowBatch(Command[BatchView], frozen=True, kw_only=True):
    batch: str


class WaitBatch(Command[BatchView], frozen=True, kw_only=True):
    """Returns when every job of the batch has ended."""

    batch: str


class CollectBatch(Command[CollectedView], frozen=True, kw_only=True):
    """Copy the results that are there to ``directory``, an absolute path on the node's machine."""

    batch: str
    directory: str


class CancelBatch(Command[BatchView], frozen=True, kw_only=True):
    """Begin no more jobs of it and cancel those under way; results that are in stay."""

    batch: str


class ShowWork(Command[WorkView], frozen=True, kw_only=True):
    """What this node does for others right now, and its owner's limits."""


class SetWorking(Command[WorkView], frozen=True, kw_only=True):
    """False: take no new work and let what runs end. Kept in the home."""

    accept: bool


class StopAllJobs(Command[WorkView], frozen=True, kw_only=True):
    """Stop everything that runs or waits here for others, now, and take no new work until ``SetWorking``."""


class SetHours(Command[WorkView], frozen=True, kw_only=True):
    """Take work only from ``start`` to ``end`` of each day, "HH:MM" local time, across midnight too; both "" for always."""

    start: str = ""
    end: str = ""


class SetJobLimits(Command[WorkView], frozen=True, kw_only=True):
    """What others' jobs may use here; None leaves a limit as it is."""

    max_jobs: int | None = None
    """At the same time, at most as many as the node was started with."""
    memory_mib: int | None = None
    """Of one job."""


class Calibrate(Command[CalibrationView], frozen=True, kw_only=True):
    """Measure how fast this machine runs jobs, and keep the result. Takes about a second."""


JobsCommand = (
    EstimateJob
    | SubmitJob
    | WaitJob
    | ListJobs
    | ShowJob
    | GetOutput
    | CancelJob
    | RerunJob
    | ShowReceipt
    | SubmitBatch
    | ListBatches
    | ShowBatch
    | WaitBatch
    | CancelBatch
    | CollectBatch
    | ShowWork
    | SetWorking
    | StopAllJobs
    | SetHours
    | SetJobLimits
    | Calibrate
)
