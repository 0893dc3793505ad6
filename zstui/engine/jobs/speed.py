"""How fast a peer proved to be: gas a second of its runs that a witness confirmed. Pure.

Another module does another mix of work for the same gas, so speeds are compared by this only roughly.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.model import Job

REFERENCE_GAS_PER_S = 7_500_000_000
"""Of the calibration's reference machine: geometric mean of its kernels' gas over their times there."""
LEAST_GAS = 500_000_000
"""Shorter runs say more about their start than about the machine."""
LATEST = 20
"""Runs of one peer that count."""


def gas_per_s(job: Job) -> float | None:
    """None where the run was not confirmed by a witness, or says nothing about speed."""
    if not (job.mine and job.state == "done" and job.attestations and job.gas_exact and job.gas >= LEAST_GAS):
        return None
    return job.gas * US / max(1, job.duration_us)


def proven_speed(jobs: Iterable[Job], peer: PeerId) -> float | None:
    """Median of the latest confirmed runs (``jobs`` newest first) over the reference machine; None without any."""
    rates = []
    for job in jobs:
        if job.executor == peer and (rate := gas_per_s(job)) is not None:
            rates.append(rate)
            if len(rates) == LATEST:
                break
    return round(median(rates) / REFERENCE_GAS_PER_S, 3) if rates else None
