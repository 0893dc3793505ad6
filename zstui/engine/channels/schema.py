"""Tables of the payment channels, and of what their parts keep."""

from __future__ import annotations

from zstui.engine.channels.discharges import store as discharge_store
from zstui.engine.channels.vault import store as vault_store
from zstui.engine.store.database import Migration

SCHEMA: tuple[Migration, ...] = (
    Migration(
        "channels",
        1,
        """
        CREATE TABLE channels (
            id BLOB PRIMARY KEY,
            peer TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT NOT NULL,
            proposer INTEGER NOT NULL,
            agreed INTEGER NOT NULL,
            params BLOB NOT NULL,
            low INTEGER NOT NULL,
            dep_mine INTEGER NOT NULL,
            dep_theirs INTEGER NOT NULL,
            created_us INTEGER NOT NULL,
            expires_us INTEGER NOT NULL,
            out_seq INTEGER NOT NULL,
            out_cum INTEGER NOT NULL,
            out_head BLOB NOT NULL,
            in_seq INTEGER NOT NULL,
            in_cum INTEGER NOT NULL,
            in_head BLOB NOT NULL,
            acked INTEGER NOT NULL,
            acked_cum INTEGER NOT NULL,
            confirmed INTEGER NOT NULL,
            frozen INTEGER NOT NULL,
            close_seq INTEGER,
            close_cum INTEGER,
            close_head BLOB,
            tainted INTEGER NOT NULL,
            peer_tainted INTEGER NOT NULL,
            since_us INTEGER NOT NULL,
            rev INTEGER NOT NULL,
            UNIQUE (peer, epoch)
        ) STRICT;
        CREATE UNIQUE INDEX channels_one_open ON channels (peer) WHERE state <> 'closed';
        CREATE TABLE channel_envelopes (
            channel BLOB NOT NULL,
            direction INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            cum INTEGER NOT NULL,
            head BLOB NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (channel, direction, seq)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE channel_documents (
            channel BLOB NOT NULL,
            kind TEXT NOT NULL,
            direction INTEGER NOT NULL,
            raw BLOB NOT NULL,
            PRIMARY KEY (channel, kind, direction)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE channel_evidence (
            number INTEGER PRIMARY KEY,
            channel BLOB NOT NULL,
            reason TEXT NOT NULL,
            raw BLOB NOT NULL,
            at_us INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX channel_evidence_channel ON channel_evidence (channel);
        CREATE TABLE channel_lines (
            agreement BLOB NOT NULL,
            no INTEGER NOT NULL,
            channel BLOB NOT NULL,
            seq INTEGER NOT NULL,
            position INTEGER NOT NULL,
            amount_u INTEGER NOT NULL,
            kind INTEGER NOT NULL,
            ref BLOB NOT NULL,
            PRIMARY KEY (agreement, no)
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX channel_lines_order ON channel_lines (channel, seq, position);
        CREATE TABLE channel_epochs (peer TEXT PRIMARY KEY, high INTEGER NOT NULL) STRICT
        """,
    ),
    Migration(
        "channels",
        2,
        """
        CREATE TABLE ledger_reservations (
            channel BLOB PRIMARY KEY,
            amount_u INTEGER NOT NULL,
            released INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE ledger_postings (
            ref BLOB NOT NULL,
            account TEXT NOT NULL,
            peer TEXT NOT NULL,
            amount_u INTEGER NOT NULL,
            kind TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            PRIMARY KEY (ref, account)
        ) STRICT;
        CREATE INDEX ledger_postings_peer ON ledger_postings (account, peer)
        """,
    ),
    Migration(
        "channels",
        3,
        """
        ALTER TABLE channels ADD COLUMN decided_paid INTEGER;
        ALTER TABLE channels ADD COLUMN decided_received INTEGER
        """,
    ),
    Migration(
        "channels",
        4,
        "CREATE TABLE channel_credit (peer TEXT PRIMARY KEY, limit_u INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ),
    *vault_store.SCHEMA,
    *discharge_store.SCHEMA,
)
