"""Peers that lie, forge, flood or send noise."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.jobs.rig import GUILD, Guild, Peer, World, until, wasm
from zstui.engine.commands import JobSpec
from zstui.engine.errors import NetError, ProtocolError, Refused, ZsError
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs import messages as msg
from zstui.engine.jobs import store
from zstui.engine.jobs.artifacts import Artifacts, Cache
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.manifest import Manifest, open_manifest
from zstui.engine.jobs.protocol import SealedStream, accept_sealed, open_sealed
from zstui.engine.jobs.receipt import NO_CHANNEL, Agreement, Bid, Receipt, agreement_id, amount_due
from zstui.engine.net.link import ARTIFACT_PROTOCOL, JOB_PROTOCOL, Stream
from zstui.engine.net.memory import MemoryHub

OUT = b"output\n"


class Mallory:
    """An executor that follows the protocol but for what a test changes."""

    def __init__(self, world: World) -> None:
        self.identity = Identity(hashlib.sha256(b"mallory").digest())
        self.id = self.identity.peer_id
        world.guild.roles[self.id] = "executor"
        self.network = world.hub.add(self.id)
        self.guilds = world.guild.at(self.id)
        self.network.handle(JOB_PROTOCOL, self._serve)
        self.bid: dict[str, object] = {}
        self.receipt: dict[str, object] = {}
        self.output = OUT
        self.before_receipt: Callable[[SealedStream], Awaitable[None]] | None = None
        self.offers = 0
        self.receipts: list[bytes] = []
        self.signer = self.identity

    async def _serve(self, stream: Stream) -> None:
        s = await accept_sealed(stream, self.guilds, JOB_PROTOCOL)
        first = await s.receive(5)
        if isinstance(first, msg.Attach):
            await s.send(msg.Refusal("unknown", "what job?"))
            return
        assert isinstance(first, msg.Offer)
        self.offers += 1
        signed, m = open_manifest(first.manifest)
        bid = Bid(signed.digest, self.id, m.terms.price_per_second_nano, 0, NO_CHANNEL, 0, 2**50)
        await s.send(msg.Bidding(seal(self.identity, replace(bid, **self.bid))))
        accepted = await s.expect(msg.Accept, 5)
        theirs = open_envelope(accepted.agreement)
        agreement = theirs.decode(Agreement)
        await s.send(msg.Agreed(seal(self.identity, agreement)))
        await s.send(msg.Output("stdout", 0, self.output))
        if self.before_receipt is not None:
            await self.before_receipt(s)
        await s.send(msg.Done(self._receipt(m, agreement, agreement_id(theirs))))
        await s.expect(msg.Ack, 5)

    def _receipt(self, m: Manifest, a: Agreement, agreed: bytes) -> bytes:
        r = Receipt(
            agreement=agreed,
            manifest=a.manifest,
            submitter=a.submitter,
            executor=self.id,
            module_cid=m.module_cid,
            engine="wasmtime",
            ok=True,
            status="success",
            exit_code=0,
            fault="none",
            reason="",
            output_hash=hashlib.sha256(OUT).digest(),
            output_bytes=len(OUT),
            stderr_bytes=0,
            results=(),
            active_us=1000,
            memory_bytes=0,
            gas=1,
            gas_exact=True,
            total_due_u=0,
            started_us=1,
            finished_us=2,
        )
        r = replace(r, **{k: v for k, v in self.receipt.items() if k != "total_due_u"})
        due = amount_due(m, a, r.fault, r.active_us, r.memory_bytes).total_u
        raw = seal(self.signer, replace(r, total_due_u=self.receipt.get("total_due_u", due)))
        self.receipts.append(raw)
        return raw


async def submit(world: World, mallory: Mallory, alice: Peer | None = None, **fields: object) -> tuple[Peer, str]:
    alice = alice or await world.peer("alice", "creator")
    path = alice.home / "tool.wasm"
    path.write_bytes(wasm("tool"))
    prices = {"price_per_second_nano": 10**9, "price_per_mib_nano": 0} | fields
    spec = JobSpec(module=str(path), guild="lab", **prices)  # type: ignore[arg-type]
    return alice, (await alice.jobs.submit(spec, mallory.id)).job_id


async def test_an_honest_mallory_passes_so_the_lies_below_are_what_fails(world: World) -> None:
    alice, job_id = await submit(world, Mallory(world))
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.cost_u) == ("done", 1000)
    assert all(c.ok for c in alice.requests[0].checks), alice.requests[0].checks


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        ({"active_us": 20_000_000}, "duration"),
        ({"total_due_u": 999}, "cost"),
        ({"memory_bytes": 2**40}, "limits"),
        ({"output_hash": bytes(32)}, "output"),
        ({"output_bytes": 1}, "output"),
        ({"module_cid": cid_of(b"another")}, "module"),
        ({"status": "timeout"}, "result"),
    ],
)
async def test_a_lie_in_the_receipt_is_a_failed_check(world: World, lie: dict[str, object], check: str) -> None:
    mallory = Mallory(world)
    mallory.receipt = lie
    alice, job_id = await submit(world, mallory)
    await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    (request,) = alice.requests
    assert [c.name for c in request.checks if not c.ok] == [check]
    assert alice.outcomes == []


async def test_claiming_money_for_ones_own_failure_is_a_failed_check(world: World) -> None:
    mallory = Mallory(world)
    mallory.receipt = {"ok": False, "status": "error", "fault": "executor", "exit_code": None, "total_due_u": 5}
    alice, job_id = await submit(world, mallory)
    await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert [c.name for c in alice.requests[0].checks if not c.ok] == ["cost"]
    assert [o.success for o in alice.outcomes] == [False]


async def test_free_work_with_a_wrong_output_counts_against_the_executor(world: World) -> None:
    mallory = Mallory(world)
    mallory.receipt = {"output_hash": bytes(32)}
    alice, job_id = await submit(world, mallory, price_per_second_nano=0)
    await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert [o.success for o in alice.outcomes] == [False]


@pytest.mark.parametrize("lie", [{"agreement": bytes(32)}, {"manifest": bytes(32)}, {"gas": -1}])
async def test_a_receipt_for_something_else_ends_the_job_as_the_executors_fault(
    world: World, lie: dict[str, object]
) -> None:
    mallory = Mallory(world)
    mallory.receipt = lie
    alice, job_id = await submit(world, mallory)
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.fault, view.cost_u, alice.requests) == ("failed", "executor", 0, [])
    assert [(o.receipt_id, o.success) for o in alice.outcomes] == [(job_id, False)]


async def test_a_receipt_signed_by_another_key_is_no_receipt(world: World) -> None:
    mallory = Mallory(world)
    mallory.signer = Identity.generate()
    alice, job_id = await submit(world, mallory)
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.fault, view.receipt_id) == ("executor", "")


@pytest.mark.parametrize(
    "lie",
    [
        {"price_per_second_nano": 10**9 + 1},
        {"price_per_mib_nano": 1},
        {"price_per_second_nano": -1},
        {"manifest": bytes(32)},
        {"channel": b"short"},
    ],
)
async def test_a_bid_above_the_offer_is_never_signed(world: World, lie: dict[str, object]) -> None:
    mallory = Mallory(world)
    mallory.bid = lie
    alice, job_id = await submit(world, mallory)
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.receipt_id) == ("failed", "")
    assert "does not keep to the protocol" in view.why
    assert mallory.offers == 3
    assert mallory.receipts == []


@pytest.mark.parametrize(
    "noise",
    [
        msg.Output("stdout", 0, b"again"),
        msg.Output("stdout", 10**9, b"far"),
        msg.Output("stdout", len(OUT), b""),
        msg.Output("stderr", 0, b"x" * 50_000),
        msg.Bidding(b""),
        msg.Done(b"noise"),
    ],
)
async def test_output_out_of_order_or_nonsense_is_not_kept(world: World, noise: msg.Message) -> None:
    mallory = Mallory(world)

    async def send(s: SealedStream) -> None:
        for _ in range(40):
            await s.send(noise)

    mallory.before_receipt = send
    alice, job_id = await submit(world, mallory)
    view = await asyncio.wait_for(alice.jobs.wait(job_id), 20)
    assert (view.state, view.fault) == ("failed", "executor")
    output = await alice.jobs.output(job_id)
    assert output.stdout == OUT
    assert len(output.stderr) <= 1 << 20


async def test_one_receipt_pays_once(world: World) -> None:
    """The same receipt sent for a second job is refused: it belongs to the first."""
    mallory = Mallory(world)
    alice, first = await submit(world, mallory)
    await asyncio.wait_for(alice.jobs.wait(first), 20)
    old = mallory.receipts[0]
    mallory._receipt = lambda *_: old  # type: ignore[method-assign]
    _, second = await submit(world, mallory, alice)
    view = await asyncio.wait_for(alice.jobs.wait(second), 20)
    assert (view.state, view.fault) == ("failed", "executor")
    assert len(alice.requests) == 1


# --- against an executor ---------------------------------------------------------------------------------------------


async def offered(
    world: World, change: Callable[[Agreement], Agreement], *, ask_first: bool = False
) -> tuple[Peer, str]:
    """Negotiate with Bob as Alice would, but for ``change``; what Bob answers last.

    ``ask_first``: before the agreement is sent another stream asks whether Bob knows it.
    """
    alice, bob = await world.pair()
    view = await alice.submit(bob)
    await asyncio.wait_for(alice.jobs.wait(view.job_id), 20)
    raw = await alice.db.read(lambda tx: store.raw(tx, view.job_id, "manifest"))
    _, m = open_manifest(raw)
    raw = seal(alice.identity, replace(m, nonce=b"z" * 16))
    job_id = hashlib.sha256(raw).hexdigest()
    s = await open_sealed(alice.network, world.guild.at(alice.id), bob.id, JOB_PROTOCOL, GUILD, job_id)
    await s.send(msg.Offer(raw))
    bid_raw = (await s.expect(msg.Bidding, 2)).bid
    bid = open_envelope(bid_raw).decode(Bid)
    agreement = Agreement(
        manifest=bid.manifest,
        bid=hashlib.sha256(bid_raw).digest(),
        submitter=alice.id,
        executor=bob.id,
        channel=bid.channel,
        price_per_second_nano=bid.price_per_second_nano,
        price_per_mib_nano=bid.price_per_mib_nano,
        max_total_u=m.terms.max_total_u,
        exposure_u=312_800,
        created_us=1,
        nonce=b"n" * 16,
    )
    if ask_first:
        other = await open_sealed(alice.network, world.guild.at(alice.id), bob.id, JOB_PROTOCOL, GUILD, job_id)
        await other.send(msg.Attach(0, 0))
        assert isinstance(await other.receive(2), msg.Refusal)
    try:
        await s.send(msg.Accept(seal(alice.identity, change(agreement))))
        answer = type(await s.receive(2)).__name__
    except NetError as error:
        answer = type(error).__name__
    s.reset()
    return bob, answer


async def test_the_bids_own_terms_are_agreed(world: World) -> None:
    _, answer = await offered(world, lambda a: a)
    assert answer in ("Agreed", "Completed")


@pytest.mark.parametrize(
    "change",
    [
        {"price_per_second_nano": 1},
        {"price_per_mib_nano": 1},
        {"max_total_u": 1},
        {"exposure_u": 0},
        {"channel": bytes(32)},
        {"bid": bytes(32)},
        {"manifest": bytes(32)},
        {"nonce": b""},
    ],
)
async def test_other_terms_than_the_bids_are_dropped(world: World, change: dict[str, object]) -> None:
    bob, answer = await offered(world, lambda a: replace(a, **change))
    assert answer == "StreamClosed"
    assert len(bob.jobs.views()) == 1


async def test_an_agreement_that_was_denied_is_not_accepted_afterwards(world: World) -> None:
    bob, answer = await offered(world, lambda a: a, ask_first=True)
    assert answer == "StreamClosed"
    assert len(bob.jobs.views()) == 1


async def test_a_stranger_gets_nothing(world: World) -> None:
    alice, bob = await world.pair()
    view = await alice.run(bob)
    eve = await world.peer("eve", "member")
    other = world.guild.at(eve.id)
    for guild_id, first in (
        (GUILD, msg.Attach(0, 0)),
        (GUILD, msg.Attested(b"noise")),
        (GUILD, msg.Offer(b"noise")),
        (GUILD, msg.Audit(b"noise", b"noise")),
        (GUILD, msg.Ack()),
    ):
        s = await open_sealed(eve.network, other, bob.id, JOB_PROTOCOL, guild_id, view.job_id)
        await s.send(first)
        with pytest.raises((NetError, Refused)):
            await s.expect(msg.Done, 2)
    for artifact in (view.module_cid, "../../key", cid_of(b"")):
        s = await open_sealed(eve.network, other, alice.id, ARTIFACT_PROTOCOL, GUILD, view.job_id)
        await s.send(msg.Get(artifact))
        with pytest.raises(Refused, match="not an artifact"):
            await s.expect(msg.Chunk, 2)


async def test_an_offer_sealed_for_nobody_is_dropped(world: World) -> None:
    alice, bob = await world.pair()
    stream = await alice.network.open(bob.id, JOB_PROTOCOL)
    await stream.send(msgspec.msgpack.encode(msg.Head(bytes.fromhex(GUILD), bytes(32))))
    await stream.send(msgspec.msgpack.encode(msg.Packet(False, msgspec.msgpack.encode(msg.Offer(b"")))))
    with pytest.raises(NetError):
        await stream.receive(2)
    assert bob.jobs.views() == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
async def test_noise_only_ever_ends_the_stream(frames: list[bytes]) -> None:
    """The codec raises ZsError and nothing else, whatever comes in."""
    guild, hub = Guild(), MemoryHub()
    a, b = Identity.generate().peer_id, Identity.generate().peer_id
    guild.roles |= {a: "member", b: "member"}
    one, two = hub.add(a), hub.add(b)
    seen: list[object] = []

    async def handler(stream: Stream) -> None:
        try:
            s = await accept_sealed(stream, guild.at(b), JOB_PROTOCOL)
            seen.append(await s.receive(0.5))
        except ZsError as error:
            seen.append(error)

    two.handle(JOB_PROTOCOL, handler)
    stream = await one.open(b, JOB_PROTOCOL)
    for frame in frames:
        await stream.send(frame)
    await stream.close()
    await until(lambda: bool(seen))
    assert isinstance(seen[0], ZsError)
    await one.stop()
    await two.stop()


# --- artifacts -------------------------------------------------------------------------------------------------------


async def pull(world: World, chunks: list[msg.Message], size: int) -> bytes | None:
    """Fetch an artifact of ``size`` bytes from a peer that sends ``chunks``."""
    alice = await world.peer("alice", "creator")
    mallory = Mallory(world)

    async def serve(stream: Stream) -> None:
        s = await accept_sealed(stream, mallory.guilds, ARTIFACT_PROTOCOL)
        await s.expect(msg.Get, 5)
        for chunk in chunks:
            await s.send(chunk)

    mallory.network.handle(ARTIFACT_PROTOCOL, serve)
    artifacts: Artifacts = alice.jobs._room.artifacts
    await artifacts.fetch(mallory.id, GUILD, "00" * 32, cid_of(b"content"), size)
    return await artifacts.cache.get(cid_of(b"content"))


async def test_an_artifact_comes_in_chunks(world: World) -> None:
    assert await pull(world, [msg.Chunk(7, b"con"), msg.Chunk(7, b"tent")], 7) == b"content"


@pytest.mark.parametrize(
    "chunks",
    [
        [msg.Chunk(7, b"CONTENT")],
        [msg.Chunk(8, b"content!")],
        [msg.Chunk(7, b"content and more")],
        [msg.Chunk(7, b"")],
        [msg.Ack()],
    ],
)
async def test_a_wrong_artifact_is_not_kept(world: World, chunks: list[msg.Message]) -> None:
    with pytest.raises(ProtocolError):
        await pull(world, chunks, 7)
    assert await world.peers["alice"].jobs._room.artifacts.cache.get(cid_of(b"content")) is None


async def test_a_submitter_that_refuses_its_module_is_at_fault(world: World) -> None:
    alice, bob = await world.pair()
    alice.jobs._submitter.entitled = lambda *_: frozenset()  # type: ignore[method-assign]
    view = await alice.run(bob)
    assert (view.state, view.fault, view.cost_u) == ("failed", "payer", 0)
    assert "did not hand over the module" in view.why
    assert alice.outcomes == []


async def test_the_cache_is_bounded_and_keeps_what_is_needed(world: World) -> None:
    cache = Cache(world.root / "cache", limit=250)
    pinned = await cache.put(b"p" * 100)
    await asyncio.sleep(0.01)
    first = await cache.put(b"1" * 100, lambda: frozenset({pinned}))
    await asyncio.sleep(0.01)
    second = await cache.put(b"2" * 100, lambda: frozenset({pinned}))
    assert await cache.get(first) is None
    assert await cache.get(second) == b"2" * 100
    assert await cache.get(pinned) == b"p" * 100
    (world.root / "cache" / pinned).write_bytes(b"damaged")
    assert not await cache.intact(pinned)
    assert await cache.get(pinned) is None
