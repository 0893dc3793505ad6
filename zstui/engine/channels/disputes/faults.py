"""Faults that prove themselves: two documents under one key that an honest signer never makes both of. Pure.

FORK: two payment histories, or two different Closes. STALE_CLAIM: a Close below an own Pay. DOUBLE_VERDICT: two different
verdicts by one witness on one case. All that a proof needs is in it; no clock, no network, no trust in whoever shows it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import combinations

import msgspec

from zstui.engine.channels.disputes.messages import FaultKind, FraudProof, OutputVerdict, Verdict
from zstui.engine.channels.messages import Close, Pay, Reestablish, read, take
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.evidence_file import documents_of
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView

PROOF_VERSION = 1
Word = Pay | Close | Reestablish | Verdict | OutputVerdict
_BODIES: dict[str, type[Word]] = {cls.__name__: cls for cls in (Pay, Close, Reestablish, Verdict, OutputVerdict)}


class Proof(msgspec.Struct, frozen=True):
    """A verified proof of fraud."""

    kind: FaultKind
    culprit: PeerId
    channel: bytes
    docs: tuple[bytes, bytes]
    words: str
    """What the two documents contradict each other in, in one sentence."""


class _Word(msgspec.Struct, frozen=True):
    """One signed document, read."""

    signed: Signed
    body: Word


def find(docs: tuple[bytes, ...]) -> Proof | None:
    """The first proof of fraud among these documents; what cannot be read is skipped."""
    words = []
    for raw in docs:
        try:
            words.append(_read(raw))
        except ProtocolError:
            continue
    for a, b in combinations(words, 2):
        if (proof := _contradiction(a, b)) is not None:
            return proof
    return None


def prove(message: FraudProof) -> Proof:
    """Verify a proof. Raises ProtocolError where it proves nothing, or something else than it says."""
    a, b = (_read(raw) for raw in message.docs)
    proof = _contradiction(a, b)
    if proof is None or proof.kind != message.kind:
        raise ProtocolError(f"The two documents do not prove {message.kind}.")
    return proof


def as_file(proof: Proof) -> dict[str, object]:
    """A proof as a JSON document that anyone can verify offline."""
    return {
        "zerostate_fraud_proof": PROOF_VERSION,
        "kind": proof.kind,
        "culprit": proof.culprit,
        "channel_id": proof.channel.hex(),
        "words": proof.words,
        "documents": [base64.b64encode(raw).decode() for raw in proof.docs],
    }


def verify_file(content: Mapping[str, object]) -> tuple[Proof | None, tuple[CheckView, ...]]:
    """Verify such a file with nothing but itself. Never raises on bad content: the last check then says what is wrong."""
    checks: list[CheckView] = []
    try:
        if content.get("zerostate_fraud_proof") != PROOF_VERSION:
            raise BadInput("This is not a proof of fraud of a version known here.")
        docs = documents_of(content)
        if len(docs) != 2:
            raise BadInput("A proof of fraud holds two documents.")
        for raw in docs:
            signed = take(raw)
            checks.append(CheckView(name=signed.kind, ok=True, detail=f"signed by {signed.signer}"))
        kind = msgspec.convert(content.get("kind"), FaultKind)
        proof = prove(FraudProof(kind, docs))
        checks.append(CheckView(name=proof.kind, ok=True, detail=proof.words))
        said = as_file(proof)
        wrong = sorted(key for key in said if content.get(key) != said[key])
        checks.append(CheckView(name="summary", ok=not wrong, detail=", ".join(wrong) or "says what was signed"))
    except (ProtocolError, BadInput, ValueError, msgspec.MsgspecError) as error:
        checks.append(CheckView(name="proof", ok=False, detail=str(error)[:300]))
        return None, tuple(checks)
    return proof, tuple(checks)


def _read(raw: bytes) -> _Word:
    signed = take(raw)
    kind = _BODIES.get(signed.kind)
    if kind is None:
        raise ProtocolError(f"A {signed.kind!r} proves no fraud.")
    return _Word(signed, read(signed, kind))


def _contradiction(a: _Word, b: _Word) -> Proof | None:
    """What ``a`` and ``b`` prove about their signer."""
    if a.signed.signer != b.signed.signer or a.body.ch != b.body.ch or a.signed.body == b.signed.body:
        return None
    for first, second in ((a, b), (b, a)):
        kind, words = _compare(first, second)
        if kind is not None:
            return Proof(kind, a.signed.signer, a.body.ch, (first.signed.raw, second.signed.raw), words)
    return None


def _compare(a: _Word, b: _Word) -> tuple[FaultKind | None, str]:
    """(fault, words) in the order (a, b); the other order is tried by the caller."""
    match a.body, b.body:
        case Verdict() as one, Verdict() as two:
            return "DOUBLE_VERDICT", (f"It signed two verdicts on one case: {_split(one)}, and {_split(two)}.")
        case OutputVerdict() as one, OutputVerdict() as two:
            return "DOUBLE_VERDICT", (
                f"It signed two verdicts on one output: {one.finding} with a refund of {format_amount(one.refund_u)}, and "
                f"{two.finding} with {format_amount(two.refund_u)}."
            )
        case Close() as close, Close() as other:
            return "FORK", f"It closed its half twice: at payment {close.my_seq} and at payment {other.my_seq}."
        case Close() as close, Pay() as pay if close.my_seq < pay.seq:
            return "STALE_CLAIM", (
                f"It claimed to have made {close.my_seq} payments of {format_amount(close.my_cum)} in all, and had signed "
                f"payment {pay.seq}, which makes {format_amount(pay.cum)}."
            )
        case Close() as close, Pay() as pay if close.my_seq == pay.seq:
            same = (close.my_cum, close.my_head) == (pay.cum, b.signed.digest)
            return (None, "") if same else ("FORK", f"Its Close and its payment {pay.seq} do not agree.")
        case Pay() as one, Pay() as two if one.seq == two.seq:
            return "FORK", (
                f"It signed two different payments number {one.seq}: one makes {format_amount(one.cum)} in all, the other "
                f"{format_amount(two.cum)}."
            )
        case Pay() as one, Pay() as two if two.seq == one.seq + 1 and two.prev != a.signed.digest:
            return "FORK", f"Its payment {two.seq} does not follow on its payment {one.seq}."
        case Pay() as pay, Reestablish() as where if where.sent_seq == pay.seq and where.sent_head != a.signed.digest:
            return "FORK", f"It said that its payment {pay.seq} is another than the one it signed."
        case _:
            return None, ""


def _split(verdict: Verdict) -> str:
    return f"{format_amount(verdict.bal_lo)} and {format_amount(verdict.bal_hi)}"
