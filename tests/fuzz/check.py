"""One input against one target's contract."""

from __future__ import annotations

import time
import tracemalloc

from tests.fuzz.targets import CPU_S, MEMORY, Target


class Broken(AssertionError):
    """The contract is not kept."""


def check(target: Target, data: bytes) -> bool:
    """Whether ``data`` was taken. Raises Broken, and whatever the decoder raises against its word."""
    begun = time.process_time()
    value: object = None
    try:
        value = target.decode(data)
        taken = True
    except target.errors:
        taken = False
    if taken and target.encode is not None and value is not None:
        encoded = target.encode(value)
        again = target.decode(encoded)
        if again != value:
            raise Broken(f"{value!r} is {again!r} once encoded and decoded again")
    if time.process_time() - begun > CPU_S:
        raise Broken(f"{len(data)} bytes took {time.process_time() - begun:.1f} s")
    return taken


def check_memory(target: Target, data: bytes) -> bool:
    """As ``check``, and slower: memory is counted, too."""
    tracemalloc.start()
    try:
        taken = check(target, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > MEMORY:
        raise Broken(f"{len(data)} bytes took {peak >> 20} MiB")
    return taken
