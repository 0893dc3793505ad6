"""What a room asks about rooms that it does not know: whom a node admits, trusts and answers for.

The rooms are set one by one as they are built; nothing here is asked before all of them are.
"""

from __future__ import annotations

import contextlib
import itertools
import os

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals.model import PaymentRequest, PeerContext
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.vault.deposit import Extras
from zstui.engine.channels.vault.model import PeerKept
from zstui.engine.clock import US, Clock
from zstui.engine.complaints.service import ComplaintService
from zstui.engine.config import Settings
from zstui.engine.errors import UnknownChannel, UnknownGuild
from zstui.engine.events import WorkChanged
from zstui.engine.guilds.service import GuildService
from zstui.engine.hardware import processor_model
from zstui.engine.home import Home
from zstui.engine.identity import envelope
from zstui.engine.identity.card import MAX_HARDWARE, MAX_REGION, Card
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.sandbox import calibration
from zstui.engine.jobs.service import JobService
from zstui.engine.net.service import NetService
from zstui.engine.reputation.score import UNKNOWN
from zstui.engine.reputation.service import ReputationService
from zstui.engine.services import Profile
from zstui.engine.store.database import Tx
from zstui.engine.views import ApprovalState

MAX_PEERS_KEPT = 128
"""Peers that a deposit names."""


class Between:
    """Each method is handed to a lower room as a function."""

    net: NetService
    reputation: ReputationService
    guilds: GuildService
    channels: ChannelService
    disputes: DisputeService
    approvals: ApprovalService
    jobs: JobService
    complaints: ComplaintService

    def __init__(
        self, identity: Identity, settings: Settings, home: Home, profile: Profile, clock: Clock, bus: Bus
    ) -> None:
        self.identity = identity
        self.settings = settings
        self.home = home
        self.profile = profile
        self.clock = clock
        self.bus = bus
        self.hardware = processor_model() if settings.hardware == "auto" else settings.hardware

    def my_card(self) -> bytes:
        return envelope.seal(
            self.identity,
            Card(
                name=self.profile.name,
                executor=self.settings.executor or self.runs_jobs(),
                cores=os.cpu_count() or 1,
                memory_mib=self.jobs.owner.memory_mib,
                timeout_s=self.settings.max_timeout_s,
                price_per_second_nano=self.settings.price_per_second_nano,
                price_per_mib_nano=self.settings.price_per_mib_nano,
                tags=self.settings.tags,
                issued_us=self.clock.now_us(),
                closed=self.jobs.owner.closed(),
                speed=round(1000 * (self.own_speed() or 0)),
                hardware=clean_text(self.hardware, MAX_HARDWARE),
                region=clean_text(self.settings.region, MAX_REGION),
                modules=self.jobs.standing.usual_modules(self.settings.card_modules),
                note_ms=self.settings.note_ms,
                accept_ms=self.settings.accept_ms,
                exposure_max_u=self.settings.exposure_max_u,
            ),
        )

    def own_speed(self) -> float | None:
        measured = calibration.load(self.home.calibration)
        return None if measured is None else measured.score

    def runs_jobs(self) -> bool:
        me = self.identity.peer_id
        return any(self.guilds.role_of(guild_id, me) == "executor" for guild_id in self.guilds.shared_with(me))

    def runs_jobs_for(self, peer: PeerId, guild_id: str = "") -> bool:
        """Whether ``peer`` is known to run others' jobs: by its card, or as an executor of a guild (of this one)."""
        card = self.net.card_of(peer)
        guilds = (guild_id,) if guild_id else self.guilds.shared_with(peer)
        return (card is not None and card.executor) or any(
            self.guilds.role_of(guild_id, peer) == "executor" for guild_id in guilds
        )

    def guild_name(self, guild_id: str) -> str:
        with contextlib.suppress(UnknownGuild):
            return self.guilds.view(guild_id).name
        return "that guild"

    def admits(self, peer: PeerId, guild_id: str = "") -> bool:
        return self.reputation.blocked_until(peer, guild_id) is None

    def has_business_with(self, peer: PeerId) -> bool:
        """Whether a guild or a channel, and so perhaps a job, needs a link to ``peer``."""
        return bool(self.guilds.shared_with(peer)) or self.channels.active_with(peer) is not None

    def credit_limit(self, peer: PeerId) -> int:
        return 0 if self.disputes.at_fault(peer) else self.approvals.credit_limit(bool(self.guilds.shared_with(peer)))

    def fellow_members(self, peer: PeerId) -> list[PeerId]:
        """Members of all guilds that ``peer`` and I are in, but for the two."""
        shared = (self.guilds.members(guild_id) for guild_id in sorted(self.guilds.shared_with(peer)))
        found = dict.fromkeys(member for members in shared for member in members)
        return [member for member in found if member not in (peer, self.identity.peer_id)]

    def could_witness(self, peer: PeerId) -> list[PeerId]:
        """Observers only look on; all other members were told at joining that they may be asked."""
        roles = {g: self.guilds.members(g) for g in self.guilds.shared_with(peer)}
        return [
            member
            for member in self.fellow_members(peer)
            if any(
                members.get(member, "observer") != "observer" and self.admits(member, guild_id)
                for guild_id, members in roles.items()
            )
        ]

    def guilds_of(self, one: PeerId, two: PeerId) -> list[str]:
        """Guilds of mine that both are in; I may be one of them."""
        me = self.identity.peer_id
        others = [peer for peer in (one, two) if peer != me]
        return sorted(frozenset.intersection(*(frozenset(self.guilds.shared_with(peer)) for peer in others)))

    async def punish(self, peer: PeerId, hours: int, why: str, guild_id: str) -> None:
        if guild_id:
            await self.reputation.block_within(guild_id, peer, hours, why)
            return
        until = self.reputation.blocked_until(peer)
        if until is None or until < self.clock.now_us() // US + hours * 3600:
            await self.reputation.block(peer, hours, why)

    def on_acknowledged(self, tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
        self.approvals.acknowledged(tx, peer, line)
        self.jobs.payments.acknowledged(tx, peer, line)

    def on_undone(self, tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
        self.approvals.undone(tx, peer, line)

    def on_credit(self, tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
        self.jobs.payments.credited(tx, peer, line)
        self.complaints.credited(tx, peer, line)

    def context(self, request: PaymentRequest) -> PeerContext:
        peer = request.peer_id
        return PeerContext(
            peer_name=self.net.name_of(peer),
            peer_named=self.net.is_named(peer),
            first_seen_at=self.net.first_seen_at(peer),
            guild_name=self.guilds.name_of(request.guild_id),
            my_role=self.guilds.role_of(request.guild_id, self.identity.peer_id) or "",
            peer_role=self.guilds.role_of(request.guild_id, peer) or "",
            score=self.reputation.score(peer),
            completed=self.reputation.completed(peer),
            blacklisted=not self.admits(peer),  # a block within a guild stops new jobs, not what is owed
        )

    def what_else_is_kept(self) -> Extras:
        known = (p for p in self.net.views() if p.address)
        return Extras(
            name=self.profile.name,
            peers=tuple(
                PeerKept(p.peer_id, p.name if self.net.is_named(p.peer_id) else "", p.address)
                for p in itertools.islice(known, MAX_PEERS_KEPT)
            ),
            guilds=tuple((g.guild_id, g.name) for g in self.guilds.views() if g.state == "joined"),
        )

    def due(self, request: PaymentRequest) -> int:
        if request.kind == "refund":
            return request.max_cost_u - request.paid_before_u
        if request.fault in ("executor", "network"):
            return 0
        return (
            cost(
                request.price_per_second_nano,
                request.price_per_mib_nano,
                request.duration_us,
                request.memory_bytes,
                request.max_cost_u,
            ).total_u
            - request.paid_before_u
        )

    def payment_state(self, receipt_id: str) -> ApprovalState | None:
        return self.approvals.state(receipt_id)

    def named(self, identifier: str) -> str:
        guild = self.guilds.name_of(identifier)
        if guild:
            return guild
        with contextlib.suppress(UnknownChannel):
            return self.channels.view(identifier).peer_name
        return self.net.name_of(identifier)

    def gossip_score(self, peer: PeerId) -> float:
        """What a peer is worth in passing on announcements, beside how it behaves there."""
        return 5.0 * bool(self.guilds.shared_with(peer)) + 10.0 * max(0.0, self.reputation.score(peer) - UNKNOWN)

    def offer_changed(self) -> None:
        self.net.card_changed()
        self.bus.publish(WorkChanged())

    def cores_of(self, peer: PeerId) -> int:
        card = self.net.card_of(peer)
        return 1 if card is None else card.cores
