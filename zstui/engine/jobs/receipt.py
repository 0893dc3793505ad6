"""Bid, agreement, receipt and attestation, and what follows from them. Pure.

An agreement is one body signed by both sides; its id is the SHA-256 of that body. A receipt's id is the SHA-256 of its signed
envelope: the ``ref`` of the payment line that pays it. A job that failed on the executor's side or in the network costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from zstui.engine.errors import InvalidManifest, InvalidReceipt
from zstui.engine.identity.envelope import Body, Signed, open_envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.cost import Cost, cost
from zstui.engine.jobs.manifest import MIB, FileRef, Manifest, check_files
from zstui.engine.jobs.sandbox.model import MAX_FILES
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView

Status = Literal["success", "failure", "timeout", "cancelled", "error"]
ReceiptFault = Literal["none", "payer", "executor", "network"]
NO_CHANNEL = bytes(32)
"""In an agreement whose prices are zero."""
NO_BID = bytes(32)
"""In an agreement that its submitter proposed."""
REPEATABLE: tuple[Status, ...] = ("success", "failure")
"""Statuses that a witness can reproduce."""
RUNTIME_SLACK_US = 2_000_000
"""How far past the time limit a stopped job may have run before its receipt is called wrong."""
MAX_REASON = 300
MAX_FIGURE = 2**53 - 1
MAX_RESULTS = 64
MAX_ATTESTATIONS = 16
MAX_OUTPUT_BYTES = 16 << 20
"""Of all output files together."""


class Bid(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The executor's answer to an offer: its own prices, never above the manifest's."""

    manifest: bytes
    executor: PeerId
    price_per_second_nano: int
    price_per_mib_nano: int
    channel: bytes
    waiting: int
    """Jobs ahead of this one."""
    expires_us: int
    note_ms: int = 0
    """A debit note is due after so much of its run; 0: the receipt alone settles it."""
    accept_ms: int = 0
    """A note unpaid for longer holds the run."""
    exposure_max_u: int = 0
    """The most that may be metered and not paid while it runs."""


class Agreement(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    manifest: bytes
    bid: bytes
    """SHA-256 of the signed bid; zeros where the submitter proposed the agreement without one."""
    submitter: PeerId
    executor: PeerId
    channel: bytes
    price_per_second_nano: int
    price_per_mib_nano: int
    max_total_u: int
    exposure_u: int
    """The most that can be due: all of the time and memory limit at these prices, under ``max_total_u``."""
    created_us: int
    nonce: bytes
    note_ms: int = 0
    """As in the bid."""
    accept_ms: int = 0
    exposure_max_u: int = 0


class Receipt(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    agreement: bytes
    manifest: bytes
    submitter: PeerId
    executor: PeerId
    module_cid: str
    engine: str
    """What ran the module: runtime, its version and the sandbox's profile. Only runs of the same are compared."""
    ok: bool
    status: Status
    exit_code: int | None
    fault: ReceiptFault
    reason: str
    output_hash: bytes
    """SHA-256 of stdout as kept."""
    output_bytes: int
    stderr_bytes: int
    results: tuple[str, ...]
    """What the function returned."""
    active_us: int
    memory_bytes: int
    gas: int
    gas_exact: bool
    total_due_u: int
    started_us: int
    finished_us: int
    outputs: tuple[FileRef, ...] = ()
    """What the job left in /out, sorted by name. May be absent."""


class Attestation(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A witness ran the job again and says what it got."""

    receipt: bytes
    manifest: bytes
    witness: PeerId
    output_hash: bytes
    exit_code: int | None
    gas: int
    gas_exact: bool
    match: bool
    at_us: int
    outputs_hash: bytes = b""
    """``files_hash`` of what it left in /out. This field and the one below may be absent."""
    engine: str = ""
    """As in a receipt."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The signed bytes of one finished job, exactly as they were received."""

    manifest: bytes
    bid: bytes = b""
    agreements: tuple[bytes, ...] = ()
    """The submitter's and the executor's signature over one body."""
    receipt: bytes = b""
    attestations: tuple[bytes, ...] = ()


def agreement_id(signed: Signed) -> bytes:
    return hashlib.sha256(signed.body).digest()


def amount_due(m: Manifest, a: Agreement, fault: ReceiptFault, active_us: int, memory_bytes: int) -> Cost:
    """What a job costs under its agreement: metered usage inside the limits, and nothing where the payer is not at fault."""
    if fault in ("executor", "network"):
        return Cost(0, 0, 0)
    return cost(
        a.price_per_second_nano,
        a.price_per_mib_nano,
        min(active_us, m.resources.timeout_us),
        min(memory_bytes, m.resources.memory_bytes),
        min(a.max_total_u, m.terms.max_total_u),
    )


def files_hash(files: Iterable[FileRef]) -> bytes:
    """One hash over names, sizes and contents; b"" for no files."""
    listed = [(f.name, f.sha256, f.size) for f in files]
    return hashlib.sha256(msgspec.msgpack.encode(listed)).digest() if listed else b""


def same_result(
    r: Receipt, output_hash: bytes, exit_code: int | None, gas: int, gas_exact: bool, outputs_hash: bytes = b""
) -> bool:
    """Whether a second run gave what the receipt says. Gas counts only where both sides metered it exactly."""
    gas_ok = gas == r.gas or not (gas_exact and r.gas_exact)
    same_files = outputs_hash == files_hash(r.outputs)
    return output_hash == r.output_hash and exit_code == r.exit_code and gas_ok and same_files


def incomparable(r: Receipt, engine: str) -> str:
    """Why a run in ``engine`` says nothing about the receipt's, as the rest of a sentence; "" if it does."""
    return "" if r.engine == engine else f"it ran in {clean_text(r.engine, 60)}, and this node has {engine}"


def open_agreement(mine: bytes, theirs: bytes, submitter: PeerId, executor: PeerId) -> tuple[bytes, Agreement]:
    """Id and terms of an agreement that both sides signed. Raises InvalidReceipt, ProtocolError."""
    one, two = open_envelope(mine, submitter), open_envelope(theirs, executor)
    if one.body != two.body:
        raise InvalidReceipt("The two sides signed different agreements.")
    agreement = one.decode(Agreement)
    two.decode(Agreement)
    if (agreement.submitter, agreement.executor) != (submitter, executor):
        raise InvalidReceipt("The agreement names other peers than those that signed it.")
    return agreement_id(one), agreement


def receipt_of(raw: bytes, executor: PeerId, agreement: bytes, manifest: bytes) -> tuple[Signed, Receipt]:
    """A receipt that ``executor`` signed for exactly this agreement. Raises InvalidReceipt, ProtocolError."""
    signed = open_envelope(raw, executor)
    receipt = signed.decode(Receipt)
    if (receipt.executor, receipt.agreement, receipt.manifest) != (executor, agreement, manifest):
        raise InvalidReceipt("The receipt belongs to another job.")
    figures = (
        receipt.active_us,
        receipt.memory_bytes,
        receipt.gas,
        receipt.total_due_u,
        receipt.output_bytes,
        receipt.stderr_bytes,
        receipt.started_us,
        receipt.finished_us,
        receipt.exit_code if receipt.exit_code is not None and receipt.exit_code >= 0 else 0,
    )
    if (
        len(receipt.output_hash) != 32
        or any(not 0 <= n <= MAX_FIGURE for n in figures)
        or (receipt.exit_code or 0) < -(2**31)
    ):
        raise InvalidReceipt("The receipt has impossible values.")
    if len(receipt.reason) > MAX_REASON or len(receipt.results) > MAX_RESULTS:
        raise InvalidReceipt("The receipt's texts are too long.")
    try:
        check_files("output", receipt.outputs, MAX_FILES, MAX_OUTPUT_BYTES)
    except InvalidManifest as error:
        raise InvalidReceipt(str(error)) from None
    return signed, receipt


def receipt_checks(m: Manifest, a: Agreement, r: Receipt) -> tuple[CheckView, ...]:
    """Whether the receipt's figures follow from the agreement; signatures are the caller's business."""
    due = amount_due(m, a, r.fault, r.active_us, r.memory_bytes)
    consistent = (r.ok == (r.status == "success")) and (not r.ok or (r.fault == "none" and r.exit_code in (0, None)))
    within = (
        r.memory_bytes <= m.resources.memory_bytes
        and r.active_us <= m.resources.timeout_us + RUNTIME_SLACK_US
        and r.output_bytes <= m.resources.output_bytes
        and (m.outputs or not r.outputs)
    )
    rates = (
        a.price_per_second_nano <= m.terms.price_per_second_nano
        and a.price_per_mib_nano <= m.terms.price_per_mib_nano
        and a.max_total_u <= m.terms.max_total_u
    )
    return (
        CheckView(name="module", ok=r.module_cid == m.module_cid, detail=m.module_cid),
        CheckView(name="result", ok=consistent, detail=f"{r.status}, fault {r.fault}"),
        CheckView(name="price", ok=rates, detail="not above the manifest's"),
        CheckView(
            name="cost",
            ok=r.total_due_u == due.total_u,
            detail=f"{format_amount(due.total_u)} = time {format_amount(due.time_u)} + memory {format_amount(due.memory_u)}",
        ),
        CheckView(
            name="limits",
            ok=within,
            detail=f"{r.active_us / 1e6:.3f} s of {m.resources.timeout_us / 1e6:g} s, "
            f"{r.memory_bytes / MIB:.1f} MiB of {m.resources.memory_bytes / MIB:g} MiB",
        ),
    )


def attestation_check(raw: bytes, receipt_id: bytes, r: Receipt) -> tuple[CheckView, PeerId]:
    """One witness's word: ok if validly signed for this receipt and matching. Raises ProtocolError if it is not one at all."""
    signed = open_envelope(raw)
    a = signed.decode(Attestation)
    belongs = (a.receipt, a.manifest, a.witness) == (receipt_id, r.manifest, signed.signer)
    same = same_result(r, a.output_hash, a.exit_code, a.gas, a.gas_exact, a.outputs_hash)
    if not belongs or signed.signer in (r.executor, r.submitter):
        ok, detail = False, "for another receipt, or by a party of the job"
    elif a.engine != r.engine:
        ok, detail = (
            False,
            f"ran it in {clean_text(a.engine, 60)!r}, which says nothing of a run in {clean_text(r.engine, 60)!r}",
        )
    elif a.match != same:
        ok, detail = False, "contradicts itself"
    else:
        ok, detail = same, "same output, exit code and gas" if same else f"got a different result: {_difference(r, a)}"
    return CheckView(name=f"witness {signed.signer[-8:]}", ok=ok, detail=detail), signed.signer


def _difference(r: Receipt, a: Attestation) -> str:
    """The first thing in which a witness's result differs from the receipt's, in words."""
    for what, theirs, receipts in (
        ("stdout with the hash", a.output_hash.hex()[:16], r.output_hash.hex()[:16]),
        ("exit code", a.exit_code, r.exit_code),
        ("output files with the hash", a.outputs_hash.hex()[:16], files_hash(r.outputs).hex()[:16]),
        ("gas", a.gas, r.gas),
    ):
        if theirs != receipts:
            signed = f"the executor signed {receipts}; one of the two is wrong"
            return f"its run of the same module on the same input gave {what} {theirs}, {signed}"
    return "it differs in nothing that is compared"
