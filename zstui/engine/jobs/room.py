"""What the parts of the jobs room share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from zstui.engine.bus import Bus
from zstui.engine.clock import Clock
from zstui.engine.config import Settings
from zstui.engine.errors import StoreError
from zstui.engine.events import Notice
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.jobs.artifacts import Artifacts
from zstui.engine.jobs.model import Timing
from zstui.engine.jobs.outputs import Outputs
from zstui.engine.jobs.owner import Owner
from zstui.engine.jobs.ports import Admits, CardOf, ChannelPort, GuildPort, NameOf, SandboxPort
from zstui.engine.jobs.records import Records
from zstui.engine.jobs.shape import Shapes
from zstui.engine.jobs.slots import Slots
from zstui.engine.net.link import Network
from zstui.engine.store.database import Database

log = logging.getLogger(__name__)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """This node's own terms, in the shape of a capability card."""

    executor: bool
    memory_mib: int
    timeout_s: int
    price_per_second_nano: int
    price_per_mib_nano: int
    note_ms: int = 0
    accept_ms: int = 0
    exposure_max_u: int = 0


@dataclass(frozen=True, kw_only=True)
class Room:
    identity: Identity
    settings: Settings
    network: Network
    db: Database
    bus: Bus
    clock: Clock
    guilds: GuildPort
    channels: ChannelPort
    sandbox: SandboxPort
    records: Records
    outputs: Outputs
    artifacts: Artifacts
    name_of: NameOf
    card_of: CardOf
    admits: Admits
    timing: Timing
    engine: str
    """What runs modules here: runtime, its version and the sandbox's profile, as receipts name it."""
    slots: Slots
    owner: Owner
    away: dict[PeerId, int] = field(default_factory=dict)
    """Unix µs since when submitters cannot be reached whose jobs run or wait here."""
    shapes: Shapes = field(default_factory=Shapes)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def me(self) -> PeerId:
        return self.identity.peer_id

    def spawn(self, work: Coroutine[Any, Any, None], what: str, subject: str = "") -> asyncio.Task[None]:
        """Run ``work`` until it ends or the room stops; what it raises is logged and told."""
        task = asyncio.create_task(self._guard(work, what, subject), name=what)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: work.close())  # a task cancelled before its first step never began it
        return task

    async def _guard(self, work: Coroutine[Any, Any, None], what: str, subject: str) -> None:
        try:
            await work
        except StoreError as error:
            log.error("%s: %s", what, error)
        except Exception as error:
            log.exception("%s failed", what)
            self.bus.publish(Notice("error", "jobs", f"{what} failed: {error}", subject))

    async def stop_tasks(self) -> None:
        while tasks := tuple(self.tasks):
            await cancel(*tasks)
            self.tasks.difference_update(tasks)  # one that had just ended is still there until its callbacks have run

    # --- consent -----------------------------------------------------------------------------------------------------

    def consents(self, guild_id: str) -> bool:
        """Whether this node runs others' jobs in that guild: as its executor, or with the owner's standing consent."""
        role = self.guilds.role_of(guild_id, self.me)
        return role == "executor" or (self.settings.executor and role in ("creator", "member"))

    def offer(self, guild_id: str) -> Offer:
        return Offer(
            executor=self.consents(guild_id),
            memory_mib=self.owner.memory_mib,
            timeout_s=self.settings.max_timeout_s,
            price_per_second_nano=self.settings.price_per_second_nano,
            price_per_mib_nano=self.settings.price_per_mib_nano,
            note_ms=self.settings.note_ms,
            accept_ms=self.settings.accept_ms,
            exposure_max_u=self.settings.exposure_max_u,
        )

    def refuses_peer(self, peer: PeerId, guild_id: str) -> str:
        """Why nothing is done for ``peer`` in that guild, "" if it may ask."""
        if not self.admits(peer, guild_id):
            return "you are blocked here"
        if self.guilds.role_of(guild_id, self.me) is None:
            return "not a member of the guild, or the guild is over"
        role = self.guilds.role_of(guild_id, peer)
        if role is None:
            return "you are not a member of the guild"
        if role == "observer":
            return "observers submit no jobs"
        if not self.consents(guild_id):
            return "no consent: this node does not run jobs for others"
        return ""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until all have ended: before Python 3.12 ``wait_for`` may lose a cancellation that meets its result."""
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.1)


def slots_of(settings: Settings) -> int:
    return settings.max_jobs or os.cpu_count() or 1
