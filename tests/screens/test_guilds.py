"""Everything a person does with guilds: the pane, its windows, and what comes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from textual import events
from textual.screen import Screen

from tests.screens.modals_support import Stage, stage
from tests.screens.panes_support import LARGE, SMALL, running
from tests.support import samples
from zstui.bridge import Bridge
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import BadInput, NotPermitted, Refused
from zstui.screens import dialogs as d
from zstui.screens.dialog import ARM_DELAY
from zstui.screens.form import Field
from zstui.screens.guild_chat import delivery
from zstui.screens.widgets.bars import NoteBar
from zstui.screens.widgets.lines import LinesView

FARM, NIGHT = (g.guild_id for g in samples.guilds())
swap = msgspec.structs.replace


def knocked(*asks: tuple[str, str, v.Role]) -> v.GuildView:
    """My guild with these waiting."""
    farm = samples.guilds()[0]
    return swap(farm, admission="knock", knocks=tuple(samples.knock(farm, *ask) for ask in asks))


def world(*guilds: v.GuildView) -> v.Snapshot:
    return swap(samples.snapshot(), guilds=guilds)


def flat(s: Stage) -> str:
    """What is shown, without frames and line breaks."""
    text = s.text()
    for frame in "│┃╭╮╰╯─━┏┓┗┛":
        text = text.replace(frame, " ")
    return " ".join(text.split())


def farm_of(make: Callable[[Bridge, v.GuildView], Screen[Any]]) -> Callable[[Bridge], Screen[Any]]:
    return lambda bridge: make(bridge, bridge.guilds[FARM])


# --- the pane ------------------------------------------------------------------------------------------------------------


async def test_a_flood_of_guilds_leaves_mine_on_top_and_the_pane_quick() -> None:
    async with running(world(*samples.flood(600), *samples.guilds()), size=SMALL) as run:
        await run.press("2")
        table = run.main.pane.table
        assert table.keys()[0] == FARM
        assert run.main.pane.table.record is run.engine.guilds[FARM]
        begun = time.process_time()
        for n in range(6):
            await run.push(*(v.GuildUpdated(view=swap(g, member_count=n)) for g in samples.flood(30)))
            await run.press("down")
        assert time.process_time() - begun < 5, "seconds of one processor, for 180 changes and 6 keys"
        assert (table.keys()[0], table.index_of(table.cursor or "")) == (FARM, 6)
        await run.press("slash", *"night", "enter")
        assert table.keys() == [NIGHT]


async def test_details_say_who_is_there_who_keeps_the_guild_and_what_was_said() -> None:
    now = int(time.time())
    members = (
        v.GuildMemberView(peer_id=samples.NORTH, role="creator", name="north", last_seen_at=now - 400),
        v.GuildMemberView(peer_id=samples.ME, role="executor", name="alpha", online=True, officer=True),
        v.GuildMemberView(peer_id=samples.WEST, role="observer", name="west"),
    )
    guild = swap(
        samples.guilds()[0],
        creator=samples.NORTH,
        creator_name="north",
        role="executor",
        officer=True,
        members=members,
        acting=samples.ME,
        acting_name="alpha",
        needs=v.NeedsView(memory_mib=64, tags=("gpu",)),
    )
    said = v.GuildMessageView(guild_id=FARM, sender=samples.WEST, sender_name="west", text="good morning", sent_at=now)
    async with running(world(guild), size=LARGE) as run:
        run.engine.messages[FARM].append(said)
        await run.press("2")
        await run.settle()
        detail = run.main.query_one("#detail", LinesView)
        for text in (
            "alpha, an officer, while the creator is away",
            "need 64 MiB for a job, tag gpu",
            "seen 6m ago",
            "not seen yet",
            "west: good morning",
        ):
            assert text in detail.text
        assert run.engine.guilds[FARM].unread == 2, "showing the latest messages reads none"
        assert "2 new" in run.text()
        more = swap(said, text="are you there?")
        await run.push(v.GuildMessage(view=more))
        await run.settle()
        assert "west: are you there?" in detail.text
        alarmed = swap(guild, warning="The creator signed two histories.", settled=False)
        await run.push(v.GuildUpdated(view=alarmed))
        assert run.main.query_one(NoteBar).text.strip() == "The creator signed two histories."
        assert "two halves have just met" in " ".join(detail.text.split())
        await run.press("X")
        assert run.app.screen is run.main
        await run.settle()
        assert "Only the creator of render-farm can dissolve it." in run.text()


async def test_a_knock_is_told_and_changes_nothing_else() -> None:
    async with running(size=SMALL) as run:
        before = (run.main.pane, run.main.focused, run.main.pane.table.cursor)
        await run.push(v.GuildUpdated(view=knocked((samples.WEST, "[/red]west", "executor"))))
        assert (run.main.pane, run.main.focused, run.main.pane.table.cursor) == before
        assert run.app.screen is run.main
        assert "[/red]west asks to be let into render-farm as executor." in " ".join(run.text().split())
        assert "1 knock │  ! 3 waiting" in run.line(0)
        await run.press("2")
        assert "1 ask 2 new" in run.text()
        await run.press("w")
        assert isinstance(run.app.screen, d.KnocksScreen)
        await run.press("escape")
        asking = swap(samples.guilds()[1], state="knocking")
        await run.push(v.GuildUpdated(view=asking))
        await run.push(v.GuildUpdated(view=swap(asking, state="joined", role="member")))
        assert "You were let into night-shift as member." in run.text()
        await run.push(v.GuildUpdated(view=asking))
        refusal = v.LogLine(
            at_us=int(time.time() * 1e6) + 10**6, level="warning", area="guilds", text="Not you.", subject=NIGHT
        )
        await run.push(v.Logged(line=refusal), v.GuildUpdated(view=samples.guilds()[1]))
        assert "Not you." in run.text()


# --- founding and joining ---------------------------------------------------------------------------------------------------


async def test_creating_a_guild() -> None:
    async with stage(d.CreateGuildScreen) as s:
        s.engine.failures[c.CreateGuild] = BadInput("That name is taken.")
        await s.write("night")
        fields = {"ttl": "30m", "members": "5", "memory": "64", "cores": "2", "tags": "gpu, quiet"}
        for name, value in fields.items():
            s.screen.query_one(f"#{name}", Field).set_text(value)
        s.screen.query_one("#admission-choice").focus()
        await s.press("right")
        assert "lets them in" in flat(s)
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert "That name is taken." in s.text()
        assert "night" in s.text()
        s.engine.failures.clear()
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.CreateGuild)[-1] == c.CreateGuild(
            name="night",
            ttl_s=1800,
            max_members=5,
            admission="knock",
            need_memory_mib=64,
            need_cores=2,
            need_tags=("gpu", "quiet"),
        )
        assert s.app.results[0].name == "night"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "A guild needs a name."),
        ("ttl", "soon", "not a time such as 30m"),
        ("ttl", "0h", "not a time such as 30m"),
        ("members", "51", "whole number from 2 to 50"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_sent(field: str, value: str, says: str) -> None:
    async with stage(d.CreateGuildScreen) as s:
        s.screen.query_one("#name", Field).set_text("night")
        s.screen.query_one(f"#{field}", Field).set_text(value)
        await s.press("enter")
        assert says in flat(s)
        assert s.app.focused is s.screen.query_one(f"#{field}", Field).widget
        assert not s.engine.executed


async def test_knocking_says_what_an_executor_consents_to_and_why_one_is_refused() -> None:
    night = swap(samples.guilds()[1], admission="knock", needs=v.NeedsView(cores=8))
    async with stage(lambda b: d.JoinGuildScreen(b, NIGHT), snapshot=world(night)) as s:
        assert "Your machine runs nothing for others." in flat(s)
        assert "need 8 cores" in flat(s)
        assert "Enter Ask to be let in" in flat(s)
        await s.press("right")
        assert "You consent to run the programs that members of this guild send" in flat(s)
        s.engine.failures[c.JoinGuild] = NotPermitted("executors need 8 cores, and the card says 4; join as member.")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.JoinGuild) == [c.JoinGuild(guild=NIGHT, role="executor")]
        assert "executors need 8 cores, and the card says 4; join as member." in flat(s)
        s.engine.failures.clear()
        await s.press("left", "enter")
        await s.pilot.pause(0.2)
        assert s.app.results[0].state == "knocking"


async def test_a_pasted_invite_is_shown_before_it_is_used() -> None:
    async with stage(d.JoinGuildScreen) as s:
        s.screen.query_one("#invite", Field).widget.focus()
        s.app.post_message(events.Paste("zsg1broken"))
        await s.pilot.pause(0.2)
        assert "This invite is damaged or incomplete" in flat(s)
        await s.press("enter")
        assert not s.engine.commands(c.JoinGuild)
        s.screen.query_one("#invite", Field).set_text("")
        s.app.post_message(events.Paste(f"zsg2{NIGHT[:30]}\n  {NIGHT[30:]}\n"))
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert not s.engine.commands(c.JoinGuild), "Enter in the same burst as the paste"
        for text in ("night-shift", "1f0a 77ab 90c1 44de 8812 05fe c0de 31aa", "otter velvet nine", "10.0.0.3:4001"):
            assert text in flat(s)
        assert "F2 asks the inviter" in flat(s)
        await s.press("f2")
        await s.pilot.pause(ARM_DELAY + 0.1)
        assert "2 of 5 uses left; 7 of 10 members" in flat(s)
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.JoinGuild) == [c.JoinGuild(guild=f"zsg2{NIGHT}", role="member")]
        old = swap(samples.invite_detail("zsg2"), expired=True)
        s.engine.answers[c.ShowInvite] = old
        s.screen.query_one("#invite", Field).set_text("zsg2old")
        await s.pilot.pause(ARM_DELAY + 0.1)
        await s.press("enter")
        assert "This invite has expired; ask for a new one." in flat(s)
        assert len(s.engine.commands(c.JoinGuild)) == 1


# --- invites -----------------------------------------------------------------------------------------------------------------


async def test_an_invite_is_made_shown_coded_listed_and_revoked() -> None:
    async with stage(farm_of(d.InvitesScreen)) as s:
        await s.pilot.pause(0.2)
        await s.press("n")
        s.engine.failures[c.InviteToGuild] = Refused("render-farm has 64 open invites; revoke one first.")
        s.screen.query_one("#uses", Field).set_text("3")
        await s.press("enter")
        await s.pilot.pause(0.1)
        assert "render-farm has 64 open invites; revoke one first." in flat(s)
        s.engine.failures.clear()
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.InviteToGuild)[-1] == c.InviteToGuild(guild=FARM, uses=3, ttl_s=3600)
        assert "otter velvet nine" in flat(s)
        assert "3 more peers of 3" in flat(s)
        await s.press("y")
        assert s.app.clipboard == "zsg2" + FARM * 2
        await s.press("r")
        await s.pilot.pause(0.2)
        screen = s.text().splitlines()
        assert isinstance(s.screen, d.QrScreen)
        assert len(screen) == 24
        assert all(set(line[:49]) <= set("█▀▄ ") for line in screen)
        assert all(line[0] == "█" for line in screen)
        assert "Scan the code." in s.text()
        await s.press("escape", "escape")
        assert "1 of 3" in s.text()
        assert "open" in s.text()
        await s.press("R")
        await s.wait_armed()
        await s.press("R")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.RevokeInvite) == [c.RevokeInvite(guild=FARM, invite=FARM[:32])]
        assert "revoked" in s.text()


async def test_a_window_too_small_for_the_code_shows_the_string() -> None:
    detail = samples.invite_detail("zsg2" + NIGHT, qr=True)
    async with stage(lambda _: d.QrScreen(detail, "zsg2" + "q" * 200), size=(60, 20)) as s:
        assert "The QR code needs a window of 49x24." in flat(s)
        assert s.text().count("q") >= 200
        assert "otter velvet nine" in flat(s)


# --- those who are in and those who ask -----------------------------------------------------------------------------------


async def test_knocks_are_answered_by_keys_of_their_own_each_for_who_is_under_the_cursor() -> None:
    mine = knocked((samples.NORTH, "north", "executor"), (samples.WEST, "west", "member"))
    async with stage(d.KnocksScreen, snapshot=world(mine)) as s:
        await s.press("A", "enter")
        assert not s.engine.commands(c.AdmitPeer), "typed ahead"
        await s.wait_armed()
        assert "it would run members' jobs" in flat(s)
        await s.press("down")
        later = knocked(
            (samples.SOUTH, "south", "member"), (samples.NORTH, "north", "executor"), (samples.WEST, "west", "member")
        )
        await s.push(v.GuildUpdated(view=later))
        await s.press("A")
        await s.pilot.pause(0.3)
        assert s.engine.commands(c.AdmitPeer) == [c.AdmitPeer(guild=FARM, peer=samples.WEST)]
        assert "west is in render-farm as member." in flat(s)
        await s.press("R")
        assert not s.engine.commands(c.RefusePeer), "the cursor has just come to somebody else by itself"
        await s.wait_armed()
        await s.press("R")
        await s.pilot.pause(0.3)
        assert len(s.engine.commands(c.RefusePeer)) == 1


async def test_members_are_named_officers_and_removed_with_a_key_and_a_question() -> None:
    async with stage(farm_of(d.MembersScreen)) as s:
        await s.wait_armed()
        await s.press("o")
        assert "Members and executors can be officers." in flat(s)
        await s.press("down", "o")
        await s.pilot.pause(0.3)
        assert s.engine.commands(c.NameOfficer) == [c.NameOfficer(guild=FARM, peer=samples.NORTH, remove=False)]
        assert "Take the office back" in flat(s)
        await s.press("down", "down")
        await s.wait_armed()
        await s.press("K", "K")
        assert not s.engine.commands(c.KickMember)
        assert "REMOVE west from render-farm?" in flat(s)
        await s.wait_armed()
        await s.press("K")
        await s.pilot.pause(0.3)
        assert s.engine.commands(c.KickMember) == [c.KickMember(guild=FARM, peer=samples.WEST)]
        assert "west is no longer in render-farm." in flat(s)
    officer = swap(samples.guilds()[0], role="member", officer=False)
    async with stage(farm_of(d.MembersScreen), snapshot=world(officer)) as s:
        await s.wait_armed()
        assert "K Remove" not in flat(s)
        await s.press("o", "K")
        assert "You cannot remove this member" in flat(s)
        assert not s.engine.executed


# --- its time and its end ---------------------------------------------------------------------------------------------------


async def test_extending_leaving_and_dissolving_do_not_look_alike() -> None:
    async with stage(farm_of(d.ExtendGuildScreen)) as s:
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.ExtendGuild) == [c.ExtendGuild(guild=FARM, by_s=3600)]
    async with stage(farm_of(d.LeaveGuildScreen)) as s:
        await s.press("y", "enter", "L")
        await s.wait_armed()
        await s.press("y", "enter", "X", "K")
        assert not s.engine.executed
        await s.press("L")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.LeaveGuild) == [c.LeaveGuild(guild=FARM)]
    async with stage(farm_of(d.DissolveGuildScreen)) as s:
        assert "ends now for all 4 members" in flat(s)
        await s.press("enter")
        await s.write("leave")
        await s.press("enter")
        assert not s.engine.executed
        s.screen.query_one("#word", Field).set_text("dissolve")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert s.engine.commands(c.DissolveGuild) == [c.DissolveGuild(guild=FARM)]
        assert s.app.results[0].state == "dissolved"


# --- talking ---------------------------------------------------------------------------------------------------------------


async def test_messages_arrive_are_read_and_sent_and_say_who_has_them() -> None:
    async with stage(lambda b: d.MessagesScreen(b, FARM)) as s:
        await s.pilot.pause(0.2)
        assert "Nothing was said yet." in flat(s)
        assert s.engine.guilds[FARM].unread == 0
        now = int(time.time())
        hi = v.GuildMessageView(
            guild_id=FARM, sender=samples.NORTH, sender_name="[/red]\x1b[2J", text="hi [b]all", sent_at=now
        )
        await s.push(v.GuildMessage(view=hi))
        await s.pilot.pause(0.2)
        assert "hi [b]all" in flat(s)
        assert "Nothing was said" not in flat(s)
        await s.write("hello")
        s.engine.failures[c.SendMessage] = Refused("Too many messages; wait a moment.")
        await s.press("enter")
        await s.pilot.pause(0.2)
        assert "Too many messages; wait a moment." in flat(s)
        s.engine.failures.clear()
        await s.press("enter")
        await s.pilot.pause(0.3)
        assert s.engine.commands(c.SendMessage)[-1] == c.SendMessage(guild=FARM, text="hello")
        assert flat(s).count("hello") == 1
        assert "0 of 3 have it" in flat(s)
        s.engine.messages[FARM][-1] = swap(s.engine.messages[FARM][-1], delivered=3)
        await s.push(v.GuildUpdated(view=s.engine.guilds[FARM]))
        await s.pilot.pause(0.2)
        assert "all 3 have it" in flat(s)
        assert delivery(swap(hi, recipients=0)) == ""


async def test_what_is_new_is_marked_and_an_observer_only_reads() -> None:
    now = int(time.time())
    guild = swap(samples.guilds()[0], role="observer", unread=1)
    async with stage(lambda b: d.MessagesScreen(b, FARM), snapshot=world(guild), opened=False) as s:
        for n in range(40):
            line = v.GuildMessageView(
                guild_id=FARM, sender=samples.WEST, sender_name="west", text=f"line {n}", sent_at=now
            )
            s.engine.messages[FARM].append(line)
        await s.press("enter")
        await s.until(lambda: "1 new" in s.text())
        await s.pilot.pause(0.3)
        assert s.text().index("line 38") < s.text().index("1 new") < s.text().index("line 39")
        assert "Observers read along and do not write." in flat(s)
        await s.press("x", "enter", "pageup")
        await s.until(lambda: "line 39" not in s.text())
        assert not s.engine.commands(c.SendMessage)
