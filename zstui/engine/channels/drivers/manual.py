"""Settling outside: the debt is posted as with ``ledger``, and is gone once both have signed that it was paid."""

from __future__ import annotations

from zstui.engine.channels import settlement
from zstui.engine.channels.drivers.ledger import LedgerDriver
from zstui.engine.channels.settlement import Status
from zstui.engine.store.database import Tx


class ManualDriver(LedgerDriver):
    def status(self, tx: Tx, ref: bytes) -> Status:
        """Discharged once nothing is owed between the two any more: a discharge pays the account, not one channel."""
        peer = settlement.peer_of(tx, ref)
        if peer is None:
            return "unknown"
        return "posted" if settlement.owed_by(tx, peer) else "discharged"

    def verify_incoming(self, tx: Tx, ref: bytes) -> bool:
        return settlement.kind_of(tx, ref) == "discharged"
