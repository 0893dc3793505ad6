"""What the jobs room needs of its neighbours, no more."""

from __future__ import annotations

from asyncio import Event
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.manifest import Capabilities
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.model import Execution, RunResult
from zstui.engine.reputation.score import Outcome
from zstui.engine.views import ApprovalState, ApprovalView, Funds, Role


class GuildPort(Protocol):
    def resolve(self, text: str) -> str: ...
    def name_of(self, guild_id: str) -> str: ...
    def role_of(self, guild_id: str, peer: PeerId) -> Role | None: ...
    def members(self, guild_id: str) -> Mapping[PeerId, Role]: ...
    def require(self, guild_id: str, peer: PeerId, *roles: Role) -> None: ...
    def seal(self, guild_id: str, plaintext: bytes, context: bytes = b"") -> bytes: ...
    async def unseal(self, guild_id: str, sender: PeerId, sealed: bytes, context: bytes = b"") -> bytes: ...


class ChannelPort(Protocol):
    def funds_with(self, peer: PeerId) -> Funds | None: ...


class FundingPort(Protocol):
    async def __call__(self, executor: PeerId, amount_u: int) -> None: ...


class SandboxPort(Protocol):
    async def check(self, module: bytes, function: str = "_start") -> None: ...
    async def run(
        self,
        execution: Execution,
        *,
        on_output: Callable[[Literal["stdout", "stderr"], bytes], None],
        on_progress: Callable[[float], None],
        stop: Event | None = None,
        control: RunControl | None = None,
    ) -> RunResult: ...


class PayLine(Protocol):
    """The line of a payment, as channels hand it over."""

    @property
    def amount_u(self) -> int: ...
    @property
    def agreement(self) -> bytes: ...
    @property
    def kind(self) -> int: ...
    @property
    def ref(self) -> bytes: ...


NameOf = Callable[[PeerId], str]
CardOf = Callable[[PeerId], Capabilities | None]
RequestPayment = Callable[[PaymentRequest], Awaitable[ApprovalView | None]]
"""Ask for all that is due under an agreement, less what was paid; None where nothing is left to pay."""
PaymentState = Callable[[str], ApprovalState | None]
"""State of the payment asked for a receipt id, None if it is not known."""
RecordOutcome = Callable[[Outcome], Awaitable[None]]
Admits = Callable[[PeerId, str], bool]
"""(peer, guild id): False for one that is blocked, everywhere or there."""
