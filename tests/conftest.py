from __future__ import annotations

import gc
from itertools import chain, groupby, zip_longest

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with real processes, which wait a lot, take turns with the others, of which those that take longest come first."""
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    processes = [f for f in files if "e2e" in f[0].path.parts]
    others = sorted((f for f in files if f not in processes), key=lambda f: "screens" not in f[0].path.parts)
    none: list[pytest.Item] = []
    items[:] = chain.from_iterable(chain.from_iterable(zip_longest(processes, others, fillvalue=none)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is loaded by now stays for good: not looking at it again and again saves a third of the screen tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
