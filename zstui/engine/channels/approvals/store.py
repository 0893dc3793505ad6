"""SQL of payment requests: kept, decided, and begun in the transaction that commits their payment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zstui.engine.channels.approvals import grant_store
from zstui.engine.channels.approvals.journal import log
from zstui.engine.channels.approvals.model import (
    ASK_US,
    DAY_US,
    LINE_KINDS,
    MAX_WAITING,
    Grant,
    PaymentRequest,
)
from zstui.engine.channels.messages import PayLine
from zstui.engine.errors import ApprovalError
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Tx
from zstui.engine.views import ApprovalState


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A request and what became of it."""

    request: PaymentRequest
    state: ApprovalState
    expires_us: int
    why: str
    """Set by what happened to it; "" while only the policy has something to say."""
    automatic: bool
    debited_us: int | None
    """When its payment was committed."""
    channel_id: str
    sequence: int
    before_u: int
    peer_before_u: int


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment is committed with."""

    automatic: bool
    why: str
    now_us: int
    channel_id: str
    sequence: int
    before_u: int
    peer_before_u: int
    grant: Grant | None = None
    """To be set with it."""


_RECORD = (
    "request, state, expires_us, why, automatic, debited_us, channel_id, sequence, before_u, peer_before_u"
    " FROM approval_request"
)


def _record(row: Sequence[Any]) -> Record:
    request, state, expires_us, why, automatic, *rest = row
    debited_us, channel_id, sequence, before_u, peer_before_u = rest
    return Record(
        request=msgspec.msgpack.decode(request, type=PaymentRequest),
        state=state,
        expires_us=expires_us,
        why=why,
        automatic=bool(automatic),
        debited_us=debited_us,
        channel_id=channel_id,
        sequence=sequence,
        before_u=before_u,
        peer_before_u=peer_before_u,
    )


def forget_grants(tx: Tx) -> None:
    """Take every grant back: an older copy neither knows what was spent under it since, nor whether it was taken back."""
    tx.execute("DELETE FROM approval_grant")


# --- requests --------------------------------------------------------------------------------------------------------


def get(tx: Tx, request_id: str) -> Record | None:
    row = tx.execute(f"SELECT {_RECORD} WHERE request_id = ?", (request_id,)).fetchone()
    return None if row is None else _record(row)


class Added(msgspec.Struct, frozen=True):
    """What came of a request."""

    fresh: bool
    """False: it was known, or nothing of it is left to pay."""
    request: PaymentRequest | None
    """As kept: without what was paid under its agreement before. None where nothing is left to pay."""
    gone: tuple[str, ...] = ()
    """Older requests that it replaced or crowded out."""


def insert(tx: Tx, request: PaymentRequest, now_us: int, signed_u: int = 0) -> Added:
    """Keep a request as waiting. ``amount_u`` comes in as all that is due under the agreement; what was committed before is
    taken off here, where no other payment can come between, and earlier requests that it includes end as superseded.
    ``signed_u``: what the channels' own books say was signed, which a restored node may know of alone."""
    known = get(tx, request.request_id)
    if known is not None:
        return Added(False, None if known.state == "superseded" else known.request)
    before_u = max(committed(tx, request.agreement_id), signed_u)
    if request.amount_u <= before_u:
        return Added(False, None, _supersede(tx, request, now_us))
    request = msgspec.structs.replace(request, amount_u=request.amount_u - before_u, paid_before_u=before_u)
    tx.execute(
        "INSERT INTO approval_request (request_id, peer_id, guild_id, job_id, agreement_id, submission, amount_u,"
        " state, created_us, expires_us, request) VALUES (?,?,?,?,?,?,?,'waiting',?,?,?)",
        (
            request.request_id,
            request.peer_id,
            request.guild_id,
            request.job_id,
            request.agreement_id,
            request.submitted_as,
            request.amount_u,
            request.created_us,
            now_us + ASK_US,
            msgspec.msgpack.encode(request),
        ),
    )
    crowd = tx.execute(
        "SELECT request_id FROM approval_request WHERE peer_id = ? AND state = 'waiting' AND request_id != ?"
        " ORDER BY created_us DESC, request_id LIMIT -1 OFFSET ?",
        (request.peer_id, request.request_id, MAX_WAITING - 1),
    ).fetchall()
    for (old,) in crowd:
        move(tx, old, "declined", "too many payments wait for this peer", now_us, "waiting", rule="crowded")
    return Added(True, request, (*_supersede(tx, request, now_us), *(old for (old,) in crowd)))


def committed(tx: Tx, agreement_id: str) -> int:
    """µ signed under an agreement, acknowledged or not."""
    row = tx.execute(
        "SELECT coalesce(sum(amount_u), 0) FROM approval_request WHERE agreement_id = ? AND debited_us IS NOT NULL",
        (agreement_id,),
    ).fetchone()
    return int(row[0])


def _supersede(tx: Tx, newer: PaymentRequest, now_us: int) -> tuple[str, ...]:
    """End the unpaid notes of the same agreement: what is due is cumulative, so the newer bill asks for theirs, too."""
    unpaid: tuple[ApprovalState, ...] = ("waiting", "declined", "expired", "failed")
    rows = tx.execute(
        f"SELECT {_RECORD} WHERE agreement_id = ? AND request_id != ? AND debited_us IS NULL AND state != 'superseded'",
        (newer.agreement_id, newer.request_id),
    ).fetchall()
    old = [record.request.request_id for record in map(_record, rows) if record.request.kind == "note"]
    for request_id in old:
        move(tx, request_id, "superseded", "part of a newer bill for the same job", now_us, *unpaid, rule="newer_bill")
    return tuple(old)


def move(
    tx: Tx, request_id: str, state: ApprovalState, why: str, now_us: int, *sources: ApprovalState, rule: str
) -> Record:
    """Change the state of a request that is in one of ``sources``, and log it. Raises ApprovalError otherwise."""
    record = get(tx, request_id)
    if record is None:
        raise ApprovalError("No such payment request.")
    if record.state not in sources:
        raise ApprovalError(_NOT_NOW[record.state])
    expires_us = now_us + ASK_US if state == "waiting" else record.expires_us
    tx.execute(
        "UPDATE approval_request SET state = ?, why = ?, expires_us = ? WHERE request_id = ?",
        (state, why, expires_us, request_id),
    )
    log(tx, record.request, _WORDS[state], rule, why, now_us)
    return msgspec.structs.replace(record, state=state, why=why, expires_us=expires_us)


_WORDS: dict[ApprovalState, str] = {
    "waiting": "reopen",
    "paying": "pay",
    "paid": "paid",
    "declined": "decline",
    "expired": "expire",
    "failed": "failed",
    "superseded": "superseded",
}
_NOT_NOW: dict[ApprovalState, str] = {
    "waiting": "This payment waits for your decision.",
    "paying": "This payment was signed already and is being sent.",
    "paid": "This payment was made already.",
    "declined": "This payment was declined; reopen it to pay.",
    "expired": "The time to approve this payment is over and nothing was paid; reopen it to pay.",
    "failed": "This payment failed and nothing was paid; reopen it to try again.",
    "superseded": "A newer bill for the same job took the place of this payment.",
}


def require_waiting(record: Record, now_us: int) -> None:
    """Raises ApprovalError unless the request may be paid at ``now_us``."""
    if record.state != "waiting":
        raise ApprovalError(_NOT_NOW[record.state])
    if now_us >= record.expires_us:
        raise ApprovalError(_NOT_NOW["expired"])


def begin(tx: Tx, request_id: str, signing: Signing) -> None:
    """Mark a request as being paid, in the transaction that commits the payment. Raises ApprovalError: then nothing is paid.

    An automatic payment is held against its grants once more, here where no other payment can come between, and is taken
    off them. A grant that came with the person's word is set with it.
    """
    record = get(tx, request_id)
    if record is None:
        raise ApprovalError("No such payment request.")
    require_waiting(record, signing.now_us)
    request = record.request
    if signing.automatic:
        grant_store.debit(tx, request, signing.now_us)
    if signing.grant is not None:
        grant_store.put_grant(tx, signing.grant, signing.now_us)
        log(tx, request, "grant", "person", signing.why, signing.now_us)
    tx.execute(
        "UPDATE approval_request SET state = 'paying', why = ?, automatic = ?, debited_us = ?, channel_id = ?, sequence = ?,"
        " before_u = ?, peer_before_u = ? WHERE request_id = ?",
        (
            signing.why,
            int(signing.automatic),
            signing.now_us,
            signing.channel_id,
            signing.sequence,
            signing.before_u,
            signing.peer_before_u,
            request_id,
        ),
    )
    decision = "auto" if signing.automatic else "pay"
    log(tx, request, decision, "grant" if signing.automatic else "person", signing.why, signing.now_us)


def set_sequence(tx: Tx, request_id: str, sequence: int) -> None:
    """Correct the expected sequence number to the one the payment was given."""
    tx.execute("UPDATE approval_request SET sequence = ? WHERE request_id = ?", (sequence, request_id))


def settle(tx: Tx, peer: PeerId, line: PayLine, now_us: int) -> bool:
    """Mark as paid what the payee acknowledged, whatever this table thought of it; False if there is no such request."""
    record = get(tx, line.ref.hex())
    if record is None or record.state == "paid" or not _is_for(line, peer, record.request):
        return False
    r = record.request
    tx.execute(
        "UPDATE approval_request SET state = 'paid', debited_us = coalesce(debited_us, ?),"
        " why = CASE WHEN debited_us IS NULL THEN 'found paid at the payee' ELSE why END WHERE request_id = ?",
        (now_us, r.request_id),
    )
    log(tx, r, "paid", "acknowledged", "", now_us)
    return True


def undo(tx: Tx, peer: PeerId, line: PayLine, now_us: int) -> bool:
    """Take back a payment that was signed and counts for nothing: it is owed again; False if there is no such request.

    What a grant had spent on it stays spent."""
    record = get(tx, line.ref.hex())
    if record is None or record.state != "paying" or not _is_for(line, peer, record.request):
        return False
    why = "the witnesses' verdict does not count this payment, so nothing was paid"
    move(tx, record.request.request_id, "failed", why, now_us, "paying", rule="verdict")
    tx.execute(
        "UPDATE approval_request SET debited_us = NULL, automatic = 0 WHERE request_id = ?",
        (record.request.request_id,),
    )
    return True


def _is_for(line: PayLine, peer: PeerId, r: PaymentRequest) -> bool:
    """Whether a line to ``peer`` pays this request."""
    asked = (r.peer_id, r.agreement_id, LINE_KINDS[r.kind], r.no, r.amount_u)
    return asked == (peer, line.agreement.hex(), line.kind, line.no, line.amount_u)


def expire(tx: Tx, now_us: int) -> list[Record]:
    """End the time of every waiting request that is due."""
    due = tx.execute(
        "SELECT request_id FROM approval_request WHERE state = 'waiting' AND expires_us <= ?", (now_us,)
    ).fetchall()
    return [
        move(tx, request_id, "expired", "not approved in time", now_us, "waiting", rule="timeout")
        for (request_id,) in due
    ]


def owed(tx: Tx) -> list[Record]:
    """Every request that is not paid, oldest first."""
    rows = tx.execute(f"SELECT {_RECORD} WHERE state NOT IN ('paid', 'superseded') ORDER BY created_us, request_id")
    return [_record(row) for row in rows]


def paid(tx: Tx, limit: int) -> list[Record]:
    """The latest paid ones, oldest first."""
    rows = tx.execute(
        f"SELECT {_RECORD} WHERE state = 'paid' AND debited_us IS NOT NULL ORDER BY debited_us DESC LIMIT ?", (limit,)
    ).fetchall()
    return [_record(row) for row in reversed(rows)]


def debits(tx: Tx, now_us: int) -> list[Record]:
    """Automatic payments of the last 24 hours, oldest first."""
    rows = tx.execute(
        f"SELECT {_RECORD} WHERE automatic = 1 AND debited_us > ? ORDER BY debited_us", (now_us - DAY_US,)
    )
    return [_record(row) for row in rows]


def payees(tx: Tx) -> set[PeerId]:
    """Peers that were ever paid."""
    return {
        peer for (peer,) in tx.execute("SELECT DISTINCT peer_id FROM approval_request WHERE debited_us IS NOT NULL")
    }


def prune(tx: Tx, before_us: int, limit: int) -> int:
    """Delete requests from before a time that were paid, or are part of a newer bill; how many went. What is owed stays."""
    return tx.execute(
        "DELETE FROM approval_request WHERE request_id IN (SELECT request_id FROM approval_request"
        " WHERE created_us < ? AND state IN ('paid', 'superseded') LIMIT ?)",
        (before_us, limit),
    ).rowcount
