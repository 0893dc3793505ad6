"""What came of a job of mine so far: output as it arrives, and the files that it left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from zstui.engine.errors import JobError, ProtocolError
from zstui.engine.events import JobOutputReceived
from zstui.engine.jobs.manifest import Manifest
from zstui.engine.jobs.messages import Output
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.outputs import STREAMS, Printed, StreamName
from zstui.engine.jobs.receipt import receipt_of
from zstui.engine.jobs.room import Room


class Received:
    def __init__(self, room: Room) -> None:
        self._room = room
        self._sizes: dict[tuple[str, StreamName], int] = {}

    def size(self, job_id: str, name: StreamName) -> int:
        if (job_id, name) not in self._sizes:
            self._sizes[job_id, name] = self._room.outputs.size(job_id, name)
        return self._sizes[job_id, name]

    def take(self, job_id: str, m: Manifest, message: Output) -> None:
        """Append what was printed. Raises ProtocolError, JobError."""
        at = self.size(job_id, message.stream)
        data = message.data
        if message.offset != at or not data or at + len(data) > m.resources.output_bytes:
            raise ProtocolError("Output out of order or over its cap.")
        self._room.outputs.append(job_id, message.stream, data)
        self._sizes[job_id, message.stream] = at + len(data)
        self._room.bus.publish(JobOutputReceived(job_id, message.stream, at, data))

    async def take_all(self, job_id: str, m: Manifest, streams: Mapping[StreamName, bytes]) -> Printed:
        """Keep all that was printed, at once. Raises ProtocolError, JobError."""
        if any(len(data) > m.resources.output_bytes for data in streams.values()):
            raise ProtocolError("Output over its cap.")
        self.forget(job_id)
        small = await self._room.outputs.keep(job_id, streams)
        for name, data in streams.items():
            if data:
                self._room.bus.publish(JobOutputReceived(job_id, name, 0, data))
        return Printed(hashlib.sha256(streams["stdout"]).digest(), len(streams["stdout"]), small)

    def forget(self, job_id: str) -> None:
        """The job has ended."""
        for key in [(job_id, name) for name in STREAMS]:
            self._sizes.pop(key, None)

    async def bring_files(self, job: Job, raw: bytes, agreement: bytes) -> None:
        """Fetch what the job left in /out, before its receipt under ``agreement`` is accepted."""
        room = self._room
        _, r = receipt_of(raw, job.executor, agreement, bytes.fromhex(job.job_id))
        for file in r.outputs:
            await room.artifacts.fetch(job.executor, job.guild_id, job.job_id, file.cid, file.size)
            content = await room.artifacts.cache.get(file.cid)
            if content is None:
                raise JobError("A file of the job is no longer stored here.")
            await room.outputs.keep_file(job.job_id, file.name, content)
