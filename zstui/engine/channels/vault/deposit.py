"""Reading a deposit off the database. Runs inside a transaction."""

from __future__ import annotations

import msgspec

from zstui.engine.channels import settlement, store
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.channels.vault.model import ChannelKept, Deposit, PeerKept, PostingKept
from zstui.engine.store.database import Tx

MAX_TAIL = 8
"""Unacknowledged Pays that go along; more come back from the peer or were never received by it."""
MAX_POSTINGS = 256
MAX_EPOCHS = 1_000


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """What other rooms add."""

    name: str
    peers: tuple[PeerKept, ...]
    guilds: tuple[tuple[str, str], ...]


def build(tx: Tx, version: int, at_us: int, extras: Extras) -> Deposit:
    """Open channels of the newest first, so that what has no room is the oldest."""
    channels = sorted(store.load_recent(tx, 0), key=lambda c: c.created_us, reverse=True)
    postings, rest = settlement.latest_postings(tx, MAX_POSTINGS)
    return Deposit(
        version=version,
        at_us=at_us,
        name=extras.name,
        channels=tuple(_kept(tx, c) for c in channels if c.agreed and c.state is not State.OPENING),
        epochs=tuple(store.epochs(tx, MAX_EPOCHS)),
        postings=tuple(PostingKept(*row) for row in postings),
        rest=tuple(rest.items()),
        peers=extras.peers,
        guilds=extras.guilds,
    )


def _kept(tx: Tx, c: Channel) -> ChannelKept:
    tail = store.envelopes(tx, c.id, store.OUT, c.acked + 1, c.out.seq, MAX_TAIL)
    return ChannelKept(
        params=c.params,
        proposer=c.proposer,
        out=(c.out.seq, c.out.cum, c.out.head),
        inn=(c.inn.seq, c.inn.cum, c.inn.head),
        acked=c.acked,
        last=(store.envelope(tx, c.id, store.IN, c.inn.seq) or b"") if c.inn.seq else b"",
        tail=tuple(raw for _, raw in tail),
    )
