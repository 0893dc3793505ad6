"""Where a closed channel's balance goes: the driver interface, and the pairwise double-entry ledger behind every driver.

There is no chain: a settled channel leaves a debt between two peers, recorded by both. That is clearing; a discharge is what
both sign once it was paid outside.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Tx


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What one closed channel moved."""

    channel: bytes
    peer: PeerId
    paid_u: int
    """By me."""
    received_u: int
    kind: Literal["settled", "claimed", "decided"]
    """claimed: on my own record only, the peer did not sign; decided: by the channel's witnesses."""
    at_us: int


Status = Literal["unknown", "posted", "discharged"]
"""posted: both owe and are owed by their books. discharged: both signed that it was paid."""


class SettlementDriver(Protocol):
    """Called inside the transaction that changes the channel. All are idempotent by channel id."""

    def reserve(self, tx: Tx, channel: bytes, amount_u: int) -> None:
        """Set my deposit aside."""

    def release(self, tx: Tx, channel: bytes) -> None:
        """Give the deposit back; what was spent is posted by ``settle``."""

    def settle(self, tx: Tx, settlement: Settlement) -> bytes:
        """Carry out; returns the reference under which its ``status`` can be asked."""

    def status(self, tx: Tx, ref: bytes) -> Status:
        """How a settlement stands."""

    def verify_incoming(self, tx: Tx, ref: bytes) -> bool:
        """Whether the other side has signed ``ref``, so that it need not be taken on my own word."""


def post(tx: Tx, ref: bytes, peer: PeerId, spent_u: int, earned_u: int, kind: str, at_us: int) -> None:
    """Three postings that sum to 0; a ``ref`` that is posted already stays as it is."""
    for account, amount in (("spent", spent_u), ("earned", -earned_u), ("peer", earned_u - spent_u)):
        tx.execute(
            "INSERT OR IGNORE INTO ledger_postings VALUES (?, ?, ?, ?, ?, ?)", (ref, account, peer, amount, kind, at_us)
        )


def kind_of(tx: Tx, ref: bytes) -> str | None:
    """Why ``ref`` was posted; None if it was not."""
    row = tx.execute("SELECT kind FROM ledger_postings WHERE ref = ? AND account = 'peer'", (ref,)).fetchone()
    return None if row is None else str(row[0])


def peer_of(tx: Tx, ref: bytes) -> PeerId | None:
    row = tx.execute("SELECT peer FROM ledger_postings WHERE ref = ? AND account = 'peer'", (ref,)).fetchone()
    return None if row is None else str(row[0])


def has_postings(tx: Tx, peer: PeerId) -> bool:
    return bool(tx.execute("SELECT EXISTS (SELECT 1 FROM ledger_postings WHERE peer = ?)", (peer,)).fetchone()[0])


def latest_postings(tx: Tx, limit: int) -> tuple[list[tuple[bytes, PeerId, int, int, str, int]], dict[PeerId, int]]:
    """(ref, peer, spent, earned, kind, time) newest first, and what each peer owes me by all that are older."""
    rows = tx.execute(
        "SELECT ref, peer, sum(CASE account WHEN 'spent' THEN amount_u ELSE 0 END),"
        " -sum(CASE account WHEN 'earned' THEN amount_u ELSE 0 END), kind, max(at_us)"
        " FROM ledger_postings GROUP BY ref ORDER BY max(at_us) DESC, ref LIMIT ?",
        (limit,),
    ).fetchall()
    rest = accounts(tx)
    for _, peer, spent, earned, _, _ in rows:
        rest[peer] -= earned - spent
    return rows, {peer: owed for peer, owed in rest.items() if owed}


def owed_by(tx: Tx, peer: PeerId) -> int:
    """What ``peer`` owes me over all closed channels, µ; negative: I owe it."""
    row = tx.execute(
        "SELECT coalesce(sum(amount_u), 0) FROM ledger_postings WHERE account = 'peer' AND peer = ?", (peer,)
    ).fetchone()
    return int(row[0])


def accounts(tx: Tx) -> dict[PeerId, int]:
    """``owed_by`` for every peer with a posting."""
    rows = tx.execute("SELECT peer, sum(amount_u) FROM ledger_postings WHERE account = 'peer' GROUP BY peer").fetchall()
    return {peer: int(amount) for peer, amount in rows}
