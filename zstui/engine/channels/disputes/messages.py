"""What parties and witnesses of a disputed channel say to each other. Each is a signed envelope; a case's id is its channel's.

Times are Unix milliseconds, amounts micro-units; ``lo`` (0) and ``hi`` (1) are the sides ordered by public key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from zstui.engine.channels.messages import Count, Document, Hash, Params, Part, Signature
from zstui.engine.identity.envelope import Body

MAX_DOCUMENTS = 6
"""Documents in one filing or one piece of evidence."""

Side = Literal[0, 1]
FaultKind = Literal["FORK", "STALE_CLAIM", "DOUBLE_VERDICT", "FALSE_ACK", "NO_REFUND"]
Finding = Literal["upheld", "rejected", "unjudgeable"]
Documents = Annotated[tuple[Document, ...], Meta(max_length=MAX_DOCUMENTS)]


class Opening(Part, frozen=True):
    """A channel's params with both sides' consent to them."""

    params: Params
    sig_lo: Signature
    sig_hi: Signature


class Fault(Part, frozen=True):
    side: Side
    kind: FaultKind


class WitnessAsk(Body, frozen=True):
    """Will you judge a dispute between these two, if there is one before ``until_ms``?"""

    pk_lo: Hash
    pk_hi: Hash
    until_ms: Count


class Consent(Body, frozen=True):
    """Yes to a ``WitnessAsk``."""

    pk_lo: Hash
    pk_hi: Hash
    until_ms: Count


class Nominate(Body, frozen=True):
    """Proposer to responder, before a channel is proposed: these are mine; name as many others as make ``n``."""

    n: Annotated[int, Meta(ge=1, le=31)]
    mine: Annotated[tuple[Hash, ...], Meta(max_length=31)]
    until_ms: Count


class Nominees(Body, frozen=True):
    """Witnesses that the responder names; fewer than asked for where too few consent."""

    theirs: Annotated[tuple[Hash, ...], Meta(max_length=31)]


class DisputeOpen(Body, frozen=True):
    """A party files: what was agreed at the opening, and the best it holds of both halves."""

    ch: Hash
    opening: Opening
    docs: Documents


class Evidence(Body, frozen=True):
    """A party adds to a case. A peer's Pay in ``docs`` binds the party to what that Pay acknowledges of its own half."""

    ch: Hash
    docs: Documents
    denied: Document
    """A Pay, Ack or Reestablish of the peer that acknowledges what this party did not sign; empty for none."""


class CaseReceipt(Body, frozen=True):
    """A witness has put the case on record."""

    ch: Hash
    time_ms: Count


class Ready(Body, frozen=True):
    """A witness would sign the verdict with this SHA-256 of its body; it signs once m witnesses are ready for the same."""

    ch: Hash
    digest: Hash


class Verdict(Body, frozen=True):
    """What each half came to and what each side gets. Binding once m witnesses of the channel have signed the same bytes."""

    ch: Hash
    cum_lo: Count
    cum_hi: Count
    bal_lo: Count
    bal_hi: Count
    faults: Annotated[tuple[Fault, ...], Meta(max_length=8)]


class OutputVerdict(Body, frozen=True):
    """What a witness found when it ran a job again, about whose output the payer complained. Binding once m witnesses of the
    channel have signed the same bytes."""

    ch: Hash
    """The case's id, which is that of no channel."""
    complaint: Hash
    """SHA-256 of the complaint's envelope."""
    finding: Finding
    result: Hash
    """SHA-256 over all that its own run gave; zeros where it could not run it."""
    refund_u: Count
    """What the executor is to return."""


class FraudProof(Body, frozen=True):
    """Two documents under one key that no honest signer makes both of. It proves itself, whoever passes it on."""

    kind: FaultKind
    docs: Annotated[tuple[Document, ...], Meta(min_length=2, max_length=2)]


class Taken(Body, frozen=True):
    """The message with this SHA-256 is on record at the answerer; not to be sent again."""

    digest: Hash


class Declined(Body, frozen=True):
    """The message was not taken. ``busy``: try later; else for good, with the reason in words."""

    digest: Hash
    busy: bool
    why: Annotated[str, Meta(max_length=200)]


KINDS: dict[str, type[Body]] = {
    cls.__name__: cls for cls in (WitnessAsk, Nominate, DisputeOpen, Evidence, CaseReceipt, Ready, Verdict, FraudProof)
}
"""What may arrive unasked."""
