"""Running a job again because its output is disputed: what whoever judges that needs of this room."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

import msgspec

from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.manifest import Manifest, can_execute
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.receipt import Evidence, Receipt, incomparable
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.witness import Witness
from zstui.engine.store.database import Tx


class Reruns:
    def __init__(self, room: Room, witness: Witness) -> None:
        self._room = room
        self._witness = witness
        self._lent: dict[str, frozenset[PeerId]] = {}

    # --- at the submitter --------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """Raises UnknownJob."""
        return self._room.records[job_id]

    async def evidence(self, job: Job) -> Evidence:
        return await self._room.db.read(lambda tx: store.evidence(tx, job))

    async def kept(self, job: Job) -> bool:
        """Whether all that the job needs to run is still stored here."""
        cache = self._room.artifacts.cache
        return all([await cache.intact(cid) for cid in _needed(job)])

    def lend(self, job_id: str, peers: Iterable[PeerId]) -> None:
        """Keep the files of a job of mine, and let these peers fetch them; nobody: no longer."""
        self._lent.pop(job_id, None)
        if found := frozenset(peers):
            self._lent[job_id] = found

    def entitled(self, peer: PeerId, guild_id: str, job_id: str) -> frozenset[str]:
        """Artifacts of one of my jobs that ``peer`` may have because it runs the job again."""
        job = self._room.records.get(job_id)
        if job is None or job.guild_id != guild_id or peer not in self._lent.get(job_id, ()):
            return frozenset()
        return _needed(job)

    def pinned(self) -> frozenset[str]:
        jobs = (self._room.records.get(job_id) for job_id in self._lent)
        return frozenset(chain.from_iterable(_needed(job) for job in jobs if job is not None))

    def returned(self, tx: Tx, job_id: str, amount_u: int) -> None:
        """Something that was paid for a job of mine came back, in the channel's transaction; ``reload`` follows."""
        store.returned(tx, job_id, amount_u)

    async def reload(self, job_id: str) -> None:
        await self._room.records.reload(job_id)

    # --- at a witness ------------------------------------------------------------------------------------------------

    def refuses(self, m: Manifest, r: Receipt) -> str:
        """Why this node cannot run a job again for others at all, or not so that it can be compared; "" if it can."""
        offer = msgspec.structs.replace(self._room.offer(m.guild_id), price_per_second_nano=0, price_per_mib_nano=0)
        return can_execute(m, offer) or incomparable(r, self._room.engine)

    def closed(self) -> str:
        """Why it runs none now; "" if it does."""
        return self._room.owner.closed()

    async def repeat(self, peer: PeerId, job_id: str, m: Manifest) -> tuple[Ended, bytes]:
        """Run a job again with files that ``peer`` hands over: how it ended, and the hash of its stdout."""
        output = bytearray()
        how = await self._witness.work(peer, job_id, m, output)
        return how, hashlib.sha256(output).digest()


def _needed(job: Job) -> frozenset[str]:
    return job.artifacts - {file.cid for file in job.outputs}
