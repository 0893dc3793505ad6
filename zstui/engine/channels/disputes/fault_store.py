"""SQL of faults on record and of the penalties for them. Every function runs inside a transaction that its caller holds."""

from __future__ import annotations

from typing import Any

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Tx


class FaultRow(msgspec.Struct, frozen=True):
    culprit: PeerId
    kind: str
    channel: bytes
    docs: tuple[bytes, bytes]
    """Empty for a fault that only a verdict shows."""
    at_us: int
    until_us: int
    parties: tuple[PeerId, PeerId] | None = None
    """Of a fault that only a verdict shows: it counts in the guilds of these two. None: it is proven, and counts everywhere."""

    @property
    def proven(self) -> bool:
        """By two signed documents, to anyone."""
        return bool(self.docs[0])


_FAULT = "culprit, kind, channel, first, second, at_us, until_us, parties"


def add(tx: Tx, fault: FaultRow, limit: int) -> bool:
    """False if this fault is known. Past ``limit`` faults the one that ran out first is forgotten."""
    changed = tx.execute(
        f"INSERT OR IGNORE INTO dispute_faults ({_FAULT}, carried_out) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            *(fault.culprit, fault.kind, fault.channel, *fault.docs, fault.at_us, fault.until_us),
            " ".join(fault.parties or ()),
        ),
    )
    if changed.rowcount != 1:
        return False
    tx.execute(
        "DELETE FROM dispute_faults WHERE (culprit, kind, channel) IN (SELECT culprit, kind, channel FROM dispute_faults"
        " ORDER BY until_us DESC LIMIT -1 OFFSET ?)",
        (limit,),
    )
    return True


def has(tx: Tx, culprit: PeerId, kind: str, channel: bytes) -> bool:
    return (
        tx.execute(
            "SELECT 1 FROM dispute_faults WHERE culprit = ? AND kind = ? AND channel = ?", (culprit, kind, channel)
        ).fetchone()
        is not None
    )


def count(tx: Tx, culprit: PeerId) -> int:
    return int(tx.execute("SELECT count(*) FROM dispute_faults WHERE culprit = ?", (culprit,)).fetchone()[0])


def load(tx: Tx, channel: bytes | None = None) -> list[FaultRow]:
    """All, or those on one channel, latest first."""
    where, values = ("WHERE channel = ?", (channel,)) if channel is not None else ("", ())
    rows = tx.execute(f"SELECT {_FAULT} FROM dispute_faults {where} ORDER BY at_us DESC", values).fetchall()
    return [_fault(row) for row in rows]


def not_carried_out(tx: Tx, now_us: int) -> list[FaultRow]:
    """Those whose penalty still runs and is not in force yet."""
    rows = tx.execute(
        f"SELECT {_FAULT} FROM dispute_faults WHERE carried_out = 0 AND until_us > ?", (now_us,)
    ).fetchall()
    return [_fault(row) for row in rows]


def set_carried_out(tx: Tx, fault: FaultRow) -> None:
    tx.execute(
        "UPDATE dispute_faults SET carried_out = 1 WHERE culprit = ? AND kind = ? AND channel = ?",
        (fault.culprit, fault.kind, fault.channel),
    )


def _fault(row: tuple[Any, ...]) -> FaultRow:
    one, _, two = row[7].partition(" ")
    return FaultRow(row[0], row[1], row[2], (row[3], row[4]), row[5], row[6], (one, two) if two else None)
