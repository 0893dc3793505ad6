"""What a witness does: take cases and evidence, pass them on, wait, and sign one verdict. Runs inside a transaction.

A witness signs only once m witnesses, itself included, are ready for the same bytes. So a witness with a wrong clock, or one
that slips in evidence late, delays the others but cannot make them sign different verdicts.
"""

from __future__ import annotations

from collections import Counter

from zstui.engine.channels.disputes import store
from zstui.engine.channels.disputes.faults import find
from zstui.engine.channels.disputes.messages import (
    CaseReceipt,
    DisputeOpen,
    Evidence,
    Ready,
    Verdict,
)
from zstui.engine.channels.disputes.model import (
    check_filing,
    decide,
    facts,
    parties_of,
    side_of,
    verdict_digest,
    witnesses_of,
)
from zstui.engine.channels.disputes.store import Case
from zstui.engine.channels.disputes.unit import Unit, everyone, verdict_of
from zstui.engine.errors import ProtocolError, Refused
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId

MAX_CASES = 512
"""Open cases that one node witnesses."""
MAX_CASES_OF_PEER = 16
MAX_DIRECT = 16
"""Submissions that a party may make in one case."""
MAX_RELAYED = 64
"""Submissions of one party that are kept, with those that other witnesses pass on."""
MAX_BYTES = 1 << 20
"""Of one party's submissions in one case."""


def take_filing(unit: Unit, sender: PeerId, signed: Signed, message: DisputeOpen) -> Case:
    """Put a case on record with its first evidence, give a receipt, and tell everyone else. Raises Refused, ProtocolError."""
    case = store.load(unit.tx, message.ch)
    if case is None:
        check_filing(message.ch, message.opening)
        params = message.opening.params
        side_of(params, signed.signer)
        if store.consented(unit.tx, params.pk_lo, params.pk_hi) < unit.now_ms:
            raise Refused("This node did not agree to witness between these two.")
        if store.count_open(unit.tx) >= MAX_CASES or store.count_open(unit.tx, signed.signer) >= MAX_CASES_OF_PEER:
            raise Refused("This node hears as many cases as it can.")
        facts(params, message.ch, signed.signer, message.docs)
        case = unit.save(
            Case(
                id=message.ch,
                seat="witness",
                opening=message.opening,
                filed_by=signed.signer,
                filed_us=unit.now_us,
            )
        )
        raw = unit.seal(CaseReceipt(case.id, unit.now_ms))
        store.add_receipt(unit.tx, case.id, unit.me, unit.now_ms, raw)
        _add(unit, case, sender, signed, message.docs, b"")
        unit.mail(everyone(case), case.id, raw)
        unit.notice("info", "This node witnesses a disputed channel of two others.", case.id)
        evaluate(unit, case)
    else:
        _add(unit, case, sender, signed, message.docs, b"")
    return case


def take_evidence(unit: Unit, sender: PeerId, case: Case, signed: Signed, message: Evidence) -> None:
    """Raises Refused where it comes too late or is too much, ProtocolError where it is forged."""
    _add(unit, case, sender, signed, message.docs, message.denied)


def _add(unit: Unit, case: Case, sender: PeerId, signed: Signed, docs: tuple[bytes, ...], denied: bytes) -> None:
    params = case.opening.params
    if store.has_submission(unit.tx, case.id, signed.raw) or case.state != "open":
        return
    facts(params, case.id, signed.signer, docs, denied)
    number, size = store.submitted(unit.tx, case.id, signed.signer)
    direct = sender in parties_of(params)
    if number >= (MAX_DIRECT if direct else MAX_RELAYED) or size + len(signed.raw) > MAX_BYTES:
        raise Refused("No more evidence of this side is taken in this case.")
    deadline = unit.deadline_us(case)
    if direct and deadline is not None and unit.now_us >= deadline:
        raise Refused("The time for evidence in this case is over.")
    store.add_submission(unit.tx, case.id, signed.signer, signed.raw, unit.now_us)
    unit.out.changed.add(case.id)
    unit.mail((peer for peer in everyone(case) if peer not in (sender, signed.signer)), case.id, signed.raw)
    evaluate(unit, case)


def take_receipt(unit: Unit, case: Case, signed: Signed, message: CaseReceipt) -> None:
    """Another witness has the case: the deadline may be known now."""
    _need_witness(case, signed.signer)
    if store.add_receipt(unit.tx, case.id, signed.signer, message.time_ms, signed.raw):
        unit.out.changed.add(case.id)
        if case.seat == "witness":
            evaluate(unit, case)


def take_ready(unit: Unit, case: Case, signed: Signed, message: Ready) -> None:
    _need_witness(case, signed.signer)
    if case.seat == "witness" and store.set_ready(unit.tx, case.id, signed.signer, message.digest):
        unit.out.changed.add(case.id)
        evaluate(unit, case)


def take_verdict(unit: Unit, case: Case, signed: Signed, message: Verdict) -> str:
    """Keep a witness's verdict; a second, different one is proof of fraud. Returns the digest, in hex, that m agree on."""
    _need_witness(case, signed.signer)
    held = store.add_verdict(unit.tx, case.id, signed.signer, verdict_digest(message), signed.raw)
    if held != signed.raw and (proof := find((held, signed.raw))) is not None:
        unit.convict(proof)
    unit.out.changed.add(case.id)
    return agreed(unit, case)


def agreed(unit: Unit, case: Case) -> str:
    """The verdict, as its digest in hex, that at least m witnesses signed; "" for none yet."""
    counts = Counter(digest for _, digest, _ in store.verdicts(unit.tx, case.id))
    return next((digest.hex() for digest, n in counts.items() if n >= case.opening.params.m), "")


def evaluate(unit: Unit, case: Case) -> None:
    """Carry out what time and evidence ask of a witness."""
    if case.state != "open":
        return
    joined = unit.joined(case)
    if joined.settled:
        unit.notice("info", "The two sides of a channel that this node witnesses have agreed.", case.id)
        conclude(unit, unit.end(case, "settled"))
        return
    deadline = unit.deadline_us(case)
    if deadline is None or unit.now_us < deadline or store.receipt(unit.tx, case.id, unit.me) is None:
        return
    if any(witness == unit.me for witness, _, _ in store.verdicts(unit.tx, case.id)):
        return
    verdict = decide(case.opening.params, case.id, joined)
    digest = verdict_digest(verdict)
    others = witnesses_of(case.opening.params)
    if store.set_ready(unit.tx, case.id, unit.me, digest):
        unit.out.changed.add(case.id)
        unit.mail(others, case.id, unit.seal(Ready(case.id, digest)))
    if sum(d == digest for d in store.ready(unit.tx, case.id).values()) >= case.opening.params.m:
        raw = unit.seal(verdict)
        store.add_verdict(unit.tx, case.id, unit.me, digest, raw)
        unit.mail(everyone(case), case.id, raw)
        unit.notice("info", "This node has signed its verdict on a channel of two others.", case.id)
        settle_if_agreed(unit, case)


def settle_if_agreed(unit: Unit, case: Case) -> None:
    """End my part once m witnesses agree."""
    if case.state == "open" and agreed(unit, case):
        conclude(unit, unit.end(case, "decided"))


def conclude(unit: Unit, case: Case) -> None:
    """A witness acts on what it saw of a party only now: a party that it blacklists could not have brought its evidence."""
    unit.look_for_fraud(case)
    blame_judged(unit, case)


def blame_judged(unit: Unit, case: Case) -> None:
    """Faults that the binding verdict names and no two documents prove."""
    digest = agreed(unit, case)
    if not digest:
        return
    raw = next(raw for _, d, raw in store.verdicts(unit.tx, case.id) if d.hex() == digest)
    for fault in verdict_of(raw).faults:
        if fault.kind == "FALSE_ACK":
            parties = parties_of(case.opening.params)
            why = "it acknowledged a payment that was never made, and could not show it"
            unit.judge(parties[fault.side], fault.kind, case.id, why, parties)


def _need_witness(case: Case, peer: PeerId) -> None:
    if peer not in witnesses_of(case.opening.params):
        raise ProtocolError("Only a witness of the case says this.")
