"""Disputed channels: file, show evidence, look at them."""

from __future__ import annotations

from zstui.engine.commands.base import Command
from zstui.engine.views import DisputeView, FraudView, VerdictView


class DisputeOutput(Command[DisputeView], frozen=True, kw_only=True):
    """Say that the output of a job which was paid is wrong: the witnesses of its channel run it again, and a wrong one is to be
    refunded. The channel stays in use."""

    job: str


class DisputeChannel(Command[DisputeView], frozen=True, kw_only=True):
    """Stop using a channel and bring it before its witnesses. Cannot be taken back; closing together stays possible."""

    channel: str


class SubmitEvidence(Command[DisputeView], frozen=True, kw_only=True):
    """Show signed documents to the witnesses; none: the best that this node holds."""

    channel: str
    documents: tuple[bytes, ...] = ()


class ListDisputes(Command[list[DisputeView]], frozen=True, kw_only=True):
    """Disputed channels, and cases of others that this node witnesses."""


class ShowDispute(Command[DisputeView], frozen=True, kw_only=True):
    """One of them; for a channel in use, what a dispute would mean."""

    channel: str


class ShowVerdict(Command[VerdictView], frozen=True, kw_only=True):
    """What was decided, or would be on the evidence on record; at a witness, what it signed or would sign."""

    channel: str


class ListFrauds(Command[list[FraudView]], frozen=True, kw_only=True):
    """Faults on record, with proofs that anyone can verify offline."""

    channel: str = ""
    """Only those on this channel."""


DisputesCommand = (
    DisputeOutput | DisputeChannel | SubmitEvidence | ListDisputes | ShowDispute | ShowVerdict | ListFrauds
)
