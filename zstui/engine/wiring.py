"""Builds every service of a node and passes each what it may use of the others."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from zstui.engine.between import Between
from zstui.engine.bus import Bus
from zstui.engine.channels import store as channel_store
from zstui.engine.channels.approvals import store as approval_store
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.discharges.service import DischargeService
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.vault.model import Deposit
from zstui.engine.channels.vault.service import VaultService
from zstui.engine.clock import Clock
from zstui.engine.complaints.service import ComplaintService
from zstui.engine.config import Settings
from zstui.engine.dht.messages import PROTOCOL as KAD_PROTOCOL
from zstui.engine.dht.rendezvous import CARDS, Rendezvous
from zstui.engine.dht.service import Dht
from zstui.engine.events import CardChanged, GuildChanged, GuildCreated, OutcomeRecorded
from zstui.engine.guilds.service import GuildService
from zstui.engine.home import Home
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs.funding import Funding
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.jobs.service import JobService
from zstui.engine.logs import LogBook
from zstui.engine.market.service import Market
from zstui.engine.net.service import NetService
from zstui.engine.pubsub.announcements import Announcements, Subject
from zstui.engine.pubsub.metrics import PubSubMetrics
from zstui.engine.reputation import store as reputation_store
from zstui.engine.reputation.service import ReputationService
from zstui.engine.reputation.testimonies import Testimonies
from zstui.engine.routing.service import Routing
from zstui.engine.search.service import PeerSearch
from zstui.engine.services import Profile, Services
from zstui.engine.store.database import Database
from zstui.engine.store.upkeep import Prune, Upkeep
from zstui.engine.telemetry import Telemetry

PRUNES: tuple[Prune, ...] = (
    channel_store.prune,
    channel_store.prune_lines,
    channel_store.prune_evidence,
    channel_store.prune_reservations,
    approval_store.prune,
    reputation_store.prune,
)
"""What is deleted once nobody can need it any more. Jobs, cases, mail and messages see to themselves."""

DialAgain = Callable[[Deposit, NetService], None]


def build(
    settings: Settings,
    home: Home,
    clock: Clock,
    identity: Identity,
    db: Database,
    profile: Profile,
    *,
    tainted: bool,
    restored: bool,
    dial_again: DialAgain,
) -> Services:
    """Nothing is started. ``tainted`` and ``restored``: what is known of the database's past; ``dial_again`` looks for the
    peers that a deposit of mine names."""
    bus = Bus()
    between = Between(identity, settings, home, profile, clock, bus)
    approvals: ApprovalService
    disputes: DisputeService
    jobs: JobService
    market: Market
    net = NetService(
        identity,
        settings,
        db,
        bus,
        clock,
        admits=between.admits,
        my_card=between.my_card,
        wanted=between.has_business_with,
    )
    between.net = net
    dht = Dht(net, net.contacts, db, bus, clock, (CARDS,))
    net.contacts.find_with(dht.find_peer)
    net.contacts.link_in_passing(KAD_PROTOCOL)
    reputation = ReputationService(db, bus, clock, name_of=net.name_of)
    between.reputation = reputation
    testimonies = Testimonies(identity, reputation, bus, clock, tells=settings.testify)
    guilds = GuildService(
        identity,
        net,
        db,
        bus,
        clock,
        name_of=net.name_of,
        addresses=net.addresses,
        connect=net.connect,
        card_of=net.card_of,
        is_known=net.is_named,
    )
    between.guilds = guilds
    sandbox = Sandbox(home.cache, settings.max_jobs)
    channels = ChannelService(
        identity,
        net,
        db,
        bus,
        clock,
        name_of=net.name_of,
        credit_limit=between.credit_limit,
        at_risk=lambda peer: jobs.standing.at_risk(peer),
        owed=lambda peer: jobs.standing.owed(peer),
        reserved=lambda peer: jobs.standing.reserved(peer),
        on_credit=between.on_credit,
        on_acknowledged=between.on_acknowledged,
        on_undone=between.on_undone,
        tainted=tainted,
        restored=lambda: vault.restored,
        nominate=lambda peer, wanted, expires_s: disputes.nomination(peer, wanted, expires_s),
        agreed_witnesses=lambda peer: disputes.nomination.agreed(peer),
        action_in_case=lambda channel_id: disputes.action(channel_id),
    )
    between.channels = channels
    disputes = DisputeService(
        identity,
        net,
        db,
        bus,
        clock,
        channels=channels,
        name_of=net.name_of,
        candidates=between.could_witness,
        runs_jobs=between.runs_jobs_for,
        willing=lambda peer: settings.witness and between.admits(peer) and bool(guilds.shared_with(peer)),
        shares_guild=lambda peer: bool(guilds.shared_with(peer)),
        fellows=lambda peer: between.fellow_members(peer) or between.fellow_members(identity.peer_id),
        guilds_of=between.guilds_of,
        blacklist=between.punish,
        tainted=tainted,
    )
    between.disputes = disputes
    vault = VaultService(
        identity,
        net,
        db,
        bus,
        clock,
        channels.books,
        member=lambda peer: bool(guilds.shared_with(peer)),
        extras=between.what_else_is_kept,
        found=lambda deposit: dial_again(deposit, net),
        restored=restored,
    )
    channels.links.prepare = vault.prepare
    discharges = DischargeService(identity, net, db, bus, clock, channels.books, name_of=net.name_of)
    approvals = ApprovalService(
        db,
        bus,
        clock,
        channel=channels.funds_with,
        pay=channels.pay,
        context=between.context,
        due=between.due,
        settings=settings,
        signed=channel_store.signed_under,
    )
    between.approvals = approvals
    jobs = JobService(
        identity,
        settings,
        net,
        db,
        bus,
        clock,
        guilds=guilds,
        channels=channels,
        sandbox=sandbox,
        output_dir=home.output,
        name_of=net.name_of,
        card_of=net.card_of,
        request_payment=approvals.bill,
        record_outcome=reputation.record,
        admits=between.admits,
        fund=Funding(channels, net.name_of, settings.credit_member_u, lambda peer: jobs.standing.reserved(peer)),
        payment_state=between.payment_state,
        candidates=lambda spec: market.candidates(spec),
    )
    between.jobs = jobs
    complaints = ComplaintService(
        identity.peer_id,
        db,
        bus,
        clock,
        disputes=disputes,
        reruns=jobs.reruns,
        request_payment=approvals.bill,
        record_outcome=reputation.record,
        name_of=net.name_of,
        guild_name=between.guild_name,
        runs_jobs=between.runs_jobs_for,
        tainted=tainted,
    )
    between.complaints = complaints
    jobs.owner.changed = between.offer_changed
    routing = Routing(
        db,
        bus,
        clock,
        result_of=jobs.standing.result,
        typical_us=jobs.standing.typical_us,
        cores_of=between.cores_of,
        known=lambda: {p.peer_id for p in net.views()},
    )
    net.choose_relays(routing)
    search = PeerSearch(bus, known=lambda: [p.peer_id for p in net.views()], card_of=net.card_of)
    market = Market(
        jobs=jobs.standing,
        guilds=guilds,
        reputation=reputation,
        net=net,
        settings=settings,
        own_speed=between.own_speed,
        uptime=jobs.standing.uptime,
        soon=routing.learned,
        search=search,
        heard=testimonies.of,
    )
    announcements = Announcements(
        identity,
        net,
        net.contacts,
        bus,
        clock,
        settings.network,
        (
            Subject("cards", net.contacts.hear_card, between.my_card, (CardChanged,)),
            Subject("guilds", guilds.heralds.overheard, guilds.heralds.word, (GuildChanged, GuildCreated)),
            Subject("testimonies", testimonies.overheard, testimonies.word, (OutcomeRecorded,)),
        ),
        app_score=between.gossip_score,
    )
    registry = CollectorRegistry()
    registry.register(PubSubMetrics(announcements))
    telemetry = Telemetry(
        bus,
        registry,
        settings,
        guild_sizes=guilds.sizes,
        channel_balances=lambda: {
            ch.channel_id: (ch.mine_u, ch.theirs_u) for ch in channels.views() if ch.state != "closed"
        },
        scores=lambda: {r.peer_id: r.score for r in reputation.rank()},
        blacklisted=reputation.blocked,
        health=lambda: "The database cannot be written." if db.failed.is_set() else "",
    )
    return Services(
        profile=profile,
        settings=settings,
        home=home,
        identity=identity,
        clock=clock,
        bus=bus,
        db=db,
        upkeep=Upkeep(db, home.database, clock, PRUNES),
        net=net,
        guilds=guilds,
        channels=channels,
        vault=vault,
        discharges=discharges,
        disputes=disputes,
        complaints=complaints,
        approvals=approvals,
        reputation=reputation,
        testimonies=testimonies,
        sandbox=sandbox,
        jobs=jobs,
        market=market,
        dht=dht,
        rendezvous=Rendezvous(
            dht,
            net,
            bus,
            my_card=between.my_card,
            runs_jobs=lambda: settings.executor or between.runs_jobs(),
            open_guilds=lambda: [g.guild_id for g in guilds.views() if g.state == "joined" and not g.private],
        ),
        routing=routing,
        announcements=announcements,
        search=search,
        telemetry=telemetry,
        logs=LogBook(bus, home.logs, clock, between.named),
    )
