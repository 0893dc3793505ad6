"""What happened inside a node. Services publish these on the bus *after* the commit; telemetry and the feed listen.

``...Changed`` events say only which record is different now: whoever shows it reads it afresh. The others carry the
facts that are counted or told. Ids are text, as in views.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


# --- network ---------------------------------------------------------------------------------------------------------


class PeerConnected(Event, frozen=True):
    """An authenticated link is up."""

    peer_id: str


class PeerDisconnected(Event, frozen=True):
    """The link is gone."""

    peer_id: str
    reason: str


class PeerChanged(Event, frozen=True):
    """Address, RTT, state, name or capabilities of a peer changed, or it was forgotten."""

    peer_id: str


class CardChanged(Event, frozen=True):
    """My own capability card would say something else now."""


class AddressesChanged(Event, frozen=True):
    """My own addresses or network state changed."""


# --- guilds ----------------------------------------------------------------------------------------------------------


class GuildChanged(Event, frozen=True):
    guild_id: str


class GuildCreated(Event, frozen=True):
    """I created a guild."""

    guild_id: str


class GuildJoined(Event, frozen=True):
    """I joined a guild."""

    guild_id: str
    latency_us: int
    """From asking to being a member with the group key."""


class GuildEnded(Event, frozen=True):
    """A guild I was in ended for me."""

    guild_id: str
    reason: Literal["expired", "dissolved", "left", "kicked"]
    lifetime_us: int
    """Since I created or joined it."""


class GuildMessageReceived(Event, frozen=True):
    """A chat or system message was stored; ``number`` is its row in the guild's log."""

    guild_id: str
    number: int


# --- jobs ------------------------------------------------------------------------------------------------------------


class JobChanged(Event, frozen=True):
    job_id: str


class JobMoved(Event, frozen=True):
    """A job, mine or one that I run for another, entered a state."""

    job_id: str
    mine: bool
    module: str
    """File name as the submitter gave it."""
    other: str
    """The executor of a job of mine, the submitter of one that I run."""
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    why: str


class BidReceived(Event, frozen=True):
    """An executor offered to run a job of mine."""

    job_id: str
    peer_id: str
    module_cid: str
    waiting: int
    """Jobs ahead of it there, as the executor says."""


class BatchChanged(Event, frozen=True):
    batch_id: str


class WorkChanged(Event, frozen=True):
    """What this node takes from others is different now."""


class JobOutputReceived(Event, frozen=True):
    job_id: str
    stream: Literal["stdout", "stderr"]
    offset: int
    """Bytes of this stream before ``data``."""
    data: bytes


class ExecutionStarted(Event, frozen=True):
    """This machine began to run a module."""

    job_id: str


class ExecutionFinished(Event, frozen=True):
    """This machine finished running a module."""

    job_id: str
    module: str
    """Module CID."""
    status: Literal["success", "failure", "timeout", "cancelled", "error"]
    duration_us: int
    memory_bytes: int


# --- money -----------------------------------------------------------------------------------------------------------


class ChannelChanged(Event, frozen=True):
    channel_id: str


class ChannelOpened(Event, frozen=True):
    channel_id: str


class ChannelClosed(Event, frozen=True):
    channel_id: str
    reason: str


class PaymentProcessed(Event, frozen=True):
    """A payment of mine was acknowledged or failed, or one to me was accepted or refused."""

    channel_id: str
    status: Literal["sent", "received", "failed", "rejected"]
    amount_u: int


class DisputeChanged(Event, frozen=True):
    channel_id: str


class FraudProven(Event, frozen=True):
    """A fault was held against a peer."""

    peer_id: str
    kind: str
    channel_id: str


class ApprovalChanged(Event, frozen=True):
    request_id: str


class ApprovalAsked(Event, frozen=True):
    """A new payment waits for a person."""

    request_id: str


# --- reputation ------------------------------------------------------------------------------------------------------


class ReputationChanged(Event, frozen=True):
    peer_id: str


class OutcomeRecorded(Event, frozen=True):
    """A first-hand job outcome entered a peer's score."""

    peer_id: str
    success: bool
    score: float


class TrustEvent(Event, frozen=True):
    """Blacklisting and its end: "blacklisted", "blacklist_removed", "blacklist_expired"."""

    peer_id: str
    kind: Literal["blacklisted", "blacklist_removed", "blacklist_expired"]


# --- node ------------------------------------------------------------------------------------------------------------


class Notice(Event, frozen=True):
    """Something a person should read; also goes to the log."""

    level: Literal["debug", "info", "warning", "error"]
    area: str
    text: str
    subject: str = ""
