from __future__ import annotations

import platform
from pathlib import Path

import pytest

from zstui.engine.hardware import processor_model


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("model name\t: AMD Ryzen 7 5800X 8-Core Processor", "AMD Ryzen 7 5800X"),
        ("model name\t: Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", "Intel Core i7-8565U"),
        ("Model\t\t: Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 4 Model B Rev 1.4"),
    ],
)
def test_the_model_is_read_without_its_trade_marks(tmp_path: Path, line: str, model: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t: fpu\n{line}\nstepping\t: 2\n")
    assert processor_model(path) == model


def test_elsewhere_the_platform_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert processor_model(tmp_path / "absent") == "arm64"
