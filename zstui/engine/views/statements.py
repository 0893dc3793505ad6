"""Statements of account with the signed evidence; as JSON they are files that anyone can verify offline."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View


class PaymentRow(View, frozen=True, kw_only=True):
    """One line of one payment, or a discharge."""

    at: int
    peer_id: str
    channel_id: str
    """"" for a discharge."""
    direction: Literal["paid", "received"]
    what: str
    """receipt, note, refund, or discharge."""
    sequence: int
    amount_u: int
    ref: str
    """Digest of the document that asked for it, or the discharge's id."""


class StatementChannel(View, frozen=True, kw_only=True):
    channel_id: str
    peer_id: str
    epoch: int
    state: str
    reason: str
    created_at: int
    changed_at: int
    """When it entered its state."""
    deposit_mine_u: int
    deposit_theirs_u: int
    paid_u: int
    """What was really moved: where witnesses decided, what they counted, else the sum of the payments."""
    received_u: int
    sequence: int
    sequence_theirs: int
    documents: dict[str, bytes]
    """Envelopes by name: accept, confirm, close_mine, close_theirs, settle_mine, settle_theirs, ack_theirs, and of a channel
    that its witnesses decided verdict_1, verdict_2 and so on."""
    pays_mine: tuple[bytes, ...]
    """All of mine from the first on; empty where they were pruned."""
    pays_theirs: tuple[bytes, ...]


class StatementDischarge(View, frozen=True, kw_only=True):
    discharge_id: str
    peer_id: str
    amount_u: int
    owed_to_me: bool
    note: str
    at: int
    mine: bytes
    theirs: bytes


class StatementView(View, frozen=True, kw_only=True):
    zerostate_statement: int
    owner: str
    made_at: int
    from_at: int | None
    to_at: int | None
    channels: tuple[StatementChannel, ...]
    discharges: tuple[StatementDischarge, ...]
    payments: tuple[PaymentRow, ...]
    """What happened between ``from_at`` and ``to_at``; the channels are shown whole."""
    moved_u: dict[str, int]
    """By the channels closed and the discharges shown here, what each peer owes the owner, µ; negative: the owner owes."""
