"""Who could run a job, best first, and why the others cannot. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from zstui.engine.clock import US
from zstui.engine.commands import JobSpec
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.manifest import MIB
from zstui.engine.jobs.speed import REFERENCE_GAS_PER_S
from zstui.engine.money import format_rate
from zstui.engine.reputation.score import MIN_TASKS
from zstui.engine.routing.model import Learned
from zstui.engine.search.model import Fit, in_words
from zstui.engine.views import CapabilitiesView, ExecutorView, HeardView, Role

NEAR = 0.4
"""A card whose vector has this cosine with what a job wants is said to be near it, though it says none of the words."""
ALIKE = 20
"""Scores in the same twentieth count as equal: then the price decides, then who is expected to be done first."""
ILL = 0.25
"""A standing by hearsay that is a warning: at least two peers that are trusted say that most jobs failed."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one guild member."""

    peer_id: PeerId
    name: str
    role: Role
    online: bool
    offer: CapabilitiesView | None
    """From its card; None if none was ever received."""
    score: float
    completed: int
    failed: int = 0
    uptime: float = 1.0
    speed: float | None = None
    """Over the reference machine, from confirmed runs."""
    blocked: bool = False
    soon: Learned | None = None
    """None where nothing was learned for the module."""
    fit: Fit = Fit()
    """To what the job wants of its executor."""
    wanted: tuple[str, ...] = ()
    """Of the words that its card says, those that the submitter asked for."""
    caches: bool = False
    """It has compiled the module already."""
    heard: HeardView | None = None
    """What others say of it."""

    @property
    def runs_jobs(self) -> bool:
        return self.role == "executor" or (self.role != "observer" and self.offer is not None and self.offer.executor)


def prices(spec: JobSpec, offer: CapabilitiesView) -> tuple[int, int]:
    """What would be paid per second and MiB, nano-units: the executor's own price, as far as the submitter goes along."""
    ask = offer.price_per_second_nano, offer.price_per_mib_nano
    cap = spec.price_per_second_nano, spec.price_per_mib_nano
    return (
        ask[0] if cap[0] is None else min(ask[0], cap[0]),
        ask[1] if cap[1] is None else min(ask[1], cap[1]),
    )


def expected_us(gas: int | None, speed: float | None) -> int | None:
    """How long so much gas takes at this speed, None where either is not known."""
    return None if gas is None or not speed else round(gas * US / (speed * REFERENCE_GAS_PER_S))


def expectation(learned: Learned) -> str:
    """ "expected 1.2 s there: 3 jobs wait, learned from 41 bids and results"."""
    seconds = learned.expected_us / US
    time = f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds / 60:.0f} min"
    wait = (
        "nothing waits"
        if not learned.waiting
        else "1 job waits"
        if learned.waiting == 1
        else f"{learned.waiting} jobs wait"
    )
    of = "one result" if learned.samples == 1 else f"{learned.samples} bids and results"
    return f"expected {time} there: {wait}, learned from {of}"


def match(fit: Fit, caches: bool) -> str:
    """ "offers gpu, 8 cores; caches this module", "" where its card says nothing that the job wants."""
    parts = [f"offers {', '.join(map(in_words, fit.said))}"] if fit.said else []
    if not parts and fit.near >= NEAR:
        parts = ["offers something near"]
    return "; ".join([*parts, "caches this module"] if caches else parts)


def ill_spoken_of(c: Candidate) -> bool:
    """Others whose word counts say that it fails, and my own jobs do not tell yet."""
    return c.completed + c.failed < MIN_TASKS and c.heard is not None and c.heard.standing <= ILL


def repute(heard: HeardView) -> str:
    """ "by hearsay 12 of 13 jobs done, say 3 peers"; "" if nobody's word counts."""
    if not heard.issuers:
        return ""
    say = "says a peer" if heard.issuers == 1 else f"say {heard.issuers} peers"
    return f"by hearsay {heard.done} of {heard.done + heard.failed} jobs done, {say}"


def max_cost(spec: JobSpec, per_second_nano: int, per_mib_nano: int) -> int:
    """µ for all of the time and memory limit, under the cap. Limits below zero count as zero."""
    return cost(
        max(0, per_second_nano),
        max(0, per_mib_nano),
        max(0, spec.timeout_s) * 1_000_000,
        max(0, spec.memory_mib) * MIB,
        max(0, spec.max_price_u),
    ).total_u


def refusal(spec: JobSpec, c: Candidate) -> str:
    """Why this peer cannot take the job, "" if it can."""
    return lasting(spec, c) or passing(c)


def passing(c: Candidate) -> str:
    """A reason that may go away by itself."""
    if not c.online:
        return "offline"
    if c.offer is None:
        return "has not told yet what it offers"
    return c.offer.closed


def lasting(spec: JobSpec, c: Candidate) -> str:
    """A reason that stays unless somebody changes something."""
    if c.blocked:
        return "blocked"
    if not c.runs_jobs:
        return "does not run jobs for others"
    if c.offer is None:
        return ""
    if spec.memory_mib > c.offer.memory_mib:
        return f"too little memory: offers {c.offer.memory_mib} MiB, the job asks for {spec.memory_mib} MiB"
    if spec.timeout_s > c.offer.timeout_s:
        return f"too little time: offers {c.offer.timeout_s} s, the job asks for {spec.timeout_s} s"
    for what, asked, offered in (
        ("second", c.offer.price_per_second_nano, spec.price_per_second_nano),
        ("MiB", c.offer.price_per_mib_nano, spec.price_per_mib_nano),
    ):
        if offered is not None and offered < asked:
            return f"price too low: asks {format_rate(asked)} per {what}, the job offers {format_rate(offered)}"
    return _record(spec, c)


def _record(spec: JobSpec, c: Candidate) -> str:
    """Where its record falls short of what the job asks for."""
    if c.score * 1000 < spec.min_reputation:
        return f"reputation too low: {c.score:.2f}, the job asks for {spec.min_reputation / 1000:.2f}"
    tasks = c.completed + c.failed
    if tasks and c.failed * 1000 > spec.max_failure_rate * tasks:
        return f"fails too often: {c.failed} of {tasks} jobs, the job allows {spec.max_failure_rate / 10:g}%"
    if c.uptime * 1000 < spec.min_uptime:
        return f"too often offline: here {c.uptime:.0%} of the time, the job asks for {spec.min_uptime / 10:g}%"
    return ""


def rank(spec: JobSpec, candidates: Iterable[Candidate]) -> tuple[ExecutorView, ...]:
    """Those able first: by how much they offer of what the job wants, by score (those ill spoken of after their equals), by
    what the job would cost at most, and by the learned time until its result; then the others, each with its reason. Where
    nothing was learned no time is expected, so that it is tried once; of such equals those come first that have the module, or
    whose cards are nearer.
    """
    rows: list[tuple[tuple[object, ...], Candidate, str]] = []
    for c in candidates:
        why = refusal(spec, c)
        price = max_cost(spec, *prices(spec, c.offer)) if c.offer is not None else 0
        soon = 0 if c.soon is None else c.soon.weighed_us
        standing = -math.floor(c.score * ALIKE)
        able = (bool(why), not c.online, -len(c.wanted), standing, ill_spoken_of(c))
        order = (*able, price, soon, not c.caches, -round(c.fit.near, 1), -c.completed, c.peer_id)
        rows.append((order, c, why))
    rows.sort(key=lambda row: row[0])
    return tuple(
        ExecutorView(
            peer_id=c.peer_id,
            name=c.name,
            rank=number,
            score=c.score,
            completed=c.completed,
            price_per_second_nano=c.offer.price_per_second_nano if c.offer else 0,
            price_per_mib_nano=c.offer.price_per_mib_nano if c.offer else 0,
            online=c.online,
            cores=max(1, c.offer.cores) if c.offer else 1,
            speed=c.speed if c.speed is not None else c.offer.speed if c.offer else None,
            speed_tested=c.speed is not None,
            passes=bool(why) and not lasting(spec, c),
            refusal=why,
            why=_why(c),
            match=match(c.fit, c.caches),
        )
        for number, (_, c, why) in enumerate(rows, 1)
    )


def _why(c: Candidate) -> str:
    said = repute(c.heard) if c.heard is not None else ""
    return "; ".join(filter(None, (expectation(c.soon) if c.soon is not None else "", said)))
