"""The only door between screens and a node: it turns the node's feed into current views and tells who watches.

The bridge holds the latest frozen view of every record, keyed by id. Updates arrive at the feed's pace; watchers are called
at most ``MAX_HZ`` times a second for one area, on the event loop, with nothing but the area's name: they read what they need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Literal, TypeVar

from zstui.engine.commands import Command, Engine
from zstui.engine.errors import ZsError
from zstui.engine.views import (
    ApprovalUpdated,
    ApprovalView,
    BatchUpdated,
    BatchView,
    ChannelUpdated,
    ChannelView,
    DisputeUpdated,
    DisputeView,
    GuildMessage,
    GuildMessageView,
    GuildUpdated,
    GuildView,
    JobOutput,
    JobUpdated,
    JobView,
    Logged,
    LogLine,
    PeerUpdated,
    PeerView,
    RanksUpdated,
    RankView,
    Removed,
    StatusUpdated,
    StatusView,
)

R = TypeVar("R")
WatchedArea = Literal[
    "status",
    "peers",
    "guilds",
    "jobs",
    "channels",
    "disputes",
    "approvals",
    "ranks",
    "batches",
    "log",
    "output",
    "messages",
]
MAX_HZ = 10
TURN = 256
"""Feed events applied before other tasks get a turn."""
LOG_LINES = 2000
OUTPUT_TAIL = 64 * 1024
OUTPUTS = 64
"""Jobs whose output is kept, the latest to print."""
MESSAGES = 500
"""Guild messages kept of one guild."""


class Bridge:
    """Create with an ``Engine``, ``await start()``, and read the dictionaries; never change them."""

    def __init__(self, engine: Engine, samples: Sequence[str] = ()) -> None:
        self._engine = engine
        self.samples = tuple(samples)
        """Names of the modules that come with zstui; a job spec takes them in place of a path."""
        self.status: StatusView | None = None
        self.peers: dict[str, PeerView] = {}
        self.guilds: dict[str, GuildView] = {}
        self.jobs: dict[str, JobView] = {}
        self.batches: dict[str, BatchView] = {}
        self.channels: dict[str, ChannelView] = {}
        self.disputes: dict[str, DisputeView] = {}
        """By the channel whose balances are disputed, or the id of the case about an output."""
        """Of my channels, and cases of others that this node witnesses."""
        self.approvals: dict[str, ApprovalView] = {}
        self.ranks: tuple[RankView, ...] = ()
        self.log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self.log_dropped = 0
        self.output: dict[str, bytearray] = {}
        """Tail of stdout of each job that printed since the start, at most ``OUTPUT_TAIL`` bytes each."""
        self.messages: dict[str, list[GuildMessageView]] = {}
        """Guild messages that arrived since the start."""
        self.lost: str = ""
        """Why the node is gone; "" while it is there."""
        self.changed: dict[str, set[str]] = {}
        """While watchers are called: ids of the records in each area that changed or went since they were last called."""
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._dirty: dict[str, set[str]] = {}
        self._flush_handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def execute(self, command: Command[R]) -> R:
        """Carry out a command on the node. Raises ZsError."""
        return await self._engine.execute(command)

    def watch(self, area: WatchedArea, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after changes in ``area``; returns a function that ends it."""
        callbacks = self._watchers.setdefault(area, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    async def start(self) -> None:
        """Read the first snapshot and begin to follow. Events are subscribed first, so nothing falls between."""
        events = self._engine.events()
        snapshot = await self._engine.snapshot()
        self.status = snapshot.status
        self.peers = {v.peer_id: v for v in snapshot.peers}
        self.guilds = {v.guild_id: v for v in snapshot.guilds}
        self.jobs = {v.job_id: v for v in snapshot.jobs}
        self.batches = {v.batch_id: v for v in snapshot.batches}
        self.channels = {v.channel_id: v for v in snapshot.channels}
        self.disputes = {v.key: v for v in snapshot.disputes}
        self.approvals = {v.request_id: v for v in snapshot.approvals}
        self.ranks = snapshot.ranks
        self.log.extend(snapshot.log)
        self._task = asyncio.create_task(self._follow(events), name="bridge")

    async def stop(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, events: AsyncIterator[object]) -> None:
        try:
            async with aclosing(events) as stream:  # type: ignore[type-var]
                turn = 0
                async for event in stream:
                    self._apply(event)
                    turn += 1
                    if turn % TURN == 0:
                        await asyncio.sleep(0)
        except (OSError, ZsError) as error:
            self.lost = str(error) or "the node is gone"
        else:
            self.lost = "the node stopped"
        self._mark("status")

    def _apply(self, event: object) -> None:
        match event:
            case StatusUpdated(view=view):
                self.status = view
                self._mark("status")
            case PeerUpdated(view=view):
                self.peers[view.peer_id] = view
                self._mark("peers", view.peer_id)
            case GuildUpdated(view=view):
                self.guilds[view.guild_id] = view
                self._mark("guilds", view.guild_id)
            case JobUpdated(view=view):
                self.jobs[view.job_id] = view
                self._mark("jobs", view.job_id)
            case BatchUpdated(view=view):
                self.batches[view.batch_id] = view
                self._mark("batches", view.batch_id)
            case ChannelUpdated(view=view):
                self.channels[view.channel_id] = view
                self._mark("channels", view.channel_id)
            case DisputeUpdated(view=view):
                self.disputes[view.key] = view
                self._mark("disputes", view.key)
            case ApprovalUpdated(view=view):
                self.approvals[view.request_id] = view
                self._mark("approvals", view.request_id)
            case RanksUpdated(views=views):
                self.ranks = views
                self._mark("ranks")
            case Removed(area=area, key=key):
                table = getattr(self, area)
                if isinstance(table, dict):
                    table.pop(key, None)
                self.output.pop(key, None)
                self.messages.pop(key, None)
                self._mark(area, key)
            case JobOutput(job_id=job_id, stream="stdout", data=data):
                tail = self.output.pop(job_id, bytearray())
                tail += data
                del tail[:-OUTPUT_TAIL]
                self.output[job_id] = tail
                if len(self.output) > OUTPUTS:
                    del self.output[next(iter(self.output))]
                self._mark("output", job_id)
            case GuildMessage(view=view):
                messages = self.messages.setdefault(view.guild_id, [])
                messages.append(view)
                del messages[:-MESSAGES]
                self._mark("messages", view.guild_id)
            case Logged(line=line):
                if len(self.log) == LOG_LINES:
                    self.log_dropped += 1
                self.log.append(line)
                self._mark("log")
            case _:
                pass

    def _mark(self, area: str, key: str = "") -> None:
        self._dirty.setdefault(area, set()).add(key)
        if self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_later(1 / MAX_HZ, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        self.changed, self._dirty = self._dirty, {}
        for area in self.changed:
            for callback in tuple(self._watchers.get(area, ())):
                callback()
        self.changed = {}
