"""The ways to settle that this program knows, by the word that a channel's params name."""

from __future__ import annotations

from collections.abc import Mapping

from zstui.engine.channels.drivers.ledger import LedgerDriver
from zstui.engine.channels.drivers.manual import ManualDriver
from zstui.engine.channels.settlement import SettlementDriver

DRIVERS: Mapping[str, SettlementDriver] = {"ledger": LedgerDriver(), "manual": ManualDriver()}
