"""The frame: what fits, what the keys are, what everything says."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
import pytest
from textual.binding import Binding

from tests.screens.panes_support import LARGE, SIZES, SMALL, Run, running
from tests.support import samples
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import GuildFull
from zstui.screens import dialog
from zstui.screens.details import DetailScreen, TextScreen
from zstui.screens.dialogs import OutputScreen
from zstui.screens.help import HelpScreen
from zstui.screens.main import PANES, MainScreen
from zstui.screens.palette import ActionsProvider
from zstui.screens.pay import PayScreen
from zstui.screens.widgets.bars import GuideBar, HintBar, NoteBar
from zstui.screens.widgets.lines import LinesView
from zstui.screens.widgets.table import LineTable
from zstui.screens.widgets.text import width_of

PANE_KEYS = "1234567"
CLASSES: tuple[type[Any], ...] = (MainScreen, LineTable, *PANES)


def _declared(cls: type[Any]) -> list[Binding]:
    return [b for b in cls.BINDINGS if isinstance(b, Binding)]


@pytest.mark.parametrize("size", [(60, 20), *SIZES])
async def test_nothing_scrolls_sideways_and_every_column_ends_inside(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        for key, pane_class in zip(PANE_KEYS, PANES, strict=True):
            await run.press(key)
            table = run.main.pane.table
            assert table.max_scroll_x == 0
            assert table.size.width <= size[0]
            assert sum(width + 1 for _, width in table.widths) <= table.size.width
            if size[0] >= 80:
                assert len(table.widths) == len([col for col in table.columns if col.above <= table.size.width]), (
                    pane_class
                )
                for column, width in table.widths:
                    assert width >= column.width, (pane_class.TITLE, column.title)


@pytest.mark.parametrize("size", [(60, 20), *SIZES])
async def test_help_comes_first_in_the_hints_of_every_pane(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        for key in PANE_KEYS:
            await run.press(key)
            assert run.line(-1).startswith("? Help")
            assert run.main.query_one(HintBar).region.bottom == size[1]


async def test_hint_line_as_designed_at_80_columns() -> None:
    async with running() as run:
        assert run.line(-1) == "? Help  a Approvals  / Filter  s Sort  y Copy  space Pause  ⏎ Details  ^p"
        assert run.line(1) == " 1 Peers  2 Guilds  3 Jobs  4 Channels  5 Ranks  6 Approve  7 Log"
        assert run.line(0).startswith("zs alpha 9f3a·k2d1 │ LAN eth0:4433 ok │ 3 peers │ 1 job │ 89.250")
        assert run.line(0).rstrip().endswith("! 3 waiting")


@pytest.mark.parametrize("width", [40, 60, 70, 80, 100, 160])
async def test_badge_and_play_money_stay_in_the_header_at_any_width(width: int) -> None:
    async with running(samples.snapshot(demo=True), size=(width, 24)) as run:
        header = run.line(0)
        assert "! 3 waiting" in header
        assert "PLAY MONEY" in header


async def test_wide_screens_add_details_and_log() -> None:
    async with running(size=SMALL) as run:
        assert not run.main.query_one("#detail").display
        assert not run.main.query_one("#tail").display
    async with running(size=LARGE) as run:
        detail, tail = run.main.query_one("#detail", LinesView), run.main.query_one("#tail", LinesView)
        assert detail.region.width == 60
        assert tail.size.height == 10
        assert samples.NORTH in detail.text.replace("\n", "").replace(" ", "")
        assert "crash.wasm trapped" in tail.text
        await run.press("j")
        assert samples.SOUTH in detail.text.replace("\n", "").replace(" ", "")


async def test_a_wide_channel_pane_plots_how_the_balance_went() -> None:
    async with running(size=LARGE) as run:
        await run.press("4")
        await run.press("G", "k")
        await run.settle()
        record: Any = run.main.pane.table.record
        detail = run.main.query_one("#detail", LinesView)
        assert record.state == "active"
        assert f"My balance over 1h40m, {record.sequence + record.sequence_theirs} in all" in detail.text
        assert c.ListBalances(channel=record.channel_id) in run.engine.executed


# --- keys ------------------------------------------------------------------------------------------------------------


def _every_binding() -> list[tuple[type[Any], Binding]]:
    classes: list[type[Any]] = [MainScreen, LineTable, LinesView, HelpScreen, TextScreen, *PANES]
    pending: list[type[Any]] = [dialog.Dialog]
    while pending:
        cls = pending.pop()
        classes.append(cls)
        pending += cls.__subclasses__()
    return [(cls, b) for cls in classes for b in cls.__dict__.get("BINDINGS", []) if isinstance(b, Binding)]


def test_every_key_can_be_sent_by_a_plain_terminal() -> None:
    bindings = _every_binding()
    assert len(bindings) > 60
    for cls, binding in bindings:
        for key in binding.key.split(","):
            *modifiers, last = key.strip().split("+")
            plain = not modifiers or (modifiers == ["ctrl"] and len(last) == 1 and last.isalpha())
            assert plain or key.strip() == "shift+tab", (cls.__name__, key)
            assert key.strip() not in ("ctrl+m", "ctrl+i", "ctrl+h", "ctrl+j"), (
                "these are Enter, Tab, Backspace, Newline"
            )


def test_every_binding_has_an_id_of_its_own() -> None:
    own = [
        b for cls, b in _every_binding() if cls.__module__ in {p.__module__ for p in (MainScreen, LineTable, *PANES)}
    ]
    assert all(b.id for b in own)
    assert len({b.id for b in own}) == len(own)


def test_no_key_of_a_pane_hides_one_that_works_everywhere() -> None:
    everywhere = {k for b in (*_declared(MainScreen), *_declared(LineTable)) for k in b.key.split(",")}
    for pane_class in PANES:
        own = [k for b in pane_class.own_bindings() for k in b.key.split(",")]
        assert len(own) == len(set(own))
        assert not everywhere & set(own), pane_class.TITLE


async def test_every_action_is_in_the_palette_and_in_the_help() -> None:
    async with running(size=LARGE) as run:
        ids = {b.id or "" for cls in CLASSES for b in _declared(cls)}
        assert ids <= {action.id for action in run.main.actions()}
        provider = ActionsProvider(run.main)
        titles = [str(getattr(hit, "text", None) or hit.prompt) async for hit in provider.discover()]
        assert len(titles) == len(run.main.actions())
        await run.press("question_mark")
        shown = run.app.screen
        assert isinstance(shown, HelpScreen)
        for id in ids:
            assert id in shown.view.text


async def test_palette_runs_an_action_of_another_pane() -> None:
    async with running() as run:
        await run.press("ctrl+p")
        await run.press(*"wrap")
        await run.pilot.pause(0.3)
        await run.press("enter")
        await run.pilot.pause(0.3)
        assert run.main.pane.TITLE == "Log"
        assert getattr(run.main.pane, "wrapped")  # noqa: B009 - the pane is known by its title


async def test_keys_can_be_remapped_and_hints_follow() -> None:
    async with running() as run:
        run.app.set_keymap({"peers.network": "z", "view.filter": "ctrl+t"})
        await run.press("2", "1")
        assert "z Network" in run.line(-2)
        assert "^t Filter" in run.line(-1)
        await run.press("z")
        assert isinstance(run.app.screen, TextScreen)
        await run.press("escape", "ctrl+t")
        assert run.main.focused is run.main.query_one("#filter")


async def test_help_search_finds_keys_and_words() -> None:
    async with running() as run:
        await run.press("f1")
        await run.press(*"kick")
        shown = run.app.screen
        assert isinstance(shown, HelpScreen)
        assert "kick members" in shown.view.text
        assert "Wrap" not in shown.view.text
        await run.press("escape")
        assert run.app.screen is run.main


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_panes_by_number_and_tab(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        for key, pane_class in zip(PANE_KEYS, PANES, strict=True):
            await run.press(key)
            assert type(run.main.pane) is pane_class
            assert run.main.focused is run.main.pane.table
        await run.press("tab")
        assert run.main.pane.TITLE == "Peers"
        await run.press("shift+tab")
        assert run.main.pane.TITLE == "Log"
        await run.press("a")
        assert run.main.pane.TITLE == "Approve"
        await run.press("escape")
        assert run.main.pane.TITLE == "Log"


async def test_enter_opens_what_the_row_is_about() -> None:
    async with running() as run:
        await run.press("enter")
        assert isinstance(run.app.screen, DetailScreen)
        assert samples.NORTH in run.app.screen.view.text
        await run.press("escape", "a", "enter")
        assert isinstance(run.app.screen, PayScreen)
        await run.press("escape")
        assert run.app.screen is run.main
        assert not run.engine.commands(c.PayApproval)


def _top(run: Run) -> object:
    return run.app.screen


async def test_a_records_window_takes_the_keys_of_its_pane() -> None:
    async with running() as run:
        await run.press("3", "enter")
        details = run.app.screen
        assert isinstance(details, DetailScreen)
        view = details.view
        assert "o Output" in run.text()
        await run.press("o")
        assert isinstance(run.app.screen, OutputScreen)
        await run.press("escape")
        assert _top(run) is details
        await run.push(v.JobUpdated(view=samples.job("running", "blur.wasm", "failed", why="[/red] broke.")))
        await run.pilot.pause(1.1)
        assert "[/red] broke" in view.text
        await run.push(v.Removed(area="jobs", key=samples.hex_id("running")))
        await run.pilot.pause(1.1)
        assert "[/red] broke" in view.text
        await run.press("escape")
        assert _top(run) is run.main


async def test_filter_narrows_and_escape_clears() -> None:
    async with running() as run:
        await run.press("slash")
        await run.press(*"relay")
        await run.press("enter")
        assert run.main.pane.table.keys() == [samples.HOSTILE]
        assert "1 of 4" in run.text()
        assert run.main.focused is run.main.pane.table
        await run.push(v.PeerUpdated(view=samples.peer(samples.WEST, "west", path="relay")))
        assert len(run.main.pane.table) == 2
        await run.press("escape")
        assert len(run.main.pane.table) == 4
        await run.press("slash", "z", "z")
        assert "Nothing matches 'zz'" in run.text()
        await run.press("escape")
        assert len(run.main.pane.table) == 4


async def test_copy_shows_the_text_too() -> None:
    async with running() as run:
        await run.press("y")
        await run.settle()
        assert run.app.clipboard == samples.NORTH
        assert samples.NORTH in run.text()


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_peer_tells_its_path_its_ways_and_its_place_in_the_hash_table(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await run.press("/", *"west", "enter", "enter")
        shown = run.app.screen
        assert isinstance(shown, TextScreen)
        await run.settle()
        shown.update()
        text = " ".join(shown.view.text.split())
        assert "Table not heard of there" in text
        assert "▸ north 0.12 s the least of 2; learned from 3 dials" in text
        assert "south 2.50 s 2.4 s more than the first" in text
        assert "Contacts 5 peers in 2 buckets, 1 more wait for a place" in text
        assert "reached through north" in text
        assert all(width_of(line) <= shown.view.width for line in shown.view.lines)
        await run.press("escape", "w")
        await run.settle()
        why = run.app.screen
        assert isinstance(why, TextScreen)
        why.update()
        text = " ".join(why.view.text.split())
        assert "There is no link to west: No answer for 2 h. e in the list tries now." in text
        assert "▸ north 0.12 s" in text
        await run.press("escape", "escape", "f")
        await run.settle()
        shown = run.app.screen
        assert isinstance(shown, TextScreen)
        shown.update()
        text = " ".join(shown.view.text.split())
        assert "Buckets 0:3+1 1:2" in text
        assert "blur.wasm, run by: ▸ north 20.40 s the only way known" in text


async def test_freeze_holds_the_view_but_not_the_badge() -> None:
    async with running() as run:
        await run.press("space")
        assert "PAUSED" in run.line(1)
        await run.push(
            v.PeerUpdated(view=samples.peer("12D3KooW" + "n" * 44, "newcomer")),
            v.ApprovalUpdated(view=samples.approval("9")),
        )
        assert "newcomer" not in run.text()
        assert "! 4 waiting" in run.line(0)
        await run.press("2", "1", "space")
        assert "newcomer" in run.text()
        assert "PAUSED" not in run.text()


async def test_sorting() -> None:
    async with running() as run:
        table = run.main.pane.table
        while table.sort_title != "RTT":
            await run.press("s")
        assert table.keys()[:3] == [samples.NORTH, samples.SOUTH, samples.HOSTILE]
        await run.press("S")
        assert table.keys()[1:] == [samples.HOSTILE, samples.SOUTH, samples.NORTH]
        assert "RTT↓" in run.text()


# --- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_empty_panes_say_what_to_do(size: tuple[int, int]) -> None:
    expected = {
        "1": ("Nobody yet on eth0", "i  make an invite code"),
        "2": ("No guild announced", "n  create one"),
        "3": ("No jobs", "n  submit a .wasm"),
        "4": ("No channel", "o  open one"),
        "5": ("No finished jobs yet", "n  submit"),
        "6": ("Nothing waiting", "grant"),
        "7": ("Quiet", ""),
    }
    async with running(samples.empty(), size=size) as run:
        for key, texts in expected.items():
            await run.press(key)
            for text in texts:
                assert text in run.text()
            await run.press("enter", "y")
            assert run.app.screen is run.main


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_errors_are_told_where_the_row_is(size: tuple[int, int]) -> None:
    async with running(samples.snapshot(notices=("UDP 4433 is in use; using 40123.",)), size=size) as run:
        seen: list[str] = [run.main.query_one(NoteBar).text]
        for key in PANE_KEYS:
            await run.press(key, "g")
            for _ in range(len(run.main.pane.table)):
                seen.append(run.main.query_one(NoteBar).text)
                run.main.pane.table.action_move(1)
                await run.pilot.pause()
        said = "\n".join(seen)
        for text in (
            "UDP 4433 is in use",
            "Blocked until",
            "The module trapped: unreachable instruction (exit 134, the program's fault).",
            "west must answer by 14:05",
            "You must answer within 50 min.",
            "Blacklisted until",
            "Cannot be paid: the receipt's signature does not match",
            "Not ranked",
        ):
            assert text in said, text


async def test_a_lost_node_is_said_in_the_header_and_q_leaves_at_once() -> None:
    async with running() as run:
        run.engine.lose()
        await run.settle()
        assert run.line(0).startswith(" NODE LOST: the node stopped")
        await run.press("q")
        await run.pilot.pause()
        assert not run.app.is_running or run.app._exit


async def test_a_refused_command_is_a_toast_and_nothing_else() -> None:
    async with running() as run:
        run.engine.failures[c.Connect] = GuildFull("[/red] is full (50/50).")
        await run.press("e")
        await run.settle()
        assert "[/red] is full (50/50)." in run.text()
        assert run.app.screen is run.main


async def test_quit_asks_while_something_is_under_way() -> None:
    async with running() as run:
        await run.press("q")
        assert run.app.screen is not run.main
        assert run.app.is_running
        await run.press("escape")
        assert run.app.screen is run.main


async def test_quit_leaves_at_once_when_nothing_is() -> None:
    async with running(samples.empty()) as run:
        await run.press("q")
        await run.pilot.pause()
        assert run.app._exit


async def test_guide_follows_the_state_of_a_demo() -> None:
    async with running(samples.snapshot(demo=True)) as run:
        assert "asks 12.500" in run.main.query_one(GuideBar).text
        await run.press("h")
        assert not run.main.query_one(GuideBar).display
    empty = samples.empty(demo=True)
    async with running(empty) as run:
        guide = run.main.query_one(GuideBar)
        assert "Create one" in guide.text
        north, night = samples.peer(samples.NORTH, "north"), samples.guilds()[1]
        await run.push(v.PeerUpdated(view=north), v.GuildUpdated(view=night))
        await run.press("2")
        assert "press J" in guide.text
        await run.app.bridge.execute(c.JoinGuild(guild=night.guild_id))
        await run.settle()
        assert "press 3, then n" in guide.text
        await run.press("3")
        assert "press n" in guide.text
        job = samples.job("one", "primes.wasm", "running", executor_name="north")
        await run.push(v.JobUpdated(view=job))
        assert "primes.wasm is running at north" in guide.text
        await run.push(
            v.JobUpdated(view=msgspec.structs.replace(job, state="done", paid="unpaid")),
            v.ApprovalUpdated(view=samples.approval("one", samples.NORTH, "north", module="primes.wasm")),
        )
        assert "north asks 12.500 for primes.wasm" in guide.text
        await run.push(
            v.JobUpdated(view=msgspec.structs.replace(job, state="done", paid="paid")),
            v.ApprovalUpdated(view=samples.approval("one", samples.NORTH, "north", state="paid")),
        )
        assert "Press 5" in guide.text


async def test_no_guide_with_real_money() -> None:
    async with running() as run:
        assert not run.main.query_one(GuideBar).display
        assert "PLAY MONEY" not in run.text()


# --- hostile text ----------------------------------------------------------------------------------------------------


def _hostile() -> v.Snapshot:
    """Everything that a peer may choose, once with each hostile name."""
    swap = msgspec.structs.replace
    base = samples.snapshot()
    peers: list[v.PeerView] = []
    guilds: list[v.GuildView] = []
    jobs: list[v.JobView] = []
    channels: list[v.ChannelView] = []
    approvals: list[v.ApprovalView] = []
    ranks: list[v.RankView] = []
    log: list[v.LogLine] = []
    for n, name in enumerate(samples.HOSTILE_NAMES):
        one = base.peers[n % 4]
        peer_id = f"{one.peer_id[:-2]}{n:02d}"
        peers.append(swap(one, peer_id=peer_id, name=name, agent=name, why=name, address="/ip4/" + name))
        guild = base.guilds[n % 2]
        members = tuple(swap(m, name=name) for m in guild.members)
        guilds.append(swap(guild, guild_id=samples.hex_id(f"g{n}"), name=name, creator_name=name, members=members))
        jobs.append(
            swap(
                base.jobs[n % 6],
                job_id=samples.hex_id(f"j{n}"),
                module=name,
                guild_name=name,
                executor_name=name,
                submitter_name=name,
                why=name,
                args=(name,),
            )
        )
        one_channel = base.channels[n % 5]
        channels.append(swap(one_channel, channel_id=samples.hex_id(f"c{n}"), peer_name=name, action=name, reason=name))
        approvals.append(samples.approval(f"a{n}", name=name, module=name, guild_name=name, why=name, limits=(name,)))
        ranks.append(swap(base.ranks[n % 4], peer_id=peer_id, name=name, blacklist_reason=name))
        log.append(v.LogLine(at_us=n, level="error", area=name, text=name, subject=name))
    return v.Snapshot(
        status=swap(base.status, name=samples.HOSTILE_NAMES[1], network=samples.HOSTILE_NAMES[2]),
        peers=tuple(peers),
        guilds=tuple(guilds),
        jobs=tuple(jobs),
        channels=tuple(channels),
        approvals=tuple(approvals),
        ranks=tuple(ranks),
        log=tuple(log),
    )


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_hostile_names_neither_crash_nor_emit_control_bytes(size: tuple[int, int]) -> None:
    async with running(_hostile(), size=size) as run:
        for key in PANE_KEYS:
            await run.press(key, "g")
            table = run.main.pane.table
            assert len(table) == len(samples.HOSTILE_NAMES)
            for _ in range(len(table)):
                _clean(run.segments())
                table.action_move(1)
                await run.pilot.pause()
            await run.press("v" if key == "6" else "enter")
            _clean(run.segments())
            await run.press("escape")
        for n, name in enumerate(samples.HOSTILE_NAMES):
            await run.push(v.ApprovalUpdated(view=samples.approval(f"new{n}", name=name, module=name)))
            _clean(run.segments())
            await run.press("y")
            run.engine.failures[c.Connect] = GuildFull(name)
            await run.press("1", "e")
            _clean(run.segments())
        assert run.app.is_running
        assert run.app._exception is None


def _clean(lines: list[list[Any]]) -> None:
    for line in lines:
        for segment in line:
            assert not [c for c in segment.text if unicodedata.category(c)[0] == "C"], segment.text
            assert segment.control is None
            actions = [
                value for key, value in (segment.style.meta if segment.style else {}).items() if key.startswith("@")
            ]
            assert "app.quit" not in str(actions)


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_no_color_shows_no_colour_and_still_shows_the_cursor(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(size=size) as run:
        for key in PANE_KEYS:
            await run.press(key)
            reversed_text = ""
            for text, style, _ in (segment for line in run.segments() for segment in line):
                assert style is None or all(color is None or color.is_default for color in (style.color, style.bgcolor))
                if style is not None and style.reverse:
                    reversed_text += text
            assert "waiting" in reversed_text
            record = run.main.pane.table.record
            if record is not None:
                row = run.main.pane.table.line_at(run.main.pane.table.index_of(run.main.pane.key(record)))
                after_countdown = "".join(span.text for span in row).strip().partition(" ")[2]
                assert after_countdown in reversed_text


async def test_every_state_is_also_a_word() -> None:
    async with running(size=LARGE) as run:
        words = {
            "1": ("online", "offline", "blocked", "LAN", "direct", "relay"),
            "2": ("joined", "seen"),
            "3": ("running", "queued", "done", "failed", "cancelled", "unpaid", "paid"),
            "4": ("active", "closing", "closed", "disputed"),
            "5": ("ranked", "few jobs", "until"),
            "6": ("VERIFIED", "BAD", "BLOCKED"),
            "7": ("info", "warning", "error"),
        }
        for key, expected in words.items():
            await run.press(key)
            for word in expected:
                assert word in run.text(), word
