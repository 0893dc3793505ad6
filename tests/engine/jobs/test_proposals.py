"""Agreements that a submitter proposes with its offer, on the terms of the executor's card."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from tests.engine.jobs.rig import GUILD, QUICK, Guest, Peer, World, until, wasm
from tests.engine.jobs.test_hostile import OUT, Mallory, submit
from zstui.engine.clock import US
from zstui.engine.errors import NetError, Unreachable
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs import executor, store
from zstui.engine.jobs import messages as msg
from zstui.engine.jobs.agreeing import FRESH_US, REMEMBERED_US, agreement_on, ask_for
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.jobs.manifest import Manifest, open_manifest
from zstui.engine.jobs.messages import Completed
from zstui.engine.jobs.protocol import SealedStream, accept_sealed, open_sealed
from zstui.engine.jobs.receipt import NO_BID, Agreement, Evidence, agreement_id
from zstui.engine.jobs.room import Offer
from zstui.engine.net.link import JOB_PROTOCOL, Stream

EXPOSURE_U = 312_800


@pytest.fixture
def world(world: World) -> World:
    """However slow the machine is, what ends at all is told in one message."""
    world.timing = replace(QUICK, prompt=5.0)
    return world


async def evidence(peer: Peer, job_id: str) -> Evidence:
    job = peer.jobs._room.records[job_id]
    return await peer.db.read(lambda tx: store.evidence(tx, job))


def agreed_in(found: Evidence) -> Agreement:
    return open_envelope(found.agreements[0]).decode(Agreement)


async def verifies(peer: Peer, job_id: str) -> bool:
    return all(check.ok for check in verify_bundle(await peer.jobs.bundle(job_id)))


# --- as it should be -------------------------------------------------------------------------------------------------


async def test_a_short_job_takes_one_message_each_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await world.pair()
    sent: list[str] = []
    send = SealedStream.send

    async def count(self: SealedStream, message: msg.Message) -> None:
        sent.append(type(message).__name__)
        await send(self, message)

    await alice.run(bob)  # the module is there from now on
    monkeypatch.setattr(SealedStream, "send", count)
    job = await alice.run(bob)
    assert (job.state, job.cost_u) == ("done", 130), job
    assert sent == ["Offer", "Completed", "Ack"]
    for peer in (alice, bob):
        found = await evidence(peer, job.job_id)
        assert (found.bid, agreed_in(found).bid, len(found.agreements)) == (b"", NO_BID, 2)
        assert await verifies(peer, job.job_id)
    assert (await alice.jobs.output(job.job_id)).stdout == b"hello\n"
    assert alice.jobs.standing.reserved(bob.id) == 2 * job.cost_u


async def test_a_short_job_takes_two_commits_on_each_side(world: World) -> None:
    """Manifest and agreement, then the receipt; agreement, then receipt. What follows is on nobody's way."""
    alice, bob = await world.pair()
    await alice.run(bob)
    await until(lambda: all(j.delivered for j in bob.jobs._room.records))
    counts = {peer.name: 0 for peer in (alice, bob)}
    for peer in (alice, bob):

        def write(operation: object, peer: Peer = peer, plain: object = peer.db.write) -> object:
            counts[peer.name] += sum(j.final for j in peer.jobs._room.records) < 2
            return plain(operation)  # type: ignore[operator]

        peer.db.write = write  # type: ignore[method-assign, assignment]
    job = await alice.run(bob)
    assert job.state == "done"
    assert counts == {"alice": 2, "bob": 2}, "before each had the receipt"


async def test_money_is_promised_once_though_two_jobs_are_submitted_at_once(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest(hold=asyncio.Event())
    world.fund(alice, bob, 2 * EXPOSURE_U - 1)
    one, two = await asyncio.gather(alice.submit(bob), alice.submit(bob))
    assert alice.jobs.standing.reserved(bob.id) == EXPOSURE_U
    await until(lambda: any(v.state == "failed" for v in alice.jobs.views()) and bob.jobs.views())
    states = [alice.jobs.view(j.job_id).state for j in (one, two)]
    assert states.count("failed") == 1, "there is no money for the other"
    assert len(bob.jobs.views()) == 1


async def test_what_was_signed_for_nobody_is_taken_back(world: World) -> None:
    """The link breaks between the commit and the offer: no executor can have the job, so another gets it."""
    alice, bob = await world.pair()
    carol = await world.peer("carol", "executor")
    world.fund(alice, carol)
    opened: list[str] = []
    plain = alice.network.open

    async def broken(peer: str, protocol: str, timeout: float = 10.0) -> Stream:
        opened.append(peer)
        if peer == bob.id and protocol == JOB_PROTOCOL:
            raise Unreachable("bob is gone.")
        return await plain(peer, protocol, timeout)

    alice.network.open = broken  # type: ignore[method-assign, assignment]
    job = await alice.jobs.submit(alice.spec(queue_s=5), "", only=False)
    view = await asyncio.wait_for(alice.jobs.wait(job.job_id), 20)
    assert (view.state, view.executor) == ("done", carol.id), view.why
    assert opened[0] == bob.id, "bob was asked first"
    assert alice.jobs.standing.reserved(bob.id) == 0
    assert await verifies(alice, job.job_id)


async def test_an_executor_whose_prices_have_changed_answers_with_a_bid(world: World) -> None:
    mislead(world, {"price_per_second_nano": 9_000_000})
    alice, bob = await world.pair()
    job = await alice.run(bob, price_per_second_nano=10**9)
    assert job.state == "done"
    found = await evidence(alice, job.job_id)
    assert agreed_in(found).price_per_second_nano == bob.settings.price_per_second_nano
    assert agreed_in(found).bid == open_envelope(found.bid).digest
    assert await verifies(alice, job.job_id)
    assert await verifies(bob, job.job_id)


async def test_what_a_refusal_leaves_does_not_spoil_the_next_offer(world: World) -> None:
    """A bid was signed and refused; then the same executor takes a proposal."""
    wrong = {"price_per_second_nano": 10_000_001}
    mislead(world, wrong)
    alice, bob = await world.pair()
    refusal = bob.jobs._executor.refusal
    asked = 0

    def busy(peer: str, m: Manifest) -> object:
        nonlocal asked
        asked += 1
        if asked == 2:  # after the bid
            wrong.clear()
            return "busy", "no room"
        return refusal(peer, m)

    bob.jobs._executor.refusal = busy  # type: ignore[method-assign, assignment]
    job = await alice.run(bob, price_per_second_nano=10**9, queue_s=5)
    assert (job.state, asked) == ("done", 3), job.why
    assert agreed_in(await evidence(alice, job.job_id)).bid == NO_BID
    assert await verifies(alice, job.job_id)


async def test_a_refused_proposal_binds_nobody(world: World) -> None:
    alice, bob = await world.pair(max_memory_mib=64)
    job = await alice.run(bob)
    assert (job.state, job.paid, alice.jobs.standing.reserved(bob.id)) == ("failed", "", 0)
    assert "too little memory" in job.why
    assert (await evidence(alice, job.job_id)).agreements == ()
    assert bob.jobs.views() == []


def mislead(world: World, changes: dict[str, int]) -> None:
    """All cards say ``changes`` from now on. Before any peer is made."""
    card_of = world.card_of

    def changed(peer: str) -> Offer | None:
        card = card_of(peer)
        return None if card is None else replace(card, **changes)

    world.card_of = changed  # type: ignore[method-assign]


# --- hostile submitters ----------------------------------------------------------------------------------------------


class Proposal:
    """A manifest of Alice's that Bob has not seen, and the agreement on it that he would take."""

    def __init__(self, alice: Peer, bob: Peer, m: Manifest) -> None:
        self.alice, self.bob = alice, bob
        self.manifest = seal(alice.identity, m)
        digest = hashlib.sha256(self.manifest).digest()
        self.job_id = digest.hex()
        ask = ask_for(m, bob.jobs._room.offer(GUILD), "cd" * 32)
        self.agreement = agreement_on(ask, m, digest, NO_BID, bob.id, bob.clock.now_us(), b"n" * 16)

    async def say(self, first: msg.Message) -> msg.AnyMessage | None:
        """Bob's answer to the first message on a stream, None where he drops it."""
        guild = self.alice.world.guild.at(self.alice.id)
        s = await open_sealed(self.alice.network, guild, self.bob.id, JOB_PROTOCOL, GUILD, self.job_id)
        try:
            await s.send(first)
            return await s.receive(2)
        except NetError:
            return None
        finally:
            s.reset()

    async def offer(self, **changes: object) -> msg.AnyMessage | None:
        return await self.say(msg.Offer(self.manifest, seal(self.alice.identity, replace(self.agreement, **changes))))


@pytest.fixture
async def proposal(world: World) -> Proposal:
    alice, bob = await world.pair()
    job = await alice.run(bob)
    _, m = open_manifest(await alice.db.read(lambda tx: store.raw(tx, job.job_id, "manifest")))
    return Proposal(alice, bob, replace(m, nonce=b"z" * 16))


async def test_a_proposal_is_taken_once(proposal: Proposal) -> None:
    assert isinstance(await proposal.offer(), Completed)
    again = await proposal.offer()
    assert isinstance(again, msg.Refusal)
    assert again.reason == "the job is already agreed"
    assert len(proposal.bob.jobs.views()) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"price_per_second_nano": 1},
        {"price_per_mib_nano": -1},
        {"max_total_u": 1},
        {"exposure_u": 0},
        {"channel": bytes(32)},
        {"channel": b""},
        {"bid": b"x" * 32},
        {"manifest": bytes(32)},
        {"submitter": "12D3KooWnobody"},
        {"executor": "12D3KooWnobody"},
        {"nonce": b""},
        {"nonce": b"n" * 17},
        {"note_ms": 1},
        {"accept_ms": 2**40},
        {"exposure_max_u": -1},
        {"created_us": 1},
        {"created_us": -(2**60)},
        {"created_us": 2**62},
    ],
)
async def test_a_proposal_on_other_terms_is_answered_with_a_bid(proposal: Proposal, change: dict[str, object]) -> None:
    assert isinstance(await proposal.offer(**change), msg.Bidding)
    assert len(proposal.bob.jobs.views()) == 1


async def test_a_proposal_that_came_late_is_not_taken_any_more(proposal: Proposal) -> None:
    now = proposal.bob.clock.now_us()
    assert isinstance(await proposal.offer(created_us=now - FRESH_US - US), msg.Bidding)
    assert isinstance(await proposal.offer(created_us=now + FRESH_US + US), msg.Bidding)
    assert isinstance(await proposal.offer(created_us=now - FRESH_US + 20 * US), Completed)


async def test_a_job_is_remembered_for_as_long_as_its_proposal_could_be_taken_again(proposal: Proposal) -> None:
    records, now = proposal.bob.jobs._room.records, proposal.bob.clock.now_us()
    for job in records:
        await records.change(job.job_id, paid="paid")
    assert records.beyond(0, now - REMEMBERED_US) == []
    assert len(records.beyond(0, now + US)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"noise",
        b"\x95",
        seal(Identity(b"e" * 32), Agreement(NO_BID, NO_BID, "", "", NO_BID, 0, 0, 0, 0, 0, b"")),
    ],
)
async def test_what_is_no_agreement_of_the_submitter_ends_the_stream(proposal: Proposal, raw: bytes) -> None:
    assert await proposal.say(msg.Offer(proposal.manifest, raw)) is None
    assert await proposal.say(msg.Offer(proposal.manifest, proposal.manifest)) is None
    assert len(proposal.bob.jobs.views()) == 1


async def test_a_proposal_that_was_denied_is_not_taken_when_it_arrives_late(proposal: Proposal) -> None:
    signed = seal(proposal.alice.identity, proposal.agreement)
    denied = await proposal.say(msg.Attach(0, 0, agreement_id(open_envelope(signed))))
    assert isinstance(denied, msg.Refusal)
    assert isinstance(await proposal.say(msg.Offer(proposal.manifest, signed)), msg.Bidding)
    assert isinstance(await proposal.offer(nonce=b"m" * 16), Completed), "the next one is"


async def test_what_is_denied_takes_little_memory(proposal: Proposal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "MAX_DENIED", 2)
    denied = proposal.bob.jobs._executor._denied
    for said in (b"", b"x" * 50_000, b"a" * 32, b"b" * 32, b"c" * 32, b"b" * 32, b"d" * 32):
        assert isinstance(await proposal.say(msg.Attach(0, 0, said)), msg.Refusal)
    assert list(denied) == [b"b" * 32, b"d" * 32]


# --- hostile executors -----------------------------------------------------------------------------------------------


class Prompt(Mallory):
    """Answers a proposal as ``answer`` says."""

    def __init__(self, world: World, answer: Callable[[SealedStream, Manifest, bytes], Awaitable[None]]) -> None:
        super().__init__(world)
        self.answer = answer
        card = Offer(executor=True, memory_mib=128, timeout_s=30, price_per_second_nano=10**9, price_per_mib_nano=0)
        card_of = world.card_of
        world.card_of = lambda peer: card if peer == self.id else card_of(peer)  # type: ignore[method-assign]

    async def _serve(self, stream: Stream) -> None:
        s = await accept_sealed(stream, self.guilds, JOB_PROTOCOL)
        first = await s.receive(5)
        if not isinstance(first, msg.Offer):
            await s.send(msg.Refusal("unknown", "what job?"))
            return
        self.offers += 1
        _, m = open_manifest(first.manifest)
        await self.answer(s, m, first.agreement)

    def completed(self, m: Manifest, proposed: bytes, **terms: object) -> Completed:
        theirs = open_envelope(proposed)
        a = theirs.decode(Agreement)
        receipt = self._receipt(m, a, agreement_id(theirs))
        return Completed(seal(self.identity, replace(a, **terms)), self.output, b"", receipt)


async def prompt(world: World, **fields: object) -> tuple[Peer, Prompt, str]:
    """A job of Alice's at Mallory, with a channel that covers it."""

    async def answer(s: SealedStream, m: Manifest, proposed: bytes) -> None:
        await s.send(mallory.completed(m, proposed, **fields))
        await s.expect(msg.Ack, 5)

    mallory = Prompt(world, answer)
    alice = await world.peer("alice", "creator")
    alice.channels.set(mallory.id, 100_000_000, 0)
    return alice, mallory, ""


async def ended(alice: Peer, job_id: str) -> None:
    await asyncio.wait_for(alice.jobs.wait(job_id), 20)


async def test_a_prompt_answer_passes_so_the_lies_below_are_what_fails(world: World) -> None:
    alice, mallory, _ = await prompt(world)
    _, job_id = await submit(world, mallory, alice)
    await ended(alice, job_id)
    assert (alice.jobs.view(job_id).state, mallory.offers) == ("done", 1)
    assert (await alice.jobs.output(job_id)).stdout == OUT


async def test_a_countersignature_under_other_terms_is_none(world: World) -> None:
    alice, mallory, _ = await prompt(world, price_per_second_nano=10**10)
    _, job_id = await submit(world, mallory, alice)
    await ended(alice, job_id)
    view = alice.jobs.view(job_id)
    assert (view.state, view.receipt_id, alice.requests) == ("failed", "", [])
    assert "does not keep to the protocol" in view.why
    assert alice.jobs.standing.reserved(mallory.id) == 0


async def test_a_wrong_receipt_with_a_good_countersignature_is_the_executors_fault(world: World) -> None:
    alice, mallory, _ = await prompt(world)
    mallory.receipt = {"manifest": bytes(32)}
    _, job_id = await submit(world, mallory, alice)
    await ended(alice, job_id)
    view = alice.jobs.view(job_id)
    assert (view.state, view.fault, view.receipt_id, alice.requests) == ("failed", "executor", "", [])
    assert [o.success for o in alice.outcomes] == [False]


async def test_an_answer_to_what_was_never_signed_is_refused(world: World) -> None:
    """No channel, so nothing was proposed."""
    alice, mallory, _ = await prompt(world)
    own = seal(mallory.identity, Agreement(NO_BID, NO_BID, alice.id, mallory.id, NO_BID, 1, 0, 10**9, 1, 1, b"n" * 16))

    async def forge(s: SealedStream, m: Manifest, proposed: bytes) -> None:
        assert proposed == b""
        await s.send(Completed(own, OUT, b"", b"receipt"))

    mallory.answer = forge
    alice.channels.open.clear()
    _, job_id = await submit(world, mallory, alice)
    await ended(alice, job_id)
    view = alice.jobs.view(job_id)
    assert (view.state, view.receipt_id, mallory.offers) == ("failed", "", 3)
    assert (await alice.jobs.output(job_id)).stdout == b""


async def test_a_proposal_under_way_is_reserved_and_can_be_cancelled(world: World) -> None:
    alice, mallory, _ = await prompt(world)
    free = asyncio.Event()

    async def hold(s: SealedStream, m: Manifest, proposed: bytes) -> None:
        await free.wait()
        await s.send(msg.Refusal("busy", "not now"))

    mallory.answer = hold
    _, job_id = await submit(world, mallory, alice)
    await until(lambda: mallory.offers == 1)
    job = alice.jobs._room.records[job_id]
    assert alice.jobs.standing.reserved(mallory.id) == job.exposure_u > 0
    cancelling = asyncio.create_task(alice.jobs.cancel(job_id))
    await until(lambda: alice.jobs._room.records[job_id].cancel)
    free.set()
    view = await cancelling
    assert (view.state, view.why) == ("cancelled", "Cancelled by you before anybody had agreed to run it.")
    assert (alice.jobs.standing.reserved(mallory.id), mallory.offers) == (0, 1)
