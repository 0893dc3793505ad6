from __future__ import annotations

from pathlib import Path

import pytest

from zstui.engine.errors import HomeError
from zstui.engine.jobs.sandbox.calibration import Calibration, load, measure, save
from zstui.engine.jobs.sandbox.pool import Sandbox


@pytest.mark.asyncio(loop_scope="package")
async def test_a_measurement_is_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    view = await measure(sandbox, path)
    assert sorted(view.kernels) == ["branches", "float", "integer", "memory"]
    assert all(us > 0 for us in view.kernels.values())
    assert 0 < view.score < 100
    kept = load(path)
    assert kept == Calibration(score=view.score, kernels=view.kernels, at=view.at)


def test_what_cannot_be_read_is_as_if_never_measured(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert load(path) is None
    path.write_text("{}")
    assert load(path) is None
    with pytest.raises(HomeError, match="cannot be kept"):
        save(tmp_path / "none" / "x", Calibration(score=1.0, kernels={}, at=0))
