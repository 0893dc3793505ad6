"""Tables of payment approval: requests, grants, limits and the log of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zstui.engine.channels.approvals.model import (
    ASK_US,
    DAY_US,
    MAX_DECISIONS,
    MAX_GRANTS,
    MAX_WAITING,
    Grant,
    GrantKey,
    PaymentRequest,
    Scope,
    grants_refuse,
    scope_subject,
)
from zstui.engine.errors import ApprovalError, BadInput
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Migration, Tx
from zstui.engine.views import ApprovalState

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "approvals",
        1,
        """
        CREATE TABLE approval_request (
            request_id TEXT PRIMARY KEY,
            peer_id TEXT NOT NULL,
            guild_id TEXT NOT NULL,
            job_id TEXT NOT NULL,
            agreement_id TEXT NOT NULL,
            amount_u INTEGER NOT NULL CHECK (amount_u > 0),
            state TEXT NOT NULL
                CHECK (state IN ('waiting', 'paying', 'paid', 'declined', 'expired', 'failed')),
            created_us INTEGER NOT NULL,
            expires_us INTEGER NOT NULL,
            why TEXT NOT NULL DEFAULT '',
            automatic INTEGER NOT NULL DEFAULT 0,
            debited_us INTEGER,
            channel_id TEXT NOT NULL DEFAULT '',
            sequence INTEGER NOT NULL DEFAULT 0,
            before_u INTEGER NOT NULL DEFAULT 0,
            peer_before_u INTEGER NOT NULL DEFAULT 0,
            request BLOB NOT NULL
        ) STRICT;
        CREATE INDEX approval_request_owed ON approval_request (peer_id, state, created_us) WHERE state != 'paid';
        CREATE INDEX approval_request_debits ON approval_request (debited_us) WHERE debited_us IS NOT NULL;
        CREATE TABLE approval_grant (
            scope TEXT NOT NULL CHECK (scope IN ('node', 'guild', 'peer', 'job')),
            subject TEXT NOT NULL,
            per_payment_u INTEGER NOT NULL,
            per_day_u INTEGER NOT NULL,
            total_u INTEGER NOT NULL,
            expires_us INTEGER,
            spent_total_u INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (scope, subject)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE approval_limit (
            name TEXT PRIMARY KEY,
            value_u INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE approval_decision (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            at_us INTEGER NOT NULL,
            request_id TEXT NOT NULL,
            peer_id TEXT NOT NULL,
            amount_u INTEGER NOT NULL,
            decision TEXT NOT NULL,
            rule TEXT NOT NULL,
            why TEXT NOT NULL
        ) STRICT;
        """,
    ),
)


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


# --- requests --------------------------------------------------------------------------------------------------------


def get(tx: Tx, request_id: str) -> Record | None:
    row = tx.execute(f"SELECT {_RECORD} WHERE request_id = ?", (request_id,)).fetchone()
    return None if row is None else _record(row)


def insert(tx: Tx, request: PaymentRequest, now_us: int) -> tuple[bool, list[str]]:
    """Keep a request as waiting; False if it was known. Also the ids of older ones declined to make room."""
    inserted = tx.execute(
        "INSERT OR IGNORE INTO approval_request (request_id, peer_id, guild_id, job_id, agreement_id, amount_u, state,"
        " created_us, expires_us, request) VALUES (?,?,?,?,?,?,'waiting',?,?,?)",
        (
            request.request_id,
            request.peer_id,
            request.guild_id,
            request.job_id,
            request.agreement_id,
            request.amount_u,
            request.created_us,
            now_us + ASK_US,
            msgspec.msgpack.encode(request),
        ),
    ).rowcount
    if not inserted:
        return False, []
    crowd = tx.execute(
        "SELECT request_id FROM approval_request WHERE peer_id = ? AND state = 'waiting' AND request_id != ?"
        " ORDER BY created_us DESC, request_id LIMIT -1 OFFSET ?",
        (request.peer_id, request.request_id, MAX_WAITING - 1),
    ).fetchall()
    for (old,) in crowd:
        move(tx, old, "declined", "too many payments wait for this peer", now_us, "waiting", rule="crowded")
    return True, [old for (old,) in crowd]


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
}
_NOT_NOW: dict[ApprovalState, str] = {
    "waiting": "This payment waits for your decision.",
    "paying": "This payment was signed already and is being sent.",
    "paid": "This payment was made already.",
    "declined": "This payment was declined; reopen it to pay.",
    "expired": "The time to approve this payment is over and nothing was paid; reopen it to pay.",
    "failed": "This payment failed and nothing was paid; reopen it to try again.",
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
    off them.
    """
    record = get(tx, request_id)
    if record is None:
        raise ApprovalError("No such payment request.")
    require_waiting(record, signing.now_us)
    request = record.request
    if signing.automatic:
        live = [g for g in grants(tx) if g.covers(request) and g.live(signing.now_us)]
        refusal = grants_refuse(request, live, spent_day(tx, live, request, signing.now_us), signing.now_us)
        if refusal is not None:
            raise ApprovalError(f"Not paid automatically: {refusal[1]}.")
        for grant in live:
            tx.execute(
                "UPDATE approval_grant SET spent_total_u = spent_total_u + ? WHERE scope = ? AND subject = ?",
                (request.amount_u, *grant.key),
            )
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
    log(
        tx,
        request,
        "auto" if signing.automatic else "pay",
        "grant" if signing.automatic else "person",
        "",
        signing.now_us,
    )


def set_sequence(tx: Tx, request_id: str, sequence: int) -> None:
    """Correct the expected sequence number to the one the payment was given."""
    tx.execute("UPDATE approval_request SET sequence = ? WHERE request_id = ?", (sequence, request_id))


def settle(tx: Tx, request_id: str, peer: PeerId, agreement_id: str, amount_u: int, now_us: int) -> bool:
    """Mark as paid what the payee acknowledged, whatever this table thought of it; False if there is no such request."""
    record = get(tx, request_id)
    if (
        record is None
        or record.state == "paid"
        or (record.request.peer_id, record.request.agreement_id, record.request.amount_u)
        != (peer, agreement_id, amount_u)
    ):
        return False
    tx.execute(
        "UPDATE approval_request SET state = 'paid', debited_us = coalesce(debited_us, ?),"
        " why = CASE WHEN debited_us IS NULL THEN 'found paid at the payee' ELSE why END WHERE request_id = ?",
        (now_us, request_id),
    )
    log(tx, record.request, "paid", "acknowledged", "", now_us)
    return True


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
    rows = tx.execute(f"SELECT {_RECORD} WHERE state != 'paid' ORDER BY created_us, request_id")
    return [_record(row) for row in rows]


def paid(tx: Tx, limit: int) -> list[Record]:
    """The latest paid ones, oldest first."""
    rows = tx.execute(
        f"SELECT {_RECORD} WHERE state = 'paid' AND debited_us IS NOT NULL ORDER BY debited_us DESC LIMIT ?", (limit,)
    ).fetchall()
    return [_record(row) for row in reversed(rows)]


def payees(tx: Tx) -> set[PeerId]:
    """Peers that were ever paid."""
    return {
        peer for (peer,) in tx.execute("SELECT DISTINCT peer_id FROM approval_request WHERE debited_us IS NOT NULL")
    }


# --- grants ----------------------------------------------------------------------------------------------------------


def grants(tx: Tx) -> list[Grant]:
    rows = tx.execute(
        "SELECT scope, subject, per_payment_u, per_day_u, total_u, expires_us, spent_total_u FROM approval_grant"
        " ORDER BY scope, subject"
    )
    names = Grant.__struct_fields__
    return [Grant(**dict(zip(names, row, strict=True))) for row in rows]


def debits(tx: Tx, now_us: int) -> list[Record]:
    """Automatic payments of the last 24 hours, oldest first."""
    rows = tx.execute(
        f"SELECT {_RECORD} WHERE automatic = 1 AND debited_us > ? ORDER BY debited_us", (now_us - DAY_US,)
    )
    return [_record(row) for row in rows]


_COLUMN: dict[Scope, str] = {"node": "''", "guild": "guild_id", "peer": "peer_id", "job": "job_id"}


def spent_day(tx: Tx, live: Sequence[Grant], request: PaymentRequest, now_us: int) -> dict[GrantKey, int]:
    """What was paid automatically in the last 24 hours in the scope of each grant that covers ``request``."""
    spent: dict[GrantKey, int] = {}
    for grant in live:
        spent[grant.key] = tx.execute(
            "SELECT coalesce(sum(amount_u), 0) FROM approval_request"
            f" WHERE automatic = 1 AND debited_us > ? AND {_COLUMN[grant.scope]} = ?",
            (now_us - DAY_US, scope_subject(grant.scope, request)),
        ).fetchone()[0]
    return spent


def put_grant(tx: Tx, grant: Grant, now_us: int) -> None:
    """Set a grant, with nothing spent of its total. Expired ones go. Raises BadInput if there are too many."""
    tx.execute("DELETE FROM approval_grant WHERE expires_us <= ?", (now_us,))
    tx.execute(
        "INSERT OR REPLACE INTO approval_grant VALUES (?,?,?,?,?,?,0)",
        (grant.scope, grant.subject, grant.per_payment_u, grant.per_day_u, grant.total_u, grant.expires_us),
    )
    if tx.execute("SELECT count(*) FROM approval_grant").fetchone()[0] > MAX_GRANTS:
        raise BadInput(f"There are {MAX_GRANTS} grants already; take one away first.")


def drop_grant(tx: Tx, key: GrantKey) -> None:
    tx.execute("DELETE FROM approval_grant WHERE scope = ? AND subject = ?", key)


def limits(tx: Tx) -> dict[str, int]:
    return dict(tx.execute("SELECT name, value_u FROM approval_limit"))


def put_limit(tx: Tx, name: str, value_u: int) -> None:
    tx.execute("INSERT OR REPLACE INTO approval_limit VALUES (?, ?)", (name, value_u))


# --- log -------------------------------------------------------------------------------------------------------------


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
        "SELECT at_us, request_id, peer_id, amount_u, decision, rule, why FROM approval_decision"
        " ORDER BY number DESC LIMIT ?",
        (limit,),
    )
    return [LoggedDecision(*row) for row in rows]
