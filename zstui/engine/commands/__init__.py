"""Every verb that a person, a screen or a script can ask of a node, each a frozen struct with its result type.

``Command[R]`` means that executing it returns an ``R``. A node, the control client and nothing else implement ``Engine``.
Ids may be given as any unambiguous prefix; peers also by name. Every command raises a ``ZsError`` subclass on refusal.
"""

from __future__ import annotations

from zstui.engine.commands.base import Command, Engine
from zstui.engine.commands.guilds import (
    CreateGuild,
    DissolveGuild,
    GuildsCommand,
    InviteToGuild,
    JoinGuild,
    KickMember,
    LeaveGuild,
    ListGuilds,
    ListMessages,
    SendMessage,
)
from zstui.engine.commands.jobs import (
    CancelJob,
    EstimateJob,
    GetOutput,
    JobsCommand,
    JobSpec,
    ListJobs,
    RerunJob,
    ShowJob,
    ShowReceipt,
    SubmitJob,
    WaitJob,
)
from zstui.engine.commands.money import (
    CloseChannel,
    ListApprovals,
    ListChannels,
    ListLedger,
    MoneyCommand,
    OpenChannel,
    PayApproval,
    RejectApproval,
    ReopenApproval,
    SetGrant,
    SetLimits,
    ShowChannel,
    ShowPolicy,
)
from zstui.engine.commands.node import (
    Backup,
    BlockPeer,
    Connect,
    ListPeers,
    NamePeer,
    NodeCommand,
    Rank,
    SetName,
    Status,
    UnblockPeer,
)

AnyCommand = NodeCommand | GuildsCommand | JobsCommand | MoneyCommand

__all__ = [
    "AnyCommand",
    "Backup",
    "BlockPeer",
    "CancelJob",
    "CloseChannel",
    "Command",
    "Connect",
    "CreateGuild",
    "DissolveGuild",
    "Engine",
    "EstimateJob",
    "GetOutput",
    "InviteToGuild",
    "JobSpec",
    "JoinGuild",
    "KickMember",
    "LeaveGuild",
    "ListApprovals",
    "ListChannels",
    "ListGuilds",
    "ListJobs",
    "ListLedger",
    "ListMessages",
    "ListPeers",
    "NamePeer",
    "OpenChannel",
    "PayApproval",
    "Rank",
    "RejectApproval",
    "ReopenApproval",
    "RerunJob",
    "SendMessage",
    "SetGrant",
    "SetLimits",
    "SetName",
    "ShowChannel",
    "ShowJob",
    "ShowPolicy",
    "ShowReceipt",
    "Status",
    "SubmitJob",
    "UnblockPeer",
    "WaitJob",
]
