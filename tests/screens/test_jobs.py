"""The Jobs pane: batches and their jobs, results one looks at, and what an owner decides."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from tests.screens.panes_support import LARGE, Run, running
from tests.support import samples
from tests.support.fake_engine import FakeEngine
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.screens.dialogs import ConfirmScreen
from zstui.screens.jobs import JobsPane
from zstui.screens.owner import OwnerScreen, StopAllScreen
from zstui.screens.preview import PreviewScreen

BATCH = samples.hex_id("batch")
TILES = 4


async def settled(run: Run) -> None:
    """Until what was asked for is read, drawn and shown."""
    for _ in range(4):
        await run.settle()


async def with_batch(run: Run, done: int = 3) -> None:
    """A batch of four tiles of an 8 x 8 picture, ``done`` of them done and one on its way."""
    run.engine.outputs.update({samples.hex_id(f"tile{n}"): samples.tile(n) for n in range(TILES)})
    await run.press("3")
    await run.push(*samples.batch_events(BATCH, TILES, done))
    run.main.pane.select(BATCH)
    await settled(run)


async def test_a_batch_is_one_row_that_opens_into_its_jobs() -> None:
    async with running() as run:
        await with_batch(run)
        pane = run.main.pane
        assert "▸ tiles" in run.text()
        assert "4 jobs" in run.text()
        assert "3/4" in run.text()
        assert "3 done, 1 running; 0.060, at most 1.000 for all." in run.line(-3)
        before = len(pane.table)
        await run.press("e")
        assert "▾ tiles" in run.text()
        assert len(pane.table) == before + TILES
        at = pane.table.keys().index(BATCH)
        assert pane.table.keys()[at + 1 : at + 1 + TILES] == [samples.hex_id(f"tile{n}") for n in range(TILES)]
        await run.press("S")
        at = pane.table.keys().index(BATCH)
        assert pane.table.keys()[at + 1 : at + 1 + TILES] == [samples.hex_id(f"tile{n}") for n in range(TILES)]
        await run.press("S", "j", "o")
        assert "Output of job" in run.text()
        await run.press("escape", "e")
        assert pane.table.cursor == BATCH
        assert len(pane.table) == before
        await run.press("o")
        await run.settle()
        assert "each has its own output" in run.text()
        assert pane.table.max_scroll_x == 0
        await run.press("x")
        assert isinstance(run.app.screen, ConfirmScreen)
        assert "Stop the batch tiles?" in run.text()
        run.app.screen.dismiss(True)
        await run.settle()
        assert run.engine.commands(c.CancelBatch) == [c.CancelBatch(batch=BATCH)]
        assert "cancelled" in run.text()


async def test_tiles_fill_in_one_picture_in_the_column_and_in_the_window() -> None:
    async with running(size=LARGE) as run:
        await with_batch(run, done=2)
        assert "picture 8 x 8" in run.text()
        assert "Done by   south 2" in run.text()
        first = _colours(run)
        assert samples.TILE_COLOURS[0] in first
        assert samples.TILE_COLOURS[3] not in first
        await run.press("p")
        assert isinstance(run.app.screen, PreviewScreen)
        await run.push(*samples.batch_events(BATCH, TILES, 4))
        await settled(run)
        assert set(samples.TILE_COLOURS) <= _colours(run)
        assert "4 done" in run.text()
        await run.press("y")
        assert run.app.clipboard == BATCH
        await run.press("escape")
        await settled(run)
        assert set(samples.TILE_COLOURS) <= _colours(run)
        reads = [r for r in run.engine.commands(c.GetOutput) if isinstance(r, c.GetOutput)]
        assert len({r.job for r in reads}) == len(reads) == TILES, "each result is read once"


def _colours(run: Run) -> set[str]:
    """Every colour on the screen, as hex."""
    styles = (segment.style for line in run.segments() for segment in line if "▀" in segment.text)
    colours = (colour for style in styles if style for colour in (style.color, style.bgcolor))
    return {colour.triplet.hex for colour in colours if colour is not None and colour.triplet is not None}


async def test_a_result_is_shown_as_what_it_is_and_its_path_is_copied(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_bytes(b'{"frames": 40, "ok": true, "note": "[/red]\\u001b[31m"}')
    files = (
        v.FileView(name="report.json", size=report.stat().st_size, sha256="ab" * 32, path=str(report)),
        v.FileView(name="later.txt", size=5, sha256="cd" * 32),
    )
    done = msgspec.structs.replace(next(j for j in samples.jobs() if j.state == "done" and j.mine), outputs=files)
    async with running() as run:
        await run.press("3")
        await run.push(v.JobUpdated(view=done))
        run.main.pane.select(done.job_id)
        await run.press("Y")
        await run.settle()
        assert run.app.clipboard == str(report)
        await run.press("p")
        await settled(run)
        assert isinstance(run.app.screen, PreviewScreen)
        assert "/out/report.json, 54 bytes, JSON" in run.text()
        assert '"frames": 40' in run.text()
        assert "\x1b" not in run.text()
        await run.press("right")
        await settled(run)
        assert "The file is not here yet." in run.text()
        await run.press("y")
        await run.settle()
        assert "It is not in a file yet." in run.text()
        await run.press("right")
        await settled(run)
        assert "frame 001" in run.text()
        await run.press("y")
        await run.settle()
        assert run.app.clipboard == f"/tmp/zs/{done.job_id[:8]}.out"
        await run.press("escape")
        early = PreviewScreen(done, run.main.query_one(JobsPane).results, lambda: done)
        early.update()
        assert not early.view.text, "a result may arrive before the window is there"
        run.main.pane.select(samples.hex_id("queued"))
        await run.press("p")
        await run.settle()
        assert "nothing to look at before the job runs" in run.text()


async def test_without_colours_a_picture_is_drawn_in_shades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running() as run:
        await with_batch(run, done=4)
        await run.press("p")
        await settled(run)
        assert "In shades, because NO_COLOR is set." in run.text()
        assert "▀" not in run.text()
        assert not [s for line in run.segments() for s in line if s.style and s.style.color and s.style.color.triplet]


async def test_a_job_billed_in_parts_says_what_is_paid_and_who_must_act() -> None:
    held = samples.job(
        "running",
        "blur.wasm",
        "running",
        paused=True,
        due_u=1_500_000,
        paid_u=500_000,
        at_risk_u=1_000_000,
        why="It goes on once a part of 1.000 is paid; a shows it.",
    )
    async with running(size=LARGE) as run:
        await run.press("3")
        await run.push(v.JobUpdated(view=held))
        run.main.pane.select(held.job_id)
        await run.settle()
        for text in ("paused", "1.500, of that paid 0.500", "1.000, the risk of south", "It goes on once"):
            assert text in run.text()
        await run.press("c")
        await run.settle()
        assert "1.25 times as fast" in run.text()


async def test_attempts_and_why_a_job_waits_are_told() -> None:
    again = samples.job(
        "again",
        "slow.wasm",
        "queued",
        executor=None,
        executor_name="",
        attempts=2,
        retry_of=samples.hex_id("first"),
        queued_until=int(time.time()) + 600,
        why="north: too little memory: offers 64 MiB. south: draining.",
    )
    async with running(size=LARGE) as run:
        await run.press("3")
        await run.push(v.JobUpdated(view=again))
        run.main.pane.select(again.job_id)
        await run.settle()
        assert "waits, try 2" in run.text()
        assert "too little memory: offers 64 MiB" in run.line(-3)
        assert f"2, after {samples.hex_id('first')[:4]}" in run.text()
        assert "more for somebody to take it" in run.text()


async def test_an_owner_drains_stops_everything_and_sets_limits() -> None:
    theirs = samples.job(
        "guest",
        "mine.wasm",
        "running",
        mine=False,
        submitter=samples.NORTH,
        submitter_name="[/red]",
        elapsed_us=4_000_000,
    )
    engine = FakeEngine(msgspec.structs.replace(samples.snapshot(), jobs=(theirs,)))
    async with running(engine=engine) as run:
        await run.press("3", "d")
        await run.settle()
        assert engine.commands(c.SetWorking) == [c.SetWorking(accept=False)]
        assert "DRAINING" in run.line(0)
        await run.press("d")
        await run.settle()
        assert "DRAINING" not in run.line(0)
        await run.press("exclamation_mark", "S")
        window = run.app.screen
        assert isinstance(window, StopAllScreen)
        assert window.has_class("-danger")
        assert "mine.wasm  for [/red], running 4.0s" in run.text()
        assert not engine.commands(c.StopAllJobs), "a key that was on its way does not count"
        await run.press("escape")
        await run.press("exclamation_mark")
        while not getattr(run.app.screen, "armed", True):
            await run.pilot.pause(0.1)
        await run.press("S")
        await run.settle()
        assert engine.commands(c.StopAllJobs) == [c.StopAllJobs()]
        assert "DRAINING" in run.line(0)
        await run.press("L")
        await run.settle()
        assert isinstance(run.app.screen, OwnerScreen)
        await run.press(*"22", "colon", *"00", "enter")
        await run.settle()
        assert "Give both times" in run.text()
        await run.press(*"06", "colon", *"00", "enter")
        await run.settle()
        assert engine.commands(c.SetHours) == [c.SetHours(start="22:00", end="06:00")]
        assert engine.commands(c.SetJobLimits) == [c.SetJobLimits(max_jobs=2, memory_mib=128)]
        assert len(run.app.screen_stack) == 2, "the window is closed"
