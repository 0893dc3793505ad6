from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from zstui.engine.jobs import samples as module
from zstui.engine.jobs.samples import samples


def test_every_sample_is_small_and_has_its_source_beside_it() -> None:
    found = samples()
    assert {"hello", "primes", "wordcount", "misbehave", "numbers", "raytrace"} <= set(found)
    for path in found.values():
        assert path.stat().st_size < 100_000
        assert path.with_suffix(".c").exists() or path.with_suffix(".wat").exists()


def test_the_text_samples_are_what_their_sources_say() -> None:
    sources = sorted(next(iter(samples().values())).parent.glob("*.wat"))
    assert sources
    for source in sources:
        assert wasmtime.wat2wasm(source.read_text()) == source.with_suffix(".wasm").read_bytes()


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.wasm").write_bytes(b"\0asm")
    monkeypatch.setattr(module, "_PLACES", (tmp_path / "none", tmp_path, *module._PLACES))
    assert samples() == {"one": tmp_path / "one.wasm"}
