"""SQL of grants and limits, and of what each grant paid in the last 24 hours."""

from __future__ import annotations

from collections.abc import Sequence

from zstui.engine.channels.approvals.model import (
    DAY_US,
    MAX_GRANTS,
    Grant,
    GrantKey,
    PaymentRequest,
    Scope,
    grants_refuse,
    scope_subject,
)
from zstui.engine.errors import ApprovalError, BadInput
from zstui.engine.store.database import Tx


def grants(tx: Tx) -> list[Grant]:
    rows = tx.execute(
        "SELECT scope, subject, per_payment_u, per_day_u, total_u, expires_us, spent_total_u FROM approval_grant"
        " ORDER BY scope, subject"
    )
    names = Grant.__struct_fields__
    return [Grant(**dict(zip(names, row, strict=True))) for row in rows]


def debit(tx: Tx, request: PaymentRequest, now_us: int) -> None:
    """Take an automatic payment off every grant that covers it. Raises ApprovalError where one has no room."""
    live = [g for g in grants(tx) if g.covers(request) and g.live(now_us)]
    refusal = grants_refuse(request, live, spent_day(tx, live, request, now_us), now_us)
    if refusal is not None:
        raise ApprovalError(f"Not paid automatically: {refusal[1]}.")
    for grant in live:
        tx.execute(
            "UPDATE approval_grant SET spent_total_u = spent_total_u + ? WHERE scope = ? AND subject = ?",
            (request.amount_u, *grant.key),
        )


_COLUMN: dict[Scope, str] = {"node": "''", "guild": "guild_id", "peer": "peer_id", "job": "submission"}


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
