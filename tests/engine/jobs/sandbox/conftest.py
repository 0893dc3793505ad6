from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engine.jobs.sandbox.support import Recorder, alive
from zstui.engine.jobs.sandbox.pool import Sandbox


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "modules"


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def sandbox(cache_dir: Path) -> AsyncIterator[Sandbox]:
    """One sandbox for all tests of this folder that do not break it; no process may outlive it."""
    sandbox = Sandbox(cache_dir, 2)
    await sandbox.start()
    pids = sandbox.pids
    yield sandbox
    pids += sandbox.pids
    await sandbox.stop()
    assert not any(map(alive, pids))


@pytest.fixture
def recorder(sandbox: Sandbox) -> Recorder:
    return Recorder(sandbox)
