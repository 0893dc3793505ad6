"""Jobs billed in slices while they run: who pays, who does not, and what is at stake meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.engine.jobs.docs import EXECUTOR, PAYER, agreement, manifest
from tests.engine.jobs.rig import Guest, Peer, World, until, wasm
from tests.engine.jobs.test_hostile import Mallory, submit
from zstui.engine.channels.approvals.model import LINE_KINDS, PaymentRequest
from zstui.engine.channels.messages import PayLine
from zstui.engine.errors import ProtocolError
from zstui.engine.events import ApprovalChanged
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.jobs import messages as msg
from zstui.engine.jobs import notes_store
from zstui.engine.jobs.manifest import Resources
from zstui.engine.jobs.notes import (
    DebitNote,
    NoteReply,
    NoteTerms,
    check_follows,
    judge,
    note_terms,
    open_note,
    open_reply,
    possible,
    time_until_u,
)
from zstui.engine.jobs.notes_meter import Meter
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.receipt import amount_due
from zstui.engine.views import JobView

SECOND_U = 1_000_000
"""What a second of running costs here."""
TERMS: dict[str, object] = {
    "note_ms": 100,
    "accept_ms": 200,
    "exposure_max_u": 10 * SECOND_U,
    "price_per_second_nano": 1_000_000_000,
    "price_per_mib_nano": 0,
}


class Answer:
    """As much of an approval's view as matters here."""

    def __init__(self, state: str, urgency: str = "ask", why: str = "") -> None:
        self.state, self.urgency, self.why = state, urgency, why


class Purse:
    """Pays what Alice's node asks for, as ``answer`` says of each request."""

    def __init__(self, alice: Peer, bob: Peer, answer: Callable[[PaymentRequest], str] = lambda _: "paid") -> None:
        self.alice, self.bob, self.answer = alice, bob, answer
        self.payee = bob.id
        self.asked: list[PaymentRequest] = []
        self.lines: list[PayLine] = []
        alice.purse = self._ask  # type: ignore[assignment]

    async def _ask(self, request: PaymentRequest) -> Answer | None:
        if request.request_id not in {r.request_id for r in self.asked}:
            self.asked.append(request)
        word = self.answer(request)
        if word == "paid":
            await self.pay(request)
        return Answer(word, "blocked" if word == "blocked" else "ask", "the channel is empty")

    async def pay(self, request: PaymentRequest, reach: bool = True) -> None:
        spent_u = sum(line.amount_u for line in self.lines if line.agreement.hex() == request.agreement_id)
        if request.amount_u <= spent_u:
            return
        line = PayLine(
            amount_u=request.amount_u - spent_u,
            agreement=bytes.fromhex(request.agreement_id),
            kind=LINE_KINDS[request.kind],
            no=request.no,
            ref=bytes.fromhex(request.receipt_id),
        )
        self.lines.append(line)
        if reach:
            await self.deliver(line)

    async def deliver(self, line: PayLine) -> None:
        if self.bob is not self.alice:
            await self.bob.db.write(lambda tx: self.bob.jobs.payments.credited(tx, self.alice.id, line))
        await self.alice.db.write(lambda tx: self.alice.jobs.payments.acknowledged(tx, self.payee, line))

    @property
    def spent_u(self) -> int:
        return sum(line.amount_u for line in self.lines)


class Run:
    """A job of Alice that runs at Bob until ``end``."""

    def __init__(self, alice: Peer, bob: Peer, hold: asyncio.Event | None = None) -> None:
        self.alice, self.bob = alice, bob
        self._hold = hold or asyncio.Event()
        bob.sandbox.guests[wasm("long")] = Guest(hold=self._hold, memory_bytes=0)

    async def begin(self) -> None:
        self.id = (await self.alice.submit(self.bob, "long", max_price_u=20 * SECOND_U, timeout_s=30)).job_id
        await until(lambda: self.bob.sandbox.controls)

    @property
    def here(self) -> JobView:
        return self.alice.jobs.view(self.id)

    @property
    def there(self) -> JobView:
        return self.bob.jobs.view(self.id)

    async def end(self) -> JobView:
        self._hold.set()
        return await asyncio.wait_for(self.alice.jobs.wait(self.id), 10)

    async def note(self, at: Peer) -> notes_store.Note:
        kept = await at.db.read(lambda tx: notes_store.last(tx, self.id))
        assert kept is not None
        return kept


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.stop()


async def pair(world: World, **settings: object) -> tuple[Peer, Peer, Run]:
    alice, bob = await world.pair(**(TERMS | settings))
    world.fund(alice, bob, 100 * SECOND_U)
    return alice, bob, Run(alice, bob)


# --- a payer that pays -----------------------------------------------------------------------------------------------


async def test_a_long_job_is_paid_slice_by_slice_and_the_receipt_asks_for_the_rest(world: World) -> None:
    alice, bob, run = await pair(world)
    purse = Purse(alice, bob)
    await run.begin()
    await until(lambda: len(purse.asked) >= 3)
    assert run.there.state == "running"
    await until(lambda: run.here.paid_u == run.there.paid_u == purse.spent_u)
    assert run.here.at_risk_u <= run.here.due_u
    view = await run.end()
    assert view.state == "done"
    notes = [r.no for r in purse.asked if r.kind == "note"]
    assert notes == list(range(1, len(notes) + 1))
    await until(lambda: run.here.paid == run.there.paid == "paid")
    assert run.here.paid_u == run.there.paid_u == purse.spent_u == view.cost_u
    assert not any(control.paused for control in bob.sandbox.controls)
    assert run.here.at_risk_u == run.there.at_risk_u == 0
    await until(lambda: [o.success for o in alice.outcomes] == [True])


async def test_notes_bill_the_memory_that_the_run_is_known_to_have(world: World) -> None:
    alice, bob, run = await pair(world, price_per_mib_nano=1_000_000)
    purse = Purse(alice, bob)
    memory = (3 << 20, 5 << 20, 4 << 20)
    bob.sandbox.guests[wasm("long")] = Guest(hold=run._hold, memory_bytes=2 << 20, live_memory=memory)
    await run.begin()
    await until(lambda: len(purse.asked) >= 3)
    view = await run.end()
    kept = await bob.db.read(
        lambda tx: tx.execute("SELECT raw FROM job_note WHERE job_id = ? ORDER BY no", (run.id,)).fetchall()
    )
    billed = [open_envelope(raw).decode(DebitNote) for (raw,) in kept]
    assert [n.memory_bytes for n in billed[:3]] == [3 << 20, 5 << 20, 5 << 20], "the most so far"
    assert [n.total_due_u - n.active_us for n in billed[:2]] == [3_000, 5_000]
    await until(lambda: run.here.paid == run.there.paid == "paid")
    assert purse.spent_u == view.cost_u == billed[-1].total_due_u, "the receipt bills no less than the notes did"


async def test_a_short_job_is_settled_by_its_receipt_alone(world: World) -> None:
    alice, bob, _ = await pair(world, note_ms=60_000)
    purse = Purse(alice, bob)
    await alice.run(bob)
    assert [r.kind for r in purse.asked] == ["receipt"]


async def test_slices_come_early_where_the_cap_is_near(world: World) -> None:
    alice, bob, run = await pair(world, note_ms=60_000, exposure_max_u=SECOND_U // 2)
    purse = Purse(alice, bob)
    await run.begin()
    await until(lambda: len(purse.asked) >= 1)
    assert purse.asked[0].amount_u <= 2 * SECOND_U
    await run.end()


# --- a payer that does not -------------------------------------------------------------------------------------------


async def test_an_unpaid_slice_holds_the_run_and_its_payment_frees_it(world: World) -> None:
    alice, bob, run = await pair(world)
    purse = Purse(alice, bob, lambda r: "waiting")
    await run.begin()
    (control,) = bob.sandbox.controls
    await until(lambda: control.paused)
    await until(lambda: run.here.paused and run.there.paused)
    assert "alice must pay" in run.there.why
    assert "you must approve" in run.here.why
    held_u = run.there.due_u
    await asyncio.sleep(0.3)
    assert run.there.due_u == held_u, "a paused run is not metered"
    assert run.there.at_risk_u == held_u > 0
    await until(lambda: run.here.at_risk_u == held_u)
    assert len(purse.asked) == 1, "while one slice is open there is no other"
    purse.answer = lambda r: "paid"
    await purse.pay(purse.asked[0])
    await until(lambda: not control.paused)
    await until(lambda: not run.here.paused)
    assert (await run.end()).state == "done"
    await until(lambda: run.here.paid == "paid")


async def test_what_nobody_pays_is_stopped_and_billed(world: World) -> None:
    alice, bob, run = await pair(world)
    Purse(alice, bob, lambda r: "paying")
    await run.begin()
    view = await asyncio.wait_for(alice.jobs.wait(run.id), 10)
    assert (view.state, view.fault, view.paid) == ("cancelled", "payer", "unpaid")
    assert "not paid within" in view.why
    assert view.cost_u == run.there.at_risk_u > 0
    assert view.cost_u < 1 * SECOND_U
    assert alice.outcomes == [], "the executor did nothing wrong"


@pytest.mark.parametrize("after", ["blocked", "declined"])
async def test_a_slice_refused_stops_the_run_at_once(world: World, after: str) -> None:
    alice, bob, run = await pair(world, accept_ms=5_000)
    purse = Purse(alice, bob, lambda r: "blocked" if after == "blocked" and r.kind == "note" else "waiting")
    await run.begin()
    await until(lambda: purse.asked)
    if after == "declined":
        alice.states[purse.asked[0].request_id] = "declined"
        alice.bus.publish(ApprovalChanged(purse.asked[0].request_id))
    view = await asyncio.wait_for(alice.jobs.wait(run.id), 20)
    assert (view.state, view.fault) == ("cancelled", "payer")
    assert {"blocked": "the channel is empty", "declined": "declined by the payer"}[after] in view.why
    kept = await run.note(bob)
    reply = open_reply(kept.reply, alice.id, bytes.fromhex(purse.asked[0].agreement_id))
    assert reply.word == "refused"
    assert (await run.note(alice)).reply == kept.reply
    assert purse.asked[-1].kind == "receipt", "it stays owed"


async def test_the_exposure_of_an_executor_whose_payer_is_silent_stays_under_its_cap(world: World) -> None:
    alice, bob, run = await pair(world, accept_ms=5_000, exposure_max_u=SECOND_U)
    Purse(alice, bob, lambda r: "paying")
    await run.begin()
    (control,) = bob.sandbox.controls
    await until(lambda: control.paused)
    assert SECOND_U < run.there.at_risk_u < 2 * SECOND_U, "two seconds are free to run"
    await bob.jobs.cancel(run.id)


async def test_a_payment_on_its_way_when_the_receipt_comes_counts_once(world: World) -> None:
    alice, bob, run = await pair(world, accept_ms=5_000)
    purse = Purse(alice, bob, lambda r: "paying")
    await run.begin()
    await until(lambda: purse.asked)
    await purse.pay(purse.asked[0], reach=False)
    view = await run.end()
    assert run.here.paid_u == 0
    receipt = purse.asked[-1]
    assert (receipt.kind, receipt.amount_u) == ("receipt", view.cost_u)
    await purse.pay(receipt, reach=False)
    assert purse.spent_u == view.cost_u
    for line in reversed(purse.lines):
        await purse.deliver(line)
    await until(lambda: run.here.paid == run.there.paid == "paid")
    assert run.here.paid_u == view.cost_u


async def test_a_slice_whose_payment_memory_does_not_know_yet_covers_its_job(world: World) -> None:
    alice, bob, _ = await pair(world)
    view = await alice.run(bob)
    assert view.paid == "unpaid"
    await alice.db.write(lambda tx: tx.execute("UPDATE job SET paid_u = cost_u WHERE job_id = ?", (view.job_id,)))
    covered = await alice.jobs._room.records.cover(view.job_id)
    assert covered is not None
    assert covered.paid == alice.jobs.view(view.job_id).paid == "paid"


async def test_a_fault_of_the_executor_leaves_what_was_paid_to_be_returned(world: World) -> None:
    alice, bob, run = await pair(world)
    purse = Purse(alice, bob)
    await run.begin()
    await until(lambda: run.there.paid_u and run.here.paid_u)
    await bob.jobs.cancel(run.id)
    view = await asyncio.wait_for(alice.jobs.wait(run.id), 20)
    assert (view.fault, view.cost_u) == ("executor", 0)
    assert run.here.refund_u == run.there.refund_u == purse.spent_u > 0
    await until(lambda: bob.requests)
    (request,) = bob.requests
    assert (request.kind, request.amount_u, request.peer_id) == ("refund", purse.spent_u, alice.id)
    line = PayLine(purse.spent_u, bytes.fromhex(request.agreement_id), 3, 0, bytes.fromhex(request.receipt_id))
    await bob.db.write(lambda tx: bob.jobs.payments.acknowledged(tx, alice.id, line))
    await alice.db.write(lambda tx: alice.jobs.payments.credited(tx, bob.id, line))
    await until(lambda: run.here.refund_u == run.there.refund_u == 0)
    await until(lambda: [o.success for o in alice.outcomes] == [False])


async def test_who_leaves_a_bill_unpaid_for_a_day_gets_no_more_work_until_it_is_paid(world: World) -> None:
    alice, bob, _ = await pair(world)
    first = await alice.run(bob)
    assert first.paid == "unpaid"
    assert (await alice.run(bob, "second")).state == "done", "an hour is no default"
    await bob.jobs._room.records.change(first.job_id, finished_us=bob.clock.now_us() - 86_401_000_000)
    refused = await alice.run(bob, "third")
    assert (refused.state, refused.fault) == ("failed", "payment")
    assert "unpaid for over a day" in refused.why
    purse = Purse(alice, bob)
    await purse.pay(alice.requests[0])
    await until(lambda: bob.jobs.view(first.job_id).paid == "paid")
    assert (await alice.run(bob, "fourth")).state == "done"


async def test_the_same_money_is_not_promised_to_two_jobs(world: World) -> None:
    alice, bob, run = await pair(world, max_jobs=2)
    alice.channels.set(bob.id, 30 * SECOND_U, 0)
    Purse(alice, bob)
    other = Run(alice, bob, run._hold)
    for job in (run, other):
        await job.begin()
    await until(lambda: sum(v.state == "running" for v in alice.jobs.views()) == 1)
    await until(lambda: any("promised to other jobs" in v.why for v in alice.jobs.views()))
    assert alice.jobs.standing.reserved(bob.id) <= 20 * SECOND_U
    assert len(bob.jobs.views()) == 1
    await run.end()
    await asyncio.wait_for(alice.jobs.wait(other.id), 10)
    await until(lambda: {v.paid for v in alice.jobs.views()} == {"paid"})
    assert alice.jobs.standing.reserved(bob.id) == 0


# --- after a crash ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
async def test_a_payer_that_restarts_is_sent_the_same_note_and_pays_it_once(world: World, kept: bool) -> None:
    alice, bob, run = await pair(world, accept_ms=5_000)
    purse = Purse(alice, bob, lambda r: "waiting" if kept else "paying")
    await run.begin()
    await until(lambda: purse.asked)
    note = await run.note(bob)
    await alice.kill()
    await alice.start()
    purse.answer = lambda r: "paid"
    await until(lambda: purse.lines)
    assert (await run.note(alice)).raw == note.raw
    await run.end()
    await until(lambda: run.here.paid == run.there.paid == "paid")
    assert purse.spent_u == run.there.cost_u
    assert len({line.no for line in purse.lines}) == len(purse.lines)


# --- an executor that lies -------------------------------------------------------------------------------------------


class Forger:
    """Mallory as an executor that sends the notes a test makes of its honest ones, then its receipt."""

    def __init__(self, world: World) -> None:
        self.mallory = Mallory(world)
        self.mallory.bid = {"note_ms": 100, "accept_ms": 100, "exposure_max_u": SECOND_U}
        self.mallory.receipt = {"active_us": 200_000}

    async def run(self, world: World, *bodies: Callable[[bytes, bytes], DebitNote]) -> tuple[Peer, JobView, Purse]:
        """Each of ``bodies`` makes a note from the agreement's id and the digest of the note before."""

        async def send(s: SealedStream) -> None:
            await until(lambda: alice.jobs._room.records[s.job_id].agreement_id)
            agreed = bytes.fromhex(alice.jobs._room.records[s.job_id].agreement_id)
            await asyncio.sleep(0.2)
            before = agreed
            for body in bodies:
                raw = seal(self.mallory.identity, body(agreed, before))
                before = hashlib.sha256(raw).digest()
                await s.send(msg.Note(raw))
            await asyncio.sleep(0.3)

        self.mallory.before_receipt = send
        alice = await world.peer("alice", "creator")
        purse = Purse(alice, alice)
        purse.payee = self.mallory.id
        _, job_id = await submit(world, self.mallory, alice, timeout_s=30, max_price_u=20 * SECOND_U)
        return alice, await asyncio.wait_for(alice.jobs.wait(job_id), 10), purse


def slice_at(active_us: int, no: int = 1, due_u: int | None = None) -> Callable[[bytes, bytes], DebitNote]:
    return lambda agreed, before: DebitNote(agreed, no, before, active_us if due_u is None else due_u, active_us, 0)


async def test_of_an_inflated_slice_what_is_undisputed_is_paid_and_the_rest_stays_on_record(world: World) -> None:
    forger = Forger(world)
    alice, view, purse = await forger.run(world, slice_at(9_000_000))
    (first, *_) = purse.asked
    assert first.kind == "note"
    assert 200_000 <= first.amount_u < 2_000_000, "as much time as passed on my own clock, and a little"
    assert all(c.ok for c in first.checks)
    kept = await alice.db.read(lambda tx: notes_store.last(tx, view.job_id))
    assert kept is not None
    assert "duration: 9.000 s" in kept.dispute
    reply = open_reply(kept.reply, alice.id, bytes.fromhex(first.agreement_id))
    assert (reply.word, reply.accepted_u) == ("disputed", first.amount_u)


@pytest.mark.parametrize(
    "lie",
    [
        [slice_at(100_000, no=2)],
        [slice_at(100_000, no=0)],
        [slice_at(100_000), slice_at(150_000, no=3)],
        [slice_at(100_000), slice_at(150_000, no=1)],
        [slice_at(100_000), slice_at(90_000, no=2)],
        [lambda agreed, before: DebitNote(bytes(32), 1, before, 1, 1, 0)],
        [lambda agreed, before: DebitNote(agreed, 1, bytes(32), 1, 1, 0)],
    ],
)
async def test_slices_out_of_order_are_never_paid(world: World, lie: list[Callable[[bytes, bytes], DebitNote]]) -> None:
    _, view, purse = await Forger(world).run(world, *lie)
    assert (view.state, view.fault) == ("failed", "executor")
    assert [r.amount_u for r in purse.asked] == ([100_000] if len(lie) == 2 else [])


async def test_the_same_slice_twice_is_asked_for_once(world: World) -> None:
    def again(agreed: bytes, before: bytes) -> DebitNote:
        return DebitNote(agreed, 1, agreed, 100_000, 100_000, 0)

    _, view, purse = await Forger(world).run(world, again, again)
    assert view.state == "done"
    assert [r.kind for r in purse.asked] == ["note", "receipt"]
    assert purse.spent_u == view.cost_u == 200_000


# --- a note that lies ------------------------------------------------------------------------------------------------

M = manifest(resources=Resources(timeout_us=600_000_000))
RAW = seal(PAYER, M)
A = agreement(RAW, M, bytes(32), note_ms=100, accept_ms=100, exposure_max_u=SECOND_U)
ID = b"a" * 32


def note(**changes: Any) -> DebitNote:
    active_us = int(changes.get("active_us", 10_000_000))
    values: dict[str, Any] = {
        "agreement": ID,
        "no": 1,
        "prev": ID,
        "total_due_u": amount_due(M, A, "none", active_us, 0).total_u,
        "active_us": active_us,
        "memory_bytes": 0,
    }
    return DebitNote(**(values | changes))


def test_an_honest_note_is_owed_in_full() -> None:
    judged = judge(note(), M, A, 10_000_000)
    assert (judged.dispute, judged.accepted_u) == ("", 100_000)


@pytest.mark.parametrize(
    ("changes", "what", "owed_u"),
    [
        ({"active_us": 30_000_000}, "duration", 100_600),
        ({"total_due_u": 100_001}, "cost", 100_000),
        ({"memory_bytes": 2**40}, "memory", 100_000),
    ],
)
def test_of_an_inflated_note_only_what_can_be_true_is_owed(changes: dict[str, Any], what: str, owed_u: int) -> None:
    judged = judge(note(**changes), M, A, 10_000_000)
    assert what in judged.dispute
    assert judged.accepted_u == owed_u


@pytest.mark.parametrize(
    "changes",
    [
        {"no": 1},
        {"no": 3},
        {"prev": bytes(32)},
        {"prev": ID},
        {"total_due_u": 100_000},
        {"total_due_u": 99_999},
        {"active_us": 1, "total_due_u": 300_000},
        {"memory_bytes": 0, "total_due_u": 300_000},
    ],
)
def test_notes_follow_each_other(changes: dict[str, Any]) -> None:
    first = note(memory_bytes=1)
    first_id = hashlib.sha256(seal(EXECUTOR, first)).digest()
    good = note(no=2, prev=first_id, active_us=20_000_000, memory_bytes=1)
    check_follows(good, first, first_id)
    with pytest.raises(ProtocolError):
        check_follows(replace(good, **changes), first, first_id)


@pytest.mark.parametrize("changes", [{"agreement": bytes(32)}, {"no": 0}, {"total_due_u": 0}, {"active_us": 2**60}])
def test_a_note_of_something_else_is_none(changes: dict[str, Any]) -> None:
    open_note(seal(EXECUTOR, note()), EXECUTOR.peer_id, ID)
    with pytest.raises(ProtocolError):
        open_note(seal(EXECUTOR, note(**changes)), EXECUTOR.peer_id, ID)
    with pytest.raises(ProtocolError):
        open_note(seal(PAYER, note()), EXECUTOR.peer_id, ID)


def test_a_reply_is_about_its_own_job() -> None:
    reply = NoteReply(ID, bytes(32), "refused", 0, "\x1b[31mno")
    assert open_reply(seal(PAYER, reply), PAYER.peer_id, ID).reason == "[31mno"
    for wrong in (replace(reply, agreement=bytes(32)), replace(reply, note=b""), replace(reply, accepted_u=-1)):
        with pytest.raises(ProtocolError):
            open_reply(seal(PAYER, wrong), PAYER.peer_id, ID)


# --- terms and meter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout_s", "wanted", "billed"),
    [
        (30, NoteTerms(60_000, 10_000, SECOND_U), False),
        (600, NoteTerms(60_000, 10_000, SECOND_U), True),
        (30, NoteTerms(60_000, 10_000, 0), True),
        (600, NoteTerms(0, 10_000, 0), False),
    ],
)
def test_only_what_the_receipt_cannot_settle_is_billed_in_slices(
    timeout_s: int, wanted: NoteTerms, billed: bool
) -> None:
    m = manifest(resources=Resources(timeout_us=timeout_s * 1_000_000))
    terms = note_terms(m, wanted, 10_000_000, 100_000)
    assert (terms.note_ms > 0) == billed
    assert possible(terms)
    if billed:
        assert terms.exposure_max_u >= wanted.exposure_max_u
        assert note_terms(m, wanted, 0, 0) == NoteTerms()


@pytest.mark.parametrize("wrong", [NoteTerms(1, 100, 1), NoteTerms(100, 0, 1), NoteTerms(100, 100, 0)])
def test_terms_that_nobody_could_keep_are_refused(wrong: NoteTerms) -> None:
    assert not possible(wrong)


def test_the_time_until_an_amount_is_due_is_when_the_cost_rule_gives_it() -> None:
    for amount_u in (1, 99_999, 100_000, 100_001):
        at_us = time_until_u(M, A, amount_u, 0)
        assert amount_due(M, A, "none", at_us + 1, 0).total_u >= amount_u
        assert amount_due(M, A, "none", max(0, at_us - 101), 0).total_u < amount_u
    assert time_until_u(M, A, A.max_total_u + 1, 0) > M.resources.timeout_us


def test_a_meter_counts_what_runs_and_not_what_is_held() -> None:
    now = 0
    meter = Meter(lambda: now)
    now = 5
    assert meter.active_us() == 0
    meter.attach(lambda paused: None)
    now = 15
    assert meter.active_us() == 10
    meter.pause()
    meter.pause()
    now = 100
    assert meter.active_us() == 10
    meter.resume()
    now = 105
    assert meter.active_us() == 15
    meter.attach(None)
    now = 999
    assert meter.active_us() == 15
    assert open_envelope(RAW).signer == PAYER.peer_id
