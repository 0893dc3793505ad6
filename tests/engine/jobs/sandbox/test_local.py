from __future__ import annotations

from pathlib import Path

import pytest

from zstui.engine.errors import BadInput, InvalidModule
from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.local import run_module


async def test_one_module_runs_without_a_node(cache_dir: Path) -> None:
    out: list[tuple[str, bytes]] = []
    result = await run_module(
        samples()["hello"],
        args=("x",),
        env=(("K", "V"),),
        on_output=lambda stream, data: out.append((stream, data)),
        cache_dir=cache_dir,
    )
    assert result.status == "success"
    assert out == [("stdout", b"Hello from the sandbox!\nargument 1: x\nenvironment: K=V\n")]


async def test_what_cannot_be_run_is_said(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        await run_module(tmp_path / "none.wasm", on_output=lambda stream, data: None, cache_dir=cache_dir)
    text = tmp_path / "text.wasm"
    text.write_text("(module)")
    with pytest.raises(InvalidModule, match="not a WebAssembly module"):
        await run_module(text, on_output=lambda stream, data: None, cache_dir=cache_dir)
