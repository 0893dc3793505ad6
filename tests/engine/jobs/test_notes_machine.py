"""Debit notes between an executor that may lie and a payer that checks each against its own clock, in any order."""

from __future__ import annotations

import hashlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from tests.engine.jobs.docs import EXECUTOR
from tests.engine.jobs.test_notes import ID, A, M
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import seal
from zstui.engine.jobs.model import longest_active_us
from zstui.engine.jobs.notes import DebitNote, check_follows, judge
from zstui.engine.jobs.receipt import amount_due

LIES = st.sampled_from(["skips", "repeats", "forks", "shrinks", "overcharges", "runs ahead"])


class Notes(RuleBasedStateMachine):
    """``metered_us`` is what truly ran, ``elapsed_us`` what passed on the payer's clock meanwhile: never less."""

    def __init__(self) -> None:
        super().__init__()
        self.metered_us = self.elapsed_us = self.memory = 0
        self.last: DebitNote | None = None
        self.last_id = ID
        self.accepted_u = 0
        self.lied = False

    @rule(us=st.integers(1, 40_000_000), waits_us=st.integers(0, 5_000_000), grows=st.integers(0, 64 << 20))
    def run(self, us: int, waits_us: int, grows: int) -> None:
        self.metered_us = min(self.metered_us + us, M.resources.timeout_us)
        self.elapsed_us += us + waits_us
        self.memory = min(self.memory + grows, M.resources.memory_bytes)

    def due(self, active_us: int) -> DebitNote:
        total_u = amount_due(M, A, "none", active_us, self.memory).total_u
        return DebitNote(ID, self.last.no + 1 if self.last else 1, self.last_id, total_u, active_us, self.memory)

    def take(self, note: DebitNote) -> int:
        """What the payer accepts in all, once it has taken ``note``. Raises ProtocolError."""
        check_follows(note, self.last, self.last_id)
        judged = judge(note, M, A, self.elapsed_us)
        self.last, self.last_id = note, hashlib.sha256(seal(EXECUTOR, note)).digest()
        self.accepted_u = max(self.accepted_u, judged.accepted_u)
        return judged.accepted_u

    @precondition(lambda self: not self.lied)
    @rule()
    def bill(self) -> None:
        """An honest note with something new is owed in full."""
        note = self.due(self.metered_us)
        if note.total_due_u > (self.last.total_due_u if self.last else 0):
            assert self.take(note) == note.total_due_u

    @rule(lie=LIES, by=st.integers(1, 10**9))
    def lie(self, lie: str, by: int) -> None:
        note = self.due(self.metered_us)
        match lie:
            case "overcharges":
                self.lied = True
                note = replace(note, total_due_u=max(note.total_due_u, self.last.total_due_u if self.last else 0) + by)
            case "runs ahead":
                self.lied = True
                note = self.due(self.metered_us + by)
            case "skips":
                note = replace(note, no=note.no + by)
            case "repeats":
                note = replace(note, no=note.no - 1)
            case "forks":
                note = replace(note, prev=by.to_bytes(32, "big"))
            case _:
                note = replace(note, total_due_u=self.last.total_due_u if self.last else 0)
                if self.last is None:
                    return
        try:
            self.take(note)
        except ProtocolError:
            return
        assert lie in ("overcharges", "runs ahead"), f"a note that {lie} was taken"

    @invariant()
    def never_owes_more_than_passed_on_its_own_clock(self) -> None:
        longest_us = min(longest_active_us(self.elapsed_us), M.resources.timeout_us)
        assert self.accepted_u <= amount_due(M, A, "none", longest_us, self.memory).total_u <= A.max_total_u


TestNotes = Notes.TestCase
TestNotes.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
