"""The payment window: what it shows, and everything that must never sign."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import msgspec
import pytest
from textual import events

from tests.screens.modals_support import Stage, stage
from tests.support import money_samples, samples
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import ApprovalError
from zstui.screens import dialog
from zstui.screens.dialog import ARM_DELAY
from zstui.screens.pay import PayScreen

ASK, TYPED, BLOCKED = (msgspec.structs.replace(a, expires_at=a.created_at + 3000) for a in samples.approvals())
HOSTILE = [*samples.HOSTILE_NAMES, "x" * 4000, "\u200b\u200d", "$error", "\\[x]", "a]b[c"]


def pay(
    view: v.ApprovalView = ASK,
    *,
    waiting: tuple[v.ApprovalView, ...] = (ASK, TYPED, BLOCKED),
    size: tuple[int, int] = (80, 24),
    opened: bool = True,
) -> AbstractAsyncContextManager[Stage]:
    """The window open on ``view`` while ``waiting`` wait."""
    snapshot = msgspec.structs.replace(samples.snapshot(), approvals=waiting)
    return stage(lambda bridge: PayScreen(bridge, view.request_id), snapshot=snapshot, size=size, opened=opened)


def window(s: Stage) -> PayScreen:
    return cast("PayScreen", s.screen)


def signed(s: Stage) -> list[c.PayApproval]:
    return cast("list[c.PayApproval]", s.engine.commands(c.PayApproval))


@pytest.fixture(autouse=True)
def arms_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine no window may arm between two steps of a test."""
    monkeypatch.setattr(dialog, "ARM_DELAY", 60.0)


@pytest.fixture
def arms_soon(arms_late: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialog, "ARM_DELAY", ARM_DELAY)


# --- what it shows ---------------------------------------------------------------------------------------------------


async def test_every_line_of_a_request_is_there() -> None:
    ask = msgspec.structs.replace(ASK, expires_at=round(time.time()) + 2990)
    async with pay(waiting=(ask, TYPED, BLOCKED)) as s:
        await s.arm()
        await s.pilot.pause()
        text = s.text()
    for part in (
        "PAY 12.500 to south?",
        "of 3",
        "expires in 4",
        "Lm2w Rt7v iXzV n5sK",
        "first seen 10 days ago",
        "render-farm  you: creator  south: executor  score 0.91 of 120 jobs",
        "blur.wasm  exit 0  ran 20.4 s  used 52 MiB",
        "20.4 s x 0.600 + 52 MiB x 0.005 = 12.500   cap 30.000",
        "VERIFIED  signature, job, module",
        "now 84.250  after 71.750  (peer 15.750 -> 28.250)",
        "south/hour 12.500 of 50.000   all/day 40.000 of 100.000",
        "Why ask  above your automatic limit",
        "A signed payment cannot be undone. Only south can send it back.",
        "READY  p pays 12.500.",
        "? Help   p Pay   r Reject   Esc Later   n Next   v Raw receipt   y Copy",
    ):
        assert part in text
    assert "named by you" not in text


async def test_a_name_that_i_gave_is_said_to_be_mine() -> None:
    async with pay(waiting=(msgspec.structs.replace(ASK, peer_named=True),)) as s:
        assert "(named by you, first seen" in s.text()


@pytest.mark.usefixtures("arms_soon")
async def test_p_pays_the_amount_that_was_shown_once_armed() -> None:
    async with pay() as s:
        await s.press("p")
        assert not signed(s)
        await s.wait_armed()
        await s.press("p")
        assert signed(s) == [c.PayApproval(request=ASK.request_id, amount_u=12_500_000, typed=False)]
        await s.pilot.pause(0.2)
        assert "PAID  12.500, acknowledged by south." in s.text()
        await s.press("escape")
        assert s.app.results == [True]


# --- rules of the interface ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("arms_soon")
async def test_rule_1_the_burst_enter_p_p_never_signs() -> None:
    async with pay(opened=False) as s:
        for key in ("enter", "p", "p"):
            s.app.post_message(events.Key(key, key if len(key) == 1 else "\r"))
        await s.pilot.pause(1.0)
        assert isinstance(s.screen, PayScreen)
        assert not signed(s)


async def test_rule_1_a_key_held_down_never_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialog, "ARM_DELAY", 2.0)
    async with pay() as s:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            s.app.post_message(events.Key("p", "p"))
            await asyncio.sleep(0.05)
        assert not window(s).armed
        assert not signed(s)


async def test_rule_1_keys_that_waited_in_a_queue_never_sign() -> None:
    async with pay() as s:
        early = events.Key("p", "p")
        await s.arm()
        s.app.post_message(early)
        await s.pilot.pause(0.2)
        assert not signed(s)


async def test_rule_3_the_snapshot_is_held_by_id_while_requests_come_and_go() -> None:
    async with pay() as s:
        await s.arm()
        others = [samples.approval(f"new{n}", amount_u=n, created_at=n) for n in range(1, 6)]
        await s.push(*(v.ApprovalUpdated(view=o) for o in others), v.Removed(area="approvals", key=TYPED.request_id))
        assert window(s).review.view == ASK
        assert window(s).armed
        await s.press("p")
        assert [x.request for x in signed(s)] == [ASK.request_id]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"amount_u": 13_000_000}, "CHANGED  12.500 -> 13.000"),
        ({"sequence": 44}, "CHANGED  sequence 43 -> 44"),
        ({"peer_id": samples.NORTH}, "CHANGED  payee"),
        ({"job_id": "ab" * 32}, "CHANGED  job"),
        ({"receipt_id": "ab" * 32}, "CHANGED  receipt"),
        ({"agreement_id": "ab" * 32}, "CHANGED  agreement"),
        ({"channel_id": "ab" * 32}, "CHANGED  channel"),
        ({"urgency": "typed"}, "CHANGED  urgency ask -> typed"),
        ({"verified": False}, "CHANGED  verified yes -> no"),
    ],
)
async def test_rule_4_a_changed_signed_field_disarms(change: dict[str, Any], shown: str) -> None:
    async with pay() as s:
        await s.arm()
        fresh = await s.change(ASK.request_id, **change)
        assert shown in s.text()
        await s.press("p", "enter")
        await s.arm()
        await s.press("p", "enter")
        assert not signed(s)
        await s.press("o")
        assert window(s).review.view == fresh
        assert not window(s).armed


async def test_rule_4_what_is_not_signed_may_change() -> None:
    async with pay() as s:
        await s.arm()
        await s.change(ASK.request_id, score=0.1, completed=121)
        assert window(s).armed
        assert window(s).review.view == ASK


async def test_rule_4_a_change_that_was_not_announced_yet_is_noticed_on_paying() -> None:
    async with pay() as s:
        await s.arm()
        s.bridge.approvals[ASK.request_id] = msgspec.structs.replace(ASK, amount_u=99_000_000)
        await s.press("p")
        assert not signed(s)
        assert window(s).review.phase == "changed"


async def test_rule_5_nothing_but_its_own_keys_signs_or_quits() -> None:
    async with pay() as s:
        await s.arm()
        for key in ("enter", "q", "ctrl+q", "ctrl+p", "f9", "f10", "ctrl+c", "tab", "space", "P", "ctrl+s"):
            await s.press(key)
        await s.click_at(*itertools.product(range(0, 80, 7), range(24)))
        assert isinstance(s.screen, PayScreen)
        assert not signed(s)
        assert s.app.quits == s.app.intruded == 0
        await s.press("escape")
        assert not isinstance(s.screen, PayScreen)
        assert s.app.results == [False]
        assert not signed(s)


@pytest.mark.parametrize("name", HOSTILE)
async def test_rule_6_hostile_names_neither_crash_nor_emit_control_bytes(name: str) -> None:
    words = {"peer_name": name, "guild_name": name, "module": name, "why": name, "limits": (name,), "peer_role": name}
    checks = (v.CheckView(name=name, ok=False, detail=name),)
    view = msgspec.structs.replace(ASK, **words, checks=checks, peer_id=name)
    async with pay(waiting=(view,)) as s:
        await s.pilot.pause(0.1)
        text = s.text()
        assert "PAY 12.500" in text
        assert not [x for x in text if (ord(x) < 32 and x != "\n") or 0x7F <= ord(x) < 0xA0]
        assert not set(text) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200b\u200d")
        await s.click_at(*((column, 6) for column in range(0, 80, 9)))
        assert s.app.quits == 0


@pytest.mark.parametrize("view", [ASK, TYPED, BLOCKED], ids=["ask", "typed", "blocked"])
async def test_rule_9_at_80x24_nothing_scrolls(view: v.ApprovalView) -> None:
    async with pay(view) as s:
        await s.pilot.pause(0.1)
        body = s.screen.query_one("#body")
        assert (body.max_scroll_x, body.max_scroll_y) == (0, 0)
        assert window(s).fits


async def test_rule_9_the_largest_values_fit_too() -> None:
    """Amounts up to the largest deposit there is, 1000 units, each to its last decimal."""
    largest = 999_999_999
    view = msgspec.structs.replace(
        ASK,
        peer_name="n" * 40,
        peer_named=True,
        guild_name="g" * 40,
        module="m" * 60 + ".wasm",
        fault="executor",
        duration_us=86_399_999_999,
        memory_bytes=(4096 << 20) - 65_536,
        price_per_second_nano=largest,
        price_per_mib_nano=largest,
        amount_u=largest,
        max_cost_u=largest,
        before_u=largest,
        after_u=largest - 1,
        peer_before_u=largest,
        peer_after_u=largest,
        checks=tuple(v.CheckView(name=f"check number {n}", ok=True) for n in range(10)),
        limits=tuple(f"{n}/day 999.999999 of 999.999999" for n in ("peer", "guild", "all")),
        why="w" * 90,
    )
    async with pay(waiting=(view,)) as s:
        await s.pilot.pause(0.1)
        assert s.screen.query_one("#body").max_scroll_y == 0
        assert "y Copy" in s.text()


async def test_a_window_too_small_cannot_pay_until_it_is_enlarged() -> None:
    async with pay(size=(50, 12)) as s:
        await s.arm()
        assert not window(s).fits
        await s.press("p")
        assert not signed(s)
        await s.pilot.resize_terminal(80, 24)
        await s.pilot.pause()
        assert not window(s).armed
        await s.arm()
        await s.press("p")
        assert len(signed(s)) == 1


# --- urgency and time --------------------------------------------------------------------------------------------------


async def test_the_amount_must_be_typed_where_that_is_asked() -> None:
    async with pay(TYPED) as s:
        await s.write("3.000")
        await s.press("enter")
        await s.arm()
        assert window(s).review.typed == ""
        await s.press("p", "enter")
        await s.write("30")
        await s.press("enter")
        assert not signed(s)
        assert "That is not the amount." in s.text()
        await s.press("backspace", "enter")
        assert signed(s) == [c.PayApproval(request=TYPED.request_id, amount_u=3_000_000, typed=True)]


async def test_what_was_typed_is_forgotten_after_a_change() -> None:
    async with pay(TYPED) as s:
        await s.arm()
        await s.write("3.0")
        await s.change(TYPED.request_id, amount_u=3_500_000)
        await s.press("enter")
        assert not signed(s)
        await s.press("o")
        await s.arm()
        await s.press("enter")
        assert window(s).review.typed == ""
        assert not signed(s)


async def test_a_blocked_request_says_why_and_cannot_be_paid() -> None:
    async with pay(BLOCKED) as s:
        await s.arm()
        await s.press("p", "enter")
        await s.write("12.5")
        await s.press("enter")
        text = s.text()
        assert "Blocked  the receipt's signature does not match" in text
        assert "NOT VERIFIED" in text
        assert "p Pay" not in text
        assert not signed(s)


async def test_expiry_means_not_paid_and_can_be_asked_anew() -> None:
    soon = msgspec.structs.replace(ASK, expires_at=int(time.time()) + 2)
    async with pay(waiting=(soon,)) as s:
        await s.arm()
        await s.pilot.pause(2.2)
        assert "EXPIRED  not paid, still owed." in s.text()
        await s.arm()
        await s.press("p", "enter")
        assert not signed(s)
        await s.arm()
        await s.press("o")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.ReopenApproval) == [c.ReopenApproval(request=ASK.request_id)]
        assert window(s).review.phase == "review"
        assert not window(s).armed


async def test_time_that_ran_out_unnoticed_still_forbids_paying() -> None:
    soon = msgspec.structs.replace(ASK, expires_at=int(time.time()) + 60)
    async with pay(waiting=(soon,)) as s:
        await s.arm()
        window(s).review.view = msgspec.structs.replace(soon, expires_at=int(time.time()) - 1)
        window(s).action_pay()
        await s.pilot.pause()
        assert not signed(s)


# --- after the decision ------------------------------------------------------------------------------------------------


async def test_two_presses_pay_once() -> None:
    async with pay() as s:
        await s.arm()
        s.app.post_message(events.Key("p", "p"))
        s.app.post_message(events.Key("p", "p"))
        await s.pilot.pause(0.3)
        await s.press("p", "enter", "o")
        await s.arm()
        await s.press("p", "o")
        assert len(signed(s)) == 1
        assert not s.engine.commands(c.ReopenApproval)


async def test_an_unacknowledged_payment_says_sent_until_it_is_acknowledged() -> None:
    async with pay() as s:
        await s.arm()
        s.engine.answers[c.PayApproval] = msgspec.structs.replace(ASK, state="paying")
        await s.press("p")
        await s.pilot.pause(0.2)
        assert "SENT  signed and sent, waiting until south acknowledges." in s.text()
        await s.arm()
        await s.press("p", "o")
        assert len(signed(s)) == 1
        await s.push(v.Removed(area="approvals", key=ASK.request_id))
        assert "PAID" in s.text()


async def test_a_refused_payment_shows_the_reason_and_needs_a_fresh_look() -> None:
    async with pay() as s:
        await s.arm()
        s.engine.failures[c.PayApproval] = ApprovalError("The channel is closing.")
        await s.press("p")
        await s.pilot.pause(0.2)
        assert "FAILED  The channel is closing." in s.text()
        await s.arm()
        await s.press("p")
        assert len(signed(s)) == 1
        del s.engine.failures[c.PayApproval]
        await s.press("o")
        await s.arm()
        await s.press("p")
        assert len(signed(s)) == 2


async def test_a_request_decided_elsewhere_cannot_be_paid_here() -> None:
    async with pay() as s:
        await s.arm()
        await s.push(v.Removed(area="approvals", key=ASK.request_id))
        assert "GONE" in s.text()
        await s.arm()
        await s.press("p", "o")
        assert not signed(s)


async def test_reject_declines_and_can_be_taken_back() -> None:
    async with pay() as s:
        await s.press("r")
        assert not s.engine.commands(c.RejectApproval)
        await s.arm()
        await s.press("r")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.RejectApproval) == [c.RejectApproval(request=ASK.request_id)]
        assert "DECLINED  not paid, still owed." in s.text()
        await s.arm()
        await s.press("p", "o")
        await s.pilot.pause(0.2)
        assert window(s).review.phase == "review"
        assert not signed(s)


async def test_next_goes_round_the_waiting_requests_and_arms_anew() -> None:
    async with pay() as s:
        await s.arm()
        seen = []
        for _ in range(3):
            await s.press("n")
            assert not window(s).armed
            view = window(s).review.view
            assert view is not None
            seen.append(view.request_id)
            await s.press("p")
            await s.arm()
        assert set(seen) == {ASK.request_id, TYPED.request_id, BLOCKED.request_id}
        assert not signed(s)


async def test_the_raw_receipt_and_help_hide_the_request_so_they_disable_paying() -> None:
    async with pay() as s:
        for key, text in (("v", '"receipt_id"'), ("question_mark", "Pay: sign this payment")):
            await s.arm()
            await s.press(key)
            await s.until(lambda text=text: text in s.text())  # type: ignore[misc]
            await s.arm()
            await s.press("p", "r")
            await s.press("escape")
            assert isinstance(s.screen, PayScreen)
        await s.press("p")
        assert not signed(s)
        assert not s.engine.commands(c.RejectApproval)


async def test_closing_while_signing_does_not_abort_the_payment() -> None:
    async with pay() as s:
        await s.arm()
        s.engine.answering.clear()
        await s.press("p")
        assert "SIGNING" in s.text()
        await s.press("escape")
        assert not isinstance(s.screen, PayScreen)
        s.engine.answering.set()
        await s.until(lambda: [n.message for n in s.app._notifications] == ["Payment of 12.500 to south signed."])
        assert s.engine.approvals[ASK.request_id].state == "paid"


async def test_a_request_that_is_gone_at_opening_says_so() -> None:
    async with stage(lambda bridge: PayScreen(bridge, "ab" * 32)) as s:
        await s.arm()
        assert "this request is gone" in s.text()
        await s.press("p", "escape")
        assert s.app.results == [False]


# --- slices of a running job -----------------------------------------------------------------------------------------------


async def test_a_slice_says_what_it_is_and_the_rest_of_the_job_is_allowed_by_typing_how_much() -> None:
    note = money_samples.slice_of(ASK)
    async with pay(note, waiting=(note,)) as s:
        await s.arm()
        await s.pilot.pause()
        text = " ".join(s.text().split())
        for part in ("PAY 4.500 to south? slice 3", "still running", "8.000 paid before = 4.500", "A Allow the job"):
            assert part in text, part
        assert window(s).fits
        await s.press("A")
        await s.arm()
        assert "above 12.500, at most 30.000? [_]" in " ".join(s.text().replace("┃", " ").split())
        await s.press("p", "enter", "q")
        for wrong in ("12.5", "31"):
            await s.write(wrong)
            await s.press("enter")
            assert not signed(s)
            await s.press(*["backspace"] * len(wrong))
        await s.press("escape")
        assert isinstance(s.screen, PayScreen), "Esc leads back to the slice alone"
        await s.arm()
        await s.press("2", "0", "enter")
        assert not signed(s)
        await s.press("A")
        await s.arm()
        await s.write("20")
        assert window(s).fits
        await s.press("enter")
        expected = c.PayApproval(request=note.request_id, amount_u=4_500_000, typed=True, job_up_to_u=20_000_000)
        assert signed(s) == [expected]


async def test_a_change_while_the_rest_of_a_job_is_allowed_disarms_and_a_newer_bill_is_shown() -> None:
    note = money_samples.slice_of(ASK)
    newer = money_samples.slice_of(TYPED, job_id=note.job_id, no=4)
    async with pay(note, waiting=(note, newer)) as s:
        await s.arm()
        await s.press("A")
        await s.arm()
        await s.write("20")
        await s.change(note.request_id, no=5)
        await s.press("enter")
        assert "CHANGED  note 3 -> 5" in s.text()
        await s.change(note.request_id, state="superseded")
        window(s)._load(note.request_id)
        await s.arm()
        await s.pilot.pause()
        assert "SUPERSEDED" in s.text()
        await s.press("p", "enter")
        assert not signed(s)
        await s.press("u")
        assert window(s).review.view == newer
        assert not signed(s)
