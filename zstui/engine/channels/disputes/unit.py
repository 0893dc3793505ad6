"""One unit of work on disputes: runs inside a transaction, puts messages on record as mail, collects what follows the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from zstui.engine import events
from zstui.engine.channels.disputes import fault_store, faults, store
from zstui.engine.channels.disputes.fault_store import FaultRow
from zstui.engine.channels.disputes.faults import Proof
from zstui.engine.channels.disputes.messages import DisputeOpen, Evidence, FaultKind, FraudProof, Verdict
from zstui.engine.channels.disputes.model import (
    JUDGED_HOURS,
    PROVEN_HOURS,
    Joined,
    deadline_ms,
    facts,
    join_all,
    parties_of,
    penalty_hours,
    witnesses_of,
)
from zstui.engine.channels.disputes.store import Case
from zstui.engine.channels.messages import read, take
from zstui.engine.clock import US
from zstui.engine.identity.envelope import Body, seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.store.database import Tx

MAX_MAIL = 512
"""Messages that may wait for one peer."""
MAX_FAULTS = 4096
"""Faults remembered."""


class Penalty(msgspec.Struct, frozen=True):
    fault: FaultRow
    why: str


class Decision(msgspec.Struct, frozen=True):
    """A verdict to carry out on a channel of mine."""

    channel: bytes
    paid_u: int
    received_u: int


class Outcome(msgspec.Struct):
    """What to do after the commit."""

    changed: set[bytes] = msgspec.field(default_factory=set)
    """Cases to be shown afresh."""
    mailed: set[PeerId] = msgspec.field(default_factory=set)
    notices: list[events.Notice] = msgspec.field(default_factory=list)
    contest: set[bytes] = msgspec.field(default_factory=set)
    """Channels that the peer brought before the witnesses."""
    decisions: list[Decision] = msgspec.field(default_factory=list)
    penalties: list[Penalty] = msgspec.field(default_factory=list)
    proofs: list[Proof] = msgspec.field(default_factory=list)
    """New ones, for those who should know."""


class Unit:
    def __init__(self, tx: Tx, identity: Identity, now_us: int) -> None:
        self.tx = tx
        self.identity = identity
        self.me = identity.peer_id
        self.now_us = now_us
        self.out = Outcome()

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def seal(self, body: Body) -> bytes:
        return seal(self.identity, body)

    def mail(self, to: Iterable[PeerId], case: bytes, raw: bytes) -> None:
        """See that everyone in ``to`` but me gets it, however long that takes."""
        for peer in to:
            if peer != self.me:
                store.post(self.tx, peer, case, raw, self.now_us, MAX_MAIL)
                self.out.mailed.add(peer)

    def notice(self, level: Literal["info", "warning", "error"], text: str, case: bytes) -> None:
        self.out.notices.append(events.Notice(level, "channels", text, case.hex()))

    # -- cases

    def save(self, case: Case) -> Case:
        self.out.changed.add(case.id)
        return store.save(self.tx, case)

    def end(self, case: Case, state: store.CaseState) -> Case:
        return self.save(msgspec.structs.replace(case, state=state, ended_us=self.now_us))

    def joined(self, case: Case) -> Joined:
        """All evidence on record, together; every piece was checked when it was taken."""
        params = case.opening.params
        return join_all(
            facts(params, case.id, submitter, *parts_of(raw)) for submitter, raw in store.submissions(self.tx, case.id)
        )

    def deadline_us(self, case: Case) -> int | None:
        found = deadline_ms(case.opening.params, store.receipts(self.tx, case.id).values())
        return None if found is None else found * 1000

    # -- faults

    def look_for_fraud(self, case: Case, more: tuple[bytes, ...] = ()) -> None:
        """Find proof of fraud in a case's evidence."""
        docs: dict[bytes, None] = dict.fromkeys(more)
        for _, raw in store.submissions(self.tx, case.id):
            docs.update(dict.fromkeys(parts_of(raw)[0]))
        self.look_for_fraud_in(tuple(docs), parties_of(case.opening.params))

    def look_for_fraud_in(self, docs: tuple[bytes, ...], suspects: Iterable[PeerId]) -> None:
        for suspect in suspects:
            proof = faults.find(tuple(raw for raw in docs if _signer(raw) == suspect))
            if proof is not None:
                self.convict(proof)

    def convict(self, proof: Proof) -> bool:
        """Hold a proven fault against its maker; False if it is known, or my own."""
        if not self._blame(proof.culprit, proof.kind, proof.channel, proof.docs, PROVEN_HOURS, proof.words, None):
            return False
        self.out.proofs.append(proof)
        return True

    def judge(self, culprit: PeerId, kind: FaultKind, case: bytes, why: str, parties: tuple[PeerId, PeerId]) -> bool:
        """Hold against a peer what only a verdict shows, in the guilds of the two ``parties``."""
        return self._blame(culprit, kind, case, (b"", b""), JUDGED_HOURS, why, parties)

    def _blame(
        self,
        culprit: PeerId,
        kind: FaultKind,
        case: bytes,
        docs: tuple[bytes, bytes],
        base: int,
        why: str,
        parties: tuple[PeerId, PeerId] | None,
    ) -> bool:
        if culprit == self.me or fault_store.has(self.tx, culprit, kind, case):
            return False
        hours = penalty_hours(base, fault_store.count(self.tx, culprit))
        until = self.now_us + hours * 3600 * US
        fault = FaultRow(culprit, kind, case, docs, self.now_us, until, parties)
        fault_store.add(self.tx, fault, MAX_FAULTS)
        self.out.penalties.append(Penalty(fault, why))
        self.out.changed.add(case)
        return True


def everyone(case: Case) -> tuple[PeerId, ...]:
    """Both parties and all witnesses."""
    params = case.opening.params
    return (*parties_of(params), *witnesses_of(params))


def parts_of(raw: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """(documents, denied) of a submission on record."""
    signed = take(raw)
    if signed.kind == "DisputeOpen":
        return read(signed, DisputeOpen).docs, b""
    evidence = read(signed, Evidence)
    return evidence.docs, evidence.denied


def verdict_of(raw: bytes) -> Verdict:
    return read(take(raw), Verdict)


def proof_message(proof: Proof) -> FraudProof:
    return FraudProof(proof.kind, proof.docs)


def _signer(raw: bytes) -> PeerId:
    return take(raw).signer
