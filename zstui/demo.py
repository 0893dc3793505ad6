"""A play-money network on loopback: three peer processes with homes of their own, a guild and the sample jobs.

The peers are ordinary ``zstui node`` processes driven through their control sockets, in a temporary folder that is removed at
the end. They stop by themselves when this process is gone, however it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from zstui.engine import commands as c
from zstui.engine.config import Settings
from zstui.engine.control import ControlClient
from zstui.engine.errors import DeadlineExceeded, ZsError
from zstui.engine.home import Home
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.money import format_amount
from zstui.engine.node import Node
from zstui.engine.views import ChannelView, GuildView, JobView

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
PEERS = {"north": "executor", "south": "executor", "east": "member"}
"""Name and guild role of each peer; all three consent to run code, so that "east" can re-run a job as a witness."""
LONG_JOBS = ("--max-timeout", "600", "--note-ms", "5000")
"""The peers take jobs of ten minutes, and ask to be paid every five seconds."""
START_S = 30.0
STEP_S = 30.0


class Ready(msgspec.Struct):
    """First line on a node's stdout."""

    event: str
    peer_id: str
    addresses: tuple[str, ...]
    metrics: str
    notices: tuple[str, ...] = ()


class PeerProcess:
    """One ``zstui node`` in a process of its own; ``engine`` is its control client."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.network = folder.name
        self.home = Home(folder / name)
        self.engine = ControlClient(self.home.socket)
        self.ready: Ready | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def peer_id(self) -> str:
        assert self.ready is not None
        return self.ready.peer_id

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *options: str) -> Ready:
        """Start it and wait for its ready line. Raises ZsError with its last words if it fails."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zstui", "--home", str(self.home.path), "node", "--name", self.name),
            *("--listen", f"{LOOPBACK}:0", "--mdns-interface", LOOPBACK, "--metrics", "none"),
            *("--network", self.network),
            *("--stop-with-stdin", "--demo", *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        except TimeoutError:
            raise DeadlineExceeded(f"The demo peer {self.name} did not start within {START_S:.0f} s.") from None
        if not line:
            words = (await self._process.stderr.read()).decode(errors="replace").strip().splitlines()
            raise ZsError(f"The demo peer {self.name} did not start: {words[-1] if words else 'it said nothing'}")
        self.ready = msgspec.json.decode(line, type=Ready)
        return self.ready

    async def stop(self) -> None:
        """Close its stdin, which ends it in order; kill it if it takes longer than 5 s."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def network() -> AsyncIterator[tuple[Node, dict[str, PeerProcess]]]:
    """A started node of one's own and three started peers; all is stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="zstui-demo-") as name:
        folder = Path(name)
        home = Home(folder / "me")
        settings = Settings(
            home=home.path,
            name="you",
            listen=f"{LOOPBACK}:0",
            mdns_interface=LOOPBACK,
            network=folder.name,
            metrics=f"{LOOPBACK}:0",
            demo=True,
        )
        peers = {name: PeerProcess(name, folder) for name in PEERS}
        node = Node(settings, home)
        try:
            await asyncio.gather(node.start(), *(peer.start("--executor", *LONG_JOBS) for peer in peers.values()))
            yield node, peers
        finally:
            await asyncio.gather(node.stop(), *(peer.stop() for peer in peers.values()))


async def until(what: str, probe: Callable[[], Awaitable[T | None]], seconds: float = STEP_S) -> T:
    """Ask again and again until ``probe`` gives something. Raises DeadlineExceeded that names ``what``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(ZsError):
            found = await probe()
            if found:
                return found
        await asyncio.sleep(0.02)
    raise DeadlineExceeded(f"Within {seconds:.0f} s there was no {what}.")


async def sees(engine: c.Engine, guild_id: str) -> GuildView | None:
    return next((g for g in await engine.execute(c.ListGuilds()) if g.guild_id == guild_id), None)


# --- the app ---------------------------------------------------------------------------------------------------------


async def run_app() -> int:
    """The full-screen app on the demo network; the peers have formed a guild to join."""
    from zstui.app import run_app as run

    print("Starting a play-money network of three peers on loopback ...", flush=True)
    async with network() as (node, peers):
        populate = asyncio.create_task(_populate(peers))
        try:
            return await run(node, failed=node.failed)
        finally:
            populate.cancel()
            await asyncio.gather(populate, return_exceptions=True)


async def _populate(peers: dict[str, PeerProcess]) -> None:
    north = peers["north"]
    guild = await north.engine.execute(c.CreateGuild(name="render-farm"))
    for name in ("south", "east"):
        engine = peers[name].engine
        await until(f"guild seen by {name}", lambda engine=engine: sees(engine, guild.guild_id))  # type: ignore[misc]
        await engine.execute(c.JoinGuild(guild=guild.guild_id, role="executor" if name == "south" else "member"))


# --- the whole workflow without a screen -----------------------------------------------------------------------------


class Disagreement(ZsError):
    """Two sides hold different facts."""

    code = "disagreement"


def agree(what: str, *values: object) -> None:
    """Raises Disagreement unless all values are equal."""
    if any(value != values[0] for value in values):
        raise Disagreement(f"The sides disagree on {what}: {', '.join(map(str, values))}.")


class Walk:
    """Prints numbered steps with their durations and keeps them, in milliseconds, in ``steps``."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self.steps: dict[str, float] = {}
        self._echo = echo

    async def step(self, name: str, work: Awaitable[T], tell: Callable[[T], str]) -> T:
        begin = time.perf_counter()
        result = await work
        self.steps[name] = (time.perf_counter() - begin) * 1000
        self._echo(f"{len(self.steps):>2}. {name:<22} {self.steps[name]:>9.1f} ms   {tell(result)}")
        return result


async def run_headless() -> int:
    """Walk the eleven steps of the workflow; 0 only if every side agrees on balances, receipt, attestation and score."""
    begin = time.perf_counter()
    async with network() as (node, peers):
        print(
            f"Three peers and a node of your own on loopback, play money ({time.perf_counter() - begin:.1f} s to start)."
        )
        await walk(node, peers, print)
    print(f"All sides agree. {time.perf_counter() - begin:.1f} s in all.")
    return 0


async def walk(node: Node, peers: dict[str, PeerProcess], echo: Callable[[str], None]) -> dict[str, float]:
    """The workflow itself; returns the duration of each step in milliseconds. Raises ZsError at the first disagreement."""
    north, east = peers["north"], peers["east"]
    me = (await node.execute(c.Status())).peer_id
    run = Walk(echo)

    async def discover() -> int:
        async def all_online() -> bool:
            online = {p.peer_id for p in await node.execute(c.ListPeers()) if p.state == "online"}
            return online >= {p.peer_id for p in peers.values()}

        await until("link to all three peers", all_online)
        return len(peers)

    async def form() -> GuildView:
        guild = await node.execute(c.CreateGuild(name="render-farm"))
        for name, role in PEERS.items():
            engine = peers[name].engine
            await until(f"guild seen by {name}", lambda engine=engine: sees(engine, guild.guild_id))  # type: ignore[misc]
            await engine.execute(c.JoinGuild(guild=guild.guild_id, role=role))  # type: ignore[arg-type]
        return await node.execute(c.JoinGuild(guild=guild.guild_id)) if guild.role is None else guild

    async def open_channel() -> ChannelView:
        return await node.execute(c.OpenChannel(peer=north.peer_id, amount_u=20_000_000))

    def spec(module: str, *args: str, witnesses: int = 0) -> c.JobSpec:
        return c.JobSpec(
            module=module,
            guild=guild.guild_id,
            executor=north.peer_id,
            args=args,
            max_price_u=2_000_000,
            witnesses=witnesses,
        )

    async def receipt() -> dict[str, object]:
        bundle = await node.execute(c.ShowReceipt(receipt=done.receipt_id))
        theirs = await north.engine.execute(c.ShowReceipt(receipt=done.receipt_id))
        for side in (bundle, theirs):
            bad = [check for check in verify_bundle(side) if not check.ok]
            if bad:
                raise Disagreement(f"The receipt does not verify: {bad[0].name}: {bad[0].detail}")
        agree("the receipt", bundle["receipt_id"], theirs["receipt_id"], done.receipt_id)
        return bundle

    async def ended() -> JobView:
        async def now() -> JobView | None:
            view = await node.execute(c.ShowJob(job=job.job_id))
            return view if view.state not in ("queued", "running") else None

        return await until("end of the job", now, 60)

    async def attested() -> JobView:
        async def both() -> JobView | None:
            here = await node.execute(c.ShowJob(job=job.job_id))
            there = await north.engine.execute(c.ShowJob(job=job.job_id))
            return here if here.attestations == there.attestations == (east.peer_id,) else None

        return await until("attestation on both sides", both)

    async def pay(of: JobView) -> JobView:
        """All that is asked for the job: a run of many seconds has been billed in part while it ran."""

        async def settled() -> JobView | None:
            for request in await node.execute(c.ListApprovals()):
                if request.job_id == of.job_id and request.state == "waiting":
                    pay = c.PayApproval(request=request.request_id, amount_u=request.amount_u, typed=True)
                    await node.execute(pay)
            here = await node.execute(c.ShowJob(job=of.job_id))
            there = await north.engine.execute(c.ShowJob(job=of.job_id))
            return here if here.paid == there.paid == "paid" else None

        return await until("payment on both sides", settled)

    async def more_jobs() -> int:
        for number in range(4):
            short = await node.execute(c.SubmitJob(spec=spec("hello", str(number))))
            await pay(await node.execute(c.WaitJob(job=short.job_id)))
        return 4

    async def outcome() -> float:
        async def ranked() -> float | None:
            row = next((r for r in await node.execute(c.Rank()) if r.peer_id == north.peer_id), None)
            return row.score if row is not None and row.completed == 5 and row.rank == 1 else None

        return await until("rank for north after five jobs", ranked)

    async def close() -> ChannelView:
        await node.execute(c.CloseChannel(channel=channel.channel_id))

        async def closed() -> ChannelView | None:
            here = await node.execute(c.ShowChannel(channel=channel.channel_id))
            there = await north.engine.execute(c.ShowChannel(channel=channel.channel_id))
            if here.state == there.state == "closed":
                agree("the final balances", (here.mine_u, here.theirs_u), (there.theirs_u, there.mine_u))
                return here
            return None

        ended = await until("closed channel on both sides", closed)
        owed = {ledger.peer_id: ledger for ledger in await node.execute(c.ListLedger())}[north.peer_id]
        due = {ledger.peer_id: ledger for ledger in await north.engine.execute(c.ListLedger())}[me]
        agree("what is owed", owed.i_owe_u, due.owed_to_me_u, channel.deposit_mine_u - ended.mine_u)
        return ended

    async def dissolve() -> GuildView:
        ended = await node.execute(c.DissolveGuild(guild=guild.guild_id))

        async def gone() -> bool:
            return all(
                [
                    (g := await sees(peer.engine, guild.guild_id)) is None or g.state == "dissolved"
                    for peer in peers.values()
                ]
            )

        await until("end of the guild on every side", gone)
        return ended

    await run.step("find peers", discover(), lambda n: f"{n} peers online over mDNS and QUIC")
    guild = await run.step("form guild", form(), lambda g: f"{g.name}: north and south executors, east member")
    channel = await run.step(
        "open channel",
        open_channel(),
        lambda ch: f"{ch.channel_id[:8]} with north, {format_amount(ch.mine_u)} promised",
    )
    job = await run.step(
        "submit manifest",
        node.execute(c.SubmitJob(spec=spec("primes", witnesses=1))),
        lambda j: f"job {j.job_id[:8]} {j.module}",
    )
    done = await run.step(
        "execute",
        ended(),
        lambda j: f"{j.state}, exit {j.exit_code}, {j.duration_us / 1e6:.2f} s, {j.memory_bytes >> 10} KiB",
    )
    if done.state != "done":
        raise Disagreement(f"The job {done.state}: {done.why}")
    await run.step("verify receipt", receipt(), lambda b: f"{done.receipt_id[:8]} verifies offline on both sides")
    await run.step("attest", attested(), lambda j: f"east re-ran it: same output {j.output_hash[:8]}")
    await run.step("pay", pay(done), lambda j: f"{format_amount(j.cost_u)} to north, signed and acknowledged")
    await run.step("record outcomes", more_jobs(), lambda n: f"{n} more jobs run and paid")
    await run.step("rank", outcome(), lambda score: f"north is #1 with {score:.3f}")
    await run.step(
        "settle", close(), lambda ch: f"closed, {format_amount(ch.mine_u)} mine, {format_amount(ch.theirs_u)} north's"
    )
    await run.step("dissolve guild", dissolve(), lambda g: f"{g.name} is gone on every side")
    return run.steps
