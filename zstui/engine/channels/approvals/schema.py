"""Tables of payment approval: requests, grants, limits and the log of decisions."""

from __future__ import annotations

from zstui.engine.store.database import Migration

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
    Migration(
        "approvals",
        2,
        """
        CREATE TABLE approval_request_new (
            request_id TEXT PRIMARY KEY,
            peer_id TEXT NOT NULL,
            guild_id TEXT NOT NULL,
            job_id TEXT NOT NULL,
            agreement_id TEXT NOT NULL,
            amount_u INTEGER NOT NULL CHECK (amount_u > 0),
            state TEXT NOT NULL
                CHECK (state IN ('waiting', 'paying', 'paid', 'declined', 'expired', 'failed', 'superseded')),
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
        INSERT INTO approval_request_new SELECT request_id, peer_id, guild_id, job_id, agreement_id, amount_u, state,
            created_us, expires_us, why, automatic, debited_us, channel_id, sequence, before_u, peer_before_u, request
            FROM approval_request;
        DROP TABLE approval_request;
        ALTER TABLE approval_request_new RENAME TO approval_request;
        CREATE INDEX approval_request_owed ON approval_request (peer_id, state, created_us) WHERE state != 'paid';
        CREATE INDEX approval_request_debits ON approval_request (debited_us) WHERE debited_us IS NOT NULL;
        CREATE INDEX approval_request_agreement ON approval_request (agreement_id);
        CREATE INDEX approval_request_created ON approval_request (created_us);
        CREATE INDEX approval_decision_request ON approval_decision (request_id)
        """,
    ),
    Migration(
        "approvals",
        3,
        """
        ALTER TABLE approval_request ADD COLUMN submission TEXT NOT NULL DEFAULT '';
        UPDATE approval_request SET submission = job_id
        """,
    ),
)
