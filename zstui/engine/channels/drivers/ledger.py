"""Clearing: what a closed channel moved becomes a debt between two peers, in the books of both."""

from __future__ import annotations

from zstui.engine.channels import settlement
from zstui.engine.channels.settlement import Settlement, Status
from zstui.engine.store.database import Tx


class LedgerDriver:
    def reserve(self, tx: Tx, channel: bytes, amount_u: int) -> None:
        tx.execute(
            "INSERT INTO ledger_reservations VALUES (?, ?, 0) ON CONFLICT (channel) DO UPDATE SET released = 0",
            (channel, amount_u),
        )

    def release(self, tx: Tx, channel: bytes) -> None:
        tx.execute("UPDATE ledger_reservations SET released = 1 WHERE channel = ?", (channel,))

    def settle(self, tx: Tx, settlement_: Settlement) -> bytes:
        s = settlement_
        settlement.post(tx, s.channel, s.peer, s.paid_u, s.received_u, s.kind, s.at_us)
        return s.channel

    def status(self, tx: Tx, ref: bytes) -> Status:
        return "unknown" if settlement.kind_of(tx, ref) is None else "posted"

    def verify_incoming(self, tx: Tx, ref: bytes) -> bool:
        return settlement.kind_of(tx, ref) == "settled"
