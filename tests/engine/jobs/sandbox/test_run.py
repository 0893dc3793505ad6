from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.engine.jobs.sandbox.support import Recorder, sample, wat
from zstui.engine.errors import InvalidModule
from zstui.engine.jobs.sandbox.model import BYTE_GAS, HOST_CALL_GAS, Execution, Limits
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

PAGE = 65536


async def test_a_wasi_program_gets_its_arguments_and_environment_and_nothing_else(recorder: Recorder) -> None:
    result = await recorder.run(
        Execution(module=sample("hello"), args=("one", "zwei drei", "ü"), env=(("A", "1"), ("B", "x=y")))
    )
    assert recorder.stdout.decode().splitlines() == [
        "Hello from the sandbox!",
        "argument 1: one",
        "argument 2: zwei drei",
        "argument 3: ü",
        "environment: A=1",
        "environment: B=x=y",
    ]
    assert (result.status, result.exit_code, result.fault, result.reason) == ("success", 0, "none", "")
    assert result.stdout_hash == hashlib.sha256(recorder.stdout).digest()
    assert result.stdout_bytes == len(recorder.stdout)
    assert result.gas_exact
    assert result.gas > BYTE_GAS * len(recorder.stdout)
    assert result.duration_us > 0
    assert result.memory_bytes % PAGE == 0


async def test_stdin_is_read(recorder: Recorder) -> None:
    text = b"to be or not to be\n" * 20_000
    await recorder.sample("wordcount", stdin=text)
    assert recorder.stdout == b"20000 lines, 120000 words, 380000 bytes\n"


async def test_progress_is_reported_up_to_the_end(recorder: Recorder) -> None:
    await recorder.sample("primes", "30000000")
    assert recorder.stdout == b"1857859 primes below 30000000\n"
    assert recorder.progress == sorted(recorder.progress)
    assert recorder.progress[-1] == 1.0
    assert len(recorder.progress) < 30


@pytest.mark.parametrize(
    ("function", "args", "results"),
    [
        ("add", ("2", "3"), ("5",)),
        ("add", ("4294967295", "0"), ("-1",)),
        ("fib", ("20",), ("6765",)),
        ("hypot", ("3", "4"), ("5.0",)),
        ("half", ("0.2",), ("0.1",)),
        ("divide", ("17", "5"), ("3", "2")),
    ],
)
async def test_a_function_is_called_with_typed_arguments(
    recorder: Recorder, function: str, args: tuple[str, ...], results: tuple[str, ...]
) -> None:
    result = await recorder.sample("numbers", *args, function=function)
    assert result.results == results
    assert recorder.stdout.decode().split() == list(results)
    assert result.stdout_hash == hashlib.sha256(recorder.stdout).digest()
    assert result.memory_bytes == 0


async def test_arguments_that_do_not_fit_are_the_payers_fault(recorder: Recorder) -> None:
    result = await recorder.sample("numbers", "1", "two", function="add")
    assert (result.status, result.fault, result.reason) == ("failure", "payer", "'two' is not an i32.")


async def test_a_reactor_is_initialized_before_its_function_is_called(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(global $g (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $g (i32.const 7)))
        (func (export "get") (result i32) (global.get $g))""",
        function="get",
    )
    assert result.results == ("7",)


@pytest.mark.parametrize("code", [1, 125, 126, 200, 255, 70000, -1])
async def test_every_exit_code_is_told(recorder: Recorder, code: int) -> None:
    result = await recorder.sample("misbehave", "exit", str(code))
    assert (result.status, result.exit_code, result.fault) == ("failure", code, "payer")
    assert result.gas_exact


async def test_the_same_seed_gives_the_same_run_and_another_seed_another(sandbox: Sandbox) -> None:
    async def run(mode: str, seed: bytes) -> tuple[bytes, int, bool]:
        recorder = Recorder(sandbox)
        result = await recorder.sample("misbehave", mode, seed=seed)
        assert result.status == "success"
        return recorder.stdout, result.gas, result.gas_exact

    for mode in ("random", "sleep"):
        runs = await asyncio.gather(*(run(mode, b"a" * 32) for _ in range(6)))
        assert len(set(runs)) == 1
        assert runs[0][2]
    assert await run("random", b"a" * 32) != await run("random", b"b" * 32)


async def test_sleeping_takes_no_time_but_moves_the_clock(recorder: Recorder) -> None:
    result = await recorder.sample("misbehave", "sleep")
    assert recorder.stdout == b"slept 3600 seconds\n"
    assert result.duration_us < 5_000_000


async def test_a_nan_has_one_bit_pattern(recorder: Recorder) -> None:
    result = await recorder.wat(
        """(func (export "bits") (param f64) (result i64)
             (i64.reinterpret_f64 (f64.div (local.get 0) (local.get 0))))""",
        "-0.0",
        function="bits",
    )
    assert result.results == (str(0x7FF8 << 48),)


async def test_host_calls_are_charged(sandbox: Sandbox) -> None:
    async def gas(calls: int) -> int:
        result = await Recorder(sandbox).wat(
            '(import "zerostate" "progress" (func $p (param i32)))'
            f'(func (export "_start") {"(call $p (i32.const 1))" * calls})'
        )
        assert result.gas_exact
        return result.gas

    one, two = await gas(1), await gas(2)
    assert HOST_CALL_GAS <= two - one < HOST_CALL_GAS + 100


async def test_memory_is_metered_at_its_peak(recorder: Recorder) -> None:
    result = await recorder.wat(
        '(memory (export "memory") 1) (func (export "_start") (drop (memory.grow (i32.const 99))))'
    )
    assert result.memory_bytes == 100 * PAGE


async def test_memory_that_is_not_exported_is_estimated(recorder: Recorder) -> None:
    result = await recorder.wat(
        '(memory 1000) (func (export "_start") (memory.fill (i32.const 0) (i32.const 1) (i32.const 60000000)))'
    )
    assert 50_000_000 < result.memory_bytes < 80_000_000


@pytest.mark.parametrize(
    ("module", "function", "reason"),
    [
        (b"", "_start", "not a WebAssembly module"),
        (b'(module (func (export "_start")))', "_start", "not a WebAssembly module"),
        (b"\0asm\x0d\0\1\0", "_start", "is a component .* build the program for WASI preview 1"),
        (b"\0asm\1\0\0\0" + bytes(32 << 20), "_start", "more than the 33,554,432"),
        (sample("hello")[:5000], "_start", "refused: .*end"),
        (sample("numbers"), "_start", 'no function "_start"; it exports add, fib, hypot, half, divide'),
        (sample("hello"), "nope\x1b[2J", r'no function "nope\[2J"; it exports _start'),
        (wat('(func (export "_start") (param i32))'), "_start", "take and return nothing"),
        (wat('(func (export "f") (param funcref))'), "f", "cannot be written as text"),
        (wat('(import "env" "f" (func))'), "_start", "env::f"),
        (wat("(memory 1) (memory 1)"), "_start", "multiple memories"),
        (wat("(memory 1 2 shared)"), "_start", "refused: .*threads"),
    ],
)
async def test_a_module_that_cannot_run_is_refused_in_one_sentence(
    recorder: Recorder, module: bytes, function: str, reason: str
) -> None:
    with pytest.raises(InvalidModule, match=reason):
        await recorder.sandbox.check(module, function)
    result = await recorder.run(Execution(module=module, function=function))
    assert (result.status, result.fault, result.exit_code, result.gas) == ("failure", "payer", None, 0)
    assert "\n" not in result.reason
    assert "\x1b" not in result.reason


@pytest.mark.parametrize(
    "execution",
    [
        Execution(module=sample("hello"), args=("a\0b",)),
        Execution(module=sample("hello"), args=("\ud800",)),
        Execution(module=sample("hello"), env=(("A=B", "x"),)),
        Execution(module=sample("hello"), args=("x" * 600_000, "y" * 600_000)),
        Execution(module=sample("hello"), stdin=bytes(17 << 20)),
        Execution(module=sample("hello"), limits=Limits(memory_bytes=8 << 30)),
        Execution(module=sample("hello"), limits=Limits(stack_bytes=1 << 30)),
        Execution(module=sample("hello"), limits=Limits(timeout_us=0)),
    ],
)
async def test_input_out_of_bounds_never_reaches_a_worker(recorder: Recorder, execution: Execution) -> None:
    result = await recorder.run(execution)
    assert (result.status, result.fault, result.duration_us) == ("failure", "payer", 0)
    assert result.reason
