"""Debit notes: a running job is billed slice by slice, so that neither side ever has much to lose. Pure.

A note says what is due in all since the job began. Notes of one agreement are numbered from 1 and chained; each is paid on its
own (agreement, no), and the receipt asks for what they left. One note is open at a time.

How much the executor has at stake is what it has metered less what it has been paid. It stays within the agreement's
``exposure_max_u``: the run is held still before it passes that, and while a note is unpaid after ``accept_ms``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, Signed, open_envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.model import longest_active_us
from zstui.engine.jobs.receipt import MAX_FIGURE, MAX_REASON, Agreement, amount_due
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView

UNPAID_PERIODS = 3
"""A note unpaid for this many times ``accept_ms`` ends the run."""
ASKED_PATIENCE_US = 125 * US
"""How long a note may stay unpaid where its payer said that a person is being asked: a little more than they have."""
MIN_PERIOD_MS = 50
MAX_PERIOD_MS = 86_400_000
MARGIN_US = 100_000
"""The run is held so long before its exposure would reach the cap: a timer and a signal take time."""
LEAST_RUN_US = 2 * US
"""Every run may have this much time unpaid, whatever the cap, or nothing could ever be metered."""


class NoteTerms(msgspec.Struct, frozen=True):
    """How a running job is billed. ``note_ms`` 0: not at all; its receipt settles it."""

    note_ms: int = 0
    accept_ms: int = 0
    exposure_max_u: int = 0


class DebitNote(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    agreement: bytes
    no: int
    prev: bytes
    """SHA-256 of the signed note before; the agreement's id in the first."""
    total_due_u: int
    """Since the job began."""
    active_us: int
    memory_bytes: int
    """The most used so far, as far as known."""


NoteWord = Literal["asked", "refused", "disputed"]


class NoteReply(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a payer says of a note that it does not pay at once, or not in full."""

    agreement: bytes
    note: bytes
    """SHA-256 of the signed note."""
    word: NoteWord
    """asked: a person is being asked. refused: it will not be paid now. disputed: only ``accepted_u`` is owed."""
    accepted_u: int
    """What the payer agrees is due in all since the job began; that much it pays or owes."""
    reason: str


class Judged(msgspec.Struct, frozen=True):
    """A note held against what the payer knows itself."""

    checks: tuple[CheckView, ...]
    billed_us: int
    """Active time that the payer believes."""
    memory_bytes: int
    accepted_u: int

    @property
    def dispute(self) -> str:
        """Why not all of it is owed, "" if it is."""
        return "; ".join(f"{c.name}: {c.detail}" for c in self.checks if not c.ok)


def note_terms(m: Manifest, wanted: NoteTerms, price_per_second_nano: int, price_per_mib_nano: int) -> NoteTerms:
    """An executor's terms for one job: its settings, but none where the receipt alone keeps within them. Memory is paid once,
    so that all of its limit may be outstanding."""
    limit, cap = m.resources, m.terms.max_total_u
    most = cost(price_per_second_nano, price_per_mib_nano, limit.timeout_us, limit.memory_bytes, cap).total_u
    least = cost(price_per_second_nano, price_per_mib_nano, LEAST_RUN_US, limit.memory_bytes, cap).total_u
    memory = cost(0, price_per_mib_nano, 0, limit.memory_bytes, cap).total_u
    exposure_max_u = max(wanted.exposure_max_u + memory, least)
    if not most or not wanted.note_ms or (limit.timeout_us <= wanted.note_ms * 1000 and most <= exposure_max_u):
        return NoteTerms()
    return NoteTerms(wanted.note_ms, wanted.accept_ms, min(exposure_max_u, most))


def possible(terms: NoteTerms) -> bool:
    """Whether a payer could keep them."""
    return terms == NoteTerms() or (
        MIN_PERIOD_MS <= terms.note_ms <= MAX_PERIOD_MS
        and MIN_PERIOD_MS <= terms.accept_ms <= MAX_PERIOD_MS
        and 0 < terms.exposure_max_u <= MAX_FIGURE
    )


def open_note(raw: bytes, executor: PeerId, agreement: bytes) -> tuple[Signed, DebitNote]:
    """A note that ``executor`` signed for this agreement. Raises ProtocolError."""
    signed = open_envelope(raw, executor)
    note = signed.decode(DebitNote)
    if note.agreement != agreement:
        raise ProtocolError("A debit note for another agreement.")
    figures = (note.no, note.total_due_u, note.active_us, note.memory_bytes)
    if any(not 0 <= n <= MAX_FIGURE for n in figures) or not note.no or not note.total_due_u:
        raise ProtocolError("A debit note with impossible values.")
    return signed, note


def check_follows(note: DebitNote, last: DebitNote | None, last_id: bytes) -> None:
    """Whether ``note`` is the next after ``last`` (``last_id``: its digest, or the agreement's id). Raises ProtocolError."""
    if note.no != (last.no if last else 0) + 1:
        raise ProtocolError(f"Debit note {note.no} does not follow the one before.")
    if note.prev != last_id:
        raise ProtocolError(f"Debit note {note.no} follows another one than was sent.")
    if last is not None and (
        note.total_due_u <= last.total_due_u or note.active_us < last.active_us or note.memory_bytes < last.memory_bytes
    ):
        raise ProtocolError(f"Debit note {note.no} asks for less than the one before.")


def judge(note: DebitNote, m: Manifest, a: Agreement, elapsed_us: int) -> Judged:
    """What is due of a note: its payer's own clock encloses the executor's (``elapsed_us``: since the agreement left)."""
    longest = min(longest_active_us(elapsed_us), m.resources.timeout_us)
    billed_us = min(note.active_us, longest)
    memory_bytes = min(note.memory_bytes, m.resources.memory_bytes)
    due_u = amount_due(m, a, "none", billed_us, memory_bytes).total_u
    checks = (
        CheckView(name="signature", ok=True, detail="debit note signed by the executor"),
        CheckView(
            name="duration",
            ok=note.active_us <= longest,
            detail=f"{note.active_us / US:.3f} s, at most {longest / US:.3f} s by my clock and the time limit",
        ),
        CheckView(name="memory", ok=note.memory_bytes <= m.resources.memory_bytes, detail=f"{note.memory_bytes} bytes"),
        CheckView(
            name="cost",
            ok=note.total_due_u <= due_u,
            detail=f"{format_amount(note.total_due_u)} asked for, the cost rule gives {format_amount(due_u)}",
        ),
    )
    return Judged(checks, billed_us, memory_bytes, min(note.total_due_u, due_u))


def open_reply(raw: bytes, payer: PeerId, agreement: bytes) -> NoteReply:
    """Raises ProtocolError."""
    reply = open_envelope(raw, payer).decode(NoteReply)
    if reply.agreement != agreement or len(reply.note) != 32 or not 0 <= reply.accepted_u <= MAX_FIGURE:
        raise ProtocolError("An answer to a debit note that is not about this job.")
    return msgspec.structs.replace(reply, reason=clean_text(reply.reason, MAX_REASON))


def time_until_u(m: Manifest, a: Agreement, amount_u: int, memory_bytes: int) -> int:
    """Active µs at which so much is due; beyond the time limit if never."""
    never = m.resources.timeout_us + 1
    left_u = amount_u - cost(0, a.price_per_mib_nano, 0, memory_bytes, a.max_total_u).total_u
    if not a.price_per_second_nano or amount_u > a.max_total_u:
        return never
    return min(never, max(0, left_u) * US * 1000 // a.price_per_second_nano)
