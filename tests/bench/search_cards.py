"""Capability cards as a large network would have them, and queries as people type them; the same for the same seed.

What cards say follows Zipf's law: a few models of hardware, regions, tags and modules are everywhere, most are rare.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from zstui.engine.identity.card import Card
from zstui.engine.jobs.cid import cid_of_digest

T = TypeVar("T")

HARDWARE = (
    *(f"AMD Ryzen {family} {number}" for family, numbers in (
        (5, ("3600", "5600X", "5600G", "7600", "7640U", "9600X")),
        (7, ("3700X", "5700G", "5800X", "7700", "7840HS", "9700X")),
        (9, ("3900X", "5900X", "5950X", "7900X", "7950X3D", "9950X")),
    ) for number in numbers),
    *(f"AMD EPYC {n} {cores}-Core Processor" for n, cores in (
        ("7302", 16), ("7402P", 24), ("7543", 32), ("7713", 64), ("7763", 64), ("9354", 32), ("9654", 96),
    )),
    *(f"Intel Core i{tier}-{n}" for tier, numbers in (
        (3, ("8100", "10100", "12100")),
        (5, ("7200U", "8250U", "9400F", "10400", "11400", "12400", "13600K")),
        (7, ("6700K", "7700HQ", "8565U", "9700K", "10750H", "12700K", "13700H")),
        (9, ("9900K", "10900K", "12900K", "13900K", "14900K")),
    ) for n in numbers),
    *(f"Intel Xeon {n}" for n in (
        "E3-1230 v3", "E5-2620 v4", "E5-2680 v4", "E5-2690 v2", "Silver 4210", "Gold 6130", "Gold 6248R", "Platinum 8375C",
    )),
    *(f"Apple M{n}{kind}" for n in (1, 2, 3, 4) for kind in ("", " Pro", " Max")),
    *(f"Raspberry Pi {n}" for n in ("3 Model B", "4 Model B", "5", "Zero 2 W")),
    *("Ampere Altra Q80-30", "Neoverse-N1", "Cortex-A72", "Cortex-A76", "Rockchip RK3588", "Intel N100", "Intel N305"),
)  # fmt: skip
REGIONS = (
    "Berlin Germany", "Frankfurt Germany", "London UK", "Paris France", "Amsterdam Netherlands", "Ashburn US east",
    "Oregon US west", "San Francisco US west", "New York US east", "Tokyo Japan", "Singapore", "Mumbai India",
    "Sao Paulo Brazil", "Sydney Australia", "Warsaw Poland", "Stockholm Sweden", "Zurich Switzerland", "Vienna Austria",
    "Madrid Spain", "Milan Italy", "Toronto Canada", "Montreal Canada", "Seoul South Korea", "Hong Kong", "Cape Town",
    "Nairobi Kenya", "Lagos Nigeria", "Buenos Aires", "Santiago Chile", "Mexico City", "Helsinki Finland", "Oslo Norway",
    "Dublin Ireland", "Lisbon Portugal", "Prague Czechia", "Budapest Hungary", "Bucharest Romania", "Kyiv Ukraine",
    "Istanbul Turkey", "Tel Aviv Israel",
)  # fmt: skip
TAGS = (
    "gpu", "render", "ssd", "nightly", "quiet", "solar", "university", "lab", "always-on", "simd", "fast", "archive",
    "homelab", "office", "ecc", "avx512", "laptop", "server", "build", "audio", "video", "science", "genomics",
    "weather", "chess", "fractals", "education", "weekend", "ipv6", "fibre", "backup", "green", "cheap", "trusted",
    "beginner", "testing", "blender", "numerics", "linear-algebra", "crypto", "compression", "images", "text", "maps",
    "translation", "statistics", "finance", "physics", "chemistry", "robotics", "games", "music", "photogrammetry",
    "ray-tracing", "optimisation", "sat-solver", "simulation", "monte-carlo", "proteins", "astronomy",
)  # fmt: skip
PLACES = (
    "attic", "basement", "kitchen", "studio", "workshop", "garage", "lab", "office", "rack", "closet", "barn", "library",
    "node", "worker", "box", "thinkpad", "tower", "nuc", "mini", "server", "atelier", "den", "shed", "cluster",
)  # fmt: skip
OWNERS = (
    "anna", "ben", "chris", "dana", "emil", "fatima", "george", "hana", "ivan", "julia", "kofi", "lena", "marco", "nina",
    "omar", "paula", "quinn", "rosa", "sam", "tara", "uwe", "vera", "wei", "xenia", "yusuf", "zoe",
)  # fmt: skip
CORES = (2, 4, 4, 6, 8, 8, 12, 16, 16, 24, 32, 64)
MEMORY_MIB = (16, 32, 64, 64, 128, 128, 128)
MODULES = 400
"""Different modules in the network."""


class Network:
    """Draws cards and queries. Queries ask for a few of the things that some card says, one in ten with a typing error."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._modules = [cid_of_digest(self._chance.randbytes(32)) for _ in range(MODULES)]
        self._hardware = tuple(self._chance.sample(HARDWARE, len(HARDWARE)))

    def card(self) -> Card:
        chance = self._chance
        return Card(
            name=f"{chance.choice((*OWNERS, *PLACES))}-{chance.choice(PLACES)}-{chance.randrange(100)}",
            executor=chance.random() < 0.7,
            cores=chance.choice(CORES),
            memory_mib=chance.choice(MEMORY_MIB),
            timeout_s=30,
            price_per_second_nano=10_000_000,
            price_per_mib_nano=100_000,
            tags=tuple(dict.fromkeys(self._zipf(TAGS) for _ in range(chance.randrange(6)))),
            issued_us=0,
            hardware=self._zipf(self._hardware),
            region=self._zipf(REGIONS) if chance.random() < 0.8 else "",
            modules=tuple(dict.fromkeys(self._zipf(self._modules) for _ in range(chance.randrange(6)))),
        )

    def query(self, card: Card) -> str:
        """What a person types who wants something like ``card``."""
        chance = self._chance
        parts = [
            f"{card.cores} cores",
            f"{card.memory_mib} MiB",
            *card.tags,
            *chance.sample(card.hardware.split(), min(2, len(card.hardware.split()))),
            *card.region.split()[:1],
            *card.modules[:1],
        ]
        if card.executor:
            parts.append("executor")
        wanted = chance.sample(parts, min(len(parts), chance.choice((1, 2, 2, 3, 3, 4, 5))))
        text = " ".join(wanted)
        if chance.random() < 0.1 and len(text) > 4:
            at = chance.randrange(len(text) - 1)
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return text

    def _zipf(self, things: Sequence[T]) -> T:
        return self._chance.choices(things, cum_weights=_cumulated(len(things)))[0]


@functools.cache
def _cumulated(count: int) -> tuple[float, ...]:
    return tuple(itertools.accumulate(1 / n for n in range(1, count + 1)))
