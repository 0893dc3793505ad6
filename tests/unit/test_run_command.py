"""``zstui run`` and ``zstui calibrate`` as a person types them, without a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zstui.arguments import parse
from zstui.cli import main
from zstui.engine.jobs.samples import samples


def test_a_module_runs_on_directories_and_reports(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    given, out, report = tmp_path / "given", tmp_path / "out", tmp_path / "report.json"
    given.mkdir()
    out.mkdir()
    (given / "a.txt").write_text("quiet")
    mounts = ("--dir", f"{given}::/in", "--dir", f"{out}::/out::rw")
    status = main(["--home", str(tmp_path / "h"), "run", str(samples()["shout"]), *mounts, "--report", str(report)])
    assert status == 0
    assert capfdbinary.readouterr().out == b"a.txt\n"
    assert (out / "a.txt").read_text() == "QUIET"
    assert json.loads(report.read_bytes())["gas_exact"]


def test_the_exit_status_is_the_modules(tmp_path: Path) -> None:
    home = str(tmp_path / "h")
    assert main(["--home", home, "run", str(samples()["misbehave"]), "--", "exit", "7"]) == 7
    assert main(["--home", home, "run", str(tmp_path / "none.wasm")]) == 1


def test_calibrate_works_without_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path), "calibrate", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "calibration.json").read_bytes())
    assert shown["score"] == kept["score"] > 0
    assert set(shown) == {"score", "kernels", "reference", "at"}


@pytest.mark.parametrize("text", ["/x", "::/x", "/x::", "/x::/y::z", "/x::/y::rw::"])
def test_a_directory_that_is_not_well_formed_is_wrong_usage(text: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(["run", "x.wasm", "--dir", text])
    assert exit_.value.code == 2


def test_a_receipt_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").write_text("{")
    for name, reason in (("none", "No such file or directory"), ("broken", "it is not JSON")):
        path = tmp_path / name
        assert main(["--home", str(tmp_path / "h"), "receipt", "verify", str(path)]) == 1
        assert capsys.readouterr().err.strip().endswith(f"Cannot read {path}: {reason}.")
