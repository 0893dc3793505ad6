"""Disputes among real services on an in-memory network: nomination, filing, verdict, and what a person sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.channels.disputes.court import DAY, HOUR, Court, CourtNode, court
from tests.engine.channels.rig import line, until
from zstui.engine.errors import BadInput, IllegalTransition, Refused, UnknownChannel

pytestmark = pytest.mark.usefixtures("clean")


async def paid(c: Court, amounts: tuple[int, ...] = (100, 200)) -> str:
    """A channel with witnesses over which the first side has paid."""
    view = await c.a.service.open(c.b.id, 10_000, 5_000, 86_400)
    for amount in amounts:
        await c.a.service.pay(view.channel_id, line(amount))
    return view.channel_id


async def test_a_channel_gets_four_witnesses_half_named_by_each_side(full: Court) -> None:
    view = await full.a.service.open(full.b.id, 10_000, 0, 86_400)
    assert (view.witnesses, view.witnesses_needed) == (4, 3)
    params = full.a.service.record(view.channel_id).params
    assert params == full.b.service.record(view.channel_id).params
    assert set(params.witnesses) == {w.identity.public_key for w in full.witnesses}


@pytest.mark.parametrize(("there", "n", "m"), [(0, 0, 0), (1, 1, 1), (3, 1, 1)])
async def test_smaller_guilds_give_what_they_can(tmp_path: Path, there: int, n: int, m: int) -> None:
    c = await court(tmp_path, there)
    view = await c.a.service.open(c.b.id, 10_000, 0, 86_400)
    assert (view.witnesses, view.witnesses_needed) == (n, m)


async def test_none_on_request_and_a_clear_refusal_of_too_many(full: Court) -> None:
    with pytest.raises(BadInput, match="4 fellow guild members"):
        await full.a.service.open(full.b.id, 10_000, 0, 86_400, 7)
    view = await full.a.service.open(full.b.id, 10_000, 0, 86_400, 0)
    assert view.witnesses == 0


async def test_who_does_not_agree_is_not_named(full: Court) -> None:
    for node in full.witnesses[:2]:
        node.willing = False
    view = await full.a.service.open(full.b.id, 10_000, 0, 86_400)
    assert view.witnesses == 1
    await full.a.service.close(view.channel_id)
    with pytest.raises(Refused, match="agreed to witness"):
        await full.a.service.open(full.b.id, 10_000, 0, 86_400, 4)


async def test_a_dispute_with_the_peer_online_ends_by_agreement(full: Court) -> None:
    channel = await paid(full)
    await full.a.disputes.dispute(channel)
    await full.closed(channel, full.a, full.b)
    assert full.a.balance(channel) == ("closed", "cooperative", 9_700, 5_300)
    await until(lambda: full.a.case(channel).state == full.b.case(channel).state == "settled")
    await until(lambda: all(w.case(channel).state == "settled" for w in full.witnesses))


async def test_a_dead_peer_is_settled_by_verdict_and_learns_of_it_later(full: Court) -> None:
    channel = await paid(full)
    await full.b.stop()
    view = await full.a.disputes.dispute(channel)
    assert (view.state, view.filed_by_me, view.needed) == ("filed", True, 3)
    await full.heard(channel, full.a, *full.witnesses)
    view = full.a.case(channel)
    assert view.deadline_at is not None
    assert "may show evidence" in view.must_act
    assert {c.key for c in view.choices} == {"wait", "agree", "evidence"}
    assert "may show evidence by" in full.a.service.view(channel).action
    witness = full.witnesses[0].case(channel)
    assert (witness.role, witness.mine_u, witness.choices) == ("witness", None, ())
    assert not full.witnesses[0].disputes.verdict(channel).final

    full.shift(DAY - HOUR)
    await full.a.disputes._turn()
    assert full.a.service.view(channel).state == "disputed"
    full.shift(HOUR + 60)
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_700, 5_300)
    assert full.a.service.owed() == (0, 300)
    verdict = full.a.disputes.verdict(channel)
    assert verdict.final
    assert verdict.signatures >= 3
    assert (verdict.mine_u, verdict.theirs_u) == (9_700, 5_300)
    assert await full.a.evidence(channel)

    full.b.clock.shift(DAY + 60)
    await full.b.revive()
    await full.closed(channel, full.b)
    assert full.b.balance(channel) == ("closed", "verdict", 5_300, 9_700)
    assert full.b.service.owed() == (300, 0)
    again = await full.a.service.open(full.b.id, 1_000, 0, 86_400)
    assert (again.state, again.epoch) == ("active", 2)


async def test_one_of_one_witness_decides_alone(tmp_path: Path) -> None:
    c = await court(tmp_path, 1)
    channel = await paid(c)
    await c.b.stop()
    await c.a.disputes.dispute(channel)
    await c.heard(channel, c.a)
    c.shift(DAY + 60)
    await c.closed(channel, c.a)
    assert c.a.balance(channel)[1] == "verdict"


async def test_without_witnesses_each_side_books_its_own_record(tmp_path: Path) -> None:
    c = await court(tmp_path, 0)
    channel = await paid(c)
    before = c.a.case(channel)
    assert before.state == "none"
    assert [choice.key for choice in before.choices] == ["agree", "unilateral"]
    await c.b.stop()
    view = await c.a.disputes.dispute(channel)
    assert (view.state, view.case_id, view.deadline_at is not None) == ("own record", "", True)
    assert "nobody" not in view.text
    with pytest.raises(BadInput, match="no witnesses"):
        await c.a.disputes.evidence(channel)
    with pytest.raises(BadInput, match="no witnesses"):
        c.a.disputes.verdict(channel)
    c.shift(DAY + 60)
    await c.closed(channel, c.a)
    assert c.a.balance(channel) == ("closed", "unresolved", 9_700, 5_300)
    assert c.a.service._books.limit(c.b.id) == 0


async def test_what_a_dispute_would_mean_is_said_before(full: Court) -> None:
    channel = await paid(full)
    view = full.b.case(channel)
    assert view.state == "none"
    assert [choice.key for choice in view.choices] == ["agree", "file"]
    assert "3 of 4 witnesses decide" in view.choices[1].text
    assert all(choice.mine_u == 5_300 for choice in view.choices)


async def test_refusals(full: Court) -> None:
    channel = await paid(full)
    with pytest.raises(UnknownChannel):
        await full.a.disputes.dispute("00" * 32)
    await full.a.service.close(channel)
    with pytest.raises(IllegalTransition):
        await full.a.disputes.dispute(channel)
    assert full.a.disputes.resolve(channel[:8]) == channel
    with pytest.raises(UnknownChannel):
        full.a.disputes.resolve("abc")


async def test_witnesses_too_few_for_a_verdict_leave_it_to_each_sides_record(full: Court) -> None:
    channel = await paid(full)
    for node in (full.b, *full.witnesses[:2]):
        await node.stop()
    await full.a.disputes.dispute(channel)
    await until(lambda: sum(w.state != "silent" for w in full.a.case(channel).witnesses) == 2)
    assert full.a.case(channel).must_act == "1 more of 4 witnesses must take the case"
    full.shift(2 * DAY)
    await full.a.disputes._turn()
    assert full.a.service.view(channel).state == "disputed"
    full.shift(8 * DAY)
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "unresolved", 9_700, 5_300)
    await until(lambda: full.a.case(channel).state == "unresolved")


async def test_everything_goes_on_after_a_restart(full: Court) -> None:
    channel = await paid(full)
    await full.b.stop()
    await full.a.disputes.dispute(channel)
    await full.heard(channel, full.a, *full.witnesses)
    for node in full.up:
        await node.stop()
    for node in (full.a, *full.witnesses):
        node.clock.shift(DAY + 60)
        await node.start()
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_700, 5_300)
    assert isinstance(full.a, CourtNode)
