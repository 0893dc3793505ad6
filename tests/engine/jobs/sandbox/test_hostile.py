"""Modules that mean harm: each ends as its payer's failure, and the worker goes on with the next job."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engine.jobs.sandbox.support import Recorder, compile_bomb, function_bomb, sample, wat
from zstui.engine.errors import InvalidModule
from zstui.engine.jobs.sandbox.artifacts import CompileLimits
from zstui.engine.jobs.sandbox.model import HOST_CALL_GAS, Execution, Limits
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

SOON = Limits(timeout_us=200_000)


@pytest_asyncio.fixture(autouse=True, loop_scope="package")
async def the_same_workers_serve_on(sandbox: Sandbox) -> AsyncIterator[None]:
    before = set(sandbox.pids)
    yield
    assert set(sandbox.pids) == before
    recorder = Recorder(sandbox)
    assert (await recorder.sample("numbers", "1", "2", function="add")).results == ("3",)


async def test_an_endless_loop_times_out(recorder: Recorder) -> None:
    started = time.monotonic()
    result = await recorder.sample("misbehave", "loop", limits=SOON)
    assert (result.status, result.fault, result.exit_code) == ("timeout", "payer", None)
    assert result.duration_us == SOON.timeout_us
    assert not result.gas_exact
    assert time.monotonic() - started < 5


async def test_an_endless_loop_runs_out_of_fuel_at_the_same_point_each_time(sandbox: Sandbox) -> None:
    limits = Limits(fuel=1_000_000)
    results = [await Recorder(sandbox).sample("misbehave", "loop", limits=limits) for _ in range(2)]
    for result in results:
        assert (result.status, result.fault, result.gas_exact) == ("failure", "payer", True)
        assert "fuel" in result.reason
        assert result.gas == limits.fuel + 3 * HOST_CALL_GAS, "its arguments, their sizes, and its directories"
    assert results[0].gas == results[1].gas


async def test_an_endless_start_function_times_out(recorder: Recorder) -> None:
    result = await recorder.wat('(func $s (loop br 0)) (start $s) (func (export "_start"))', limits=SOON)
    assert (result.status, result.fault) == ("timeout", "payer")


async def test_memory_ends_at_the_limit(recorder: Recorder) -> None:
    result = await recorder.sample("misbehave", "memory", limits=Limits(memory_bytes=32 << 20))
    assert (result.status, result.fault, result.gas_exact) == ("failure", "payer", True)
    assert recorder.stdout.startswith(b"got ")
    assert result.memory_bytes <= 32 << 20


async def test_a_module_that_starts_above_the_memory_limit_does_not_start(recorder: Recorder) -> None:
    result = await recorder.wat('(memory 65536) (func (export "_start"))')
    assert (result.status, result.fault) == ("failure", "payer")
    assert "memory" in result.reason


async def test_a_large_table_does_not_start(recorder: Recorder) -> None:
    result = await recorder.wat('(table 500000000 funcref) (func (export "_start"))')
    assert (result.status, result.fault) == ("failure", "payer")
    assert "table" in result.reason


async def test_a_table_does_not_grow_without_end(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(table $t 1 funcref)
        (func (export "grown") (result i32) (table.grow $t (ref.null func) (i32.const 50000000)))""",
        function="grown",
    )
    assert result.results == ("-1",)


@pytest.mark.parametrize("stack", [64 << 10, 8 << 20])
async def test_recursion_ends_at_the_stack_limit(recorder: Recorder, stack: int) -> None:
    result = await recorder.sample("misbehave", "recurse", limits=Limits(stack_bytes=stack))
    assert (result.status, result.fault, result.gas_exact) == ("failure", "payer", False)
    assert result.reason == f"The program overflowed its stack of {stack >> 10:,} KiB."


async def test_a_flood_of_output_is_cut(recorder: Recorder) -> None:
    result = await recorder.sample("misbehave", "flood")
    assert (result.status, result.exit_code, result.gas_exact) == ("failure", 3, True)
    assert result.stdout_bytes == len(recorder.stdout) == 1 << 20


async def test_a_flood_that_ignores_errors_is_cut_and_ends_by_itself(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "_start") (local $i i32)
          (i32.store (i32.const 4) (i32.const 70000))
          (loop $l
            (drop (call $w (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 100)))))""",
        limits=Limits(output_bytes=100_000),
    )
    assert result.status == "success"
    assert result.reason == "Its stderr was cut at 100,000 bytes."
    assert len(recorder.stderr) == 100_000


async def test_a_trap_is_the_payers_failure(recorder: Recorder) -> None:
    result = await recorder.sample("misbehave", "trap")
    assert (result.status, result.fault, result.exit_code, result.gas_exact) == ("failure", "payer", None, True)
    assert "unreachable" in result.reason


async def test_a_division_by_zero_leaves_the_gas_inexact(recorder: Recorder) -> None:
    result = await recorder.sample("numbers", "1", "0", function="divide")
    assert (result.status, result.fault, result.gas_exact) == ("failure", "payer", False)


WILD = (
    ("clock_time_get", "(i32.const 0) (i64.const 0) (i32.const 65530)"),
    ("clock_time_get", "(i32.const 99) (i64.const 0) (i32.const 0)"),
    ("clock_res_get", "(i32.const 0) (i32.const -4)"),
    ("random_get", "(i32.const 1) (i32.const -1)"),
    ("random_get", "(i32.const -1) (i32.const 1)"),
    ("poll_oneoff", "(i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)"),
    ("poll_oneoff", "(i32.const 65535) (i32.const 0) (i32.const 1) (i32.const 0)"),
    ("poll_oneoff", "(i32.const 0) (i32.const 65535) (i32.const 1) (i32.const 0)"),
)


@pytest.mark.parametrize("memory", ['(memory (export "memory") 1)', "(memory 1)", ""])
async def test_wild_pointers_get_an_errno(recorder: Recorder, memory: str) -> None:
    types = {
        "clock_time_get": "i32 i64 i32",
        "clock_res_get": "i32 i32",
        "random_get": "i32 i32",
        "poll_oneoff": "i32 i32 i32 i32",
    }
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'
        for name, params in types.items()
    )
    calls = "".join(f"(call ${name} {args})" for name, args in WILD)
    result = await recorder.wat(
        f"""{imports} {memory} (func (export "call") (result {"i32 " * len(WILD)}) {calls})""", function="call"
    )
    assert result.status == "success"
    assert set(result.results) <= {"21", "28"}, "EFAULT or EINVAL"


async def test_a_wild_pointer_to_data_gets_an_errno_too(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "call") (result i32) (call $w (i32.const 1) (i32.const -8) (i32.const 9) (i32.const -1)))""",
        function="call",
    )
    assert result.results == ("21",), "EFAULT"


async def test_there_are_no_files(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(import "wasi_snapshot_preview1" "path_open"
             (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 8) "etc/passwd")
        (func (export "open") (result i32) (call $o (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 10)
          (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))""",
        function="open",
    )
    assert result.results == ("8",), "EBADF: descriptor 3 does not exist"


async def test_flipped_bits_are_refused_or_run_within_the_limits(sandbox: Sandbox) -> None:
    chance = random.Random(7)
    refused = 0
    for _ in range(8):
        module = bytearray(sample("numbers"))
        module[chance.randrange(8, len(module))] ^= 1 << chance.randrange(8)
        recorder = Recorder(sandbox)
        execution = Execution(module=bytes(module), function="fib", args=("5",), limits=SOON)
        result = await recorder.run(execution)
        assert result.fault in ("none", "payer")
        refused += "refused" in result.reason
    assert refused


async def test_a_compile_bomb_is_given_up_and_remembered(tmp_path: Path) -> None:
    bomb = compile_bomb(8000)
    sandbox = Sandbox(tmp_path, 1, compile_limits=CompileLimits(wall_s=1.0, cpu_s=2, data_bytes=256 << 20))
    await sandbox.start()
    try:
        started = time.monotonic()
        with pytest.raises(InvalidModule, match=r"does not compile within 1 s and 256 MiB"):
            await sandbox.check(bomb)
        assert time.monotonic() - started < 5
        started = time.monotonic()
        with pytest.raises(InvalidModule, match="does not compile within"):
            await sandbox.check(bomb)
        assert time.monotonic() - started < 0.9, "it is not compiled again"
        await sandbox.check(sample("numbers"), "add")
    finally:
        await sandbox.stop()


@pytest.mark.parametrize(
    "bomb", [function_bomb, lambda: compile_bomb(8000)], ids=["functions and call_indirect", "loops"]
)
async def test_no_compile_bomb_passes_its_limits(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    module = bomb()
    sandbox = Sandbox(tmp_path, 1, compile_limits=CompileLimits(wall_s=1.0, cpu_s=1, data_bytes=192 << 20))
    await sandbox.start()
    try:
        started = time.monotonic()
        with pytest.raises(InvalidModule, match=r"does not compile within|refused"):
            await sandbox.check(module)
        assert time.monotonic() - started < 8
        await sandbox.check(sample("numbers"), "add")
    finally:
        await sandbox.stop()


async def test_compile_bombs_of_one_peer_do_not_hold_up_others(tmp_path: Path) -> None:
    bombs = [compile_bomb(4000 + n) for n in range(4)]
    sandbox = Sandbox(tmp_path, 1, compile_limits=CompileLimits(wall_s=6.0, cpu_s=7))
    await sandbox.start()
    try:
        attack = [asyncio.create_task(sandbox.check(bomb, owner="hostile")) for bomb in bombs]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        for name in ("numbers", "hello"):
            await sandbox.check(sample(name), "add" if name == "numbers" else "_start", owner="honest")
        assert time.monotonic() - started < 5, "less than one bomb may take"
        assert not any(task.done() for task in attack[1:])
        for task in attack:
            task.cancel()
    finally:
        await sandbox.stop()


@pytest.mark.parametrize("keep", [0, 7, 8, 30, 100, 150])
async def test_a_truncated_module_is_refused(sandbox: Sandbox, keep: int) -> None:
    with pytest.raises(InvalidModule):
        await sandbox.check(sample("numbers")[:keep], "add")


async def test_a_module_that_is_text_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidModule, match="not a WebAssembly module"):
        await sandbox.check(b'(module (func (export "_start")))')


async def test_many_memories_and_many_tables_do_not_start(sandbox: Sandbox, recorder: Recorder) -> None:
    with pytest.raises(InvalidModule, match="multiple memories"):
        await sandbox.check(wat("(memory 1) " * 50))
    result = await recorder.wat("(table 1 funcref) " * 50 + '(func (export "_start"))')
    assert (result.status, result.fault) == ("failure", "payer")
    assert "table" in result.reason


async def test_sleeping_in_poll_oneoff_takes_no_time_and_holds_no_worker(recorder: Recorder) -> None:
    started = time.monotonic()
    result = await recorder.sample("misbehave", "sleep")
    assert result.status == "success"
    assert recorder.stdout == b"slept 3600 seconds\n"
    assert time.monotonic() - started < 5


async def test_no_module_holds_a_worker_past_its_limit(sandbox: Sandbox) -> None:
    limits = Limits(timeout_us=100_000)
    sleeper = """(import "wasi_snapshot_preview1" "poll_oneoff" (func $p (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (loop
          (i64.store (i32.const 24) (i64.const 1000000000000))
          (drop (call $p (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br 0)))"""
    chance = """(import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
        (memory (export "memory") 1000)
        (func (export "_start") (loop (drop (call $r (i32.const 0) (i32.const 60000000))) (br 0)))"""
    for text in ('(func (export "_start") (loop br 0))', sleeper, chance):
        started = time.monotonic()
        result = await Recorder(sandbox).wat(text, limits=limits)
        took = time.monotonic() - started
        assert result.status == "timeout"
        assert took < 0.1 + 0.25 + 5, "compiling and a busy machine included"


async def test_many_bad_jobs_at_once_do_not_stop_good_ones(sandbox: Sandbox) -> None:
    limits = Limits(timeout_us=100_000)
    bad = [Recorder(sandbox).sample("misbehave", mode, limits=limits) for mode in ("loop", "recurse", "trap") * 3]
    good = [Recorder(sandbox).sample("numbers", "2", "2", function="add") for _ in range(10)]
    results = await asyncio.gather(*bad, *good)
    assert {result.status for result in results[: len(bad)]} == {"timeout", "failure"}
    assert all(result.results == ("4",) for result in results[len(bad) :])
