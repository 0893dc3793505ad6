"""kill -9 at every durable line, on both sides, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.killed import PAYMENTS

LEAST_COMMITS = {"payer": 10, "payee": 5}
"""Open, three payments with their acknowledgements, close and settle. What waits at the same time shares one."""


@pytest.mark.parametrize("side", ["payer", "payee"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, side: str, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed", str(tmp_path), side, when],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(text) for text in done.stdout.splitlines()]
    assert len(lives) > LEAST_COMMITS[side]
    numbers = list(range(PAYMENTS))
    for life in lives:
        expected: dict[str, Any] = {
            "at": life["at"],
            "died": int(life is not lives[-1]),
            "payer": {"paid": numbers, "received": [], "owed": -10 * PAYMENTS},
            "payee": {"paid": [], "received": numbers, "owed": 10 * PAYMENTS},
        }
        for node in ("payer", "payee"):
            expected[node] |= {"channels": [["closed", "cooperative"]], "reserved": 0}
        assert life == expected
