"""Q-routing against shortest paths, on the irregular 6x6 grid of Boyan and Littman 1994, packet by packet.

Packets appear by a Poisson process between random nodes; a node passes on one packet of its queue (first in, first out) a
step. ``load`` is packets a step in the whole network. Both ways get the same packets; times are
steps from appearing to arriving, over the packets that appeared after ``WARM`` steps of learning and arrived. What has
not arrived at the end is counted: where it is a large share, the network is beyond what that way can carry.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator

import msgspec

from zstui.engine.routing.qtable import QTable

LOADS = (0.5, 1.0, 1.5, 2.0, 2.5)
WARM = 6_000
STEPS = 12_000
SEED = 7
SIDE = 6
GAPS = ((2, 3), (8, 9), (14, 15), (24, 25), (25, 31), (26, 27), (26, 32), (27, 33), (28, 29), (28, 34))
"""Links of a full grid that the paper's figure 1 does not have: two halves, joined in the middle and at the bottom."""

Links = tuple[tuple[int, ...], ...]


class Packet(msgspec.Struct):
    goal: int
    born: int
    queued: int
    """When it came to the node it is at."""


class Shortest:
    """Always along a path with the fewest hops, as if each node knew the whole network."""

    def __init__(self, links: Links) -> None:
        distances = [_distances(links, goal) for goal in range(len(links))]
        self._next = [
            [min(neighbours, key=lambda y, g=goal: distances[g][y]) for goal in range(len(links))]  # type: ignore[misc]
            for neighbours in links
        ]

    def choose(self, node: int, goal: int) -> int:
        return self._next[node][goal]

    def passed(self, node: int, neighbour: int, goal: int, waited: int) -> None:
        """It learns nothing."""


class Learning:
    """The engine's own table at every node. A neighbour answers with its own best estimate at once, as in the paper."""

    def __init__(self, links: Links) -> None:
        self._links = [[str(y) for y in neighbours] for neighbours in links]
        self._tables = [QTable() for _ in links]

    def choose(self, node: int, goal: int) -> int:
        found = self._tables[node].best_via(str(goal), self._links[node])
        assert found is not None
        return int(found)

    def passed(self, node: int, neighbour: int, goal: int, waited: int) -> None:
        ahead = 0.0
        if neighbour != goal:
            ahead = self._tables[neighbour].remaining(str(goal), self._links[neighbour])
        self._tables[node].update(str(goal), str(neighbour), q=waited, s=1, t=ahead)


async def measure() -> dict[str, object]:
    links = irregular_grid()
    return {
        "loads": LOADS,
        **{
            f"{name}_{what}": [figures[what] for figures in runs]
            for name, way in (("qrouting", Learning), ("shortest", Shortest))
            for runs in [[simulate(way(links), load) for load in LOADS]]
            for what in ("delivery_steps", "undelivered_share")
        },
    }


def irregular_grid() -> Links:
    nodes = range(SIDE * SIDE)
    pairs = [(n, n + 1) for n in nodes if n % SIDE < SIDE - 1] + [(n, n + SIDE) for n in nodes if n + SIDE in nodes]
    near: list[list[int]] = [[] for _ in nodes]
    for a, b in pairs:
        if (a, b) not in GAPS:
            near[a].append(b)
            near[b].append(a)
    return tuple(map(tuple, near))


def simulate(way: Shortest | Learning, load: float) -> dict[str, float]:
    chance = random.Random(SEED)
    queues: list[deque[Packet]] = [deque() for _ in range(SIDE * SIDE)]
    times, born = [], 0
    for now in range(STEPS):
        arrivals: list[tuple[int, Packet]] = []
        for node, queue in enumerate(queues):
            if not queue:
                continue
            packet = queue.popleft()
            there = way.choose(node, packet.goal)
            way.passed(node, there, packet.goal, now - packet.queued)
            if there != packet.goal:
                arrivals.append((there, packet))
            elif packet.born >= WARM:
                times.append(now + 1 - packet.born)
        for start, goal in _new(chance, load):
            born += now >= WARM
            arrivals.append((start, Packet(goal, now + 1, now + 1)))
        for node, packet in arrivals:
            packet.queued = now + 1
            queues[node].append(packet)
    return {
        "delivery_steps": round(sum(times) / max(1, len(times)), 1),
        "undelivered_share": round(1 - len(times) / max(1, born), 3),
    }


def _new(chance: random.Random, load: float) -> Iterator[tuple[int, int]]:
    """Start and goal of the packets of one step; their number is Poisson distributed."""
    product, limit = chance.random(), math.exp(-load)
    while product > limit:
        start, goal = chance.sample(range(SIDE * SIDE), 2)
        yield start, goal
        product *= chance.random()


def _distances(links: Links, goal: int) -> list[int]:
    hops = {goal: 0}
    order = deque([goal])
    while order:
        node = order.popleft()
        for y in links[node]:
            if y not in hops:
                hops[y] = hops[node] + 1
                order.append(y)
    return [hops[n] for n in range(len(links))]
