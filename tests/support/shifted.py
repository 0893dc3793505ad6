"""``python -m tests.support.shifted ...``: the ``zstui`` program with a clock that a test shifts.

The file named by ``ZSTUI_TEST_CLOCK`` holds by how many seconds; none: by none.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from zstui import cli
from zstui.engine import node
from zstui.engine.clock import US

POLL_S = 0.2


class FileClock:
    def __init__(self) -> None:
        self._path = Path(os.environ["ZSTUI_TEST_CLOCK"])
        self._modified = -1
        self._shift_us = 0

    def _shift(self) -> int:
        try:
            modified = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        if modified != self._modified:
            self._modified, self._shift_us = modified, int(self._path.read_text() or 0) * US
        return self._shift_us

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self._shift()

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._shift()

    async def sleep(self, seconds: float) -> None:
        end = self.now_us() + round(seconds * US)
        while (left := end - self.now_us()) > 0:  # noqa: ASYNC110  the file says nothing when it changes
            await asyncio.sleep(min(left / US, POLL_S))


if __name__ == "__main__":
    node.SystemClock = FileClock  # type: ignore[attr-defined, assignment]
    sys.exit(cli.main())
