"""The window that describes a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from textual import events
from textual.screen import Screen
from textual.widgets import OptionList

from tests.screens.modals_support import Stage, stage
from tests.support import samples
from zstui.bridge import Bridge
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.errors import BadInput, InvalidModule
from zstui.screens.form import Field
from zstui.screens.module_input import complete
from zstui.screens.submit import SubmitScreen, host_path, lines_of

FARM = samples.hex_id("render-farm")
MODULES = ("primes.wasm", "mandel.wasm")


def submit(**fields: Any) -> Callable[[Bridge], Screen[Any]]:
    return lambda bridge: SubmitScreen(bridge, samples=MODULES, **fields)


async def settle(s: Stage) -> None:
    """Until the estimate for what stands in the fields is there."""
    await s.pilot.pause(0.6)
    await s.pilot.pause()


async def leave_fields(s: Stage, count: int) -> None:
    await s.press(*["tab"] * count)


def estimates(s: Stage) -> list[c.EstimateJob]:
    return cast("list[c.EstimateJob]", s.engine.commands(c.EstimateJob))


async def test_a_sample_and_the_defaults_make_a_spec() -> None:
    async with stage(submit()) as s:
        await s.press("down")
        await settle(s)
        text = s.text()
        assert "at most 1.000; typically 12.500 in 20.4 s" in text
        assert "here 12 s free; on north 4.0 s for 0.800 (tested, 120 runs)." in text
        assert "8.0 s for 1.600      0.84 of 60   gpu; caches this…" in text
        await s.press("enter")
        await settle(s)
        assert s.app.results == [c.SubmitJob(spec=c.JobSpec(module="primes.wasm", guild=FARM))]
        assert not s.engine.commands(c.SubmitJob)


async def test_every_field_reaches_the_spec(tmp_path: Path) -> None:
    module, data = tmp_path / "my job.wasm", tmp_path / "in.txt"
    module.write_bytes(b"\0asm")
    data.write_bytes(b"input\x00")
    async with stage(submit(guild_id=FARM)) as s:
        fields = {
            "module": str(module),
            "args": "--size 3 'two words'",
            "function": "main",
            "stdin": str(data),
            "memory": "64",
            "timeout": "12",
            "price": "2.5",
            "witnesses": "2",
            "inputs": f"{data} 'two words.txt'",
            "priority": "7",
            "queue": "60",
            "attempts": "1",
            "wants": "gpu berlin",
            "allowed": "2",
        }
        for name, value in fields.items():
            s.screen.query_one(f"#{name}", Field).set_text(value)
        s.screen.query_one("#outputs Choice").focus()
        await s.press("right", "enter")
        await settle(s)
        assert s.app.results == [
            c.SubmitJob(
                spec=c.JobSpec(
                    module=str(module),
                    guild=FARM,
                    function="main",
                    args=("--size", "3", "two words"),
                    stdin=b"input\x00",
                    memory_mib=64,
                    timeout_s=12,
                    max_price_u=2_500_000,
                    witnesses=2,
                    inputs=(str(data), host_path("two words.txt")),
                    outputs=True,
                    priority=7,
                    queue_s=60,
                    attempts=1,
                    wants="gpu berlin",
                ),
                pay_up_to_u=2_000_000,
            )
        ]


async def test_typing_asks_once_when_it_has_come_to_rest() -> None:
    async with stage(submit()) as s:
        for character in "primes.wasm":
            s.app.post_message(events.Key("full_stop" if character == "." else character, character))
        await settle(s)
        assert len(estimates(s)) == 1
        assert estimates(s)[0].spec.module == "primes.wasm"


async def test_tab_completes_a_name_and_then_moves_on() -> None:
    async with stage(submit()) as s:
        await s.write("man")
        await s.pilot.pause(0.3)
        await s.press("tab")
        assert cast("SubmitScreen", s.screen).text_of("module") == "mandel.wasm"
        await s.pilot.pause(0.3)
        await s.press("tab")
        assert s.app.focused is s.screen.query_one("#args", Field).widget


def test_paths_complete_to_folders_and_modules(tmp_path: Path) -> None:
    for name in ("a.wasm", "b.txt", ".hidden.wasm"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert complete(f"{tmp_path}/", MODULES) == [f"{tmp_path}/a.wasm", f"{tmp_path}/sub/"]
    assert complete(f"{tmp_path}/.h", MODULES) == [f"{tmp_path}/.hidden.wasm"]
    assert complete(f"{tmp_path}/none/", MODULES) == []
    assert complete("pri", MODULES)[0] == "primes.wasm"


async def test_executors_are_ranked_and_refusals_say_why() -> None:
    async with stage(submit()) as s:
        await s.press("down")
        await settle(s)
        options = s.screen.query_one(OptionList)
        assert [options.get_option_at_index(n).disabled for n in range(5)] == [False, False, False, True, True]
        text = s.text()
        assert "best: north now" in text
        assert "no: offline: No answer for 2 h." in text


async def test_an_executor_can_be_chosen_by_keys_and_stays_chosen() -> None:
    async with stage(submit()) as s:
        await s.press("down")
        await settle(s)
        s.screen.query_one(OptionList).focus()
        await s.press("down", "down")
        await settle(s)
        assert estimates(s)[-1].spec.executor == samples.SOUTH
        assert "on south 8.0 s for 1.600" in s.text()
        await s.press("enter")
        await settle(s)
        assert s.app.results[0].spec.executor == samples.SOUTH


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("module", "", "Choose a .wasm file or a sample."),
        ("args", "'open", "do not parse"),
        ("stdin", "/nonexistent/file", "cannot be read"),
        ("memory", "0", "whole number from 1"),
        ("timeout", "ten", "whole number from 1"),
        ("price", "1,5", "not a decimal number"),
        ("price", "0", "above zero"),
        ("witnesses", "-1", "whole number from 0"),
        ("allowed", "1.5", "At most the largest price."),
        ("priority", "10", "whole number from 0 to 9"),
        ("inputs", "'open", "do not parse"),
    ],
)
async def test_a_wrong_value_is_named_at_its_field_and_nothing_is_lost(field: str, value: str, says: str) -> None:
    async with stage(submit()) as s:
        s.screen.query_one("#module", Field).set_text("primes.wasm")
        s.screen.query_one("#function", Field).set_text("main")
        s.screen.query_one(f"#{field}", Field).set_text(value)
        await s.press("enter")
        await settle(s)
        box = s.screen.query_one(f"#{field}", Field)
        assert box.has_class("-wrong")
        assert s.app.focused is box.widget
        assert says in " ".join(s.text().replace("│", " ").split())
        assert cast("SubmitScreen", s.screen).text_of("function") == "main"
        assert not s.app.results


async def test_a_batch_over_lines_and_one_over_files(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("one\n\ntwo words\n")
    async with stage(submit()) as s:
        s.screen.query_one("#module", Field).set_text("primes.wasm")
        s.screen.query_one("#args", Field).set_text("{} 16")
        s.screen.query_one("#mode Choice").focus()
        await s.press("right", "tab")
        await s.write("0..15")
        await settle(s)
        assert "at most 1.000 for all 16 jobs" in s.text()
        assert "all that can take some: 2 now" in s.text()
        await s.press("enter")
        await settle(s)
        (command,) = s.app.results
        assert command.map_lines == tuple(map(str, range(16)))
        assert (command.name, command.spec.args) == ("primes over 0..15", ("{}", "16"))
        await s.press("enter")
        s.screen.query_one("#module", Field).set_text("primes.wasm")
        s.screen.query_one("#mode Choice").focus()
        await s.press("right", "right")
        s.screen.query_one("#over", Field).set_text("*.csv /data/more")
        await s.press("enter")
        await settle(s)
        assert s.app.results[1].map_files == (host_path("*.csv"), "/data/more")
    assert lines_of(str(lines)) == ("one", "two words")
    for wrong in ("5..4", "0..99999", str(tmp_path / "none")):
        with pytest.raises(BadInput):
            lines_of(wrong)


async def test_what_the_node_refuses_stays_in_the_window() -> None:
    async with stage(submit()) as s:
        s.engine.failures[c.EstimateJob] = InvalidModule("primes.wasm does not export a function main.")
        await s.press("down", "enter")
        await settle(s)
        assert "does not export a function main." in s.text()
        assert cast("SubmitScreen", s.screen).text_of("module") == "primes.wasm"
        assert not s.app.results


async def test_with_nobody_to_take_it_a_second_enter_is_needed() -> None:
    offline = msgspec.structs.replace(samples.peers()[2], name="[/red]\x1b]0;x\x07")
    async with stage(submit(), snapshot=msgspec.structs.replace(samples.snapshot(), peers=(offline,))) as s:
        await s.press("down", "enter")
        await settle(s)
        assert "Nobody can take it now. Enter again submits it anyway; it waits." in s.text()
        assert not s.app.results
        await s.press("enter")
        await settle(s)
        assert len(s.app.results) == 1


async def test_without_a_guild_it_says_what_to_do() -> None:
    async with stage(submit(), snapshot=samples.empty()) as s:
        await settle(s)
        assert "Join or create a guild" in s.text()
        await s.press("down", "enter")
        await settle(s)
        assert not s.app.results


async def test_it_opens_as_it_was_left_with_the_error() -> None:
    spec = c.JobSpec(module="mandel.wasm", guild=FARM, args=("a b", "c"), memory_mib=32, stdin=b"kept")
    async with stage(submit(start=c.SubmitJob(spec=spec), error="No executor: north is busy.")) as s:
        await settle(s)
        assert "No executor: north is busy." in s.text()
        await s.press("enter")
        await settle(s)
        assert s.app.results == [c.SubmitJob(spec=spec)]


async def test_esc_leaves_without_a_job() -> None:
    async with stage(submit()) as s:
        await s.press("down", "escape")
        assert s.app.results == [None]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_rule_9_all_of_it_fits(size: tuple[int, int]) -> None:
    now = int(time.time())
    guilds = tuple(
        msgspec.structs.replace(samples.guilds()[0], guild_id=f"{n:064x}", name="名前" * 30, expires_at=now + 60)
        for n in range(9)
    )
    many = tuple(samples.peer(f"12D3KooW{n:04}" + "x" * 20, name) for n, name in enumerate(samples.HOSTILE_NAMES))
    snapshot: v.Snapshot = msgspec.structs.replace(samples.snapshot(), guilds=guilds, peers=many)
    async with stage(submit(), size=size, snapshot=snapshot) as s:
        await s.press("down")
        await settle(s)
        body = s.screen.query_one("#body")
        assert (body.max_scroll_x, body.max_scroll_y) == (0, 0)
        assert "Enter Submit" in s.text()
        assert not [x for x in s.text() if ord(x) < 32 and x != "\n"]
