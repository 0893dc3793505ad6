from __future__ import annotations

import json
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from zstui.engine.jobs import samples as module
from zstui.engine.jobs.samples import samples

ASSETS = next(iter(samples().values())).parent


def _build() -> ModuleType:
    spec = spec_from_file_location("build", ASSETS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


build = _build()


def test_every_sample_is_small_and_has_its_source_beside_it() -> None:
    found = samples()
    assert {"hello", "primes", "wordcount", "misbehave", "numbers", "raytrace"} <= set(found)
    for path in found.values():
        assert path.stat().st_size < 100_000
        assert path.with_suffix(".c").exists() or path.with_suffix(".wat").exists()


def test_the_text_samples_are_what_their_sources_say() -> None:
    sources = sorted(ASSETS.glob("*.wat"))
    assert sources
    for source in sources:
        assert build.build_wat(source) == source.with_suffix(".wasm").read_bytes()


def test_no_source_in_c_was_changed_without_its_module() -> None:
    assert json.loads(build.RECORD.read_text()) == build.record(), "python assets/build.py makes them again"
    assert len(build.record()) >= 7


@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
@pytest.mark.timeout(300)
def test_the_samples_in_c_are_what_their_sources_say() -> None:
    for source in sorted(ASSETS.glob("*.c")):
        assert build.build_c(source) == source.with_suffix(".wasm").read_bytes(), source.name


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.wasm").write_bytes(b"\0asm")
    monkeypatch.setattr(module, "_PLACES", (tmp_path / "none", tmp_path, *module._PLACES))
    assert samples() == {"one": tmp_path / "one.wasm"}
