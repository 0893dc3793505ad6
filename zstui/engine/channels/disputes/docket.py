"""Which rule serves which message about a case. Runs inside a transaction."""

from __future__ import annotations

from zstui.engine.channels.disputes import hearing, party, store
from zstui.engine.channels.disputes.faults import prove
from zstui.engine.channels.disputes.messages import (
    CaseReceipt,
    DisputeOpen,
    Evidence,
    FraudProof,
    Ready,
    Taken,
    Verdict,
)
from zstui.engine.channels.disputes.model import parties_of, witnesses_of
from zstui.engine.channels.disputes.protocol import Busy
from zstui.engine.channels.disputes.store import Case
from zstui.engine.channels.disputes.unit import Unit, everyone
from zstui.engine.errors import ProtocolError, Refused
from zstui.engine.identity.envelope import Body, Signed
from zstui.engine.identity.keys import PeerId


def carry_out(unit: Unit, sender: PeerId, signed: Signed, body: Body, trusted: bool) -> Body:
    """One verified message. ``trusted``: the sender shares a guild with me. Raises Busy, Refused, ProtocolError."""
    match body:
        case DisputeOpen():
            _filing(unit, sender, signed, body)
        case FraudProof():
            _fraud(unit, body, trusted)
        case Evidence() | CaseReceipt() | Ready() | Verdict():
            case = store.load(unit.tx, body.ch)
            if case is None:
                raise Busy("This case is not known here yet.")
            if sender not in everyone(case):
                raise Refused("Only the parties and witnesses of a case speak in it.")
            _in_case(unit, sender, case, signed, body)
        case _:
            raise ProtocolError("Not a message about a case.")
    return Taken(store.digest_of(signed.raw))


def _filing(unit: Unit, sender: PeerId, signed: Signed, body: DisputeOpen) -> None:
    params = body.opening.params
    if sender not in (*parties_of(params), *witnesses_of(params)):
        raise Refused("Only the parties and witnesses of a case speak in it.")
    if unit.identity.public_key in params.witnesses:
        hearing.take_filing(unit, sender, signed, body)
    elif unit.me in parties_of(params):
        party.take_filing(unit, signed, body)
    else:
        raise Refused("This node has no part in that channel.")


def _in_case(
    unit: Unit, sender: PeerId, case: Case, signed: Signed, body: Evidence | CaseReceipt | Ready | Verdict
) -> None:
    witness = case.seat == "witness"
    match body:
        case Evidence() if witness:
            hearing.take_evidence(unit, sender, case, signed, body)
        case Evidence():
            party.take_evidence(unit, case, signed, body)
        case CaseReceipt():
            hearing.take_receipt(unit, case, signed, body)
        case Ready():
            hearing.take_ready(unit, case, signed, body)
        case Verdict() if witness:
            hearing.take_verdict(unit, case, signed, body)
            hearing.settle_if_agreed(unit, case)
        case Verdict():
            party.take_verdict(unit, case, signed, body)


def _fraud(unit: Unit, body: FraudProof, trusted: bool) -> None:
    """Act on a proof only after checking it here, whoever brought it."""
    if not trusted:
        raise Refused("Proofs of fraud are taken from fellow guild members.")
    proof = prove(body)
    judging = store.witnessed_of(unit.tx, proof.culprit)
    if judging:
        raise Busy("This node hears a case of that peer; it acts on the proof afterwards.")
    unit.convict(proof)
