"""On which terms a job is agreed: what its executor asks, and the one agreement that follows from it. Pure.

Either the executor bids for the offered manifest and the submitter signs an agreement on that bid, or the submitter, who knows
the executor's card, proposes the agreement together with the manifest. An executor that now asks something else answers a
proposal with a bid.
"""

from __future__ import annotations

import msgspec

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.manifest import Capabilities, Manifest, price
from zstui.engine.jobs.notes import NoteTerms, note_terms
from zstui.engine.jobs.receipt import NO_CHANNEL, Agreement, Bid

FRESH_US = 120 * US
"""How old by the executor's clock, or ahead of it, a proposal may be."""
REMEMBERED_US = 2 * FRESH_US
"""How long a job that has ended is remembered at least: until no proposal for it would be taken again."""


class Ask(msgspec.Struct, frozen=True):
    """What an executor asks for one job."""

    price_per_second_nano: int
    price_per_mib_nano: int
    channel: bytes
    notes: NoteTerms

    def exposure_u(self, m: Manifest) -> int:
        """The most that can come to be due."""
        return price(m, self.price_per_second_nano, self.price_per_mib_nano).total_u

    def is_within(self, m: Manifest) -> bool:
        """Whether it is at most what the manifest offers."""
        return (
            0 <= self.price_per_second_nano <= m.terms.price_per_second_nano
            and 0 <= self.price_per_mib_nano <= m.terms.price_per_mib_nano
        )


def ask_for(m: Manifest, offer: Capabilities, channel_id: str) -> Ask:
    """What follows for a job from an executor's card, or its own settings. ``channel_id``: the channel that it would be paid
    by, "" for none."""
    per_second, per_mib = offer.price_per_second_nano, offer.price_per_mib_nano
    free = not price(m, per_second, per_mib).total_u
    wanted = NoteTerms(offer.note_ms, offer.accept_ms, offer.exposure_max_u)
    return Ask(
        price_per_second_nano=per_second,
        price_per_mib_nano=per_mib,
        channel=NO_CHANNEL if free or not channel_id else bytes.fromhex(channel_id),
        notes=note_terms(m, wanted, per_second, per_mib),
    )


def asked_in(bid: Bid) -> Ask:
    notes = NoteTerms(bid.note_ms, bid.accept_ms, bid.exposure_max_u)
    return Ask(bid.price_per_second_nano, bid.price_per_mib_nano, bid.channel, notes)


def bid_for(ask: Ask, manifest: bytes, executor: PeerId, waiting: int, expires_us: int) -> Bid:
    """``manifest``: its hash; ``waiting``: jobs ahead of it."""
    return Bid(
        manifest=manifest,
        executor=executor,
        price_per_second_nano=ask.price_per_second_nano,
        price_per_mib_nano=ask.price_per_mib_nano,
        channel=ask.channel,
        waiting=waiting,
        expires_us=expires_us,
        note_ms=ask.notes.note_ms,
        accept_ms=ask.notes.accept_ms,
        exposure_max_u=ask.notes.exposure_max_u,
    )


def agreement_on(
    ask: Ask, m: Manifest, manifest: bytes, bid: bytes, executor: PeerId, created_us: int, nonce: bytes
) -> Agreement:
    """``manifest``: its hash; ``bid``: that of the signed bid, or ``NO_BID``."""
    return Agreement(
        manifest=manifest,
        bid=bid,
        submitter=m.submitter,
        executor=executor,
        channel=ask.channel,
        price_per_second_nano=ask.price_per_second_nano,
        price_per_mib_nano=ask.price_per_mib_nano,
        max_total_u=m.terms.max_total_u,
        exposure_u=ask.exposure_u(m),
        created_us=created_us,
        nonce=nonce,
        note_ms=ask.notes.note_ms,
        accept_ms=ask.notes.accept_ms,
        exposure_max_u=ask.notes.exposure_max_u,
    )


def is_on(a: Agreement, ask: Ask, m: Manifest, manifest: bytes, bid: bytes, executor: PeerId) -> bool:
    """Whether an agreement is the one that follows from ``ask``; its submitter chooses no more than time and nonce."""
    return len(a.nonce) == 16 and a == agreement_on(ask, m, manifest, bid, executor, a.created_us, a.nonce)


def is_fresh(a: Agreement, now_us: int) -> bool:
    return abs(now_us - a.created_us) <= FRESH_US
