"""What the outside sees of a node: frozen structs, the same for screens, scripts and JSON output.

Conventions: ``_u`` integer micro-units, ``_nano`` integer nano-units, ``_us`` a duration in integer microseconds, ``_at``
and ``_until`` Unix time in integer seconds (None: never). Ids are text: peer ids in base58, all others in lower-case hex.
All text that a peer chose has been stripped of control and bidi characters before it gets here, but may still contain
characters that a markup language gives a meaning.
"""

from __future__ import annotations

from zstui.engine.views.backup import BackupChannelView, BackupView, RestoreView
from zstui.engine.views.base import View
from zstui.engine.views.feed import (
    ApprovalUpdated,
    Area,
    BatchUpdated,
    ChannelUpdated,
    Feed,
    FeedEvent,
    GuildMessage,
    GuildUpdated,
    JobOutput,
    JobUpdated,
    Logged,
    PeerUpdated,
    RanksUpdated,
    Removed,
    StatusUpdated,
)
from zstui.engine.views.guilds import GuildMemberView, GuildMessageView, GuildStateName, GuildView, InviteView, Role
from zstui.engine.views.jobs import (
    BatchState,
    BatchView,
    CheckView,
    EstimateView,
    ExecutorView,
    Fault,
    FileView,
    JobOutputView,
    JobState,
    JobView,
    WorkView,
)
from zstui.engine.views.money import (
    ApprovalState,
    ApprovalView,
    ChannelStateName,
    ChannelView,
    DecisionView,
    DischargeView,
    GrantView,
    LedgerView,
    PaymentKind,
    PolicyView,
    RehearsalView,
    RehearsedAction,
    RehearsedCount,
    RehearsedPart,
    RehearsedPayment,
    Urgency,
)
from zstui.engine.views.node import LogLevel, LogLine, Snapshot, StatusView
from zstui.engine.views.peers import CapabilitiesView, PathKind, PeerState, PeerView
from zstui.engine.views.reputation import RankView

__all__ = [
    "ApprovalState",
    "ApprovalUpdated",
    "ApprovalView",
    "Area",
    "BackupChannelView",
    "BackupView",
    "BatchState",
    "BatchUpdated",
    "BatchView",
    "CapabilitiesView",
    "ChannelStateName",
    "ChannelUpdated",
    "ChannelView",
    "CheckView",
    "DecisionView",
    "DischargeView",
    "EstimateView",
    "ExecutorView",
    "Fault",
    "Feed",
    "FeedEvent",
    "FileView",
    "GrantView",
    "GuildMemberView",
    "GuildMessage",
    "GuildMessageView",
    "GuildStateName",
    "GuildUpdated",
    "GuildView",
    "InviteView",
    "JobOutput",
    "JobOutputView",
    "JobState",
    "JobUpdated",
    "JobView",
    "LedgerView",
    "LogLevel",
    "LogLine",
    "Logged",
    "PathKind",
    "PaymentKind",
    "PeerState",
    "PeerUpdated",
    "PeerView",
    "PolicyView",
    "RankView",
    "RanksUpdated",
    "RehearsalView",
    "RehearsedAction",
    "RehearsedCount",
    "RehearsedPart",
    "RehearsedPayment",
    "Removed",
    "RestoreView",
    "Role",
    "Snapshot",
    "StatusUpdated",
    "StatusView",
    "Urgency",
    "View",
    "WorkView",
]
