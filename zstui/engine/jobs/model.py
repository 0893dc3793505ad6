"""One job as either side keeps it, and what may follow what. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.manifest import DEFAULT_PRIORITY, FileRef, Manifest, Terms, price
from zstui.engine.jobs.receipt import MAX_REASON, Agreement, Receipt
from zstui.engine.views import Fault, JobState

Paid = Literal["", "unpaid", "paying", "paid", "declined", "free"]
Outcome = Literal["", "success", "failure", "recorded"]
"""success, failure: due to enter the executor's score; recorded: it has."""
Audit = Literal["", "pending", "done"]

FINAL: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
OWED: frozenset[Paid] = frozenset({"unpaid", "paying", "declined"})


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines and paces in seconds. Tests shorten them."""

    heartbeat: float = 2.5
    """An executor says at least this often that it is alive."""
    silence: float = 10.0
    """Without a word for this long, the submitter calls the executor unreachable."""
    answer: float = 20.0
    """For one answer of the negotiation."""
    retry: float = 1.0
    """First pause before another attempt; doubles up to ``retry_most``."""
    retry_most: float = 5.0
    away: float = 15.0
    """An executor unreachable for this long loses its job to another that is free."""
    grace: float = 60.0
    """A lost executor may stay away for the job's time limit and this much."""
    fetch: float = 120.0
    """For one artifact."""
    prompt: float = 0.25
    """What a job that ends before leaves is told in one message."""
    coalesce: float = 0.05
    """Output and progress are sent at most this often."""
    drain: float = 3.0
    """At stop, running jobs get this long to end by themselves, and receipts to be delivered."""


class StoredFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of a job, as a row keeps it."""

    name: str
    cid: str
    size: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A row. Times are Unix microseconds, 0 for "not yet"; ids are hex text; the signed bytes are kept elsewhere."""

    job_id: str
    mine: bool
    guild_id: str
    submitter: PeerId
    executor: PeerId
    module: str
    module_cid: str
    stdin_cid: str = ""
    function: str = "_start"
    args: tuple[str, ...] = ()
    timeout_us: int = 0
    max_memory_bytes: int = 0
    output_bytes: int = 0
    price_per_second_nano: int = 0
    price_per_mib_nano: int = 0
    exposure_u: int = 0
    """The most that can be due."""
    witnesses: int = 0
    state: JobState = "queued"
    why: str = ""
    cancel: bool = False
    """The submitter asked for it."""
    agreed: bool = False
    """Both sides signed."""
    agreement_id: str = ""
    receipt_id: str = ""
    exit_code: int | None = None
    fault: Fault = "none"
    output_hash: str = ""
    gas: int = 0
    gas_exact: bool = False
    duration_us: int = 0
    memory_bytes: int = 0
    cost_u: int = 0
    paid: Paid = ""
    outcome: Outcome = ""
    audit: Audit = ""
    attestations: tuple[PeerId, ...] = ()
    """Witnesses that got the same."""
    delivered: bool = False
    """The submitter has acknowledged the receipt."""
    created_us: int = 0
    agreed_us: int = 0
    started_us: int = 0
    finished_us: int = 0
    inputs: tuple[StoredFile, ...] = ()
    outputs: tuple[StoredFile, ...] = ()
    priority: int = DEFAULT_PRIORITY
    wanted: str = ""
    """The executor that was asked for; "" for any."""
    queued_until_us: int = 0
    """When a job that nobody has taken is given up."""
    attempt: int = 1
    attempts: int = 1
    """Most attempts."""
    retry_of: str = ""
    retried_as: str = ""
    batch_id: str = ""
    batch_index: int | None = None
    paid_u: int = 0
    """What was paid for it so far, as far as its payee has it; less what was paid back."""

    @property
    def peer(self) -> PeerId:
        """The other side."""
        return self.executor if self.mine else self.submitter

    @property
    def artifacts(self) -> frozenset[str]:
        """Content ids of what the job needs to run, and of what it left."""
        files = (f.cid for f in (*self.inputs, *self.outputs))
        return frozenset(filter(None, (self.module_cid, self.stdin_cid, *files)))

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def promised_u(self) -> int:
        """The most that may yet be paid for it."""
        if self.paid in ("paid", "free") or (self.final and not self.paid):
            return 0
        return max(0, (self.cost_u if self.final else self.exposure_u) - self.paid_u)

    @property
    def refund_u(self) -> int:
        """What was paid for a job that came to cost less."""
        return max(0, self.paid_u - self.cost_u) if self.final and self.receipt_id else 0

    @property
    def settled(self) -> bool:
        """Nothing about it can change any more except by a person."""
        return self.final and self.paid not in OWED and self.outcome in ("", "recorded") and self.audit != "pending"


def stored(files: Iterable[FileRef]) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(f.name, f.cid, f.size) for f in files)


def new_job(job_id: str, m: Manifest, executor: PeerId, *, mine: bool, terms: Terms, now_us: int) -> Job:
    """The row of a fresh job, at the prices of ``terms``."""
    return Job(
        job_id=job_id,
        mine=mine,
        guild_id=m.guild_id,
        submitter=m.submitter,
        executor=executor,
        module=m.module_name,
        module_cid=m.module_cid,
        stdin_cid=m.stdin_cid if m.stdin_bytes else "",
        function=m.function,
        args=tuple(clean_text(a, 200) for a in m.args[:64]),
        timeout_us=m.resources.timeout_us,
        max_memory_bytes=m.resources.memory_bytes,
        output_bytes=m.resources.output_bytes,
        price_per_second_nano=terms.price_per_second_nano,
        price_per_mib_nano=terms.price_per_mib_nano,
        exposure_u=price(m, terms.price_per_second_nano, terms.price_per_mib_nano).total_u,
        witnesses=m.witnesses,
        created_us=now_us,
        inputs=stored(m.inputs),
        priority=m.priority,
    )


def agreed_changes(agreement_id: bytes, a: Agreement, now_us: int) -> dict[str, object]:
    """What an agreement signed by both sides changes in a row."""
    return {
        "agreed": True,
        "agreement_id": agreement_id.hex(),
        "agreed_us": now_us,
        "price_per_second_nano": a.price_per_second_nano,
        "price_per_mib_nano": a.price_per_mib_nano,
        "exposure_u": a.exposure_u,
    }


def finished_changes(receipt_id: bytes, r: Receipt, now_us: int) -> dict[str, object]:
    """What a receipt changes in a row of either side."""
    state: JobState = "done" if r.ok else "cancelled" if r.status == "cancelled" else "failed"
    return {
        "state": state,
        "why": clean_text(r.reason, MAX_REASON),
        "receipt_id": receipt_id.hex(),
        "exit_code": r.exit_code,
        "fault": r.fault,
        "output_hash": r.output_hash.hex(),
        "gas": r.gas,
        "gas_exact": r.gas_exact,
        "duration_us": r.active_us,
        "memory_bytes": r.memory_bytes,
        "cost_u": r.total_due_u,
        "outputs": stored(r.outputs),
        "paid": "unpaid" if r.total_due_u else "free",
        "finished_us": now_us,
    }


def longest_active_us(elapsed_us: int) -> int:
    """The longest run that a payer believes: its own elapsed time encloses the executor's. Slack: one in a thousand and 50 ms."""
    return elapsed_us + elapsed_us // 1000 + 50_000
