"""What arrives changes rows, never what a person is about to act on; and only lines that differ are painted."""

from __future__ import annotations

import random
import time
from typing import Any

import msgspec
import pytest

from tests.screens.panes_support import LARGE, SMALL, Run, running
from tests.support import samples
from tests.support.fake_engine import FakeEngine
from zstui.engine import views as v
from zstui.screens import main
from zstui.screens.main import PANES
from zstui.screens.pay import PayScreen
from zstui.screens.widgets.table import Column, LineTable, layout

BOTH = pytest.mark.parametrize("size", [SMALL, LARGE])


def _many(count: int) -> v.Snapshot:
    peers = tuple(
        samples.peer(f"12D3KooW{n:044d}", f"peer-{n:05d}", rtt_ms=float(n % 300), score=(n * 7 % 100) / 100)
        for n in range(count)
    )
    return msgspec.structs.replace(samples.snapshot(), peers=peers)


def _state(run: Run) -> tuple[Any, ...]:
    table = run.main.pane.table
    return (run.app.screen, run.main.pane, run.app.screen.focused, table.cursor)


@BOTH
@pytest.mark.parametrize("key", list("1234567"))
async def test_arriving_requests_change_neither_focus_nor_screen_nor_cursor(
    size: tuple[int, int], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "TELL_S", 0.01)
    async with running(size=size) as run:
        await run.press(key, "g", "j")
        before = _state(run)
        await run.push(v.ApprovalUpdated(view=samples.approval("early", expires_at=int(time.time()) + 5)))
        assert _state(run) == before
        assert "! 4 waiting" in run.line(0)
        await run.pilot.pause(0.03)
        assert "south asks 12.500 for blur.wasm." in run.text()
        burst = [v.ApprovalUpdated(view=samples.approval(f"b{n}", expires_at=int(time.time()) + n)) for n in range(30)]
        await run.push(*burst)
        assert _state(run) == before
        assert "! 34 waiting" in run.line(0)
        await run.pilot.pause(0.03)
        assert "30 new payment requests." in run.text()


@BOTH
async def test_arriving_requests_do_not_touch_open_windows_or_a_filter_being_typed(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        for keys in (("question_mark",), ("ctrl+p",), ("1", "enter"), ("1", "slash", "n"), ("a", "enter")):
            await run.press(*keys)
            screen, focused = run.app.screen, run.app.screen.focused
            await run.push(v.ApprovalUpdated(view=samples.approval("-".join(keys))))
            assert (run.app.screen, run.app.screen.focused) == (screen, focused), keys
            await run.press("escape")
            while run.app.screen is not run.main:
                await run.press("escape")


@BOTH
async def test_the_window_that_pays_opens_for_the_row_chosen_whatever_arrives_above(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await run.press("a", "g", "j")
        chosen = run.main.pane.table.cursor
        early = [v.ApprovalUpdated(view=samples.approval(f"e{n}", expires_at=int(time.time()) + 3)) for n in range(5)]
        await run.push(*early)
        await run.press("enter")
        screen = run.app.screen
        assert isinstance(screen, PayScreen)
        assert screen.review.view is not None
        assert screen.review.view.request_id == chosen


@BOTH
async def test_the_cursor_stays_on_its_record_and_line_while_rows_come_go_and_sort(size: tuple[int, int]) -> None:
    async with running(_many(200), size=size) as run:
        table = run.main.pane.table
        await run.press("g", "pagedown", "pagedown", "pagedown", "j", "j")
        key = table.cursor
        assert key is not None

        def line() -> int:
            return table.index_of(key) - table.scroll_offset.y

        where = line()
        above = table.keys()[:20]
        await run.push(*[v.Removed(area="peers", key=gone) for gone in above])
        assert (table.cursor, line()) == (key, where)
        fresh = [v.PeerUpdated(view=samples.peer(f"12D3KooWa{n:043d}", f"aaa-{n}")) for n in range(25)]
        await run.push(*fresh)
        assert (table.cursor, line()) == (key, where)
        for _ in range(6):
            await run.press("s")
            assert table.cursor == key
            assert table.scroll_offset.y <= table.index_of(key) < table.scroll_offset.y + table.size.height
        await run.press("S")
        assert table.cursor == key
        moved = msgspec.structs.replace(run.engine.peers[key], state="offline", name="zzz", rtt_ms=None)
        await run.push(v.PeerUpdated(view=moved))
        assert table.cursor == key
        assert table.record == moved


@BOTH
async def test_a_removed_record_passes_the_cursor_to_the_one_in_its_place(size: tuple[int, int]) -> None:
    async with running(_many(10), size=size) as run:
        table = run.main.pane.table
        await run.press("g", "j", "j")
        keys = table.keys()
        await run.push(v.Removed(area="peers", key=keys[2]))
        assert table.cursor == keys[3]
        await run.push(*[v.Removed(area="peers", key=key) for key in keys[3:]])
        assert table.cursor == keys[1]
        await run.push(*[v.Removed(area="peers", key=key) for key in keys[:2]])
        assert table.cursor is None
        await run.press("j", "k", "G", "enter", "y", "b", "e")
        assert run.app.screen is run.main


async def test_random_changes_keep_order_cursor_and_screen_right() -> None:
    chance = random.Random(7)
    async with running(_many(30)) as run:
        table: LineTable[v.PeerView] = run.main.pane.table
        for step in range(40):
            await run.press(chance.choice(["j", "k", "s", "S", "g", "G", "j", "pagedown"]))
            held = table.cursor
            ids = list(run.engine.peers)
            events: list[v.Feed] = []
            gone = set()
            for _ in range(chance.randrange(6)):
                if chance.random() < 0.3:
                    key = chance.choice(ids)
                    gone.add(key)
                    events.append(v.Removed(area="peers", key=key))
                else:
                    key = chance.choice(ids) if chance.random() < 0.7 else f"12D3KooWx{chance.randrange(10**6):043d}"
                    gone.discard(key)
                    name = f"peer-{chance.randrange(100):05d}"
                    events.append(v.PeerUpdated(view=samples.peer(key, name, score=chance.random())))
            run.engine.push(*events)
            await run.settle()
            assert set(table.keys()) == set(run.engine.peers), step
            if held in run.engine.peers:
                assert table.cursor == held, step
            assert table.cursor in run.engine.peers
            column = next(col for col in table.columns if col.title == table.sort_title)
            assert column.sort is not None
            order = table.keys()
            values = [column.sort(run.engine.peers[key]) for key in order]
            assert values == sorted(values, reverse=table.descending), step
            shown = run.text().splitlines()[3 : 3 + min(len(table), table.size.height - 1)]
            for y, text in enumerate(shown):
                record = run.engine.peers[table.key_at(y + table.scroll_offset.y)]
                assert record.name in text, (step, y)


async def test_only_lines_that_differ_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(_many(10_000), size=LARGE) as run:
        painted: list[int] = []
        render = LineTable.render_line

        def counting(self: LineTable[Any], y: int) -> Any:
            painted.append(y)
            return render(self, y)

        monkeypatch.setattr(LineTable, "render_line", counting)
        visible = run.engine.peers[run.main.pane.table.key_at(3)]
        hidden = run.engine.peers[run.main.pane.table.key_at(5000)]
        await run.push(v.PeerUpdated(view=msgspec.structs.replace(hidden, rtt_ms=999.0)))
        assert painted == []
        await run.push(*[v.PeerUpdated(view=msgspec.structs.replace(visible, rtt_ms=float(n))) for n in range(1000)])
        assert painted == [4]
        painted.clear()
        await run.pilot.pause(1.2)
        assert len(painted) <= 2
        painted.clear()
        await run.press("j")
        assert sorted(painted) == [1, 2]


async def test_ten_thousand_peers_with_a_thousand_changes_a_second_stay_responsive() -> None:
    engine = FakeEngine(_many(10_000))
    async with running(engine=engine, size=LARGE) as run:
        table = run.main.pane.table
        ids = list(engine.peers)
        began = time.process_time()
        worst = 0.0
        for turn in range(10):
            for n in range(100):
                key = ids[(turn * 977 + n * 101) % len(ids)]
                engine.push(v.PeerUpdated(view=msgspec.structs.replace(engine.peers[key], rtt_ms=float(n))))
            before = table.cursor
            at = time.process_time()
            await run.pilot.press("j")
            worst = max(worst, time.process_time() - at)
            assert table.cursor != before
            await run.pilot.pause(0.1)
        assert time.process_time() - began < 5
        assert worst < 1.0


@BOTH
async def test_log_follows_its_end_until_the_cursor_leaves_it(size: tuple[int, int]) -> None:
    async with running(size=size) as run:
        await run.press("7")
        table = run.main.pane.table
        lines = [v.Logged(line=v.LogLine(at_us=n, level="info", area="net", text=f"line {n}")) for n in range(200)]
        await run.push(*lines[:100])
        assert "line 99" in run.text()
        assert table.record is not None
        await run.press("k", "k")
        held = table.cursor
        await run.push(*lines[100:])
        assert table.cursor == held
        await run.press("G")
        assert "line 199" in run.text()


@BOTH
async def test_long_log_lines_wrap_and_copy_as_one(size: tuple[int, int]) -> None:
    words = " ".join(f"word{n:02d}" for n in range(40))
    async with running(samples.empty(), size=size) as run:
        await run.push(v.Logged(line=v.LogLine(at_us=0, level="info", area="net", text=words)))
        await run.press("7")
        assert len(run.main.pane.table) == 1
        assert "word39" not in run.main.pane.table.line_at(0)[-1].text
        await run.press("w")
        assert len(run.main.pane.table) > 1
        assert "word39" in run.text()
        await run.press("G", "y")
        assert words in run.app.clipboard
        before = len(run.main.pane.table)
        await run.pilot.resize_terminal(60, size[1])
        await run.settle()
        assert len(run.main.pane.table) > before
        await run.press("w")
        assert len(run.main.pane.table) == 1


async def test_log_says_what_it_dropped() -> None:
    async with running(samples.empty()) as run:
        await run.press("7")
        many = [v.Logged(line=v.LogLine(at_us=n, level="info", area="net", text=f"line {n}")) for n in range(2120)]
        await run.push(*many)
        await run.settle()
        await run.press("g")
        assert "120 lines were dropped" in run.text()
        assert "line 120" in run.text()


async def test_what_was_just_made_gets_the_cursor() -> None:
    async with running() as run:
        await run.press("3", "R")
        await run.settle()
        record: Any = run.main.pane.table.record
        assert record.state == "queued"
        assert record.module == "blur.wasm"


def test_layout_fills_exactly_and_never_overflows() -> None:
    columns: list[Column[int]] = [
        Column("A", 5, str, flex=1, limit=9),
        Column("B", 3, str),
        Column("C", 4, str, flex=2, above=40),
    ]
    for width in range(200):
        shown = layout(columns, width)
        used = sum(size for _, size in shown) + max(0, len(shown) - 1)
        assert used <= width
        if width >= 40:
            assert used == width


def test_every_pane_can_sort_by_its_first_choice() -> None:
    for pane in PANES:
        assert pane.SORT


async def test_a_request_that_a_grant_pays_at_once_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "TELL_S", 0.8)
    async with running() as run:
        asked = samples.approval("quick", expires_at=int(time.time()) + 5)
        await run.push(v.ApprovalUpdated(view=asked))
        await run.push(v.ApprovalUpdated(view=msgspec.structs.replace(asked, state="paid")))
        await run.pilot.pause(0.9)
        assert "a shows what waits" not in run.text()
