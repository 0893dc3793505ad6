"""A receipt as one portable file: everything that proves it, and how anyone verifies it offline. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from zstui.engine.errors import InvalidReceipt, ZsError
from zstui.engine.identity.envelope import open_envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.manifest import open_manifest
from zstui.engine.jobs.receipt import (
    MAX_ATTESTATIONS,
    MAX_REASON,
    NO_BID,
    Evidence,
    Receipt,
    attestation_check,
    open_agreement,
    receipt_checks,
    receipt_of,
)
from zstui.engine.views import CheckView

BUNDLE_VERSION = 1


def make_bundle(evidence: Evidence) -> dict[str, object]:
    """Everything that ``verify_bundle`` needs, as JSON-able values: the signed bytes in base64 and, for people, what they say."""
    signed, m = open_manifest(evidence.manifest)
    bundle: dict[str, object] = {
        "zerostate_receipt": BUNDLE_VERSION,
        "job_id": signed.digest.hex(),
        "module": m.module_name,
        "module_cid": m.module_cid,
        "guild_id": m.guild_id,
        "submitter": m.submitter,
        "function": m.function,
        "evidence": {
            "manifest": _b64(evidence.manifest),
            "bid": _b64(evidence.bid),
            "agreements": [_b64(raw) for raw in evidence.agreements],
            "receipt": _b64(evidence.receipt),
            "attestations": [_b64(raw) for raw in evidence.attestations],
        },
    }
    if evidence.receipt:
        opened = open_envelope(evidence.receipt)
        r = opened.decode(Receipt)
        bundle |= {
            "receipt_id": opened.digest.hex(),
            "agreement_id": r.agreement.hex(),
            "executor": r.executor,
            "engine": r.engine,
            "ok": r.ok,
            "status": r.status,
            "exit_code": r.exit_code,
            "fault": r.fault,
            "reason": r.reason,
            "output_hash": r.output_hash.hex(),
            "results": list(r.results),
            "outputs": [{"name": f.name, "size": f.size, "sha256": f.sha256.hex()} for f in r.outputs],
            "duration_us": r.active_us,
            "memory_bytes": r.memory_bytes,
            "gas": r.gas,
            "gas_exact": r.gas_exact,
            "cost_u": r.total_due_u,
            "started_us": r.started_us,
            "finished_us": r.finished_us,
            "attestations": [open_envelope(raw).signer for raw in evidence.attestations],
        }
    return bundle


def verify_bundle(bundle: Mapping[str, object]) -> tuple[CheckView, ...]:
    """Verify a bundle with nothing but itself: signatures, agreement, cost, module id, attestations, and the readable summary.

    Never raises on bad content: what cannot be read is a failed check, and then the last one.
    """
    checks: list[CheckView] = []
    try:
        evidence = _evidence(bundle)
        signed, m = open_manifest(evidence.manifest)
        checks.append(CheckView(name="manifest", ok=True, detail=f"signed by {m.submitter}"))
        if not evidence.receipt:
            raise InvalidReceipt("The job has no receipt.")
        executor = open_envelope(evidence.receipt).signer
        if len(evidence.agreements) != 2:
            raise InvalidReceipt("The agreement lacks a signature.")
        agreed, a = open_agreement(*evidence.agreements, m.submitter, executor)
        checks.append(
            CheckView(
                name="agreement",
                ok=a.manifest == signed.digest
                and a.bid == (open_envelope(evidence.bid, executor).digest if evidence.bid else NO_BID),
                detail="signed by both sides",
            )
        )
        opened, r = receipt_of(evidence.receipt, executor, agreed, signed.digest)
        checks.append(CheckView(name="receipt", ok=r.submitter == m.submitter, detail=f"signed by {executor}"))
        checks += receipt_checks(m, a, r)
        checks += _attestation_checks(evidence.attestations, opened.digest, r)
        said = make_bundle(evidence)
        wrong = sorted(k for k in said if k != "evidence" and bundle.get(k) != said[k])
        checks.append(CheckView(name="summary", ok=not wrong, detail=", ".join(wrong) or "says what was signed"))
    except (ZsError, ValueError) as error:
        checks.append(CheckView(name="readable", ok=False, detail=str(error)[:MAX_REASON]))
    return tuple(checks)


def _attestation_checks(raws: Iterable[bytes], receipt_id: bytes, r: Receipt) -> list[CheckView]:
    checks: list[CheckView] = []
    seen: set[PeerId] = set()
    for raw in raws:
        check, witness = attestation_check(raw, receipt_id, r)
        if witness in seen:
            check = CheckView(name=check.name, ok=False, detail="the same witness twice")
        seen.add(witness)
        checks.append(check)
    return checks


def _evidence(bundle: Mapping[str, object]) -> Evidence:
    if bundle.get("zerostate_receipt") != BUNDLE_VERSION:
        raise InvalidReceipt("This is not a receipt bundle of a version known here.")
    parts = bundle.get("evidence")
    if not isinstance(parts, Mapping):
        raise InvalidReceipt("The bundle holds no evidence.")
    return Evidence(
        manifest=_bytes(parts.get("manifest")),
        bid=_bytes(parts.get("bid", "")),
        agreements=_many(parts.get("agreements"), 2),
        receipt=_bytes(parts.get("receipt")),
        attestations=_many(parts.get("attestations"), MAX_ATTESTATIONS),
    )


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise InvalidReceipt("The bundle's evidence is incomplete.")
    return base64.b64decode(value, validate=True)


def _many(value: object, most: int) -> tuple[bytes, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise InvalidReceipt("The bundle's evidence is incomplete.")
    return tuple(_bytes(v) for v in value)
