"""The node itself, and all of it at one moment."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.disputes import DisputeView
from zstui.engine.views.guilds import GuildView
from zstui.engine.views.jobs import BatchView, JobView
from zstui.engine.views.money import ApprovalView, ChannelView
from zstui.engine.views.peers import PeerView
from zstui.engine.views.reputation import RankView


class TopicView(View, frozen=True, kw_only=True):
    """What is announced to the whole network on one subject."""

    subject: str
    topic: str
    """Its name on the wire (gossipsub)."""
    peers: int
    """Connected peers that take part."""
    mesh: int
    """Of these, so many pass everything on to this node at once, and it to them."""
    authors: int
    """Peers whose word came lately, connected or not."""


class StatusView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str
    addresses: tuple[str, ...]
    peers: int
    """Connected peers."""
    guilds: int
    jobs_running: int
    approvals: int
    owed_to_me_u: int
    i_owe_u: int
    balance_u: int = 0
    """Sum of my balances in open channels."""
    network: str = ""
    """Interface and address in use, or why there is no network."""
    seen_by: int = 0
    """Peers that lately reached this node by dialing back."""
    seen_at: int | None = None
    """When the latest did."""
    reachability: str = ""
    """One line on how others reach this node, "" while nothing is known."""
    executor: bool = False
    accepting: bool = True
    """Whether new work is taken from others, as far as the owner's switch and hours go."""
    draining_why: str = ""
    """Why not, "" while it is."""
    metrics: str = ""
    home: str = ""
    version: str = ""
    dht_contacts: int = 0
    """Peers in the routing table of the hash table."""
    dht_records: int = 0
    """Keys and values kept there for others."""
    topics: tuple[TopicView, ...] = ()
    demo: bool = False
    first_run: bool = False
    """The owner has not chosen a name yet."""
    backed_up_at: int | None = None
    """When the latest backup was taken, as far as this node knows."""
    database_bytes: int = 0
    """On disk, journal included."""
    notices: tuple[str, ...] = ()
    """Things a person should know, e.g. that another port was chosen."""


LogLevel = Literal["debug", "info", "warning", "error"]


class LogLine(View, frozen=True, kw_only=True):
    at_us: int
    level: LogLevel
    area: str
    text: str
    subject: str = ""
    """Id of the job, channel, guild or peer it is about."""
    detail: str = ""
    """The traceback of a fault of the program itself."""


class Snapshot(View, frozen=True, kw_only=True):
    """All of it at one moment."""

    status: StatusView
    peers: tuple[PeerView, ...] = ()
    guilds: tuple[GuildView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    batches: tuple[BatchView, ...] = ()
    channels: tuple[ChannelView, ...] = ()
    disputes: tuple[DisputeView, ...] = ()
    """Disputed channels of mine, and cases that this node witnesses; ended ones last."""
    approvals: tuple[ApprovalView, ...] = ()
    """Those that wait, are being paid, or are still owed: declined, expired or failed."""
    ranks: tuple[RankView, ...] = ()
    log: tuple[LogLine, ...] = ()
