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


class FileView(View, frozen=True, kw_only=True):
    """A file that a job was given or wrote."""

    name: str
    """Relative to /in or /out."""
    size: int
    sha256: str
    path: str = ""
    """On the node's machine; "" until its content is here."""


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
    paid_u: int = 0
    """Paid for it so far."""
    due_u: int = 0
    """What it has cost so far: while it runs, as its executor meters it."""
    at_risk_u: int = 0
    """Of that, what is not paid: the executor's risk, which both sides see."""
    refund_u: int = 0
    """Paid for a job that came to cost less; the executor owes it back."""
    paused: bool = False
    """Held still until a slice is paid; ``why`` says who must act."""
    batch_id: str = ""
    batch_index: int | None = None
    inputs: tuple[FileView, ...] = ()
    outputs: tuple[FileView, ...] = ()
    """What it wrote to /out, as its receipt says."""
    priority: int = 4
    attempts: int = 1
    """Which attempt this is, from 1 on: each is a job of its own, with its own agreement and receipt."""
    retry_of: str = ""
    """The attempt before this one."""
    retried_as: str = ""
    """The attempt after this one."""
    queued_until: int | None = None
    """While it waits for an executor: when it is given up."""


class JobOutputView(View, frozen=True, kw_only=True):
    job_id: str
    stdout: bytes
    stderr: bytes
    complete: bool
    path: str = ""
    """File in the home that holds stdout, "" if there is none."""
    files: tuple[FileView, ...] = ()
    """What it left in /out."""
    why: str = ""
    """Where what it printed is not stored any more."""


class CollectedView(View, frozen=True, kw_only=True):
    """Where a batch's results were copied to."""

    batch_id: str
    directory: str
    jobs: int
    """Jobs that had ended."""
    files: int
    size: int
    """Bytes of all files."""


class SuggestionView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str
    online: bool
    match: str
    """What it offers of what is wanted."""


class EstimateView(View, frozen=True, kw_only=True):
    """What a job would cost, before it is submitted."""

    max_cost_u: int
    """Largest amount that can be asked for: all of the time and memory limit, under the cap."""
    typical_cost_u: int | None
    """From finished jobs with the same module; None if there are none."""
    typical_duration_us: int | None
    candidates: tuple[ExecutorView, ...]
    here_us: int | None = None
    """How long it would take on this machine; None where nothing is known of the module or this machine's speed."""
    elsewhere: tuple[SuggestionView, ...] = ()
    """Known executors outside the guild that fit what the job wants, best first: an invite would bring them in."""


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
    passes: bool = False
    """The refusal may go away by itself: a job can wait for this peer."""
    cores: int = 1
    speed: float | None = None
    """Verified gas per second of this peer over that of the reference machine; its own claim where nothing was verified."""
    speed_tested: bool = False
    """``speed`` comes from runs that this node had verified."""
    expected_us: int | None = None
    expected_cost_u: int | None = None
    why: str = ""
    """How soon a result of this module is expected from it, and from what that was learned; "" where nothing was."""
    match: str = ""
    """What its card offers of what the job wants, and whether it has the module; "" for nothing of it."""


BatchState = Literal["running", "done", "failed", "cancelled"]


class BatchView(View, frozen=True, kw_only=True):
    """One module over many inputs. A job that is tried again counts once."""

    batch_id: str
    name: str
    guild_id: str
    total: int
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    queued: int = 0
    """Waiting for an executor, begun or not."""
    cost_u: int = 0
    """Of the receipts so far."""
    max_cost_u: int = 0
    """The cap over all of it."""
    state: BatchState = "running"
    """"done": every job is; "failed": all have ended, and some are not done; "cancelled": as soon as it was asked for, and
    its jobs under way end after that."""
    jobs: tuple[str, ...] = ()
    """Latest attempt of each, by index, "" where none has begun; left out of lists and the feed."""
    why: str = ""
    created_at: int = 0
    finished_at: int | None = None
    """When its last job ended."""


class WorkView(View, frozen=True, kw_only=True):
    """What this node does for others, and its owner's limits."""

    accepting: bool
    why: str = ""
    """Why nothing is taken now, as peers are told."""
    running: int = 0
    waiting: int = 0
    max_jobs: int = 0
    memory_mib: int = 0
    hours_start: str = ""
    hours_end: str = ""


class CalibrationView(View, frozen=True, kw_only=True):
    """How fast this machine runs jobs."""

    score: float
    """1.0: as fast as ``reference``; 2.0: twice as fast."""
    kernels: dict[str, int]
    """Microseconds of each of a fixed set of small loops."""
    reference: str
    at: int
    """Unix microseconds."""
