"""Signed documents of jobs under way, in memory as they are committed, so that no step of a job has to read them back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from zstui.engine.jobs import store
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.receipt import Evidence
from zstui.engine.store.database import Database, Tx

MAX_JOBS = 1024
"""Jobs whose documents are held; those of others are read from the table."""


class Paper(msgspec.Struct, frozen=True):
    kind: store.Kind
    signer: str
    raw: bytes


def write(tx: Tx, job_id: str, papers: Iterable[Paper]) -> None:
    for paper in papers:
        store.put_evidence(tx, job_id, paper.kind, paper.signer, paper.raw)


class Papers:
    """Complete for a job that was begun by this process; whatever is asked of another is read from the table."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._held: OrderedDict[str, dict[tuple[store.Kind, str], bytes]] = OrderedDict()

    def begun(self, job_id: str, papers: Iterable[Paper]) -> None:
        """A fresh job and its first documents were committed."""
        self._held[job_id] = {}
        self.added(job_id, papers)
        if len(self._held) > MAX_JOBS:
            self._held.popitem(last=False)

    def added(self, job_id: str, papers: Iterable[Paper]) -> None:
        """More were committed."""
        held = self._held.get(job_id)
        if held is not None:
            held.update({(p.kind, p.signer): p.raw for p in papers})

    def dropped(self, job_id: str, *kinds: store.Kind) -> None:
        """Those of some kinds were deleted."""
        held = self._held.get(job_id)
        if held is not None:
            self._held[job_id] = {key: raw for key, raw in held.items() if key[0] not in kinds}

    def forget(self, job_id: str) -> None:
        """The job is settled."""
        self._held.pop(job_id, None)

    async def raw(self, job_id: str, kind: store.Kind, signer: str = "") -> bytes:
        """One document, "" for any signer; b"" if there is none."""
        held = self._held.get(job_id)
        if held is None:
            return await self._db.read(lambda tx: store.raw(tx, job_id, kind, signer))
        return next((r for (k, s), r in held.items() if k == kind and signer in ("", s)), b"")

    async def signed(self, job: Job) -> Evidence:
        """All that both sides signed, apart from attestations; the submitter's signature under the agreement comes first."""
        held = self._held.get(job.job_id)
        if held is None:
            return await self._db.read(lambda tx: store.evidence(tx, job))
        agreements = (held.get(("agreement", s)) for s in (job.submitter, job.executor))
        return Evidence(
            manifest=held.get(("manifest", job.submitter), b""),
            bid=held.get(("bid", job.executor), b""),
            agreements=tuple(a for a in agreements if a is not None),
            receipt=held.get(("receipt", job.executor), b""),
        )
