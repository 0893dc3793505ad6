"""Signed documents of one complaint, made by hand: a job, its payment, the channel and its witnesses."""

from __future__ import annotations

import hashlib
import sqlite3
import weakref

from msgspec.structs import replace

from tests.engine.channels.rig import identity
from tests.engine.jobs.docs import EXECUTOR, PAYER
from tests.engine.jobs.docs import evidence as job_evidence
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.disputes.messages import Finding, Opening, OutputVerdict
from zstui.engine.channels.disputes.model import verdict_digest
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import Ack, Params, Pay, PayLine, channel_id, sign_opening
from zstui.engine.channels.model import draft
from zstui.engine.channels.panel import quorum
from zstui.engine.channels.state import Half, next_pay
from zstui.engine.complaints import store
from zstui.engine.complaints.messages import Complaint, RefundShown
from zstui.engine.complaints.model import NO_RESULT, Claim, case_of, examine
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs.receipt import Evidence, Receipt, agreement_id
from zstui.engine.store.database import Tx

WITNESSES = tuple(sorted((identity(n) for n in range(21, 25)), key=lambda i: i.public_key))
NOW_US = 1_700_000_000 * 1_000_000
WRONG = hashlib.sha256(b"another result").digest()


def params(n: int = 4) -> Params:
    made = draft("test", PAYER.peer_id, EXECUTOR.peer_id, 1, b"m" * 32, 10**7, 10**7, NOW_US // 1000, 86_400)
    low = PAYER.public_key == made.pk_lo
    return replace(
        made,
        **{"nonce_hi" if low else "nonce_lo": b"t" * 32},
        witnesses=tuple(w.public_key for w in WITNESSES[:n]),
        m=quorum(n),
    )


def opening(p: Params) -> Opening:
    ch = channel_id(p)
    lo, hi = sorted((PAYER, EXECUTOR), key=lambda i: i.public_key)
    return Opening(p, sign_opening(lo, ch), sign_opening(hi, ch))


class Papers:
    """A complete and valid complaint; ``body`` may be changed before it is signed."""

    def __init__(self, receipt: dict[str, object] | None = None, panel: int = 4) -> None:
        self.params = params(panel)
        self.ch = channel_id(self.params)
        self.job: Evidence = job_evidence(receipt)
        self.receipt = open_envelope(self.job.receipt).decode(Receipt)
        self.agreement = agreement_id(open_envelope(self.job.agreements[0]))
        self.case = case_of(self.agreement)
        self.due = self.receipt.total_due_u
        self.pay = self.paid(self.due)
        self.body = Complaint(
            ch=self.ch,
            opening=opening(self.params),
            manifest=self.job.manifest,
            agreements=(self.job.agreements[0], self.job.agreements[1]),
            receipt=self.job.receipt,
            pays=(self.pay,),
            ack=self.acked(self.pay),
        )

    def paid(self, amount: int, seq: int = 1, **changes: object) -> bytes:
        line = PayLine(amount, self.agreement, 1, 0, open_envelope(self.job.receipt).digest)
        start = Half(seq - 1, 0, self.ch)
        return seal(PAYER, replace(next_pay(self.ch, start, Half.start(self.ch), (line,), 1), **changes))

    def acked(self, pay: bytes, by: Identity = EXECUTOR, **changes: object) -> bytes:
        made = Ack(self.ch, 1, self.due, hashlib.sha256(pay).digest())
        return seal(by, replace(made, **changes))

    def raw(self, by: Identity = PAYER, **changes: object) -> bytes:
        return seal(by, replace(self.body, **changes))

    def claim(self) -> Claim:
        return examine(self.raw())

    def verdict(self, finding: Finding = "upheld", **changes: object) -> OutputVerdict:
        claim = self.claim()
        made = OutputVerdict(
            self.case,
            claim.digest,
            finding,
            NO_RESULT if finding == "unjudgeable" else WRONG,
            claim.refund_u if finding == "upheld" else 0,
        )
        return replace(made, **changes)

    def refund(self, by: Identity = EXECUTOR, amount: int | None = None, **changes: object) -> RefundShown:
        line = PayLine(self.due if amount is None else amount, self.case, 3, 0, verdict_digest(self.verdict()))
        pay: Pay = next_pay(self.ch, Half.start(self.ch), Half.start(self.ch), (line,), 1)
        return RefundShown(self.case, self.body.opening, seal(by, replace(pay, **changes)))


def unit(me: Identity, now_us: int = NOW_US, tx: Tx | None = None) -> Unit:
    """With tables of its own, at a node that agreed to judge between the two."""
    own = tx is None
    if tx is None:
        tx = sqlite3.connect(":memory:", isolation_level=None)
        for step in (*channel_schema.SCHEMA, *dispute_store.SCHEMA, *store.SCHEMA):
            tx.executescript(step.sql)
        p = params()
        dispute_store.add_consent(tx, p.pk_lo, p.pk_hi, PAYER.peer_id, 2**50)
    made = Unit(tx, me, now_us)
    if own:
        weakref.finalize(made, tx.close)
    return made
