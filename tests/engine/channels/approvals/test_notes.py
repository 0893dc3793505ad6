"""Bills for a running job: cumulative, one at a time, and leave to pay a job up to a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.channels.approvals.support import UNIT, Rig
from zstui import tables
from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.channels.approvals.present import decision_view, rehearsal_view
from zstui.engine.errors import ApprovalError


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "z.db")
    await rig.start()
    yield rig
    await rig.stop()


class Bills:
    """What one job asks for; amounts are all that is due since it began."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.first = rig.request(kind="note", no=1)
        self.count = 0

    def note(self, due_u: int, **changes: Any) -> PaymentRequest:
        self.count += 1
        return self._bill(due_u, kind="note", no=self.count, **changes)

    def receipt(self, due_u: int) -> PaymentRequest:
        return self._bill(due_u)

    def _bill(self, due_u: int, **changes: Any) -> PaymentRequest:
        same: dict[str, Any] = {
            "job_id": self.first.job_id,
            "agreement_id": self.first.agreement_id,
            "max_cost_u": 10 * UNIT,
        }
        return self.rig.request(due_u, **(same | changes))


async def test_each_bill_asks_only_for_what_is_new(rig: Rig) -> None:
    bills = Bills(rig)
    for due_u, new_u in ((UNIT, UNIT), (3 * UNIT, 2 * UNIT)):
        note = bills.note(due_u)
        asked = await rig.service.add(note)
        assert (asked.amount_u, asked.paid_before_u, asked.urgency) == (new_u, due_u - new_u, "ask")
        await rig.service.pay(note.request_id, new_u, False)
    asked = await rig.service.add(bills.receipt(3 * UNIT + 1))
    assert asked.amount_u == 1
    assert [amount_u for _, amount_u in await rig.paid()] == [UNIT, 2 * UNIT]


async def test_a_receipt_that_its_notes_have_paid_asks_for_nothing(rig: Rig) -> None:
    bills = Bills(rig)
    note = bills.note(UNIT)
    await rig.service.add(note)
    await rig.service.pay(note.request_id, UNIT, False)
    assert await rig.service.bill(bills.receipt(UNIT)) is None
    assert rig.service.views() == []


@pytest.mark.parametrize("before", ["waiting", "declined", "expired"])
async def test_a_newer_bill_takes_the_place_of_an_unpaid_note(rig: Rig, before: str) -> None:
    bills = Bills(rig)
    note, receipt = bills.note(UNIT), bills.receipt(2 * UNIT)
    await rig.service.add(note)
    if before == "declined":
        await rig.service.reject(note.request_id)
    elif before == "expired":
        await rig.wait(121)
    asked = await rig.service.add(receipt)
    assert (asked.amount_u, [v.request_id for v in rig.service.views()]) == (2 * UNIT, [receipt.request_id])
    for late in (rig.service.pay(note.request_id, UNIT, False), rig.service.reopen(note.request_id)):
        with pytest.raises(ApprovalError, match="No payment request"):
            await late
    assert await rig.service.bill(note) is None
    assert ("superseded", "newer_bill") in [(d.decision, d.rule) for d in await rig.service.decisions()]


async def test_one_word_pays_a_job_up_to_a_limit_and_no_further(rig: Rig) -> None:
    bills, other = Bills(rig), Bills(rig)
    note = bills.note(UNIT)
    asked = await rig.service.add(note)
    assert asked.job_left_u == 9 * UNIT
    await rig.service.pay(note.request_id, UNIT, False, 4 * UNIT)
    views = [await rig.service.add(bills.note(n * UNIT)) for n in (2, 4, 5)]
    assert [v.state for v in views] == ["paid", "paid", "waiting"]
    assert views[-1].why == "what you allowed this job is used up"
    view = await rig.service.add(other.note(UNIT))
    assert view.state == "waiting", "leave for one job is none for another"
    assert sum(amount_u for _, amount_u in await rig.paid()) == 4 * UNIT
    (grant,) = rig.service.policy().grants
    assert (grant.scope, grant.subject, grant.total_u, grant.spent_total_u) == (
        "job",
        bills.first.job_id,
        3 * UNIT,
        3 * UNIT,
    )
    assert grant.expires_at is not None


@pytest.mark.parametrize(("up_to_u", "what"), [(UNIT, "at most"), (11 * UNIT, "at most")])
async def test_leave_for_a_job_is_finite(rig: Rig, up_to_u: int, what: str) -> None:
    note = Bills(rig).note(UNIT)
    await rig.service.add(note)
    with pytest.raises(ApprovalError, match=what):
        await rig.service.pay(note.request_id, UNIT, False, up_to_u)
    assert await rig.paid() == []
    assert rig.service.policy().grants == ()


async def test_a_large_leave_must_be_typed_as_a_large_payment(rig: Rig) -> None:
    note = Bills(rig).note(UNIT, max_cost_u=60 * UNIT)
    await rig.service.add(note)
    with pytest.raises(ApprovalError, match="Type the amount"):
        await rig.service.pay(note.request_id, UNIT, False, 60 * UNIT)
    assert await rig.paid() == []
    await rig.service.pay(note.request_id, UNIT, True, 60 * UNIT)
    assert len(await rig.paid()) == 1


async def test_payments_split_small_do_not_pass_the_limit_of_a_day(rig: Rig) -> None:
    await rig.service.set_grant("node", per_payment_u=UNIT, per_day_u=3 * UNIT, total_u=100 * UNIT)
    views = []
    for number in range(10):
        bills = Bills(rig)
        views.append(await rig.service.add(bills.note(UNIT // 2, peer=f"peer{number}")))
    assert [v.state for v in views].count("paid") == 6
    assert sum(amount_u for _, amount_u in await rig.paid()) == 3 * UNIT


async def test_an_approval_is_used_once(rig: Rig) -> None:
    bills = Bills(rig)
    note = bills.note(UNIT)
    await rig.service.add(note)
    await rig.service.pay(note.request_id, UNIT, False)
    with pytest.raises(ApprovalError, match="made already"):
        await rig.service.pay(note.request_id, UNIT, False)
    view = await rig.service.add(bills.note(2 * UNIT))
    assert view.state == "waiting", "a keypress for one slice pays no other"


async def test_every_decision_says_its_rule(rig: Rig) -> None:
    bills = Bills(rig)
    note = bills.note(UNIT)
    await rig.service.add(note)
    await rig.service.pay(note.request_id, UNIT, False, 3 * UNIT)
    await rig.service.add(bills.note(2 * UNIT))
    told = [(d.decision, d.rule) for d in reversed(await rig.service.decisions())]
    assert told == [
        ("ask", "no_grant"),
        ("grant", "person"),
        ("pay", "person"),
        ("paid", "acknowledged"),
        ("auto", "grant"),
        ("paid", "acknowledged"),
    ]
    assert all(d.request is not None and d.request.kind == "note" for d in await rig.service.decisions())


# --- rehearsal -------------------------------------------------------------------------------------------------------


async def test_a_rehearsal_tells_what_a_grant_would_have_done_and_changes_nothing(rig: Rig) -> None:
    for number in range(6):
        await rig.service.add(rig.request(UNIT, "south" if number % 2 else "north"))
        await rig.wait(4 * 3600)
    rig.blacklisted.add("north")
    await rig.service.add(rig.request(UNIT, "north"))
    r = await rig.service.rehearse("node", "", (UNIT, 2 * UNIT, 100 * UNIT), None, 30)
    assert [(p.action, p.rule) for p in r.payments] == [
        ("auto", "grant"),
        ("auto", "grant"),
        *[("ask", "per_day")] * 4,
        ("block", "blacklisted"),
    ]
    r = await rig.service.rehearse("peer", "south", (UNIT, 50 * UNIT, 2 * UNIT), None, 30)
    assert (r.count("auto").number, r.count("ask").amount_u, r.count("block").number) == (2, 4 * UNIT, 1)
    assert [p.rule for p in r.payments if p.action == "ask"] == ["no_grant"] * 3 + ["total"]
    assert [(grant.scope, grant.spent_total_u) for grant, _ in r.grants] == [("peer", 2 * UNIT)]
    assert rig.service.policy().grants == ()
    assert await rig.paid() == []


async def test_a_rehearsal_of_the_policy_in_force_says_what_happened(rig: Rig) -> None:
    await rig.service.set_grant("node", per_payment_u=2 * UNIT, per_day_u=5 * UNIT, total_u=100 * UNIT)
    for n in (1, 3, 2, 2, 1):
        await rig.service.add(rig.request(n * UNIT))
    r = await rig.service.rehearse("node", "", (2 * UNIT, 5 * UNIT, 100 * UNIT), None, 1)
    assert [p.action == "auto" for p in r.payments] == [p.past.automatic for p in r.payments]
    assert r.count("auto") == r.truly_automatic()
    assert r.count("auto").number == 3


async def test_a_rehearsal_looks_no_further_back_than_asked(rig: Rig) -> None:
    await rig.service.add(rig.request())
    await rig.wait(3 * 86_400)
    await rig.service.add(rig.request())
    assert len((await rig.service.rehearse("node", "", (0, 0, 0), None, 2)).payments) == 1
    assert len((await rig.service.rehearse("node", "", (0, 0, 0), None, 30)).payments) == 2


async def test_a_rehearsal_counts_a_bill_that_a_newer_one_includes_once_and_reads_well(rig: Rig) -> None:
    bills = Bills(rig)
    await rig.service.add(bills.note(UNIT))
    await rig.service.add(bills.receipt(2 * UNIT))
    r = await rig.service.rehearse("node", "", (UNIT, 2 * UNIT, 10 * UNIT), None, 30)
    assert r.count("ask").amount_u == 2 * UNIT
    text = tables.render(rehearsal_view(r, str.title, lambda guild: "farm"))
    assert "last 30 days: 1 payments of 2.000" in text
    assert "asked 1 of 2.000" in text
    logged = [decision_view(d, "south") for d in await rig.service.decisions()]
    assert "newer_bill" in tables.render(logged)


async def test_what_only_the_channels_books_know_as_signed_is_not_asked_for_again(rig: Rig) -> None:
    bills = Bills(rig)
    rig.service._signed = lambda tx, agreement: UNIT if agreement.hex() == bills.first.agreement_id else 0
    view = await rig.service.add(bills.receipt(3 * UNIT))
    assert (view.amount_u, view.paid_before_u) == (2 * UNIT, UNIT)


async def test_a_job_that_came_to_cost_nothing_ends_its_unpaid_slice(rig: Rig) -> None:
    bills = Bills(rig)
    await rig.service.add(bills.note(UNIT))
    assert await rig.service.bill(bills.receipt(0)) is None
    assert rig.service.views() == []
