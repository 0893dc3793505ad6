"""What changed since the snapshot."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.disputes import DisputeView
from zstui.engine.views.guilds import GuildMessageView, GuildView
from zstui.engine.views.jobs import BatchView, JobView
from zstui.engine.views.money import ApprovalView, ChannelView
from zstui.engine.views.node import LogLine, StatusView
from zstui.engine.views.peers import PeerView
from zstui.engine.views.reputation import RankView

Area = Literal["peers", "guilds", "jobs", "channels", "approvals", "disputes", "ranks", "batches"]


class FeedEvent(View, frozen=True, tag=True):
    """Base of what a node streams to screens and to ``subscribe``. At most 10 a second for one key."""


class StatusUpdated(FeedEvent, frozen=True, kw_only=True):
    view: StatusView


class PeerUpdated(FeedEvent, frozen=True, kw_only=True):
    view: PeerView


class GuildUpdated(FeedEvent, frozen=True, kw_only=True):
    view: GuildView


class JobUpdated(FeedEvent, frozen=True, kw_only=True):
    view: JobView


class BatchUpdated(FeedEvent, frozen=True, kw_only=True):
    view: BatchView


class ChannelUpdated(FeedEvent, frozen=True, kw_only=True):
    view: ChannelView


class DisputeUpdated(FeedEvent, frozen=True, kw_only=True):
    view: DisputeView


class ApprovalUpdated(FeedEvent, frozen=True, kw_only=True):
    view: ApprovalView


class RanksUpdated(FeedEvent, frozen=True, kw_only=True):
    views: tuple[RankView, ...]


class Removed(FeedEvent, frozen=True, kw_only=True):
    area: Area
    key: str


class JobOutput(FeedEvent, frozen=True, kw_only=True):
    job_id: str
    stream: Literal["stdout", "stderr"]
    offset: int
    data: bytes


class GuildMessage(FeedEvent, frozen=True, kw_only=True):
    view: GuildMessageView


class Logged(FeedEvent, frozen=True, kw_only=True):
    line: LogLine


Feed = (
    StatusUpdated
    | PeerUpdated
    | GuildUpdated
    | JobUpdated
    | BatchUpdated
    | ChannelUpdated
    | ApprovalUpdated
    | DisputeUpdated
    | RanksUpdated
    | Removed
    | JobOutput
    | GuildMessage
    | Logged
)
