"""Every verb that a person, a screen or a script can ask of a node, each a frozen struct with its result type.

``Command[R]`` means that executing it returns an ``R``. A node, the control client and nothing else implement ``Engine``.
Ids may be given as any unambiguous prefix; peers also by name. Every command raises a ``ZsError`` subclass on refusal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from zstui.engine.views import (
    ApprovalView,
    ChannelView,
    EstimateView,
    Feed,
    GrantView,
    GuildMessageView,
    GuildView,
    InviteView,
    JobOutputView,
    JobView,
    LedgerView,
    PeerView,
    PolicyView,
    RankView,
    Role,
    Snapshot,
    StatusView,
)

R = TypeVar("R", covariant=True)


class Command(msgspec.Struct, Generic[R], frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands; ``R`` is the type that executing it returns."""


class Engine(Protocol):
    """The one door to a node, embedded or attached."""

    async def execute(self, command: Command[R]) -> R:
        """Carry out one command. Raises ZsError."""

    async def snapshot(self) -> Snapshot:
        """All views at one moment."""

    def events(self) -> AsyncIterator[Feed]:
        """Changes from the moment of the call on, without end; close it with ``aclose``."""


# --- node and peers --------------------------------------------------------------------------------------------------


class Status(Command[StatusView], frozen=True, kw_only=True):
    pass


class ListPeers(Command[list[PeerView]], frozen=True, kw_only=True):
    like: str = ""
    """What a peer should offer, in words: only such peers, the most similar first. "" for all."""


class Connect(Command[PeerView], frozen=True, kw_only=True):
    address: str
    """Multiaddr, "host:port" (the peer proves its key, which is then shown), or a known peer's id or name."""


class NamePeer(Command[PeerView], frozen=True, kw_only=True):
    """Give a peer a name of my own; "" takes it back."""

    peer: str
    name: str


class SetName(Command[StatusView], frozen=True, kw_only=True):
    """The name that other peers see for this node. Kept in the home; a ``name`` in the settings wins at the next start."""

    name: str


class BlockPeer(Command[RankView], frozen=True, kw_only=True):
    peer: str
    hours: int = 24


class UnblockPeer(Command[RankView], frozen=True, kw_only=True):
    peer: str


# --- guilds ----------------------------------------------------------------------------------------------------------


class CreateGuild(Command[GuildView], frozen=True, kw_only=True):
    name: str
    ttl_s: int = 3600
    max_members: int = 50
    private: bool = False


class ListGuilds(Command[list[GuildView]], frozen=True, kw_only=True):
    pass


class JoinGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    """Guild id (or prefix, or name of one seen) or an invite string."""
    role: Role = "member"


class LeaveGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str


class DissolveGuild(Command[GuildView], frozen=True, kw_only=True):
    guild: str


class InviteToGuild(Command[InviteView], frozen=True, kw_only=True):
    guild: str


class KickMember(Command[GuildView], frozen=True, kw_only=True):
    guild: str
    peer: str


class SendMessage(Command[GuildMessageView], frozen=True, kw_only=True):
    guild: str
    text: str


class ListMessages(Command[list[GuildMessageView]], frozen=True, kw_only=True):
    guild: str


# --- jobs ------------------------------------------------------------------------------------------------------------


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run and under which limits. Prices are what the submitter is willing to pay at most."""

    module: str
    """Path of a .wasm file on the node's machine, or the name of a sample in assets."""
    guild: str
    executor: str | None = None
    """A peer, or None for the best ranked."""
    function: str = "_start"
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes = b""
    memory_mib: int = 128
    timeout_s: int = 30
    price_per_second_nano: int | None = None
    """None: the executor's own price."""
    price_per_mib_nano: int | None = None
    max_price_u: int = 1_000_000
    witnesses: int = 0


class EstimateJob(Command[EstimateView], frozen=True, kw_only=True):
    spec: JobSpec


class SubmitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns at once with the job queued or running."""

    spec: JobSpec


class WaitJob(Command[JobView], frozen=True, kw_only=True):
    """Returns when the job has ended (done, failed or cancelled) and asked-for attestations are in or given up."""

    job: str


class ListJobs(Command[list[JobView]], frozen=True, kw_only=True):
    pass


class ShowJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class GetOutput(Command[JobOutputView], frozen=True, kw_only=True):
    job: str


class CancelJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class RerunJob(Command[JobView], frozen=True, kw_only=True):
    job: str


class ShowReceipt(Command[dict[str, object]], frozen=True, kw_only=True):
    """The receipt with agreement, attestations and module id: everything ``receipt verify`` needs, offline."""

    receipt: str
    """Receipt id or job id."""


# --- money -----------------------------------------------------------------------------------------------------------


class OpenChannel(Command[ChannelView], frozen=True, kw_only=True):
    """Returns once both sides have signed."""

    peer: str
    amount_u: int
    theirs_u: int = 0
    expires_s: int = 86_400


class ListChannels(Command[list[ChannelView]], frozen=True, kw_only=True):
    pass


class ShowChannel(Command[ChannelView], frozen=True, kw_only=True):
    channel: str


class CloseChannel(Command[ChannelView], frozen=True, kw_only=True):
    """Cooperative: returns once closed, or with state "closing" if the peer is away."""

    channel: str
    unilateral: bool = False


class ListLedger(Command[list[LedgerView]], frozen=True, kw_only=True):
    pass


class ListApprovals(Command[list[ApprovalView]], frozen=True, kw_only=True):
    pass


class PayApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Sign one payment. Single use; refused if the request no longer asks for exactly ``amount_u``."""

    request: str
    amount_u: int | None = None
    """The amount that the person saw. A screen always passes it; None (a script that named the request) takes the current."""
    typed: bool = False
    """The person typed the amount, as urgency "typed" asks."""


class RejectApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Decline. The item stays in the records as declined and owed."""

    request: str


class ReopenApproval(Command[ApprovalView], frozen=True, kw_only=True):
    """Ask again: a declined or expired request, still owed, gets a fresh snapshot and a new time limit."""

    request: str


class ShowPolicy(Command[PolicyView], frozen=True, kw_only=True):
    pass


class SetGrant(Command[PolicyView], frozen=True, kw_only=True):
    """Allow payments without a keypress inside finite limits. All-zero limits take the grant away."""

    scope: Literal["node", "guild", "peer", "job"]
    subject: str = ""
    per_payment_u: int = 0
    per_day_u: int = 0
    total_u: int = 0
    expires_s: int | None = None


class SetLimits(Command[PolicyView], frozen=True, kw_only=True):
    """None leaves a value as it is."""

    typed_above_u: int | None = None
    credit_member_u: int | None = None
    credit_stranger_u: int | None = None


# --- reputation ------------------------------------------------------------------------------------------------------


class Rank(Command[list[RankView]], frozen=True, kw_only=True):
    category: str | None = None


AnyCommand = (
    Status
    | ListPeers
    | Connect
    | NamePeer
    | SetName
    | BlockPeer
    | UnblockPeer
    | CreateGuild
    | ListGuilds
    | JoinGuild
    | LeaveGuild
    | DissolveGuild
    | InviteToGuild
    | KickMember
    | SendMessage
    | ListMessages
    | EstimateJob
    | SubmitJob
    | WaitJob
    | ListJobs
    | ShowJob
    | GetOutput
    | CancelJob
    | RerunJob
    | ShowReceipt
    | OpenChannel
    | ListChannels
    | ShowChannel
    | CloseChannel
    | ListLedger
    | ListApprovals
    | PayApproval
    | RejectApproval
    | ReopenApproval
    | ShowPolicy
    | SetGrant
    | SetLimits
    | Rank
)

__all__ = ["AnyCommand", "Command", "Engine", "GrantView", "JobSpec"] + [cls.__name__ for cls in AnyCommand.__args__]
