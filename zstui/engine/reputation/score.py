"""How trustworthy a peer is, from first-hand outcomes alone. Pure: time comes in as an argument.

The undecayed ("raw") score of a tally, always in (0, 1]::

    0.5 * success rate
    + 0.2 * s(30 s / average duration)      averages are over successful tasks only
    + 0.2 * s(1 unit / average cost)
    + 0.1 * tanh(days known / 30)           days between the first and the latest outcome
    where s(x) = 1 / (1 + exp(-2 (x - 1)))

Without a success both ratios are 0, so that each gives s(0) = 0.1192. Work for nothing gets the whole cost part. Reading
a score halves it for every seven days since the latest outcome. Fewer than five tasks say nothing yet: such a peer has
0.5, does not decay and is not ranked.
"""

from __future__ import annotations

import math

import msgspec

from zstui.engine.identity.keys import PeerId

DAY_US = 86_400_000_000
HALF_LIFE_US = 7 * DAY_US
MIN_TASKS = 5
"""Outcomes before a score means anything."""
UNKNOWN = 0.5
"""Score of a peer with fewer than ``MIN_TASKS`` outcomes."""

BASE_DURATION_US = 30_000_000
BASE_COST_U = 1_000_000
LONGEVITY_DAYS = 30

BLACKLIST_BELOW = 0.3
BLACKLIST_US = DAY_US
FORGET = 0.98
"""What each outcome leaves of the weight of all before it, in the counts the veto looks at."""
VETO_BELOW = 0.5
VETO_Z = 1.645
"""One-sided 95%."""

MAX_SAMPLE = 2**40
"""Largest duration (µs) or cost (µ) that one outcome adds to a sum, so that sums stay inside 64 bits."""


class Outcome(msgspec.Struct, frozen=True):
    """How one job that a peer ran for me ended. Only what the executor answers for: a payer's own fault is no outcome."""

    receipt_id: str
    peer_id: PeerId
    category: str
    success: bool
    duration_us: int
    cost_u: int
    at_us: int


class Tally(msgspec.Struct, frozen=True):
    """Everything remembered about a peer, over all tasks or those of one category."""

    tasks: int = 0
    successes: int = 0
    duration_us: int = 0
    """Sum over successful tasks."""
    cost_u: int = 0
    """Sum over successful tasks."""
    first_us: int = 0
    """Time of the first outcome."""
    updated_us: int = 0
    """Time of the latest outcome."""
    good: float = 0.0
    """Successes with old ones forgotten."""
    bad: float = 0.0

    @property
    def failures(self) -> int:
        return self.tasks - self.successes

    @property
    def avg_duration_us(self) -> int:
        return self.duration_us // self.successes if self.successes else 0

    @property
    def avg_cost_u(self) -> int:
        return self.cost_u // self.successes if self.successes else 0

    def add(self, success: bool, duration_us: int, cost_u: int, at_us: int) -> Tally:
        """With one more outcome. A late one (``at_us`` before the latest) never moves the latest time back."""
        return Tally(
            tasks=self.tasks + 1,
            successes=self.successes + success,
            duration_us=self.duration_us + (min(max(duration_us, 0), MAX_SAMPLE) if success else 0),
            cost_u=self.cost_u + (min(max(cost_u, 0), MAX_SAMPLE) if success else 0),
            first_us=min(self.first_us, at_us) if self.tasks else at_us,
            updated_us=max(self.updated_us, at_us) if self.tasks else at_us,
            good=self.good * FORGET + success,
            bad=self.bad * FORGET + (not success),
        )


class Parts(msgspec.Struct, frozen=True):
    """The four weighted parts of a raw score; they add up to it."""

    success: float = 0.0
    speed: float = 0.0
    cost: float = 0.0
    longevity: float = 0.0

    @property
    def total(self) -> float:
        return min(self.success + self.speed + self.cost + self.longevity, 1.0)


def sigmoid(ratio: float) -> float:
    """s(x) for x >= 0: 0.5 at the baseline, 0.1192 at 0, towards 1 above."""
    return 1.0 / (1.0 + math.exp(-2.0 * (ratio - 1.0)))


def parts(tally: Tally) -> Parts:
    """The four parts as of the latest outcome. All zero for an empty tally."""
    if not tally.tasks:
        return Parts()
    if tally.successes:
        speed = sigmoid(BASE_DURATION_US / max(tally.duration_us / tally.successes, 1.0))
        cost = sigmoid(BASE_COST_U * tally.successes / tally.cost_u) if tally.cost_u else 1.0
    else:
        speed = cost = sigmoid(0.0)
    days = (tally.updated_us - tally.first_us) / DAY_US
    return Parts(
        success=0.5 * tally.successes / tally.tasks,
        speed=0.2 * speed,
        cost=0.2 * cost,
        longevity=0.1 * math.tanh(days / LONGEVITY_DAYS),
    )


def raw(overall: Tally, category: Tally | None = None) -> float:
    """Undecayed score; in a category, its few outcomes are weighed against five overall ones."""
    total = parts(overall).total
    if category is None or not category.tasks:
        return total
    return (category.tasks * parts(category).total + MIN_TASKS * total) / (category.tasks + MIN_TASKS)


def score(overall: Tally, now_us: int, category: Tally | None = None) -> float:
    """What the peer is worth at ``now_us``, in [0, 1]."""
    if overall.tasks < MIN_TASKS:
        return UNKNOWN
    age = max(now_us - overall.updated_us, 0)
    return float(raw(overall, category) * 0.5 ** (age / HALF_LIFE_US))


def order_key(overall: Tally, category: Tally | None = None) -> float:
    """Orders peers as their decayed scores do, at every moment: all decay at the same rate, so that only an outcome changes it.

    log2(score at t) = order_key - t / half-life.
    """
    return math.log2(raw(overall, category)) + overall.updated_us / HALF_LIFE_US


def wilson_upper(good: float, bad: float, z: float = VETO_Z) -> float:
    """Upper end of Wilson's interval for a rate seen as ``good`` of ``good + bad``; 1 if nothing was seen."""
    n = good + bad
    if n <= 0:
        return 1.0
    p = good / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return min((centre + spread) / (1 + z * z / n), 1.0)


def blacklist_reason(overall: Tally) -> str:
    """Why a peer with this record is to be blacklisted, or "".

    The score alone would let a fast, cheap peer of long standing fail nearly always (0.505 at 1% success); therefore the
    recent success rate has a veto of its own.
    """
    if overall.tasks < MIN_TASKS:
        return ""
    total = parts(overall).total
    if total < BLACKLIST_BELOW:
        return f"score {total:.2f} is below {BLACKLIST_BELOW}: {overall.failures} of {overall.tasks} jobs failed"
    if wilson_upper(overall.good, overall.bad) < VETO_BELOW:
        return f"most recent jobs failed: {overall.failures} of {overall.tasks} in all"
    return ""
