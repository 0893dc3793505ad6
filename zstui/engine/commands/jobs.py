"""Jobs and receipts."""

from __future__ import annotations

import msgspec

from zstui.engine.commands.base import Command
from zstui.engine.views import EstimateView, JobOutputView, JobView


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
    witnesses: int = 0


class EstimateJob(Command[EstimateView], frozen=True, kw_only=True):
    spec: JobSpec


class SubmitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns at once with the job queued or running."""

    spec: JobSpec


class WaitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns when the job has ended (done, failed or cancelled) and asked-for attestations are in or given up."""

    job: str


class ListJobs(Command[list[JobView]], frozen=True, kw_only=True):
    pass


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


JobsCommand = EstimateJob | SubmitJob | WaitJob | ListJobs | ShowJob | GetOutput | CancelJob | RerunJob | ShowReceipt
