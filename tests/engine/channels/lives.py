"""Random lives of the channels between two honest nodes: the product's own services, protocol and SQL in virtual time.

Payments both ways, lost frames, cuts, crashes around any commit, restored backups (noticed and not), closing by agreement,
without the peer and by expiry, opening again and at once from both sides.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.engine.channels.world import Step, What, World, create_template
from tests.support.virtual import VirtualLoop
from zstui.engine.channels import links, service

LIVES = int(os.environ.get("ZSTUI_LIVES", "2000"))
"""How many the tests live in all."""

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

lives = settings(
    max_examples=LIVES // 2,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def hunt(lives: int, seed: int, often: tuple[What, ...] = ()) -> None:
    """As the tests, without hypothesis: plans from a seed, the first failure ends it. For looking for planted faults.

    ``often``: steps that half of every plan is made of."""
    chance = random.Random(seed)
    steps = STEPS + often * (len(STEPS) // len(often)) if often else STEPS
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        create_template(Path(name))
        for number in range(lives):
            plan: list[Step] = [
                (chance.choice(steps), chance.randrange(2), chance.randint(1, 2_500))
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
        patch.setattr(
            service, "TICK_S", 450.0
        )  # In a day of virtual time nothing else would be simulated; under HEAL_S.
        patch.setattr(links, "AWAY_S", 600.0)
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()
