"""Random lives of the channels between two honest nodes: the product's own services, protocol and SQL in virtual time.

Payments both ways, lost frames, cuts, crashes around any commit, restored backups (noticed and not), closing by agreement,
without the peer and by expiry, opening again and at once from both sides. ``ZSTUI_LIVES`` sets the number of lives.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.channels.world import Step, What, World, create_template
from tests.support.virtual import VirtualLoop
from zstui.engine.channels import links, service

LIVES = int(os.environ.get("ZSTUI_LIVES", "2000"))

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where databases lie in memory, if the system has such a place: what survives a loss of power is decided by the test."""

WEIGHTS: dict[What, int] = {
    "pay": 6,
    "burst": 2,
    "cut": 2,
    "link": 3,
    "deafen": 1,
    "crash": 2,
    "strike": 3,
    "backup": 1,
    "restore": 2,
    "taint": 1,
    "close": 2,
    "leave": 1,
    "open": 2,
    "rest": 5,
}
STEPS: tuple[What, ...] = tuple(what for what, weight in WEIGHTS.items() for _ in range(weight))

plans: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 1), st.integers(1, 2_500)), max_size=16
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        create_template(Path(name))
        yield Path(name)


@pytest.mark.timeout(0)
@settings(
    max_examples=LIVES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(plan=plans, seed=st.integers(0, 2**16))
def test_any_life_ends_with_both_sides_agreeing(folder: Path, plan: list[Step], seed: int) -> None:
    live(folder, plan, seed)


def hunt(lives: int, seed: int) -> None:
    """As the test, without hypothesis: plans from a seed, the first failure ends it. For looking for planted faults."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        create_template(Path(name))
        for number in range(lives):
            plan: list[Step] = [
                (chance.choice(STEPS), chance.randrange(2), chance.randint(1, 2_500))
                for _ in range(chance.randint(3, 16))
            ]
            try:
                live(Path(name), plan, number)
            except BaseException:
                print(f"life {number}: {plan}", flush=True)
                raise


def live(folder: Path, plan: list[Step], seed: int) -> None:
    loop = VirtualLoop()
    world = World(loop, folder, seed)

    async def run() -> None:
        try:
            await world.begin()
            for step in plan:
                await world.act(step)
            await world.heal()
            world.check_healed()
        finally:
            await world.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "TICK_S", 60.0)  # In a day of virtual time nothing else would be simulated.
        patch.setattr(links, "AWAY_S", 600.0)
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()
