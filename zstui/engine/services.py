"""All services of one node, named. Built by ``node``, used by ``verbs`` and ``projection``."""

from __future__ import annotations

from dataclasses import dataclass

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.discharges.service import DischargeService
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.vault.service import VaultService
from zstui.engine.clock import Clock
from zstui.engine.complaints.service import ComplaintService
from zstui.engine.config import Settings
from zstui.engine.dht.rendezvous import Rendezvous
from zstui.engine.dht.service import Dht
from zstui.engine.guilds.service import GuildService
from zstui.engine.home import Home
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.jobs.service import JobService
from zstui.engine.logs import LogBook
from zstui.engine.market.service import Market
from zstui.engine.net.service import NetService
from zstui.engine.pubsub.announcements import Announcements
from zstui.engine.reputation.service import ReputationService
from zstui.engine.reputation.testimonies import Testimonies
from zstui.engine.routing.service import Routing
from zstui.engine.search.service import PeerSearch
from zstui.engine.store.database import Database
from zstui.engine.store.upkeep import Upkeep
from zstui.engine.telemetry import Telemetry

NAME_LIMIT = 32
"""Characters in a node's name."""


@dataclass
class Profile:
    """What the owner may change while the node runs."""

    name: str
    chosen: bool
    """The name is one that the owner gave, not the machine's."""
    backed_up_us: int = 0
    """When the latest backup was taken; 0: never."""


@dataclass(frozen=True)
class Services:
    profile: Profile
    settings: Settings
    home: Home
    identity: Identity
    clock: Clock
    bus: Bus
    db: Database
    upkeep: Upkeep
    net: NetService
    guilds: GuildService
    channels: ChannelService
    vault: VaultService
    discharges: DischargeService
    disputes: DisputeService
    complaints: ComplaintService
    approvals: ApprovalService
    reputation: ReputationService
    testimonies: Testimonies
    sandbox: Sandbox
    jobs: JobService
    market: Market
    search: PeerSearch
    dht: Dht
    rendezvous: Rendezvous
    routing: Routing
    announcements: Announcements
    telemetry: Telemetry
    logs: LogBook
