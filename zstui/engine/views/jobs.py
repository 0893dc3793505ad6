"""Jobs, their output, and what one would cost."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Fault = Literal["none", "payer", "executor", "network", "payment"]


class CheckView(View, frozen=True, kw_only=True):
    """One thing that was verified, e.g. the receipt's signature."""

    name: str
    ok: bool
    detail: str = ""


class JobView(View, frozen=True, kw_only=True):
    job_id: str
    mine: bool
    """True: I submitted it and pay. False: I run it for another."""
    module: str
    """File name of the module as the submitter gave it."""
    module_cid: str
    function: str = "_start"
    args: tuple[str, ...] = ()
    guild_id: str
    guild_name: str = ""
    submitter: str
    submitter_name: str = ""
    executor: str | None
    executor_name: str = ""
    state: JobState
    progress: float | None = None
    """0 to 1 as the job itself reports; None if it does not."""
    elapsed_us: int = 0
    timeout_us: int = 0
    exit_code: int | None = None
    fault: Fault = "none"
    output_hash: str = ""
    """SHA-256 of stdout, lower-case hex."""
    gas: int = 0
    gas_exact: bool = False
    duration_us: int = 0
    memory_bytes: int = 0
    max_memory_bytes: int = 0
    cost_u: int = 0
    max_cost_u: int = 0
    receipt_id: str = ""
    attestations: tuple[str, ...] = ()
    """Peers that re-ran the job and signed that they got the same result."""
    paid: Literal["", "unpaid", "paying", "paid", "declined", "free"] = ""
    why: str = ""
    """One sentence: why it waits, failed, or was refused, naming each peer."""
    created_at: int = 0
    finished_at: int | None = None


class JobOutputView(View, frozen=True, kw_only=True):
    job_id: str
    stdout: bytes
    stderr: bytes
    complete: bool
    path: str = ""
    """File in the home that holds stdout, "" if there is none."""


class EstimateView(View, frozen=True, kw_only=True):
    """What a job would cost, before it is submitted."""

    max_cost_u: int
    """Largest amount that can be asked for: all of the time and memory limit, under the cap."""
    typical_cost_u: int | None
    """From finished jobs with the same module; None if there are none."""
    typical_duration_us: int | None
    candidates: tuple[ExecutorView, ...]


class ExecutorView(View, frozen=True, kw_only=True):
    """One possible executor, ranked; those that cannot take the job carry the reason."""

    peer_id: str
    name: str
    rank: int
    score: float
    completed: int
    price_per_second_nano: int
    price_per_mib_nano: int
    online: bool
    refusal: str = ""
