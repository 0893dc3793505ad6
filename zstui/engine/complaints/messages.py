"""What is said of a complaint about an output, over the disputes' streams; verdicts are ``disputes.messages.OutputVerdict``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from zstui.engine.channels.disputes.messages import Opening, OutputVerdict
from zstui.engine.channels.messages import Count, Document, Hash
from zstui.engine.identity.envelope import Body
from zstui.engine.jobs.manifest import MAX_MANIFEST

MAX_PAYS = 256
"""Payments in one complaint; fewer where they do not fit an envelope."""


class Complaint(Body, frozen=True):
    """A payer says that a job which it paid gives another result than its receipt says. All that a witness needs is in it,
    but for the job's files, which it fetches from the payer."""

    ch: Hash
    """The channel on which was paid; its witnesses judge."""
    opening: Opening
    manifest: Annotated[bytes, Meta(max_length=MAX_MANIFEST)]
    agreements: tuple[Document, Document]
    """The payer's and the executor's signature under one body."""
    receipt: Annotated[bytes, Meta(max_length=32 * 1024)]
    pays: Annotated[tuple[Document, ...], Meta(min_length=1, max_length=MAX_PAYS)]
    """Payments with lines for the job, in order."""
    ack: Document
    """An Ack, Pay or Settle of the executor that acknowledges all of them."""


class Heard(Body, frozen=True):
    """A witness has put a complaint on record and will run the job again."""

    case: Hash
    complaint: Hash
    """SHA-256 of its envelope."""
    time_ms: Count


class RefundShown(Body, frozen=True):
    """The executor shows that it has signed the payment which a verdict asks for, on a channel between the two."""

    case: Hash
    opening: Opening
    pay: Document


KINDS: dict[str, type[Body]] = {cls.__name__: cls for cls in (Complaint, Heard, OutputVerdict, RefundShown)}
