"""Nodes with real jobs rooms over the in-memory network, and small doubles of the rooms beside it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.clock import SystemClock
from zstui.engine.commands import JobSpec
from zstui.engine.config import Settings
from zstui.engine.errors import GuildExpired, InvalidModule, NotPermitted, ProtocolError
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.model import Timing
from zstui.engine.jobs.room import Offer
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.model import Execution, OutputFile, RunResult
from zstui.engine.jobs.service import JobService
from zstui.engine.net.memory import MemoryHub
from zstui.engine.reputation.score import Outcome
from zstui.engine.store.database import Database
from zstui.engine.views import ApprovalState, ApprovalView, ChannelView, ExecutorView, JobView, Role

GUILD = "ab" * 32
QUICK = Timing(
    heartbeat=0.05,
    silence=0.4,
    answer=2.0,
    retry=0.02,
    retry_most=0.05,
    grace=0.6,
    fetch=5.0,
    prompt=0.02,
    coalesce=0.005,
    drain=0.2,
)


def wasm(name: str) -> bytes:
    return b"\0asm\1\0\0\0" + name.encode()


class Guild:
    """One guild that all nodes of a world share; sealing is an HMAC over sender, context and text."""

    def __init__(self) -> None:
        self.roles: dict[PeerId, Role] = {}
        self.over = False
        self.sealed: list[bytes] = []

    def at(self, me: PeerId) -> GuildDouble:
        return GuildDouble(self, me)


class GuildDouble:
    def __init__(self, guild: Guild, me: PeerId) -> None:
        self._guild = guild
        self._me = me

    def resolve(self, text: str) -> str:
        return GUILD if text in (GUILD, "lab") else text

    def name_of(self, guild_id: str) -> str:
        return "lab"

    def role_of(self, guild_id: str, peer: PeerId) -> Role | None:
        return None if self._guild.over or guild_id != GUILD else self._guild.roles.get(peer)

    def members(self, guild_id: str) -> Mapping[PeerId, Role]:
        return dict(self._guild.roles)

    def require(self, guild_id: str, peer: PeerId, *roles: Role) -> None:
        if self.role_of(guild_id, peer) not in roles:
            raise NotPermitted("Not with your role.")

    def seal(self, guild_id: str, plaintext: bytes, context: bytes = b"") -> bytes:
        if self._guild.over:
            raise GuildExpired("The guild is over.")
        self._guild.sealed.append(context)
        return self._tag(self._me, plaintext, context) + plaintext

    async def unseal(self, guild_id: str, sender: PeerId, sealed: bytes, context: bytes = b"") -> bytes:
        if self._guild.over:
            raise GuildExpired("The guild is over.")
        tag, plaintext = sealed[:32], sealed[32:]
        if guild_id != GUILD or sender not in self._guild.roles or tag != self._tag(sender, plaintext, context):
            raise ProtocolError("Not sealed for this guild.")
        return plaintext

    @staticmethod
    def _tag(sender: PeerId, plaintext: bytes, context: bytes) -> bytes:
        return hmac.digest(b"guild key", sender.encode() + b"|" + context + b"|" + plaintext, "sha256")


class ChannelDouble:
    def __init__(self) -> None:
        self.open: dict[PeerId, ChannelView] = {}

    def funds_with(self, peer: PeerId) -> ChannelView | None:
        return self.open.get(peer)

    def set(self, peer: PeerId, mine_u: int, theirs_u: int) -> None:
        self.open[peer] = ChannelView(
            channel_id="cd" * 32,
            peer_id=peer,
            state="active",
            epoch=1,
            mine_u=mine_u,
            theirs_u=theirs_u,
            deposit_mine_u=mine_u,
            deposit_theirs_u=theirs_u,
            sequence=0,
            expires_at=2**40,
        )


OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]


class Guest:
    """A scripted program: prints, reports progress, waits, ends."""

    def __init__(
        self,
        printed: tuple[bytes, ...] = (b"hello\n",),
        *,
        status: Literal["success", "failure", "timeout", "error"] = "success",
        fault: Literal["none", "payer", "executor"] = "none",
        exit_code: int | None = 0,
        duration_us: int = 3_000,
        memory_bytes: int = 1 << 20,
        live_memory: tuple[int, ...] = (),
        gas: int = 4242,
        hold: asyncio.Event | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """``files`` is what it leaves in /out; the one named "echo" holds what it read at /in. ``live_memory`` is what it says
        when it is asked while it runs, one answer after the other."""
        self.printed = printed
        self.status = status
        self.fault = fault
        self.exit_code = exit_code
        self.duration_us = duration_us
        self.memory_bytes = memory_bytes
        self.live_memory = list(live_memory)
        self.gas = gas
        self.hold = hold
        self.files = files or {}


class SandboxDouble:
    def __init__(self) -> None:
        self.guests: dict[bytes, Guest] = {}
        self.runs: list[Execution] = []
        self.controls: list[RunControl] = []
        self.at_once = 0
        self.most_at_once = 0

    async def check(self, module: bytes, function: str = "_start") -> None:
        if not module.startswith(b"\0asm"):
            raise InvalidModule("Not a WebAssembly module: it does not begin with \\0asm.")
        if function == "missing":
            raise InvalidModule("The module has no function 'missing'.")

    async def run(
        self,
        execution: Execution,
        *,
        on_output: OnOutput,
        on_progress: Callable[[float], None],
        stop: asyncio.Event | None = None,
        control: RunControl | None = None,
    ) -> RunResult:
        self.runs.append(execution)
        guest = self.guests.get(execution.module, Guest())
        self.controls.append(own := control or RunControl())
        own.attach(
            lambda paused: None, lambda: own.told_memory(guest.live_memory.pop(0)) if guest.live_memory else None
        )
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        stopped = False
        try:
            for part in guest.printed:
                on_output("stdout", part)
                await asyncio.sleep(0)
            on_output("stderr", b"note\n")
            on_progress(0.5)
            if guest.hold is not None:
                waits = {asyncio.create_task(e.wait()) for e in (guest.hold, stop) if e is not None}
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
                stopped = stop is not None and stop.is_set()
            else:
                await asyncio.sleep(guest.duration_us / 1e6)
        finally:
            self.at_once -= 1
        printed = b"".join(guest.printed)
        return RunResult(
            status="cancelled" if stopped else guest.status,
            exit_code=None if stopped else guest.exit_code,
            fault="payer" if stopped else guest.fault,
            reason="" if guest.status == "success" else "It went wrong.",
            gas=guest.gas,
            gas_exact=not stopped,
            duration_us=guest.duration_us,
            memory_bytes=guest.memory_bytes,
            stdout_hash=hashlib.sha256(printed).digest(),
            stdout_bytes=len(printed),
            outputs=self._leave(guest, execution),
        )

    def _leave(self, guest: Guest, execution: Execution) -> tuple[OutputFile, ...]:
        """Write the guest's files; "echo" holds all that it found in /in."""
        if not execution.out_dir:
            return ()
        left = []
        for name, content in sorted(guest.files.items()):
            if name == "echo":
                content = b"".join(f.name.encode() + b"=" + Path(f.path).read_bytes() for f in execution.inputs)
            path = Path(execution.out_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            left.append(OutputFile(name, str(path), len(content), hashlib.sha256(content).digest()))
        return tuple(left)


class Peer:
    """One node: its jobs room is real; what it asks of its neighbours is kept in lists."""

    def __init__(self, world: World, name: str, role: Role, settings: dict[str, object]) -> None:
        self.world = world
        self.name = name
        self.home = world.root / name
        self.home.mkdir(exist_ok=True)
        self.identity = Identity(hashlib.sha256(name.encode()).digest())
        self.id = self.identity.peer_id
        self.settings = Settings(home=self.home, **({"audit_share": 0.0} | settings))  # type: ignore[arg-type]
        self.sandbox = SandboxDouble()
        self.channels = ChannelDouble()
        self.requests: list[PaymentRequest] = []
        self.purse: Callable[[PaymentRequest], Awaitable[ApprovalView | None]] | None = None
        """Answers requests instead of ``requests``."""
        self.states: dict[str, ApprovalState] = {}
        """Of requests, for ``payment_state``."""
        self.outcomes: list[Outcome] = []
        self.blocked: set[PeerId] = set()
        self.clock = SystemClock()
        world.guild.roles[self.id] = role

    async def start(self) -> Peer:
        self.bus = Bus()
        self.db = await Database.open(self.home / "db.sqlite", store.SCHEMA)
        self.network = self.world.hub.add(self.id, self.bus)
        self.jobs = JobService(
            self.identity,
            self.settings,
            self.network,
            self.db,
            self.bus,
            self.clock,
            guilds=self.world.guild.at(self.id),
            channels=self.channels,
            sandbox=self.sandbox,
            output_dir=self.home / "output",
            name_of=self.world.name_of,
            card_of=self.world.card_of,
            request_payment=self.request_payment,
            record_outcome=self.record_outcome,
            admits=lambda peer, guild_id: peer not in self.blocked,
            payment_state=self.states.get,
            timing=self.world.timing,
            candidates=lambda spec: self.world.candidates(self, spec),
        )
        await self.jobs.start()
        return self

    async def stop(self) -> None:
        await self.jobs.stop()
        await self.network.stop()
        await self.db.close()

    async def kill(self) -> None:
        """As kill -9: nothing is finished, nothing is said, nothing more is written."""

        async def never(_: object) -> None:
            await asyncio.Future()

        self.db.write = never  # type: ignore[method-assign, assignment]
        self.world.hub.remove(self.id)
        await self.jobs._room.stop_tasks()
        await self.network.stop()
        await self.db.close()

    async def request_payment(self, request: PaymentRequest) -> ApprovalView | None:
        if self.purse is not None:
            return await self.purse(request)
        if request.request_id not in {r.request_id for r in self.requests}:
            self.requests.append(request)
        return None

    async def record_outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    async def submit(self, to: Peer, name: str = "tool", **fields: object) -> JobView:
        return await self.jobs.submit(self.spec(name, **({"queue_s": 1} | fields)), to.id)

    def spec(self, name: str = "tool", **fields: object) -> JobSpec:
        path = self.home / f"{name}.wasm"
        if not path.exists():
            path.write_bytes(wasm(name))
        return JobSpec(module=str(path), guild="lab", **fields)  # type: ignore[arg-type]

    async def run(self, to: Peer, name: str = "tool", **fields: object) -> JobView:
        view = await self.submit(to, name, **fields)
        return await asyncio.wait_for(self.jobs.wait(view.job_id), 10)


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.hub = MemoryHub()
        self.guild = Guild()
        self.timing = QUICK
        self.peers: dict[str, Peer] = {}

    async def peer(self, name: str, role: Role = "member", **settings: object) -> Peer:
        peer = self.peers[name] = await Peer(self, name, role, settings).start()
        return peer

    async def pair(self, **settings: object) -> tuple[Peer, Peer]:
        """Alice who submits and Bob who runs, with a channel."""
        alice, bob = await self.peer("alice", "creator"), await self.peer("bob", "executor", **settings)
        self.fund(alice, bob)
        return alice, bob

    def fund(self, payer: Peer, payee: Peer, amount_u: int = 10_000_000) -> None:
        payer.channels.set(payee.id, amount_u, 0)
        payee.channels.set(payer.id, 0, amount_u)

    def name_of(self, peer: PeerId) -> str:
        return next((p.name for p in self.peers.values() if p.id == peer), peer[-6:])

    def card_of(self, peer: PeerId) -> Offer | None:
        found = next((p for p in self.peers.values() if p.id == peer), None)
        if found is None:
            return None
        s = found.settings
        return Offer(
            executor=s.executor or self.guild.roles.get(peer) == "executor",
            memory_mib=s.max_memory_mib,
            timeout_s=s.max_timeout_s,
            price_per_second_nano=s.price_per_second_nano,
            price_per_mib_nano=s.price_per_mib_nano,
            note_ms=s.note_ms,
            accept_ms=s.accept_ms,
            exposure_max_u=s.exposure_max_u,
        )

    def candidates(self, me: Peer, spec: JobSpec) -> list[ExecutorView]:
        """The executors of the guild in the order of their names; those not on the network are offline."""
        found = sorted((p for p in self.peers.values() if p is not me and self.is_executor(p.id)), key=lambda p: p.name)
        return [
            ExecutorView(
                peer_id=p.id,
                name=p.name,
                rank=number,
                score=0.5,
                completed=0,
                price_per_second_nano=p.settings.price_per_second_nano,
                price_per_mib_nano=p.settings.price_per_mib_nano,
                online=p.id in me.network.connected(),
                refusal="" if p.id in me.network.connected() else "offline",
                cores=p.settings.max_jobs or 1,
            )
            for number, p in enumerate(found, 1)
        ]

    def is_executor(self, peer: PeerId) -> bool:
        return self.guild.roles.get(peer) == "executor"

    async def stop(self) -> None:
        for peer in self.peers.values():
            await peer.stop()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true; fails the test if it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  any condition, no event to wait for
            await asyncio.sleep(0.005)
