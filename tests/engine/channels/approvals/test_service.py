from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.channels.approvals.support import UNIT, Rig
from tests.engine.channels.rig import until
from zstui.engine.channels.approvals import book, journal, store
from zstui.engine.channels.approvals.model import MAX_DECISIONS
from zstui.engine.clock import US
from zstui.engine.errors import ApprovalError, BadInput, ChannelError, InsufficientBalance, ZsError
from zstui.engine.events import ApprovalAsked, ApprovalChanged
from zstui.engine.store.database import Tx
from zstui.engine.views import CheckView


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "z.db")
    await rig.start()
    yield rig
    await rig.stop()


async def grant(rig: Rig, per: int = 10, day: int = 50, total: int = 100) -> None:
    await rig.service.set_grant("node", per_payment_u=per * UNIT, per_day_u=day * UNIT, total_u=total * UNIT)


# --- asking ----------------------------------------------------------------------------------------------------------


async def test_by_default_the_smallest_payment_asks_and_pays_nothing(rig: Rig) -> None:
    view = await rig.service.add(rig.request(1))
    assert (view.state, view.urgency, view.why) == ("waiting", "ask", "no grant covers it")
    assert view.expires_at == rig.clock.now_us() // US + 120
    assert await rig.paid() == []
    assert rig.told(ApprovalAsked) == [ApprovalAsked(view.request_id)]


async def test_the_view_shows_the_channel_before_and_after(rig: Rig) -> None:
    rig.mine_u["south"] = 84_250_000
    view = await rig.service.add(rig.request(12_500_000))
    assert (view.channel_id, view.sequence) == ("channel-south", 8)
    assert (view.before_u, view.after_u) == (84_250_000, 71_750_000)
    assert (view.peer_before_u, view.peer_after_u) == (15_750_000, 28_250_000)
    assert (view.peer_name, view.guild_name, view.my_role, view.peer_role) == ("South", "farm", "creator", "executor")
    assert (view.verified, view.completed, view.score) == (True, 12, 0.9)
    assert view.limits[0] == "no grant: every payment asks"


async def test_the_same_receipt_is_asked_once(rig: Rig) -> None:
    request = rig.request()
    await asyncio.gather(*(rig.service.add(request) for _ in range(5)))
    assert len(rig.service.views()) == 1
    assert len(rig.told(ApprovalAsked)) == 1
    await rig.service.pay(request.request_id, UNIT, False)
    assert (await rig.service.add(request)).state == "paid"
    assert len(await rig.paid()) == 1


async def test_requests_without_amount_or_proper_ids_are_refused(rig: Rig) -> None:
    for changes in (
        {"amount_u": -1},
        {"amount_u": -5},
        {"amount_u": 2**60},
        {"agreement_id": "xyz"},
        {"agreement_id": "ab"},
        {"request_id": "0" * 64},
    ):
        with pytest.raises(BadInput):
            await rig.service.add(rig.request(**changes))
    assert rig.service.views() == []


# --- paying ----------------------------------------------------------------------------------------------------------


async def test_a_person_pays_and_the_payee_acknowledges(rig: Rig) -> None:
    request = rig.request(3 * UNIT)
    await rig.service.add(request)
    view = await rig.service.pay(request.request_id, 3 * UNIT, True)
    assert (view.state, view.why, view.sequence) == ("paid", "approved by you", 1)
    assert (view.before_u, view.after_u) == (100 * UNIT, 97 * UNIT)
    assert await rig.paid() == [("south", 3 * UNIT)]
    assert rig.service.views() == []
    assert ApprovalChanged(request.request_id) in rig.told(ApprovalChanged)
    assert "Payment of 3.000 to South was acknowledged." in rig.notices()


async def test_a_script_may_leave_the_amount_to_the_request(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    assert (await rig.service.pay(view.request_id, None, False)).state == "paid"


async def test_another_amount_pays_nothing_and_may_be_tried_again(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    for amount in (UNIT - 1, UNIT + 1, 0, -UNIT):
        with pytest.raises(ApprovalError, match="nothing was paid"):
            await rig.service.pay(view.request_id, amount, True)
    assert await rig.paid() == []
    assert (await rig.service.pay(view.request_id, UNIT, False)).state == "paid"


async def test_what_must_be_typed_is_not_paid_by_a_key(rig: Rig) -> None:
    view = await rig.service.add(rig.request(2 * UNIT))
    assert view.urgency == "typed"
    with pytest.raises(ApprovalError, match="Type the amount"):
        await rig.service.pay(view.request_id, 2 * UNIT, False)
    assert await rig.paid() == []
    await rig.service.pay(view.request_id, 2 * UNIT, True)
    second = await rig.service.add(rig.request(2 * UNIT))
    assert second.urgency == "ask"  # no longer the first payment to this peer
    await rig.restart()
    assert rig.service.view(second.request_id).urgency == "ask"
    await rig.service.set_limits(typed_above_u=UNIT)
    assert rig.service.view(second.request_id).urgency == "typed"


async def test_of_many_attempts_at_once_one_signs(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    results = await asyncio.gather(
        *(rig.service.pay(view.request_id, UNIT, False) for _ in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(r, BaseException) for r in results) == 1
    assert all(isinstance(r, ChannelError) for r in results if isinstance(r, BaseException))
    assert await rig.paid() == [("south", UNIT)]
    assert rig.service.view(view.request_id).state == "paid"


async def test_an_approval_is_used_once(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.service.pay(view.request_id, UNIT, False)
    for action in (rig.service.pay(view.request_id, UNIT, True), rig.service.reopen(view.request_id)):
        with pytest.raises(ApprovalError, match="made already"):
            await action
    with pytest.raises(ApprovalError):
        await rig.service.reject(view.request_id)
    assert len(await rig.paid()) == 1


async def test_an_absent_payee_leaves_it_paying_until_it_acknowledges(rig: Rig) -> None:
    rig.online = False
    request = rig.request()
    await rig.service.add(request)
    view = await rig.service.pay(request.request_id, UNIT, False)
    assert (view.state, view.after_u) == ("paying", 99 * UNIT)
    for action in (rig.service.pay(view.request_id, UNIT, False), rig.service.reject(view.request_id)):
        with pytest.raises(ApprovalError, match="signed already"):
            await action
    await rig.wait(1000)
    assert rig.service.view(view.request_id).state == "paying"
    await rig.acknowledge("south", rig.line(request))
    await asyncio.sleep(0.02)
    assert rig.service.view(view.request_id).state == "paid"
    assert rig.service.views() == []


async def test_acknowledgements_of_other_things_mark_nothing(rig: Rig) -> None:
    rig.online = False
    request = rig.request()
    await rig.service.add(request)
    await rig.service.pay(request.request_id, UNIT, False)
    await rig.acknowledge("north", rig.line(request))
    await rig.acknowledge("south", rig.line(request, kind=2))
    await rig.acknowledge("south", rig.line(request, amount_u=UNIT - 1))
    await rig.acknowledge("south", rig.line(request, agreement=bytes(32)))
    await rig.acknowledge("south", rig.line(request, ref=bytes(32)))
    await asyncio.sleep(0.02)
    assert rig.service.view(request.request_id).state == "paying"


@pytest.mark.parametrize("error", [InsufficientBalance("Not enough."), ChannelError("The channel is closing.")])
async def test_a_failed_payment_is_still_owed_and_can_be_asked_again(rig: Rig, error: ZsError) -> None:
    view = await rig.service.add(rig.request())
    rig.refuse = error
    with pytest.raises(type(error)):
        await rig.service.pay(view.request_id, UNIT, False)
    failed = rig.service.view(view.request_id)
    assert (failed.state, failed.why) == ("failed", str(error))
    assert [v.request_id for v in rig.service.views()] == [view.request_id]
    with pytest.raises(ApprovalError, match="reopen"):
        await rig.service.pay(view.request_id, UNIT, False)
    rig.refuse = None
    await rig.service.reopen(view.request_id)
    assert (await rig.service.pay(view.request_id, UNIT, False)).state == "paid"


async def test_a_second_receipt_for_one_agreement_is_not_paid(rig: Rig) -> None:
    one = rig.request()
    two = rig.request(agreement_id=one.agreement_id)
    for request in (one, two):
        await rig.service.add(request)
    await rig.service.pay(one.request_id, UNIT, False)
    with pytest.raises(ChannelError):
        await rig.service.pay(two.request_id, UNIT, False)
    assert len(await rig.paid()) == 1
    assert rig.service.view(two.request_id).state == "failed"


async def test_a_caller_that_goes_away_leaves_memory_and_tables_alike(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    task = asyncio.create_task(rig.service.pay(view.request_id, UNIT, False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert rig.service.view(view.request_id).state == "paid"
    assert len(await rig.paid()) == 1


# --- blocked ---------------------------------------------------------------------------------------------------------


async def test_what_is_blocked_cannot_be_paid_even_inside_a_grant(rig: Rig) -> None:
    await grant(rig)
    bad = rig.request(checks=(CheckView(name="signature", ok=False, detail="forged"),))
    dear = rig.request(UNIT, duration_us=UNIT - 1)
    rig.blacklisted.add("mallory")
    rig.without_channel.add("west")
    rig.mine_u["poor"] = UNIT - 1
    requests = [bad, dear, *(rig.request(peer=peer) for peer in ("mallory", "west", "poor"))]
    for request in requests:
        view = await rig.service.add(request)
        assert (view.state, view.urgency) == ("waiting", "blocked")
        with pytest.raises(ApprovalError, match="blocked"):
            await rig.service.pay(request.request_id, UNIT, True)
    whys = [rig.service.view(r.request_id).why for r in requests]
    assert whys == [
        "signature: forged",
        "asks for 1.000, the cost rule gives 0.999999",
        "this peer is blacklisted",
        "no open channel with this peer",
        "the channel holds only 0.999999",
    ]
    assert await rig.paid() == []


async def test_a_block_that_ends_can_be_paid(rig: Rig) -> None:
    rig.without_channel.add("south")
    view = await rig.service.add(rig.request())
    assert (view.channel_id, view.before_u, view.after_u) == ("", 0, 0)
    rig.without_channel.clear()
    assert rig.service.view(view.request_id).urgency == "ask"
    assert (await rig.service.pay(view.request_id, UNIT, False)).state == "paid"


# --- time, declining, reopening --------------------------------------------------------------------------------------


async def test_after_120_seconds_it_is_not_paid_and_still_owed(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.wait(119)
    assert rig.service.view(view.request_id).state == "waiting"
    await rig.wait(1)
    assert rig.service.view(view.request_id).state == "expired"
    await until(lambda: rig.service.view(view.request_id).why == "not approved in time")
    with pytest.raises(ApprovalError, match="nothing was paid"):
        await rig.service.pay(view.request_id, UNIT, True)
    assert await rig.paid() == []
    assert rig.service.waiting() == 0
    assert len(rig.service.views()) == 1


async def test_a_late_key_pays_nothing_even_before_the_timer_ran(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    rig.clock._now += 120 * US
    assert rig.service.view(view.request_id).state == "expired"
    with pytest.raises(ApprovalError, match="nothing was paid"):
        await rig.service.pay(view.request_id, UNIT, True)
    assert await rig.paid() == []


async def test_a_reopened_request_has_fresh_figures_and_a_new_limit(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.wait(120)
    rig.mine_u["south"] = 50 * UNIT
    again = await rig.service.reopen(view.request_id)
    assert (again.state, again.before_u) == ("waiting", 50 * UNIT)
    assert again.expires_at == view.expires_at + 120
    with pytest.raises(ApprovalError):
        await rig.service.reopen(view.request_id)
    await rig.wait(119)
    assert (await rig.service.pay(view.request_id, UNIT, False)).state == "paid"


async def test_a_reopened_request_expires_again(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.wait(120)
    await rig.service.reopen(view.request_id)
    await rig.wait(120)
    assert rig.service.view(view.request_id).state == "expired"


async def test_declining_keeps_it_as_owed(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    declined = await rig.service.reject(view.request_id)
    assert (declined.state, declined.why) == ("declined", "declined by you")
    with pytest.raises(ApprovalError, match="declined"):
        await rig.service.pay(view.request_id, UNIT, True)
    await rig.wait(500)
    await rig.restart()
    assert [v.state for v in rig.service.views()] == ["declined"]
    await rig.service.reopen(view.request_id)
    assert (await rig.service.pay(view.request_id, UNIT, False)).state == "paid"


async def test_reopening_never_pays_by_itself(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.service.reject(view.request_id)
    await grant(rig)
    assert (await rig.service.reopen(view.request_id)).state == "waiting"
    assert await rig.paid() == []


async def test_too_many_of_one_peer_decline_the_oldest_which_stay_owed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_WAITING", 3)
    ids = [(await rig.service.add(rig.request())).request_id for _ in range(5)]
    other = await rig.service.add(rig.request(peer="north"))
    assert [rig.service.view(i).state for i in ids] == ["declined", "declined", "waiting", "waiting", "waiting"]
    assert rig.service.view(other.request_id).state == "waiting"
    assert len(rig.service.views()) == 6


# --- grants ----------------------------------------------------------------------------------------------------------


async def test_inside_a_grant_it_is_paid_at_once(rig: Rig) -> None:
    await grant(rig)
    view = await rig.service.add(rig.request(10 * UNIT))
    assert (view.state, view.why) == ("paid", "paid inside your grant for all payments")
    assert rig.told(ApprovalAsked) == []
    assert rig.service.policy().grants[0].spent_day_u == 10 * UNIT
    above = await rig.service.add(rig.request(10 * UNIT + 1))
    assert (above.state, above.why) == ("waiting", "above your automatic limit")


async def test_the_day_of_a_grant_rolls(rig: Rig) -> None:
    await grant(rig, per=10, day=20)
    await rig.service.add(rig.request(10 * UNIT))
    await rig.wait(12 * 3600)
    await rig.service.add(rig.request(10 * UNIT))
    assert "24 hours" in (await rig.service.add(rig.request(1))).why
    await rig.wait(12 * 3600 - 1)
    assert (await rig.service.add(rig.request(1))).state == "waiting"
    await rig.wait(1)
    assert (await rig.service.add(rig.request(10 * UNIT))).state == "paid"
    assert (await rig.service.add(rig.request(1))).state == "waiting"


async def test_many_small_payments_do_not_slip_under_the_limit_together(rig: Rig) -> None:
    await grant(rig, per=1, day=5)
    views = await asyncio.gather(*(rig.service.add(rig.request(UNIT)) for _ in range(20)))
    assert [v.state for v in views].count("paid") == 5
    assert [v.state for v in views].count("waiting") == 15
    assert len(await rig.paid()) == 5


async def test_payments_in_flight_count(rig: Rig) -> None:
    rig.online = False
    await grant(rig, per=10, day=10)
    assert (await rig.service.add(rig.request(10 * UNIT))).state == "paying"
    assert (await rig.service.add(rig.request(1))).state == "waiting"
    await rig.restart()
    assert (await rig.service.add(rig.request(1))).state == "waiting"


async def test_setting_a_grant_anew_restarts_its_total_but_not_its_day(rig: Rig) -> None:
    await grant(rig, per=10, day=20, total=10)
    await rig.service.add(rig.request(10 * UNIT))
    assert (await rig.service.add(rig.request(UNIT))).why == "your grant is used up"
    await grant(rig, per=10, day=20, total=10)
    used = rig.service.policy().grants[0]
    assert (used.spent_total_u, used.spent_day_u) == (0, 10 * UNIT)
    assert (await rig.service.add(rig.request(10 * UNIT))).state == "paid"
    await grant(rig, per=10, day=20, total=10)
    assert "24 hours" in (await rig.service.add(rig.request(UNIT))).why


async def test_payments_by_hand_take_nothing_from_a_grant(rig: Rig) -> None:
    view = await rig.service.add(rig.request(20 * UNIT))
    await rig.service.pay(view.request_id, 20 * UNIT, True)
    await grant(rig, per=10, day=10, total=10)
    assert (await rig.service.add(rig.request(10 * UNIT))).state == "paid"


async def test_a_grant_pays_nothing_that_already_waits(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await grant(rig)
    await rig.wait(1)
    assert rig.service.view(view.request_id).state == "waiting"
    assert await rig.paid() == []


async def test_a_grant_can_be_taken_away_and_survives_a_restart(rig: Rig) -> None:
    await rig.service.set_grant("peer", "south", per_payment_u=1, per_day_u=2, total_u=3, expires_s=60)
    before = rig.service.policy()
    await rig.restart()
    assert rig.service.policy() == before
    assert before.grants[0].expires_at == rig.clock.now_us() // US + 60
    assert (await rig.service.set_grant("peer", "south")).grants == ()
    await rig.restart()
    assert rig.service.policy().grants == ()


async def test_a_grant_ends_by_itself(rig: Rig) -> None:
    await rig.service.set_grant("node", per_payment_u=UNIT, per_day_u=UNIT, total_u=UNIT, expires_s=60)
    await rig.wait(60)
    assert rig.service.policy().grants == ()
    assert (await rig.service.add(rig.request(1))).state == "waiting"


async def test_senseless_grants_and_limits_are_refused(rig: Rig) -> None:
    service = rig.service
    for action in (
        service.set_grant("node", "south", per_payment_u=1, per_day_u=1, total_u=1),
        service.set_grant("peer", "", per_payment_u=1, per_day_u=1, total_u=1),
        service.set_grant("node", per_payment_u=1, total_u=1),
        service.set_grant("node", per_payment_u=-1, per_day_u=1, total_u=1),
        service.set_grant("node", per_payment_u=2**60, per_day_u=1, total_u=1),
        service.set_grant("node", per_payment_u=1, per_day_u=1, total_u=1, expires_s=0),
        service.set_limits(typed_above_u=-1),
    ):
        with pytest.raises(BadInput):
            await action
    assert service.policy().grants == ()


async def test_limits_begin_as_the_settings_say_and_keep_what_was_set(rig: Rig) -> None:
    assert rig.service.policy().typed_above_u == 50 * UNIT
    assert (rig.service.credit_limit(True), rig.service.credit_limit(False)) == (100 * UNIT, UNIT)
    await rig.service.set_limits(credit_stranger_u=0)
    await rig.restart()
    assert (rig.service.credit_limit(True), rig.service.credit_limit(False)) == (100 * UNIT, 0)


async def test_an_automatic_payment_that_fails_asks_a_person(rig: Rig) -> None:
    await grant(rig)
    rig.refuse = ChannelError("The channel is closing.")
    view = await rig.service.add(rig.request())
    assert (view.state, view.urgency) == ("waiting", "ask")
    assert rig.told(ApprovalAsked) == [ApprovalAsked(view.request_id)]
    assert rig.service.policy().grants[0].spent_total_u == 0
    assert "was not paid automatically: The channel is closing." in rig.notices()


# --- crash, restart, records -----------------------------------------------------------------------------------------


async def test_a_crash_before_the_commit_leaves_it_waiting(rig: Rig) -> None:
    request = rig.request()
    await rig.service.add(request)

    def crash(tx: Tx) -> None:
        signing = store.Signing(
            automatic=False,
            why="",
            now_us=rig.clock.now_us(),
            channel_id="c",
            sequence=1,
            before_u=0,
            peer_before_u=0,
        )
        store.begin(tx, request.request_id, signing)
        raise ChannelError("power cut")

    with pytest.raises(ChannelError):
        await rig.db.write(crash)
    await rig.restart()
    assert [v.state for v in rig.service.views()] == ["waiting"]
    assert (await rig.service.pay(request.request_id, UNIT, False)).state == "paid"


async def test_a_crash_after_the_commit_leaves_it_paying_and_the_ack_settles_it(rig: Rig) -> None:
    rig.online = False
    await grant(rig)
    request = rig.request()
    await rig.service.add(request)
    await rig.restart()
    assert [v.state for v in rig.service.views()] == ["paying"]
    with pytest.raises(ApprovalError):
        await rig.service.pay(request.request_id, UNIT, False)
    await rig.acknowledge("south", rig.line(request))
    await asyncio.sleep(0.02)
    assert rig.service.view(request.request_id).state == "paid"
    await rig.restart()
    assert rig.service.views() == []
    assert rig.service.view(request.request_id).state == "paid"
    assert len(await rig.paid()) == 1


async def test_a_payment_recovered_from_the_peer_settles_what_an_old_backup_still_asks(rig: Rig) -> None:
    request = rig.request()
    await rig.service.add(request)
    await rig.acknowledge("south", rig.line(request))
    await asyncio.sleep(0.02)
    assert rig.service.view(request.request_id).state == "paid"


async def test_what_became_late_while_the_node_was_down_is_expired_at_the_start(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    rig.clock._now += 200 * US
    await rig.restart()
    assert rig.service.view(view.request_id).state == "expired"


async def test_what_waits_after_a_restart_expires_in_time(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.wait(60)
    await rig.restart()
    assert rig.service.view(view.request_id).state == "waiting"
    await rig.wait(60)
    for _ in range(200):
        rows = await rig.db.read(lambda tx: tx.execute("SELECT state FROM approval_request").fetchall())
        if rows != [("waiting",)]:
            break
        await asyncio.sleep(0.01)
    assert rows == [("expired",)]
    assert rig.service.view(view.request_id).state == "expired"


async def test_every_decision_is_logged_with_its_rule(rig: Rig) -> None:
    asked = await rig.service.add(rig.request())
    await rig.service.reject(asked.request_id)
    await rig.service.reopen(asked.request_id)
    await rig.wait(120)
    await rig.service.reopen(asked.request_id)
    await rig.service.pay(asked.request_id, UNIT, False)
    await grant(rig)
    await rig.service.add(rig.request())
    rig.blacklisted.add("south")
    await rig.service.add(rig.request())
    log = [(d.decision, d.rule) for d in reversed(await rig.service.decisions())]
    assert log == [
        ("ask", "no_grant"),
        ("decline", "person"),
        ("reopen", "person"),
        ("expire", "timeout"),
        ("reopen", "person"),
        ("pay", "person"),
        ("paid", "acknowledged"),
        ("auto", "grant"),
        ("paid", "acknowledged"),
        ("block", "blacklisted"),
    ]
    assert len(await rig.service.decisions(3)) == 3


async def test_the_decision_log_is_bounded(rig: Rig) -> None:
    request = rig.request()

    def fill(tx: Tx) -> int:
        for _ in range(MAX_DECISIONS + 50):
            journal.log(tx, request, "ask", "no_grant", "", 0)
        return int(tx.execute("SELECT count(*) FROM approval_decision").fetchone()[0])

    assert await rig.db.write(fill) == MAX_DECISIONS


async def test_ids_resolve_from_a_prefix(rig: Rig) -> None:
    view = await rig.service.add(rig.request())
    await rig.service.add(rig.request())
    assert rig.service.resolve(view.request_id[:8].upper()) == view.request_id
    for text in ("", view.request_id[:3], "zzzz", "0" * 64):
        with pytest.raises(ApprovalError):
            rig.service.resolve(text)
    with pytest.raises(ApprovalError):
        await rig.service.pay("0" * 64, None, False)


async def test_a_known_request_long_out_of_memory_is_counted_no_second_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "PAID_SHOWN", 1)
    await grant(rig)
    first = rig.request()
    for request in (first, rig.request(), first):
        assert (await rig.service.add(request)).state == "paid"
    assert rig.service.policy().grants[0].spent_day_u == 2 * UNIT
    assert rig.notices().count("was acknowledged") == 2
    assert len(await rig.paid()) == 2
