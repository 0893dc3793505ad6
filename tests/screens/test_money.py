"""Windows about channels, disputes, the ledger, policy and files: what they send, and that they cannot be confused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual import events
from textual.screen import Screen

from tests.screens.modals_support import Stage, stage
from tests.support import money_samples, samples
from zstui.bridge import Bridge
from zstui.engine import commands as c
from zstui.screens.channel_dialogs import CloseChannelScreen
from zstui.screens.decisions import DecisionsScreen
from zstui.screens.dispute_dialogs import CasesScreen, DisputeScreen, VerdictScreen
from zstui.screens.dispute_forms import DisputeOutputScreen, EvidenceScreen, FileDisputeScreen
from zstui.screens.form import Choice, Field
from zstui.screens.grants import GrantScreen, RehearsalScreen
from zstui.screens.keeping import BackupScreen, StatementScreen, backup_notice
from zstui.screens.ledger import ConfirmDischargeScreen, CreditScreen, DischargeScreen, LedgerScreen
from zstui.screens.pay import PayScreen
from zstui.screens.policy import PolicyScreen

CHANNEL = msgspec.structs.replace(samples.channels()[0], witnesses=4, witnesses_needed=3)
FILED = money_samples.filed(CHANNEL, by_me=False)
BASE = msgspec.structs.replace(samples.snapshot(), channels=(CHANNEL,))
DISPUTED = msgspec.structs.replace(
    BASE, channels=(msgspec.structs.replace(CHANNEL, state="disputed"),), disputes=(FILED,)
)
Make = Callable[[Bridge], Screen[Any]]


def flat(s: Stage) -> str:
    """What is shown, without frames and line breaks."""
    text = s.text()
    for frame in "│┃╭╮╰╯─━┏┓┗┛":
        text = text.replace(frame, " ")
    return " ".join(text.split())


def dispute(bridge: Bridge) -> Screen[Any]:
    return DisputeScreen(bridge, CHANNEL.channel_id)


def changing(s: Stage) -> list[c.Command[Any]]:
    """Commands that did something."""
    return [x for x in s.engine.executed if not type(x).__name__.startswith(("List", "Show", "Rehearse"))]


# --- channels and disputes ---------------------------------------------------------------------------------------------


async def test_closing_together_is_t_alone_and_needs_a_rest() -> None:
    async with stage(lambda b: CloseChannelScreen(b, CHANNEL.channel_id), snapshot=BASE) as s:
        text = flat(s)
        assert "Close TOGETHER with south" in text
        assert "It costs nothing: both sides sign" in text
        assert "dispute" not in text.lower()
        early = events.Key("t", "t")
        await s.arm()
        s.app.post_message(early)
        await s.pilot.pause(0.1)
        assert not changing(s), "a key that waited in a queue closes nothing"
        await s.press("enter", "d", "a", "D", "c")
        assert not changing(s)
        await s.press("t")
        await s.pilot.pause(0.2)
        assert changing(s) == [c.CloseChannel(channel=CHANNEL.channel_id)]
        assert s.app.results[0].state == "closed"


async def test_a_dispute_says_what_each_choice_costs_and_needs_its_word() -> None:
    async with stage(dispute, snapshot=BASE) as s:
        await s.pilot.pause(0.2)
        text = flat(s)
        assert "What a dispute with south would mean" in text
        assert "t Close together: you get 84.250, costs nothing" in text
        assert "d Dispute before the witnesses: you get 84.250, costs nothing" in text
        await s.press("a", "s")
        assert isinstance(s.screen, DisputeScreen), "closing alone and evidence are not offered here"
        await s.press("d")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, FileDisputeScreen)
        assert "DISPUTE with south before witnesses" in s.text()
        assert s.screen.has_class("-danger")
        await s.press("enter", "t", "y")
        s.screen.query_one("#word", Field).set_text("disput")
        await s.press("enter")
        assert not changing(s)
        await s.write("e")
        await s.press("enter")
        await s.pilot.pause(0.4)
        assert changing(s) == [c.DisputeChannel(channel=CHANNEL.channel_id)]
        assert "DISPUTE with south: filed" in s.text()
    alone = msgspec.structs.replace(BASE, channels=(msgspec.structs.replace(CHANNEL, witnesses=0),))
    async with stage(dispute, snapshot=alone) as s:
        await s.pilot.pause(0.2)
        await s.press("d")
        assert isinstance(s.screen, DisputeScreen)
        await s.press("a")
        await s.pilot.pause(0.1)
        assert "CLOSE ALONE, without south" in s.text()
        assert "the word alone, then Enter" in s.text()


async def test_a_filed_dispute_names_who_acts_by_when_the_witnesses_and_the_verdict() -> None:
    async with stage(dispute, snapshot=DISPUTED) as s:
        await s.pilot.pause(0.2)
        text = flat(s)
        for part in (
            "You may show evidence: by",
            "Wait for the witnesses: you get 83.750, costs 0.500",
            "north has taken the case",
            "s Show evidence…",
        ):
            assert part in text, part
        assert re.search(r"Deadline .*, in \d\d:\d\d", text)
        s.screen.query_one("#body").scroll_end(animate=False)
        await s.pilot.pause(0.1)
        assert "west is ready to sign" in flat(s)
        assert "bad has not taken the case yet" in flat(s)
        assert "3 equal verdicts of 4 decide" in flat(s)
        await s.press("v")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, VerdictScreen)
        assert "NOT DECIDED YET" in s.text()
        assert "a difference of 0.500" in flat(s)
        await s.press("escape", "s")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, EvidenceScreen)
        assert "EVIDENCE against south" in s.text()
        await s.press(*"/nowhere", "enter")
        await s.pilot.pause(0.1)
        assert "Cannot read documents" in flat(s)
        assert changing(s) == []
        await s.press(*("backspace",) * 8, "enter")
        await s.pilot.pause(0.2)
        assert changing(s) == [c.SubmitEvidence(channel=CHANNEL.channel_id)]
        s.app.push_screen(CasesScreen(s.bridge))
        await s.pilot.pause(0.2)
        assert "mine     south" in s.text()
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert "DISPUTE with south: filed" in s.text()


async def test_an_output_is_disputed_after_its_price_is_named() -> None:
    job = next(j for j in BASE.jobs if j.mine and j.executor and j.state == "done")
    async with stage(lambda bridge: DisputeOutputScreen(bridge, job), snapshot=BASE) as s:
        assert "It costs nothing; the channel stays in use" in flat(s)
        assert "It cannot be taken back" in flat(s)
        await s.press("d")
        assert changing(s) == [], "type-ahead files nothing"
        await s.arm()
        await s.press("d")
        await s.pilot.pause(0.2)
        assert changing(s) == [c.DisputeOutput(job=job.job_id)]
        view = next(v for v in s.bridge.disputes.values() if v.kind == "output")
        s.app.push_screen(DisputeScreen(s.bridge, view.key))
        await s.pilot.pause(0.2)
        assert f"DISPUTE about the output of {job.module}, run by {job.executor_name}: filed" in flat(s)
        assert "At stake 1.200" in flat(s)


async def test_who_owes_a_refund_is_led_to_its_payment() -> None:
    job = msgspec.structs.replace(BASE.jobs[0], mine=False)
    view = money_samples.complaint(job, "upheld")
    async with stage(
        lambda bridge: DisputeScreen(bridge, view.key), snapshot=msgspec.structs.replace(BASE, disputes=(view,))
    ) as s:
        await s.pilot.pause(0.2)
        for part in (
            "You must return 1.200: by",
            "Return 1.200: you get 0.000, costs 1.200",
            "p Refund…",
            "Return nothing",
        ):
            assert part in flat(s), part
        await s.press("p")
        await s.pilot.pause(0.2)
        assert isinstance(s.screen, PayScreen)


# --- the ledger ------------------------------------------------------------------------------------------------------------


async def test_debts_paid_outside_are_signed_or_declined_and_credit_is_set() -> None:
    async with stage(LedgerScreen) as s:
        await s.pilot.pause(0.2)
        assert "south paid me 1.250 bank transfer: you must sign or decline" in flat(s)
        await s.press("p")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, DischargeScreen)
        assert "you still owe it" in flat(s)
        s.screen.query_one("#amount", Field).set_text("0.5")
        s.screen.query_one("#note", Field).set_text("cash")
        await s.press("enter")
        await s.pilot.pause(0.3)
        assert changing(s) == [c.Discharge(peer=samples.NORTH, amount_u=500_000, note="cash")]
        assert "I paid north 0.500 cash: you signed; north must sign" in flat(s)
        await s.press("c")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, CreditScreen)
        s.screen.query_one("#limit", Field).set_text("7")
        await s.press("enter")
        await s.pilot.pause(0.3)
        assert changing(s)[1:] == [c.SetCredit(peer=samples.NORTH, amount_u=7_000_000)]
        s.screen.query_one("#discharges").focus()
        await s.press("up", "up", "enter")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, ConfirmDischargeScreen)
        assert "Did south pay you 1.250?" in s.text()
        await s.arm()
        await s.press("x")
        await s.pilot.pause(0.3)
        assert changing(s)[2:] == [c.DeclineDischarge(discharge=samples.hex_id("discharge1"))]
        assert "declined" in flat(s)


# --- policy ------------------------------------------------------------------------------------------------------------------


async def test_limits_are_shown_and_saved() -> None:
    async with stage(PolicyScreen) as s:
        await s.pilot.pause(0.2)
        assert "none: every payment asks" in flat(s)
        s.screen.query_one("#typed", Field).set_text("5")
        await s.press("enter")
        await s.pilot.pause(0.2)
        expected = c.SetLimits(typed_above_u=5_000_000, credit_member_u=100_000_000, credit_stranger_u=1_000_000)
        assert s.engine.commands(c.SetLimits) == [expected]


async def test_a_grant_is_rehearsed_before_it_is_set_then_changed_and_taken_away() -> None:
    async with stage(PolicyScreen) as s:
        await s.pilot.pause(0.2)
        await s.press("f2")
        for field, value in {"each": "0", "day": "5", "total": "20"}.items():
            s.screen.query_one(f"#{field}", Field).set_text(value)
        await s.press("enter")
        assert "Every limit must be above zero." in flat(s)
        s.screen.query_one("#each", Field).set_text("1")
        await s.pilot.pause(0.8)
        assert "30 (30.000) would have been paid without asking, 10 (10.000) asked" in flat(s)
        assert not changing(s)
        await s.press("f5")
        await s.pilot.pause(0.1)
        assert isinstance(s.screen, RehearsalScreen)
        assert "paid    1.000 to south for blur.wasm: within the grant (grant; was paid)" in flat(s).replace(
            "paid 1.", "paid    1."
        )
        await s.press("escape", "enter")
        await s.pilot.pause(0.3)
        grant = c.SetGrant(
            scope="peer",
            subject=samples.NORTH,
            per_payment_u=1_000_000,
            per_day_u=5_000_000,
            total_u=20_000_000,
            expires_s=7 * 86_400,
        )
        assert s.engine.commands(c.SetGrant) == [grant]
        assert "1.000 each" in flat(s)
        s.screen.query_one("#grants").focus()
        await s.press("down", "f3")
        await s.pilot.pause(0.2)
        assert isinstance(s.screen, GrantScreen)
        s.screen.query_one("#each", Field).set_text("0.5")
        await s.press("enter")
        await s.pilot.pause(0.3)
        changed: Any = s.engine.commands(c.SetGrant)[-1]
        assert (changed.subject, changed.per_payment_u, changed.total_u) == (samples.NORTH, 500_000, 20_000_000)
        s.screen.query_one("#grants").focus()
        await s.press("down", "delete")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.SetGrant)[2:] == [c.SetGrant(scope="peer", subject=samples.NORTH)]
        assert "none: every payment asks" in flat(s)
        await s.press("f4")
        await s.pilot.pause(0.2)
        assert isinstance(s.screen, DecisionsScreen)
        assert "asked you" in s.text()
        assert "no grant covers it (no-grant)" in flat(s)
        await s.write("acknowledged")
        await s.pilot.pause(0.1)
        assert "no grant covers it" not in flat(s)


# --- files -------------------------------------------------------------------------------------------------------------------


async def test_a_statement_and_a_backup_say_where_they_are(tmp_path: Path) -> None:
    async with stage(lambda b: StatementScreen(b, CHANNEL)) as s:
        s.screen.query_one("#form-choice", Choice).action_step(1)
        await s.pilot.pause(0.1)
        assert s.screen.query_one("#file", Field).text.endswith(".csv")
        file = tmp_path / "s.csv"
        s.screen.query_one("#file", Field).set_text(str(file))
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert changing(s) == [c.Statement(of=CHANNEL.channel_id)]
        assert file.read_text().count("12500000") == 1
        assert "WRITTEN" in s.text()
        assert "0 channels, 1 entries" in flat(s)
        await s.press("escape")
        assert s.app.results == [str(file)]
    async with stage(BackupScreen) as s:
        fields: dict[str, str] = {"file": str(file), "passphrase": "correct horse", "again": "correct  horse"}
        for field, value in fields.items():
            s.screen.query_one(f"#{field}", Field).set_text(value)
        await s.press("enter")
        assert "exists already" in flat(s)
        s.screen.query_one("#file", Field).set_text(str(tmp_path / "b"))
        await s.press("enter")
        assert "The two are not the same." in flat(s)
        assert not changing(s)
        s.screen.query_one("#again", Field).set_text("correct horse")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert changing(s) == [c.Backup(path=str(tmp_path / "b"), passphrase="correct horse")]
        assert "correct horse" not in flat(s)
        assert "2.5 MB" in flat(s)


def test_a_missing_backup_is_mentioned_and_a_fresh_one_is_not() -> None:
    assert "Never backed up" in backup_notice(samples.status())
    assert backup_notice(samples.status(demo=True)) == ""
    assert "B makes another" in backup_notice(samples.status(backed_up_at=1_000_000_000))


@pytest.mark.parametrize("make", [dispute, LedgerScreen, PolicyScreen, CasesScreen, GrantScreen, DecisionsScreen])
async def test_hostile_names_are_harmless_and_esc_changes_nothing(make: Make) -> None:
    bad = "[/red][@click=app.quit]x\x1b]52;c;ZXZpbA==\x07\u202e\r\n$error" * 3
    replace = msgspec.structs.replace
    view = replace(
        FILED,
        peer_name=bad,
        filed_by_name=bad,
        text=bad,
        reason=bad,
        must_act=bad,
        witnesses=tuple(replace(w, name=bad) for w in FILED.witnesses),
        choices=tuple(replace(x, title=bad, text=bad) for x in FILED.choices),
    )
    snapshot = replace(DISPUTED, disputes=(view,), peers=tuple(replace(p, name=bad) for p in DISPUTED.peers))
    async with stage(make, snapshot=snapshot) as s:
        s.engine.discharges = {"x": money_samples.discharge("x", peer_name=bad, note=bad)}
        await s.pilot.pause(0.3)
        text = s.text()
        assert not [x for x in text if (ord(x) < 32 and x != "\n") or 0x7F <= ord(x) < 0xA0 or x == "\u202e"]
        assert s.screen.query_one("#body").max_scroll_x == 0
        await s.press("escape")
        assert not changing(s)
        assert s.app.quits == 0
