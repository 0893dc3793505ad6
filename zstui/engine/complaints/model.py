"""The rules of a complaint: what must be proven, what a second run shows, and what follows from it. Pure.

A verdict is a function of the complaint's bytes and of what the job gives when it is run again, so that witnesses which never
spoke to each other sign the same. Gas does not count: another version of the runtime may meter otherwise.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from zstui.engine.channels.approvals.model import LINE_KINDS
from zstui.engine.channels.disputes.messages import Finding, OutputVerdict
from zstui.engine.channels.disputes.model import check_filing, check_opened, parties_of, side_of
from zstui.engine.channels.messages import Ack, Params, Pay, Settle, read, take
from zstui.engine.complaints.messages import Complaint, RefundShown
from zstui.engine.errors import BadInput, InvalidManifest, InvalidReceipt, ProtocolError
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.manifest import Manifest, open_manifest
from zstui.engine.jobs.receipt import REPEATABLE, Receipt, files_hash, open_agreement, receipt_of

State = Literal["open", "upheld", "rejected", "unjudgeable", "unresolved", "refunded", "unpaid"]
"""upheld: a refund is due. unpaid: it was not made in time, which is a fault. unresolved: too few witnesses agreed."""
NO_RESULT = bytes(32)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified complaint says."""

    case: bytes
    digest: bytes
    """SHA-256 of the complaint's envelope."""
    params: Params
    payer: PeerId
    executor: PeerId
    job_id: str
    agreement: bytes
    manifest: Manifest
    receipt: Receipt
    paid_u: int
    """Proven to be paid for the job."""

    @property
    def refund_u(self) -> int:
        """What is to be returned if the output is wrong."""
        return min(self.paid_u, self.receipt.total_due_u)


def case_of(agreement: bytes) -> bytes:
    """The case's id: an agreement has one at most. A refund names it as what it is paid under."""
    return hashlib.sha256(b"zs/complaint/1" + agreement).digest()


def examine(raw: bytes) -> Claim:
    """Verify a complaint with nothing but itself. Raises ProtocolError with what is wrong."""
    try:
        return _examine(raw)
    except (InvalidManifest, InvalidReceipt, BadInput) as error:
        raise ProtocolError(str(error)) from error


def _examine(raw: bytes) -> Claim:
    signed = take(raw)
    body = read(signed, Complaint)
    check_filing(body.ch, body.opening)
    params, payer = body.opening.params, signed.signer
    executor = parties_of(params)[1 - side_of(params, payer)]
    job, manifest = open_manifest(body.manifest, payer)
    agreed, a = open_agreement(*body.agreements, payer, executor)
    if a.manifest != job.digest:
        raise ProtocolError("A complaint whose parts belong to different jobs.")
    _, receipt = receipt_of(body.receipt, executor, agreed, job.digest)
    if not complainable(receipt):
        raise ProtocolError("A complaint about a run that cannot be repeated, or that cost nothing.")
    return Claim(
        case=case_of(agreed),
        digest=signed.digest,
        params=params,
        payer=payer,
        executor=executor,
        job_id=job.digest.hex(),
        agreement=agreed,
        manifest=manifest,
        receipt=receipt,
        paid_u=_paid(body, payer, executor, agreed),
    )


def complainable(r: Receipt) -> bool:
    """Whether a second run can show that the receipt is wrong, and something was due for it."""
    return r.status in REPEATABLE and r.fault in ("none", "payer") and r.total_due_u > 0


def _paid(body: Complaint, payer: PeerId, executor: PeerId, agreement: bytes) -> int:
    """The sum of the lines for the job, all of which the executor acknowledged. Raises ProtocolError."""
    acked, head = acknowledged(take(body.ack), body.opening.params, body.ch, executor)
    total, last = 0, 0
    for raw in body.pays:
        signed = take(raw)
        pay = read(signed, Pay)
        if signed.signer != payer or pay.ch != body.ch or not last < pay.seq <= acked:
            raise ProtocolError("A complaint with a payment that the executor did not acknowledge.")
        if pay.seq == acked and head != signed.digest:
            raise ProtocolError("A complaint with another payment than the executor acknowledged.")
        total += pays_for(pay, agreement)
        last = pay.seq
    if not total:
        raise ProtocolError("A complaint about a job for which nothing was paid.")
    return total


def pays_for(pay: Pay, agreement: bytes) -> int:
    """µ that a payment pays for a job."""
    kinds = (LINE_KINDS["receipt"], LINE_KINDS["note"])
    return sum(line.amount_u for line in pay.lines if line.agreement == agreement and line.kind in kinds)


def acknowledged(signed: Signed, params: Params, ch: bytes, executor: PeerId) -> tuple[int, bytes]:
    """(sequence, head) up to which ``executor`` acknowledged the other half. Raises ProtocolError."""
    if signed.signer != executor:
        raise ProtocolError("An acknowledgement by another than the executor.")
    match signed.kind:
        case "Ack":
            ack = read(signed, Ack)
            where = ack.ch, ack.seq, ack.head
        case "Pay":
            pay = read(signed, Pay)
            where = pay.ch, pay.peer_seq, pay.peer_head
        case "Settle":
            settle = read(signed, Settle)
            final = settle.final
            low = side_of(params, executor) == 1
            where = settle.ch, *((final.seq_lo, final.head_lo) if low else (final.seq_hi, final.head_hi))
        case _:
            raise ProtocolError(f"A {signed.kind!r} acknowledges no payment.")
    if where[0] != ch:
        raise ProtocolError("An acknowledgement on another channel.")
    return where[1:]


# --- what a second run shows -----------------------------------------------------------------------------------------


def result_of(
    status: str, exit_code: int | None, output_hash: bytes, outputs_hash: bytes, results: tuple[str, ...]
) -> bytes:
    """One hash over all that a run gives."""
    return hashlib.sha256(msgspec.msgpack.encode((status, exit_code, output_hash, outputs_hash, results))).digest()


def receipts_result(r: Receipt) -> bytes:
    """What the executor signed."""
    return result_of(r.status, r.exit_code, r.output_hash, files_hash(r.outputs), r.results)


def repeated(how: Ended) -> bool:
    """Whether a second run says something about the first."""
    return how.status in REPEATABLE and how.fault != "executor"


def never_ran(how: Ended) -> bool:
    """Whether the job's files did not arrive."""
    return how.status == "error" and how.fault in ("network", "payer")


def decide(claim: Claim, how: Ended | None, output_hash: bytes = b"") -> OutputVerdict:
    """The verdict of a witness that ran the job again; ``how`` None: it could not."""
    finding: Finding = "unjudgeable"
    result = NO_RESULT
    if how is not None and repeated(how):
        result = result_of(how.status, how.exit_code, output_hash, files_hash(how.outputs), how.results)
        finding = "rejected" if result == receipts_result(claim.receipt) else "upheld"
    return OutputVerdict(claim.case, claim.digest, finding, result, claim.refund_u if finding == "upheld" else 0)


def check_refund(message: RefundShown, executor: PeerId, payer: PeerId, verdict: bytes, refund_u: int) -> None:
    """Raises ProtocolError unless the executor signed the refund on a channel between the two."""
    params = message.opening.params
    signed = take(message.pay)
    pay = read(signed, Pay)
    check_opened(pay.ch, message.opening)
    if set(parties_of(params)) != {executor, payer}:
        raise ProtocolError("A refund on a channel between others.")
    deposit = (params.dep_lo, params.dep_hi)[side_of(params, executor)]
    found = any(
        (line.agreement, line.kind, line.ref) == (message.case, LINE_KINDS["refund"], verdict)
        and line.amount_u >= refund_u
        for line in pay.lines
    )
    if signed.signer != executor or pay.cum > deposit + pay.peer_cum or not found:
        raise ProtocolError("This is not the refund that was asked for.")
