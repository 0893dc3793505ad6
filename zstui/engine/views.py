"""What the outside sees of a node: frozen structs, the same for screens, scripts and JSON output.

Conventions: ``_u`` integer micro-units, ``_nano`` integer nano-units, ``_us`` a duration in integer microseconds, ``_at``
and ``_until`` Unix time in integer seconds (None: never). Ids are text: peer ids in base58, all others in lower-case hex.
All text that a peer chose has been stripped of control and bidi characters before it gets here, but may still contain
characters that a markup language gives a meaning.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all views."""


# --- peers -----------------------------------------------------------------------------------------------------------

PeerState = Literal["online", "connecting", "offline", "blocked"]
PathKind = Literal["lan", "direct", "relay"]


class CapabilitiesView(View, frozen=True, kw_only=True):
    """What a peer says it offers, from its signed capability card."""

    executor: bool = False
    """Whether it runs others' jobs at all."""
    cores: int = 0
    memory_mib: int = 0
    """Memory it gives one job at most."""
    timeout_s: int = 0
    price_per_second_nano: int = 0
    price_per_mib_nano: int = 0
    tags: tuple[str, ...] = ()


class PeerView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str
    address: str
    """Multiaddr last used, "" if none is known."""
    state: PeerState
    path: PathKind | None = None
    """None while not connected."""
    rtt_ms: float | None = None
    score: float = 0.5
    capabilities: CapabilitiesView = CapabilitiesView()
    rtt_history_ms: tuple[float, ...] = ()
    """Up to 12 latest round trips, oldest first."""
    first_seen_at: int = 0
    last_seen_at: int = 0
    agent: str = ""
    why: str = ""
    """Why the peer is not online, or why this path was chosen; "" if there is nothing to say."""
    blocked_until: int | None = None


# --- guilds ----------------------------------------------------------------------------------------------------------

Role = Literal["creator", "executor", "member", "observer"]
GuildStateName = Literal["seen", "joined", "left", "expired", "dissolved"]


class GuildMemberView(View, frozen=True, kw_only=True):
    peer_id: str
    role: Role
    name: str = ""
    online: bool = False


class GuildView(View, frozen=True, kw_only=True):
    guild_id: str
    name: str
    creator: str
    creator_name: str = ""
    role: Role | None
    """My role; None while only seen."""
    members: tuple[GuildMemberView, ...]
    """Known members; empty for a guild only seen."""
    member_count: int
    max_members: int
    expires_at: int
    state: GuildStateName
    private: bool = False
    fingerprint: str = ""
    """Short form of the current group key's public fingerprint, e.g. "77ab·90c1"."""
    epoch: int = 0
    jobs: int = 0
    unread: int = 0


class GuildMessageView(View, frozen=True, kw_only=True):
    guild_id: str
    sender: str
    sender_name: str
    text: str
    sent_at: int
    system: bool = False


class InviteView(View, frozen=True, kw_only=True):
    invite: str
    """One string that carries guild, addresses and the creator's key."""
    code: str
    """Short confirmation words that both sides can read aloud."""
    expires_at: int


# --- jobs ------------------------------------------------------------------------------------------------------------

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Fault = Literal["none", "payer", "executor", "network", "payment"]


class CheckView(View, frozen=True, kw_only=True):
    """One thing that was verified, e.g. the receipt's signature."""

    name: str
    ok: bool
    detail: str = ""


class JobView(View, frozen=True, kw_only=True):
    job_id: str
    mine: bool
    """True: I submitted it and pay. False: I run it for another."""
    module: str
    """File name of the module as the submitter gave it."""
    module_cid: str
    function: str = "_start"
    args: tuple[str, ...] = ()
    guild_id: str
    guild_name: str = ""
    submitter: str
    submitter_name: str = ""
    executor: str | None
    executor_name: str = ""
    state: JobState
    progress: float | None = None
    """0 to 1 as the job itself reports; None if it does not."""
    elapsed_us: int = 0
    timeout_us: int = 0
    exit_code: int | None = None
    fault: Fault = "none"
    output_hash: str = ""
    """SHA-256 of stdout, lower-case hex."""
    gas: int = 0
    gas_exact: bool = False
    duration_us: int = 0
    memory_bytes: int = 0
    max_memory_bytes: int = 0
    cost_u: int = 0
    max_cost_u: int = 0
    receipt_id: str = ""
    attestations: tuple[str, ...] = ()
    """Peers that re-ran the job and signed that they got the same result."""
    paid: Literal["", "unpaid", "paying", "paid", "declined", "free"] = ""
    why: str = ""
    """One sentence: why it waits, failed, or was refused, naming each peer."""
    created_at: int = 0
    finished_at: int | None = None


class JobOutputView(View, frozen=True, kw_only=True):
    job_id: str
    stdout: bytes
    stderr: bytes
    complete: bool
    path: str = ""
    """File in the home that holds stdout, "" if there is none."""


class EstimateView(View, frozen=True, kw_only=True):
    """What a job would cost, before it is submitted."""

    max_cost_u: int
    """Largest amount that can be asked for: all of the time and memory limit, under the cap."""
    typical_cost_u: int | None
    """From finished jobs with the same module; None if there are none."""
    typical_duration_us: int | None
    candidates: tuple[ExecutorView, ...]


class ExecutorView(View, frozen=True, kw_only=True):
    """One possible executor, ranked; those that cannot take the job carry the reason."""

    peer_id: str
    name: str
    rank: int
    score: float
    completed: int
    price_per_second_nano: int
    price_per_mib_nano: int
    online: bool
    refusal: str = ""


# --- money -----------------------------------------------------------------------------------------------------------

ChannelStateName = Literal["opening", "active", "closing", "closed", "disputed"]


class ChannelView(View, frozen=True, kw_only=True):
    channel_id: str
    peer_id: str
    peer_name: str = ""
    state: ChannelStateName
    reason: str = ""
    """Why it is closed or disputed: "cooperative", "void", ..."""
    epoch: int
    mine_u: int
    theirs_u: int
    deposit_mine_u: int
    deposit_theirs_u: int
    sequence: int
    """My half's sequence number."""
    sequence_theirs: int = 0
    expires_at: int
    at_risk_u: int = 0
    """Work I did for this peer that is not paid yet, plus payments of mine it has not acknowledged."""
    unacknowledged: int = 0
    action: str = ""
    """Who must act, by when; "" if nobody."""


class LedgerView(View, frozen=True, kw_only=True):
    """Pairwise clearing balance with one peer over all closed channels."""

    peer_id: str
    peer_name: str = ""
    owed_to_me_u: int
    i_owe_u: int
    credit_limit_u: int


Urgency = Literal["ask", "typed", "blocked"]
ApprovalState = Literal["waiting", "paying", "paid", "declined", "expired", "failed"]


class ApprovalView(View, frozen=True, kw_only=True):
    """One payment that waits for a person. Everything the Pay window shows is in here, frozen at one moment."""

    request_id: str
    peer_id: str
    peer_name: str
    peer_first_seen_at: int
    peer_named: bool = False
    """The name is one that I gave, not the peer's own."""
    job_id: str
    guild_id: str
    guild_name: str
    my_role: str
    peer_role: str
    score: float
    completed: int
    module: str
    exit_code: int | None
    fault: Fault
    duration_us: int
    memory_bytes: int
    price_per_second_nano: int
    price_per_mib_nano: int
    amount_u: int
    max_cost_u: int
    receipt_id: str
    agreement_id: str
    checks: tuple[CheckView, ...]
    verified: bool
    """All checks passed."""
    channel_id: str
    """"" if no channel is open with this peer."""
    sequence: int
    """Sequence number that the payment will carry."""
    before_u: int
    after_u: int
    peer_before_u: int
    peer_after_u: int
    limits: tuple[str, ...]
    """Grants in force and how much of each is used, one line each."""
    urgency: Urgency
    """ask: one key pays. typed: the amount must be typed. blocked: cannot be paid."""
    why: str
    expires_at: int
    state: ApprovalState
    created_at: int = 0

    def signed_fields(self) -> tuple[object, ...]:
        """What a payment commits to. A change in any of these disarms an open Pay window."""
        return (
            self.peer_id,
            self.job_id,
            self.amount_u,
            self.receipt_id,
            self.agreement_id,
            self.channel_id,
            self.sequence,
            self.urgency,
            self.verified,
        )


class GrantView(View, frozen=True, kw_only=True):
    scope: Literal["node", "guild", "peer", "job"]
    subject: str
    """Peer, guild or job id; "" for the node."""
    per_payment_u: int
    per_day_u: int
    total_u: int
    spent_day_u: int
    spent_total_u: int
    expires_at: int | None


class PolicyView(View, frozen=True, kw_only=True):
    grants: tuple[GrantView, ...]
    typed_above_u: int
    """Payments above this ask for the amount to be typed."""
    credit_member_u: int
    credit_stranger_u: int


# --- reputation ------------------------------------------------------------------------------------------------------


class RankView(View, frozen=True, kw_only=True):
    rank: int | None
    """None: fewer than five jobs, or blacklisted."""
    peer_id: str
    name: str
    score: float
    """After decay, in [0, 1]."""
    completed: int
    failed: int
    avg_duration_us: int
    avg_cost_u: int
    blacklisted_until: int | None
    blacklist_reason: str = ""
    success_part: float = 0.0
    """This and the next three, weighted, add up to the score before decay."""
    speed_part: float = 0.0
    cost_part: float = 0.0
    longevity_part: float = 0.0
    first_seen_at: int = 0
    last_seen_at: int = 0
    trend: tuple[float, ...] = ()
    """Scores after each of the last outcomes, oldest first."""
    receipts: tuple[str, ...] = ()
    """Receipt ids behind the latest outcomes."""


# --- node ------------------------------------------------------------------------------------------------------------


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
    executor: bool = False
    metrics: str = ""
    home: str = ""
    version: str = ""
    demo: bool = False
    first_run: bool = False
    """The owner has not chosen a name yet."""
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


class Snapshot(View, frozen=True, kw_only=True):
    """All of it at one moment."""

    status: StatusView
    peers: tuple[PeerView, ...] = ()
    guilds: tuple[GuildView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    channels: tuple[ChannelView, ...] = ()
    approvals: tuple[ApprovalView, ...] = ()
    """Those that wait, are being paid, or are still owed: declined, expired or failed."""
    ranks: tuple[RankView, ...] = ()
    log: tuple[LogLine, ...] = ()


# --- the feed: what changed since the snapshot -----------------------------------------------------------------------

Area = Literal["peers", "guilds", "jobs", "channels", "approvals", "ranks"]


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


class ChannelUpdated(FeedEvent, frozen=True, kw_only=True):
    view: ChannelView


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
    | ChannelUpdated
    | ApprovalUpdated
    | RanksUpdated
    | Removed
    | JobOutput
    | GuildMessage
    | Logged
)
