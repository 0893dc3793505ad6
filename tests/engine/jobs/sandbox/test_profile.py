"""What a run prints and costs stays as it is within one profile, because witnesses compare exactly that."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import pytest

from tests.engine.jobs.sandbox.support import Recorder
from zstui.engine.jobs.sandbox.model import PROFILE, Limits
from zstui.engine.jobs.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="package")

MADE_WITH = ("50.0.1", 1)
"""Wasmtime's version and ``PROFILE`` of ``GOLDEN``. With another one what came of the runs below may be written anew."""
GOLDEN = {
    "hello a b": (36_556, "c642aafe80f6eabe"),
    "primes 10000": (2_005_867, "39802043ea4565ef"),
    "wordcount": (24_186, "101686d4571882db"),
    "misbehave random": (39_900, "436319eb78dd850f"),
    "misbehave sleep": (44_004, "3d537f622aecebe8"),
    "misbehave exit 7": (21_314, "e3b0c44298fc1c14"),
    "misbehave flood": (404_740, "4e3f867a2e5ca75c"),
    "raytrace 0 4 16 16": (8_674_596, "095925df4e6939f9"),
    "intrude list": (21_069, "e3b0c44298fc1c14"),
}


async def test_a_change_of_what_runs_come_to_is_another_profile(sandbox: Sandbox) -> None:
    if version("wasmtime") != MADE_WITH[0]:
        pytest.skip("Another version of wasmtime is another engine.")
    came = {}
    for line in GOLDEN:
        recorder = Recorder(sandbox)
        name, *args = line.split()
        result = await recorder.sample(name, *args, stdin=b"two words\n", limits=Limits(output_bytes=4096))
        assert result.gas_exact
        came[line] = result.gas, hashlib.sha256(recorder.stdout + recorder.stderr).hexdigest()[:16]
    assert (PROFILE, came) == (MADE_WITH[1], GOLDEN), "raise PROFILE with what changes it, and set GOLDEN"
