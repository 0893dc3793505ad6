from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.engine.channels.approvals.support import UNIT, Rig
from zstui.engine.channels.approvals.model import Decision, Grant, GrantKey, PaymentRequest, decide, limit_lines
from zstui.engine.views import ChannelView, CheckView

NOW = 1_700_000_000_000_000


@pytest.fixture
def rig(tmp_path: Any) -> Rig:
    return Rig(tmp_path / "unused")


def grant(scope: Any = "node", subject: str = "", per: int = 10, day: int = 50, total: int = 100, **more: Any) -> Grant:
    return Grant(
        scope=scope,
        subject=subject,
        per_payment_u=per * UNIT,
        per_day_u=day * UNIT,
        total_u=total * UNIT,
        **({"expires_us": None} | more),
    )


def asked(
    rig: Rig,
    request: PaymentRequest,
    *grants: Grant,
    due_u: int | None = None,
    blacklisted: bool = False,
    channel: ChannelView | None = None,
    spent: dict[GrantKey, int] | None = None,
    first: bool = False,
    no_channel: bool = False,
    typed_above_u: int = 50 * UNIT,
) -> Decision:
    return decide(
        request,
        due_u=request.amount_u if due_u is None else due_u,
        blacklisted=blacklisted,
        channel=None if no_channel else channel or rig.channel("south"),
        grants=grants,
        spent_day_u=spent or {},
        typed_above_u=typed_above_u,
        first_payment=first,
        now_us=NOW,
    )


def test_without_a_grant_everything_asks(rig: Rig) -> None:
    assert asked(rig, rig.request(1)) == Decision("ask", "no_grant", "no grant covers it", "ask")


def test_blocks_in_order_and_before_any_grant(rig: Rig) -> None:
    bad = (CheckView(name="signature", ok=True), CheckView(name="module", ok=False, detail="another module"))
    request = rig.request(200 * UNIT, checks=bad)
    g = grant(per=10**6, day=10**6, total=10**6)
    wrong: dict[str, Any] = {"due_u": 1, "blacklisted": True, "no_channel": True}
    assert asked(rig, request, g, **wrong) == Decision("block", "check", "module: another module", "blocked")
    request = rig.request(200 * UNIT)
    assert asked(rig, request, g, **wrong).rule == "cost"
    del wrong["due_u"]
    assert asked(rig, request, g, **wrong).rule == "blacklisted"
    del wrong["blacklisted"]
    assert asked(rig, request, g, **wrong).rule == "no_channel"
    decision = asked(rig, request, g)
    assert (decision.rule, decision.why) == ("balance", "the channel holds only 100.000")
    assert asked(rig, rig.request(100 * UNIT), g).action == "auto"


def test_nothing_checked_is_not_verified(rig: Rig) -> None:
    request = rig.request(checks=())
    assert not request.verified
    assert asked(rig, request, grant()).rule == "check"


def test_one_micro_unit_off_the_cost_rule_blocks_either_way(rig: Rig) -> None:
    request = rig.request(UNIT)
    for due_u in (UNIT - 1, UNIT + 1):
        assert asked(rig, request, grant(), due_u=due_u).rule == "cost"


@pytest.mark.parametrize("state", ["opening", "closing", "closed", "disputed"])
def test_only_an_active_channel_pays(rig: Rig, state: Any) -> None:
    channel = rig.channel("south")
    assert channel is not None
    assert asked(rig, rig.request(), channel=msgspec.structs.replace(channel, state=state)).rule == "no_channel"


def test_each_limit_of_a_grant_is_inclusive(rig: Rig) -> None:
    assert asked(rig, rig.request(10 * UNIT), grant()).action == "auto"
    assert asked(rig, rig.request(10 * UNIT + 1), grant()).rule == "per_payment"
    g = grant()
    assert asked(rig, rig.request(10 * UNIT), g, spent={g.key: 40 * UNIT}).action == "auto"
    assert asked(rig, rig.request(10 * UNIT), g, spent={g.key: 40 * UNIT + 1}).rule == "per_day"
    assert asked(rig, rig.request(10 * UNIT), grant(spent_total_u=90 * UNIT)).action == "auto"
    assert asked(rig, rig.request(10 * UNIT), grant(spent_total_u=90 * UNIT + 1)).rule == "total"


def test_a_grant_for_another_scope_covers_nothing(rig: Rig) -> None:
    request = rig.request()
    for scope, subject in (("peer", "north"), ("guild", "h" * 64), ("job", "0" * 64)):
        assert asked(rig, request, grant(scope, subject)).rule == "no_grant"
    for scope, subject in (("peer", "south"), ("guild", request.guild_id), ("job", request.job_id)):
        assert asked(rig, request, grant(scope, subject)).action == "auto"


def test_a_narrow_grant_narrows_a_wide_one_and_never_widens_it(rig: Rig) -> None:
    request = rig.request(5 * UNIT)
    assert asked(rig, request, grant(), grant("peer", "south", per=4)).rule == "per_payment"
    assert asked(rig, request, grant(per=4), grant("peer", "south")).rule == "per_payment"


def test_an_expired_grant_covers_nothing(rig: Rig) -> None:
    assert asked(rig, rig.request(), grant(expires_us=NOW + 1)).action == "auto"
    assert asked(rig, rig.request(), grant(expires_us=NOW)).rule == "no_grant"


def test_when_the_amount_must_be_typed(rig: Rig) -> None:
    assert asked(rig, rig.request(25 * UNIT)).urgency == "ask"
    assert asked(rig, rig.request(25 * UNIT + 1)).why == "no grant covers it; over a quarter of the channel"
    assert asked(rig, rig.request(2 * UNIT), typed_above_u=2 * UNIT).urgency == "ask"
    assert asked(rig, rig.request(2 * UNIT), typed_above_u=2 * UNIT - 1).urgency == "typed"
    assert asked(rig, rig.request(UNIT), first=True).urgency == "ask"
    decision = asked(rig, rig.request(UNIT + 1), first=True)
    assert (decision.urgency, decision.why) == ("typed", "no grant covers it; first payment to this peer")
    assert asked(rig, rig.request(10 * UNIT + 1), grant(), first=True).why.startswith("above your automatic limit")


def test_limits_are_told_one_line_each(rig: Rig) -> None:
    request = rig.request()
    context = rig.context(request)
    lines = limit_lines(request, context, [], {}, 50 * UNIT, NOW)
    assert lines == ("no grant: every payment asks", "type the amount above 50.000")
    g = grant("peer", "south", spent_total_u=20 * UNIT)
    lines = limit_lines(request, context, [g, grant(expires_us=NOW)], {g.key: 12_500_000}, 50 * UNIT, NOW)
    assert lines[0] == "South/day 12.500 of 50.000, total 20.000 of 100.000, ask above 10.000"
    assert len(lines) == 2
