"""A verdict on an output as a file that anyone can verify offline: the complaint, and what the witnesses signed. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from zstui.engine.channels.disputes.messages import OutputVerdict
from zstui.engine.channels.disputes.model import witnesses_of
from zstui.engine.channels.messages import read, take
from zstui.engine.complaints.model import Claim, examine, receipts_result
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView

VERSION = 1


def as_file(complaint: bytes, verdicts: tuple[bytes, ...]) -> dict[str, object]:
    """``verdicts``: those that agree, as their witnesses signed them."""
    return {
        **_summary(examine(complaint), read(take(verdicts[0]), OutputVerdict)),
        "complaint": base64.b64encode(complaint).decode(),
        "verdicts": [base64.b64encode(raw).decode() for raw in verdicts],
    }


def _summary(claim: Claim, verdict: OutputVerdict) -> dict[str, object]:
    return {
        "zerostate_output_verdict": VERSION,
        "case_id": claim.case.hex(),
        "job_id": claim.job_id,
        "module": claim.manifest.module_name,
        "payer": claim.payer,
        "executor": claim.executor,
        "finding": verdict.finding,
        "paid_u": claim.paid_u,
        "refund_u": verdict.refund_u,
    }


def verify_file(content: Mapping[str, object]) -> list[CheckView]:
    """Verify such a file with nothing but itself. Never raises on bad content: the last check then says what is wrong."""
    checks: list[CheckView] = []
    try:
        if content.get("zerostate_output_verdict") != VERSION:
            raise BadInput("This is not a verdict on an output of a version known here.")
        claim = examine(_bytes(content.get("complaint")))
        checks.append(
            CheckView(
                name="complaint",
                ok=True,
                detail=f"by {claim.payer}, who paid {format_amount(claim.paid_u)} for job {claim.job_id[:8]}",
            )
        )
        verdict, signers = _verdict(content.get("verdicts"), claim)
        n = len(claim.params.witnesses)
        enough = len(signers) >= claim.params.m
        checks.append(
            CheckView(
                name="verdict", ok=enough, detail=f"{len(signers)} of {n} witnesses signed it, {claim.params.m} decide"
            )
        )
        said = _summary(claim, verdict)
        wrong = sorted(key for key in said if content.get(key) != said[key])
        checks.append(CheckView(name="summary", ok=not wrong, detail=", ".join(wrong) or "says what was signed"))
    except (ProtocolError, BadInput, ValueError) as error:
        checks.append(CheckView(name="file", ok=False, detail=str(error)[:300]))
    return checks


def _verdict(listed: object, claim: Claim) -> tuple[OutputVerdict, set[PeerId]]:
    """The one verdict that all of them are, and who signed it."""
    if not isinstance(listed, list) or not 0 < len(listed) <= 31:
        raise BadInput("The file has no verdicts.")
    signed = [take(_bytes(text)) for text in listed]
    verdict = read(signed[0], OutputVerdict)
    if any(s.body != signed[0].body or s.kind != signed[0].kind for s in signed):
        raise BadInput("The witnesses signed different verdicts.")
    signers = {s.signer for s in signed}
    if not signers <= set(witnesses_of(claim.params)):
        raise BadInput("A verdict by one who is no witness of the channel.")
    refund_u = claim.refund_u if verdict.finding == "upheld" else 0
    as_receipt = verdict.result == receipts_result(claim.receipt)
    if (verdict.ch, verdict.complaint, verdict.refund_u) != (claim.case, claim.digest, refund_u) or (
        verdict.finding != "unjudgeable" and (verdict.finding == "rejected") != as_receipt
    ):
        raise BadInput("The verdict does not follow from the complaint.")
    return verdict, signers


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise BadInput("The file's evidence is incomplete.")
    return base64.b64decode(value, validate=True)
