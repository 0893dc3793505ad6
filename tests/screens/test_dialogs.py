"""The other windows: what they send, what they say, and that Esc is always safe."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from textual import events
from textual.screen import Screen
from textual.widgets import Log

from tests.screens.modals_support import Stage, stage
from tests.support import samples
from zstui.bridge import Bridge
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import Refused, Unreachable
from zstui.screens import dialog
from zstui.screens import dialogs as d
from zstui.screens.form import Choice, Field

FARM, NIGHT = (g.guild_id for g in samples.guilds())
CHANNEL = samples.channels()[0]
RUNNING, DONE = samples.jobs()[0], samples.jobs()[2]
Make = Callable[[Bridge], Screen[Any]]

WINDOWS: dict[str, Make] = {
    "create": d.CreateGuildScreen,
    "join": d.JoinGuildScreen,
    "join one": lambda b: d.JoinGuildScreen(b, NIGHT),
    "invite": lambda b: d.InviteScreen(b, FARM),
    "invite string": lambda b: d.InviteTextScreen(b, samples.issued_invite(b.guilds[FARM], revoked=False)),
    "revoke": lambda b: d.RevokeInviteScreen(b, samples.issued_invite(b.guilds[FARM], revoked=False)),
    "invites": lambda b: d.InvitesScreen(b, b.guilds[FARM]),
    "members": lambda b: d.MembersScreen(b, b.guilds[FARM]),
    "knocks": d.KnocksScreen,
    "extend": lambda b: d.ExtendGuildScreen(b, b.guilds[FARM]),
    "leave": lambda b: d.LeaveGuildScreen(b, b.guilds[NIGHT]),
    "kick": lambda b: d.KickScreen(b, b.guilds[FARM], b.guilds[FARM].members[1]),
    "dissolve": lambda b: d.DissolveGuildScreen(b, b.guilds[FARM]),
    "messages": lambda b: d.MessagesScreen(b, FARM),
    "open": d.OpenChannelScreen,
    "close": lambda b: d.CloseChannelScreen(b, CHANNEL.channel_id),
    "output": lambda b: d.OutputScreen(b, RUNNING.job_id),
    "name": lambda b: d.NamePeerScreen(b, samples.NORTH),
    "rank": lambda b: d.RankDetailScreen(b, samples.HOSTILE),
    "receipt": lambda b: d.ReceiptScreen(b, DONE.receipt_id),
    "connect": d.ConnectScreen,
    "confirm": lambda _: d.ConfirmScreen("Leave [/red]?", "You lose\x1b]0;x\x07 [bold]its key.", "Leave"),
    "text": lambda _: d.TextInputScreen("My name", "What peers see", "alpha"),
    "quit": d.QuitScreen,
    "policy": d.PolicyScreen,
    "grant": d.GrantScreen,
    "first run": d.FirstRunScreen,
}
CHANGING = (
    c.CreateGuild,
    c.JoinGuild,
    c.LeaveGuild,
    c.DissolveGuild,
    c.ExtendGuild,
    c.NameOfficer,
    c.KickMember,
    c.AdmitPeer,
    c.RefusePeer,
    c.InviteToGuild,
    c.RevokeInvite,
    c.OpenChannel,
    c.CloseChannel,
    c.SetGrant,
    c.SetLimits,
    c.SetName,
    c.NamePeer,
    c.SendMessage,
    c.Connect,
)


def flat(s: Stage) -> str:
    """What is shown, without frames and line breaks."""
    text = s.text()
    for frame in "│┃╭╮╰╯─━┏┓┗┛":
        text = text.replace(frame, " ")
    return " ".join(text.split())


def hostile() -> v.Snapshot:
    """Every name that a peer chooses is a trap."""
    bad = "[/red][@click=app.quit]x\x1b]52;c;ZXZpbA==\x07\u202e\r\n$error"
    base = samples.snapshot()
    replace = msgspec.structs.replace
    return replace(
        base,
        peers=tuple(replace(x, name=bad, why=bad, agent=bad) for x in base.peers),
        guilds=tuple(
            replace(
                x,
                name=bad,
                creator_name=bad,
                acting_name=bad,
                warning=bad,
                members=tuple(replace(m, name=bad) for m in x.members),
                knocks=(replace(samples.knock(x, samples.WEST, bad), guild_name=bad),),
            )
            for x in base.guilds
        ),
        jobs=tuple(
            replace(x, module=bad, why=bad, args=(bad,), executor_name=bad, submitter_name=bad) for x in base.jobs
        ),
        channels=tuple(replace(x, peer_name=bad, action=bad) for x in base.channels),
        ranks=tuple(replace(x, name=bad, blacklist_reason=bad) for x in base.ranks),
    )


# --- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WINDOWS)
async def test_every_window_fits_says_its_keys_and_esc_changes_nothing(name: str) -> None:
    async with stage(WINDOWS[name]) as s:
        await s.pilot.pause(0.2)
        keys = [line for line in s.text().splitlines() if "Esc" in line]
        assert keys
        if not s.screen.has_class("-tall"):
            body = s.screen.query_one("#body")
            assert (body.max_scroll_x, body.max_scroll_y) == (0, 0)
        await s.press("escape")
        assert len(s.app.results) == 1
        assert not s.app.results[0]
        assert not [x for x in s.engine.executed if isinstance(x, CHANGING)]


@pytest.mark.parametrize("name", WINDOWS)
async def test_rule_6_hostile_names_neither_crash_nor_emit_control_bytes(name: str) -> None:
    async with stage(WINDOWS[name], snapshot=hostile()) as s:
        await s.pilot.pause(0.2)
        text = s.text()
        assert not [x for x in text if (ord(x) < 32 and x != "\n") or 0x7F <= ord(x) < 0xA0 or x == "\u202e"]
        await s.click_at(*itertools.product(range(2, 80, 9), range(0, 24, 3)))
        assert s.app.quits == 0


@pytest.mark.parametrize("name", WINDOWS)
async def test_every_window_survives_a_tiny_terminal(name: str) -> None:
    async with stage(WINDOWS[name], size=(30, 8)) as s:
        await s.pilot.pause(0.1)
        await s.press("pagedown", "pageup", "escape")
        assert len(s.app.results) == 1


# --- channels ------------------------------------------------------------------------------------------------------------


async def test_opening_a_channel() -> None:
    async with stage(lambda b: d.OpenChannelScreen(b, samples.SOUTH)) as s:
        assert "promise" in flat(s)
        assert "paid out" not in flat(s)
        assert s.screen.focused is s.screen.query_one("#mine Input"), "the peer is chosen; the amount is not"
        s.screen.query_one("#mine", Field).set_text("12.5")
        s.screen.query_one("#theirs", Field).set_text("1")
        s.screen.query_one("#expires", Field).set_text("2h")
        await s.press("enter")
        await s.pilot.pause(0.2)
        expected = c.OpenChannel(peer=samples.SOUTH, amount_u=12_500_000, theirs_u=1_000_000, expires_s=7200)
        assert s.engine.commands(c.OpenChannel) == [expected]


@pytest.mark.parametrize("amount", ["", "0", "-1", "1e3", "1.0000001", "99999999999999"])
async def test_a_wrong_amount_opens_nothing(amount: str) -> None:
    async with stage(d.OpenChannelScreen) as s:
        s.screen.query_one("#mine", Field).set_text(amount)
        await s.press("enter")
        await s.pilot.pause(0.1)
        assert s.screen.query_one("#mine", Field).has_class("-wrong")
        assert not s.engine.executed


# --- records ---------------------------------------------------------------------------------------------------------------


async def test_output_follows_a_running_job_and_names_the_file() -> None:
    async with stage(WINDOWS["output"]) as s:
        await s.pilot.pause(0.2)
        assert f"kept in /tmp/zs/{RUNNING.job_id[:8]}.out" in flat(s)
        assert "frame 040" in flat(s)
        s.engine.answers[c.GetOutput] = v.JobOutputView(
            job_id=RUNNING.job_id,
            stdout=samples.OUTPUT + b"\x1b[31mlast [/red]\xff\n",
            stderr=b"warned\n",
            complete=True,
        )
        await s.push(v.JobOutput(job_id=RUNNING.job_id, stream="stdout", offset=0, data=b"x"))
        await s.pilot.pause(1.2)
        assert "last [/red]" in flat(s)
        assert "\x1b" not in "".join(s.screen.query_one(Log).lines)
        await s.press("e")
        assert "standard error, 7 bytes, complete" in flat(s)
        assert "warned" in flat(s)


async def test_a_peer_gets_a_name_of_mine() -> None:
    async with stage(WINDOWS["name"]) as s:
        s.screen.query_one("#name", Field).set_text("kitchen")
        await s.press("enter")
        await s.pilot.pause(0.4)
        assert s.engine.commands(c.NamePeer) == [c.NamePeer(peer=samples.NORTH, name="kitchen")]
        assert s.engine.peers[samples.NORTH].name == "kitchen"


async def test_a_score_shows_its_factors_and_receipts() -> None:
    async with stage(lambda b: d.RankDetailScreen(b, samples.NORTH)) as s:
        text = flat(s)
        for part in ("0.49 of 0.50", "0.17 of 0.20", "0.16 of 0.20", "0.09 of 0.10", "120 done, 3 failed"):
            assert part in text
        await s.press("down", "enter")
        await s.pilot.pause(0.3)
        assert s.engine.commands(c.ShowReceipt) == [c.ShowReceipt(receipt=samples.hex_id("r1"))]
        assert "Cost       0.003369" in s.text()
        assert "zstui receipt verify" in s.text()
        await s.press("y")
        assert '"cost_u": 3369' in s.app.clipboard


async def test_connecting_shows_the_key_that_was_proved() -> None:
    async with stage(d.ConnectScreen) as s:
        await s.write("nowhere")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert "Nobody answers at nowhere." in s.text()
        s.screen.query_one("#address", Field).set_text("north")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert "Hq7n Pz3k iZxC r4tG" in s.text()
        await s.press("enter")
        assert s.app.results[0].peer_id == samples.NORTH


async def test_a_command_goes_on_when_its_window_is_closed() -> None:
    async with stage(d.ConnectScreen) as s:
        s.engine.answering.clear()
        s.engine.failures[c.Connect] = Unreachable("Nobody answers [/red] there.")
        await s.write("far")
        await s.press("enter", "escape")
        assert s.app.results == [None]
        assert not s.app._notifications
        s.engine.answering.set()
        await s.until(lambda: [n.message for n in s.app._notifications] == ["Nobody answers [/red] there."])


# --- questions -------------------------------------------------------------------------------------------------------------


async def test_a_question_is_answered_only_after_it_came_to_rest() -> None:
    async with stage(WINDOWS["confirm"], opened=False) as s:
        for key in ("enter", "y", "y"):
            s.app.post_message(events.Key(key, key if len(key) == 1 else "\r"))
        await s.pilot.pause(0.3)
        assert not s.app.results
        await s.wait_armed()
        await s.press("enter", "q")
        assert not s.app.results
        await s.press("y")
        assert s.app.results == [True]


async def test_quitting_lists_what_is_in_flight() -> None:
    paying = msgspec.structs.replace(samples.approvals()[0], state="paying")
    snapshot = msgspec.structs.replace(samples.snapshot(), approvals=(paying,))
    async with stage(d.QuitScreen, snapshot=snapshot) as s:
        text = flat(s)
        assert "blur.wasm running on south" in text
        assert "payment of 12.500 to south, not acknowledged" in text
        assert "with west is closing" in text
        await s.arm()
        await s.press("y")
        assert s.app.results == [True]


# --- first run ---------------------------------------------------------------------------------------------------------------


async def test_the_first_run_from_identity_to_a_guild() -> None:
    async with stage(d.FirstRunScreen) as s:
        await s.pilot.pause(0.2)
        assert "/home/alpha/.local/share/zstui/key" in flat(s)
        assert "9f3a Tq8b 6vBt k2d1" in flat(s)
        s.engine.answers[c.SetName] = msgspec.structs.replace(s.engine.status, name="beta")
        await s.press("enter")
        assert "2 of 5" in s.text()
        s.screen.query_one("#name", Field).set_text("beta")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.SetName) == [c.SetName(name="beta")]
        assert "eth0:4433 ok" in flat(s)
        await s.press("enter")
        assert "every payment asks you" in flat(s)
        await s.press("enter")
        assert "later: I join none now" in flat(s)
        await s.press("right")
        assert "night-shift" in flat(s)
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.JoinGuild) == [c.JoinGuild(guild=NIGHT, role="member")]
        assert s.app.results == [True]


async def test_the_first_run_goes_back_and_a_refused_join_stays() -> None:
    async with stage(d.FirstRunScreen) as s:
        s.engine.failures[c.JoinGuild] = Refused("The invite has expired.")
        for _ in range(4):
            await s.press("enter")
        assert "5 of 5" in s.text()
        await s.press("escape")
        assert "4 of 5" in s.text()
        await s.press("enter")
        s.screen.query_one("#invite", Field).set_text("zs1old")
        await s.press("enter")
        await s.pilot.pause(0.3)
        assert "This invite is damaged or incomplete" in s.text()
        s.screen.query_one("#invite", Field).set_text("zsg2old")
        await s.pilot.pause(dialog.ARM_DELAY + 0.1)
        await s.press("enter")
        await s.pilot.pause(0.3)
        assert "The invite has expired." in s.text()
        assert "zsg2old" in s.text()
        assert not s.app.results


async def test_a_guild_that_is_announced_meanwhile_can_be_joined() -> None:
    seen = samples.guilds()[1]
    snapshot = msgspec.structs.replace(samples.snapshot(), guilds=())
    async with stage(d.FirstRunScreen, snapshot=snapshot) as s:
        await s.push(v.GuildUpdated(view=seen))
        assert [value for value, _ in s.screen.query_one("#seen-choice", Choice).options] == ["", NIGHT]
