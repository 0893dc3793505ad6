"""Modules and inputs: content-addressed, fetched from the submitter in sealed chunks, checked, kept in a bounded directory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from zstui.engine.errors import DeadlineExceeded, JobError, ProtocolError
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.cid import cid_of, digest_of_cid
from zstui.engine.jobs.messages import CHUNK, Chunk, Get, Refusal
from zstui.engine.jobs.ports import GuildPort
from zstui.engine.jobs.protocol import accept_sealed, open_sealed
from zstui.engine.net.link import ARTIFACT_PROTOCOL, Network, Stream

MAX_CACHE = 512 << 20
"""Bytes of the whole directory."""
SMALL = 256 << 10
MAX_RECENT = 64
"""Contents up to ``SMALL`` bytes that are held in memory, too."""
MAX_SERVED = 8
"""Transfers to one peer at the same time."""


class Cache:
    """A directory of files named by their content id. The least recently used go first; pinned ones stay."""

    def __init__(self, directory: Path, limit: int = MAX_CACHE) -> None:
        self._directory = directory
        self._limit = limit
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        """Small ones that were checked not long ago."""

    async def put(self, content: bytes, pinned: Callable[[], frozenset[str]] = frozenset) -> str:
        """Store durably and return the content id. Raises JobError where the disk is full."""
        if len(content) <= SMALL:
            cid = cid_of(content)
            if cid in self._recent and self.path(cid).exists():
                self._remember(cid, content)
                return cid
        cid = await asyncio.to_thread(self._put, content, pinned())
        self._remember(cid, content)
        return cid

    async def get(self, cid: str) -> bytes | None:
        """None if it is not here, or is damaged: a damaged file is removed."""
        content = self._recent.get(cid)
        if content is None or not self.path(cid).exists():
            content = await asyncio.to_thread(self._get, cid)
        if content is not None:
            self._remember(cid, content)
        return content

    async def intact(self, cid: str) -> bool:
        """Whether its file is here and undamaged."""
        return await asyncio.to_thread(self._get, cid) is not None

    def _remember(self, cid: str, content: bytes) -> None:
        if len(content) <= SMALL:
            self._recent[cid] = content
            self._recent.move_to_end(cid)
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)

    def path(self, cid: str) -> Path:
        """Where it is, if it is here."""
        return self._directory / cid

    def _put(self, content: bytes, pinned: frozenset[str]) -> str:
        cid = cid_of(content)
        path = self._directory / cid
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._get(cid) is None:
                temporary = path.with_suffix(f".{os.urandom(4).hex()}")
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            self._evict(pinned | {cid})
        except OSError as error:
            raise JobError(f"Cannot store {len(content)} bytes in {self._directory}: {error.strerror}.") from error
        return cid

    def _get(self, cid: str) -> bytes | None:
        path = self._directory / cid
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).digest() != digest_of_cid(cid):
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except OSError:
            return None
        return content

    def _evict(self, keep: frozenset[str]) -> None:
        entries = []
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another thread has put its file in place meanwhile
                entries.append((path, path.stat()))
        total = sum(s.st_size for _, s in entries)
        for path, stat in sorted(entries, key=lambda e: e[1].st_mtime_ns):
            if total <= self._limit:
                break
            if path.name not in keep:
                path.unlink(missing_ok=True)
                total -= stat.st_size


class Artifacts:
    """Fetches what a job needs, and serves what my own jobs need to those entitled to it."""

    def __init__(
        self,
        network: Network,
        guilds: GuildPort,
        cache: Cache,
        *,
        entitled: Callable[[PeerId, str, str], frozenset[str]],
        pinned: Callable[[], frozenset[str]],
        timeout: float,
    ) -> None:
        """``entitled(peer, guild_id, job_id)``: content ids of that job of mine that this peer may have now."""
        self._network = network
        self._guilds = guilds
        self._entitled = entitled
        self._pinned = pinned
        self._timeout = timeout
        self._serving: dict[PeerId, int] = {}
        self.cache = cache
        network.handle(ARTIFACT_PROTOCOL, self._serve)

    async def put(self, content: bytes) -> str:
        return await self.cache.put(content, self._pinned)

    async def fetch(self, peer: PeerId, guild_id: str, job_id: str, cid: str, size: int) -> None:
        """Bring an artifact of exactly ``size`` bytes into the cache, unless it is there.

        Raises NetError, GuildError, Refused, ProtocolError.
        """
        if await self.cache.get(cid) is None:
            try:
                async with asyncio.timeout(self._timeout):
                    content = await self._fetch(peer, guild_id, job_id, cid, size)
            except TimeoutError:
                raise DeadlineExceeded("The module or its input did not arrive in time.") from None
            await self.put(content)

    async def _fetch(self, peer: PeerId, guild_id: str, job_id: str, cid: str, size: int) -> bytes:
        stream = await open_sealed(self._network, self._guilds, peer, ARTIFACT_PROTOCOL, guild_id, job_id)
        try:
            await stream.send(Get(cid))
            content = bytearray()
            while len(content) < size:
                chunk = await stream.expect(Chunk, 20.0)
                if chunk.total != size or not chunk.data or len(content) + len(chunk.data) > size:
                    raise ProtocolError("An artifact of another size than its manifest says.")
                content += chunk.data
        finally:
            stream.reset()
        whole = bytes(content)
        if await asyncio.to_thread(cid_of, whole) != cid:
            raise ProtocolError("An artifact that does not hash to its content id.")
        return whole

    async def _serve(self, raw: Stream) -> None:
        peer = raw.peer
        if self._serving.get(peer, 0) >= MAX_SERVED:
            raise ProtocolError("Too many transfers at once.")
        self._serving[peer] = self._serving.get(peer, 0) + 1
        try:
            stream = await accept_sealed(raw, self._guilds, ARTIFACT_PROTOCOL)
            wanted = await stream.expect(Get, 20.0)
            content = None
            if wanted.cid in self._entitled(peer, stream.guild_id, stream.job_id):
                content = await self.cache.get(wanted.cid)
            if content is None:
                await stream.send(Refusal("refused", "not an artifact of a job of yours"))
                return
            for start in range(0, len(content), CHUNK):
                await stream.send(Chunk(len(content), content[start : start + CHUNK]))
            await stream.close()
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]
