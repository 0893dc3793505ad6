from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from zstui.engine import events as e
from zstui.engine import logs
from zstui.engine.bus import Bus
from zstui.engine.clock import US, ManualClock
from zstui.engine.logs import FILE, LogBook, line_of
from zstui.engine.views import LogLine


class Rig:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bus = Bus()
        self.clock = ManualClock()
        self.book = LogBook(self.bus, directory, self.clock)
        self.told: list[LogLine] = []
        self.book.on_line = self.told.append

    async def taken(self) -> None:
        """Wait until every event published so far is a line."""
        for _ in range(1000):
            if not self.book._events._queue:
                return
            await asyncio.sleep(0.005)
        raise TimeoutError

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / FILE).read_text().splitlines()]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "log")


async def test_a_notice_becomes_a_line_in_memory_on_disk_and_for_the_callback(rig: Rig) -> None:
    await rig.book.start()
    rig.bus.publish(e.Notice("warning", "jobs", "south went away.", "j1"))
    await rig.book.stop()
    line = LogLine(at_us=rig.clock.now_us(), level="warning", area="jobs", text="south went away.", subject="j1")
    assert rig.book.lines() == [line]
    assert rig.told == [line]
    assert rig.written() == [
        {
            "at_us": line.at_us,
            "level": "warning",
            "area": "jobs",
            "text": "south went away.",
            "subject": "j1",
            "detail": "",
        }
    ]
    assert (rig.directory / FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("event", "level", "area", "text", "subject"),
    [
        (e.PaymentProcessed("c1", "sent", 1_250_000), "info", "channels", "Payment sent, to south: 1.250.", "c1"),
        (e.GuildJoined("g1", 20_000), "info", "guilds", "You joined south, in 20 ms.", "g1"),
        (e.PeerDisconnected("p1", "cut"), "info", "network", "south is gone: cut.", "p1"),
        (e.OutcomeRecorded("p1", False, 0.25), "info", "reputation", "south failed a job; its score is 0.250.", "p1"),
        (
            e.JobMoved("j1", True, "a.wasm", "p1", "failed", "it trapped."),
            "info",
            "jobs",
            "a.wasm at south: failed, it trapped.",
            "j1",
        ),
    ],
)  # fmt: skip
def test_events_in_words(event: e.Event, level: str, area: str, text: str, subject: str) -> None:
    line = line_of(event, 5, lambda peer: "south")
    assert line is not None
    assert (line.level, line.area, line.text, line.subject, line.at_us) == (level, area, text, subject, 5)


def test_every_kind_of_event_has_an_area_of_its_own() -> None:
    kinds = [kind for kind in e.Event.__subclasses__() if kind is not e.Notice]
    assert len(kinds) > 15
    for kind in kinds:
        assert any(kind.__name__.startswith(prefix) for prefix, _ in logs._AREAS), kind


async def test_a_fault_of_the_program_is_kept_with_its_traceback_and_stops_with_the_book(rig: Rig) -> None:
    await rig.book.start()
    log = logging.getLogger("zstui.engine.some.room")

    def fail() -> None:
        try:
            raise ValueError("a bug")
        except ValueError:
            log.exception("The %s failed.", "handler")

    await asyncio.to_thread(fail)
    log.info("nothing that matters")
    await asyncio.sleep(0)
    await rig.book.stop()
    [line] = rig.written()
    assert (line["level"], line["area"], line["text"]) == ("error", "node", "The handler failed.")
    assert "ValueError: a bug" in line["detail"]
    log.error("after the end")
    assert len(rig.written()) == 1


async def test_what_a_job_prints_and_that_records_changed_is_not_logged(rig: Rig) -> None:
    await rig.book.start()
    rig.bus.publish(e.JobOutputReceived("j1", "stdout", 0, b"my password is hunter2"))
    rig.bus.publish(e.JobChanged("j1"))
    rig.bus.publish(e.AddressesChanged())
    await rig.book.stop()
    assert rig.book.lines() == []


async def test_memory_is_bounded_and_chatter_does_not_push_out_what_matters(rig: Rig) -> None:
    await rig.book.start()
    rig.bus.publish(e.Notice("error", "node", "first"))
    for i in range(60):
        for j in range(40):
            rig.bus.publish(e.Notice("debug", "network", f"p{i}-{j}"))
        rig.bus.publish(e.Notice("info", "node", f"notice {i}"))
        await rig.taken()
        await rig.clock.advance(1)
    await rig.book.stop()
    lines = rig.book.lines()
    assert lines[0].text == "first"
    assert sum(line.level == "debug" for line in lines) == logs.DEBUG_LINES
    assert sum(line.level == "info" for line in lines) == 60
    assert [line.at_us for line in lines] == sorted(line.at_us for line in lines)
    for i in range(2 * logs.TOLD_LINES):
        rig.book._keep(LogLine(at_us=i, level="info", area="x", text=""))
    assert len(rig.book.lines()) == 1000


async def test_a_flood_is_cut_short_and_counted(rig: Rig) -> None:
    await rig.book.start()
    for _ in range(logs.PER_SECOND["info"] + 120):
        rig.bus.publish(e.PaymentProcessed("c1", "sent", 1))
    rig.bus.publish(e.Notice("warning", "node", "still heard"))
    await rig.taken()
    await rig.clock.advance(1)
    rig.bus.publish(e.Notice("info", "node", "later"))
    await rig.book.stop()
    texts = [line.text for line in rig.book.lines()]
    assert texts[-3:] == ["still heard", "120 lines left out.", "later"]
    assert len(texts) == logs.PER_SECOND["info"] + 3
    assert len(rig.written()) == len(texts)


async def test_the_file_is_put_aside_when_full_and_three_are_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 2_000)
    await rig.book.start()
    for i in range(100):
        rig.bus.publish(e.Notice("info", "node", f"number {i:03d}"))
    await rig.book.stop()
    files = sorted(rig.directory.iterdir())
    assert [f.name for f in files] == [FILE, f"{FILE}.1", f"{FILE}.2"]
    assert all(f.stat().st_size <= 2_000 for f in files)
    lines = [json.loads(line) for f in reversed(files) for line in f.read_text().splitlines()]
    numbers = [int(line["text"].split()[1]) for line in lines]
    assert numbers == list(range(100 - len(numbers), 100))


async def test_a_restart_appends(rig: Rig) -> None:
    for text in ("one", "two"):
        rig.book = LogBook(rig.bus, rig.directory, rig.clock)
        await rig.book.start()
        rig.bus.publish(e.Notice("info", "node", text))
        await rig.book.stop()
        await rig.book.stop()
    assert [line["text"] for line in rig.written()] == ["one", "two"]


async def test_a_directory_that_cannot_be_written_is_said_once_and_memory_goes_on(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the directory should be")
    rig = Rig(tmp_path / "log")
    await rig.book.start()
    for text in ("one", "two"):
        rig.bus.publish(e.Notice("info", "node", text))
        await rig.taken()
        await asyncio.sleep(0.05)
    await rig.book.stop()
    texts = [line.text for line in rig.told]
    assert [text for text in texts if "written" not in text] == ["one", "two"]
    assert sum("cannot be written" in text for text in texts) == 1


async def test_lines_are_written_while_running(rig: Rig) -> None:
    await rig.book.start()
    rig.bus.publish(e.Notice("info", "node", "now"))
    for _ in range(100):
        if (rig.directory / FILE).exists() and rig.written():
            break
        await asyncio.sleep(0.01)
    assert rig.written()[0]["text"] == "now"
    assert rig.written()[0]["at_us"] == rig.clock.now_us() // US * US
    await rig.book.stop()


async def test_control_characters_are_escaped_on_disk(rig: Rig) -> None:
    await rig.book.start()
    rig.bus.publish(e.Notice("info", "node", "a\nb\x1b[31m"))
    await rig.book.stop()
    raw = (rig.directory / FILE).read_bytes()
    assert raw.count(b"\n") == 1
    assert b"\x1b" not in raw
