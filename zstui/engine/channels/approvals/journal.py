"""SQL of the decision log: what was decided about each payment, under which rule."""

from __future__ import annotations

import msgspec

from zstui.engine.channels.approvals.model import MAX_DECISIONS, PaymentRequest
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Tx
from zstui.engine.views import ApprovalState


class LoggedDecision(msgspec.Struct, frozen=True):
    """One line of the decision log."""

    at_us: int
    request_id: str
    peer_id: PeerId
    amount_u: int
    decision: str
    """block, ask, auto, pay, failed, decline, expire, reopen, or paid."""
    rule: str
    why: str
    request: PaymentRequest | None = None
    """What was decided about, where it is still kept."""


class Past(msgspec.Struct, frozen=True):
    """A payment that was asked for and what became of it."""

    request: PaymentRequest
    state: ApprovalState
    automatic: bool
    blocked: tuple[str, str] | None
    """Rule and words with which it was blocked when it was asked for."""


def log(tx: Tx, request: PaymentRequest, decision: str, rule: str, why: str, now_us: int) -> None:
    """Append to the decision log, dropping the oldest beyond ``MAX_DECISIONS``."""
    number = tx.execute(
        "INSERT INTO approval_decision (at_us, request_id, peer_id, amount_u, decision, rule, why) VALUES (?,?,?,?,?,?,?)",
        (now_us, request.request_id, request.peer_id, request.amount_u, decision, rule, why),
    ).lastrowid
    tx.execute("DELETE FROM approval_decision WHERE number <= ?", ((number or 0) - MAX_DECISIONS,))


def decisions(tx: Tx, limit: int) -> list[LoggedDecision]:
    """The latest, newest first."""
    rows = tx.execute(
        "SELECT d.at_us, d.request_id, d.peer_id, d.amount_u, d.decision, d.rule, d.why, r.request"
        " FROM approval_decision d LEFT JOIN approval_request r USING (request_id) ORDER BY d.number DESC LIMIT ?",
        (limit,),
    )
    found = []
    for *facts, raw in rows:
        values = (*facts, None if raw is None else _request(raw))
        found.append(LoggedDecision(*values))
    return found


def history(tx: Tx, since_us: int) -> list[Past]:
    """The latest ``MAX_DECISIONS`` payments asked for since then, oldest first; of bills that a newer one includes only that."""
    rows = tx.execute(
        "SELECT request, state, automatic, (SELECT rule || char(10) || why FROM approval_decision d"
        " WHERE d.request_id = r.request_id AND d.decision = 'block' ORDER BY number LIMIT 1)"
        " FROM approval_request r WHERE created_us > ? AND state != 'superseded' ORDER BY created_us DESC, request_id LIMIT ?",
        (since_us, MAX_DECISIONS),
    ).fetchall()
    return [
        Past(_request(raw), state, bool(automatic), None if blocked is None else tuple(blocked.split("\n", 1)))
        for raw, state, automatic, blocked in reversed(rows)
    ]


def _request(raw: bytes) -> PaymentRequest:
    return msgspec.msgpack.decode(raw, type=PaymentRequest)
