"""One hostile peer, one lie at a time, against a real service."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl import bindings

from tests.engine.channels.puppet import Puppet
from tests.engine.channels.rig import Node, line, until
from zstui.engine import events
from zstui.engine.channels.messages import (
    Abort,
    Ack,
    LogPull,
    OpenAccept,
    OpenConfirm,
    OpenReject,
    Pay,
    PayLine,
    Reestablish,
    Settle,
    channel_id,
    sign_opening,
    take,
)
from zstui.engine.channels.state import Half
from zstui.engine.errors import ChannelError, CreditExceeded
from zstui.engine.identity.envelope import Envelope, seal
from zstui.engine.net.memory import MemoryHub

Both = tuple[Node, Puppet]

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
async def both(clean: None, tmp_path: Path) -> Both:
    """A real node and a puppet with an open channel: the puppet's deposit 10,000 µ, the node's 5,000 µ."""
    hub = MemoryHub()
    node = await Node(hub, 1, tmp_path).start()
    puppet = Puppet(hub, 2)
    await puppet.open(node, 10_000, 5_000)
    return node, puppet


def look(node: Node, puppet: Puppet) -> tuple[str, str, int]:
    """(state, reason, what the puppet has paid)."""
    view = node.service.view(puppet.ch.hex())
    return view.state, view.reason, view.deposit_theirs_u - view.theirs_u


async def disputed(node: Node, puppet: Puppet, reason: str, *proof: bytes) -> None:
    await until(lambda: look(node, puppet)[:2] == ("disputed", reason))
    evidence = await node.evidence(puppet.ch.hex())
    assert [raw for _, raw in evidence] == list(proof)
    with pytest.raises(ChannelError):
        await node.service.pay(puppet.ch.hex(), line(1))


async def test_a_replayed_pay_is_acknowledged_and_not_credited(both: Both) -> None:
    node, puppet = both
    raw = puppet.pay(100)
    for _ in range(3):
        await puppet.send(raw)
        _, ack = await puppet.receive(Ack)
        assert (ack.seq, ack.cum) == (1, 100)
    assert await node.count("credited") == (1, 100)


async def test_a_pay_of_another_channel(both: Both, tmp_path: Path) -> None:
    node, puppet = both
    third = Puppet(node.hub, 3)
    await third.open(node)
    await third.send(seal(third.identity, puppet_body(puppet)))
    assert await third.dropped()
    await puppet.send(seal(puppet.identity, puppet_body(third)))
    assert await puppet.dropped()
    assert await node.count("credited") == (0, 0)
    assert look(node, puppet)[0] == look(node, third)[0] == "active"


def puppet_body(puppet: Puppet) -> Pay:
    return Pay(puppet.ch, 1, 5, puppet.ch, 0, 0, puppet.ch, 1, (line(5),))


async def test_a_pay_signed_by_another(both: Both) -> None:
    node, puppet = both
    third = Puppet(node.hub, 3)
    await puppet.send(seal(third.identity, puppet_body(puppet)))
    assert await puppet.dropped()
    assert look(node, puppet) == ("active", "", 0)


async def test_a_pay_of_an_old_epoch(both: Both) -> None:
    node, puppet = both
    old = puppet.pay(100)
    await puppet.send(old)
    await puppet.receive(Ack)
    await puppet.send(puppet.close())
    _, settle = await puppet.receive(Settle)
    await puppet.send(settle)
    await until(lambda: look(node, puppet)[0] == "closed")
    first = puppet.ch
    await puppet.open(node)
    assert puppet.ch != first
    await puppet.send(old)
    await puppet.send(puppet.pay(7))
    _, ack = await puppet.receive(Ack)
    assert (ack.ch, ack.cum) == (puppet.ch, 7)
    assert await node.count("credited") == (2, 107)
    assert node.service.owed() == (100, 0)


async def test_reordered_pays_drop_the_link_and_change_nothing(both: Both) -> None:
    node, puppet = both
    first, second = puppet.pay(100), puppet.pay(50)
    await puppet.send(second)
    assert await puppet.dropped()
    assert look(node, puppet) == ("active", "", 0)
    await puppet.accept_stream()
    await puppet.receive(Reestablish)
    await puppet.send(puppet.where(), first, second)
    await until(lambda: look(node, puppet)[2] == 150)


async def test_fork(both: Both) -> None:
    node, puppet = both
    start = puppet.out
    one = puppet.pay(100)
    puppet.out = start
    other = puppet.pay(99)
    await puppet.send(one, other)
    await disputed(node, puppet, "fork", one, other)
    assert await node.count("credited") == (1, 100)


async def test_fork_by_history(both: Both) -> None:
    node, puppet = both
    one = puppet.pay(100)
    other = puppet.pay(50, prev=b"x" * 32)
    await puppet.send(one, other)
    await disputed(node, puppet, "fork", one, other)


async def test_a_pay_signed_anew_is_no_proof(both: Both) -> None:
    """The same body under a second signature contradicts nothing, so it accuses nobody."""
    node, puppet = both
    raw = puppet.pay(100)
    again = resigned(2, raw)
    assert again != raw
    assert take(again).body == take(raw).body
    await puppet.send(raw, again)
    assert await puppet.dropped()
    assert look(node, puppet) == ("active", "", 100)
    assert await node.evidence(puppet.ch.hex()) == []


def resigned(number: int, raw: bytes) -> bytes:
    """The same envelope with another valid signature: Ed25519 with a nonce of its own."""
    envelope = msgspec.msgpack.decode(raw, type=Envelope)
    seed = hashlib.sha256(number.to_bytes(4, "big")).digest()
    secret = bytearray(hashlib.sha512(seed).digest()[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 127 | 64
    nonce = bindings.crypto_core_ed25519_scalar_reduce(os.urandom(64))
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    message = b"zs/1|" + envelope.type.encode() + b"|" + envelope.body
    challenge = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + envelope.signer + message).digest())
    scalar = bindings.crypto_core_ed25519_scalar_reduce(bytes(secret) + b"\0" * 32)
    sum_ = bindings.crypto_core_ed25519_scalar_add(nonce, bindings.crypto_core_ed25519_scalar_mul(challenge, scalar))
    return msgspec.msgpack.encode(msgspec.structs.replace(envelope, sig=point + sum_))


async def test_a_wrong_sum_drops_the_link(both: Both) -> None:
    node, puppet = both
    await puppet.send(puppet.pay(100, cum=101))
    assert await puppet.dropped()
    assert look(node, puppet) == ("active", "", 0)


@pytest.mark.parametrize("lie", [{"peer_seq": 1}, {"peer_cum": 1}, {"peer_seq": 9, "peer_cum": 900}])
async def test_false_ack_inside_a_pay(both: Both, lie: dict[str, int]) -> None:
    node, puppet = both
    raw = puppet.pay(100, **lie)
    await puppet.send(raw)
    await disputed(node, puppet, "false_ack", raw)
    assert await node.count("credited") == (0, 0)


async def test_false_ack(both: Both) -> None:
    node, puppet = both
    task = asyncio.create_task(node.service.pay(puppet.ch.hex(), line(100)))
    await puppet.receive(Pay)
    lie = seal(puppet.identity, Ack(puppet.ch, 1, 100, b"x" * 32))
    await puppet.send(lie)
    await disputed(node, puppet, "false_ack", lie)
    assert await node.count("acknowledged") == (0, 0)
    task.cancel()


async def test_overdraft_with_concurrent_counter_payments(both: Both) -> None:
    node, puppet = both
    await puppet.take_pay(node, 3_000)
    relying = puppet.pay(13_000)
    task = asyncio.create_task(node.service.pay(puppet.ch.hex(), line(1_500)))
    signed, pay = await puppet.receive(Pay)
    await puppet.send(relying)
    await until(lambda: look(node, puppet)[2] == 13_000 - 4_500)
    late = Half(pay.seq, pay.cum, signed.digest)
    too_much = puppet.pay(1_501, peer_seq=late.seq, peer_cum=late.cum, peer_head=late.head)
    await puppet.send(too_much)
    await disputed(node, puppet, "overdraft", too_much)
    assert await node.count("credited") == (1, 13_000)
    task.cancel()


async def test_pay_after_close(both: Both) -> None:
    node, puppet = both
    close = seal(puppet.identity, puppet.close())
    extra = puppet.pay(1)
    await puppet.send(close, extra)
    await disputed(node, puppet, "pay_after_close", close, extra)


async def test_close_before_the_end_of_the_half(both: Both) -> None:
    node, puppet = both
    stale = seal(puppet.identity, puppet.close())
    paid = puppet.pay(100)
    await puppet.send(paid, stale)
    await disputed(node, puppet, "fork", paid, stale)
    assert look(node, puppet)[2] == 100


async def test_a_settle_with_other_balances(both: Both) -> None:
    node, puppet = both
    await puppet.send(puppet.close())
    _, settle = await puppet.receive(Settle)
    lie = seal(puppet.identity, Settle(settle.ch, settle.final, settle.bal_lo + 1, settle.bal_hi - 1))
    await puppet.send(lie)
    await until(lambda: look(node, puppet)[:2] == ("disputed", "settle"))
    await puppet.send(settle)
    await until(lambda: look(node, puppet)[:2] == ("closed", "cooperative"))


async def test_a_settle_before_any_close(both: Both) -> None:
    node, puppet = both
    record = node.service._books.records.get(puppet.ch)
    assert record is not None
    await puppet.send(record.settlement())
    assert await puppet.dropped()
    assert look(node, puppet)[0] == "active"


async def test_abort_after_a_payment(both: Both) -> None:
    node, puppet = both
    await puppet.take_pay(node, 100)
    lie = seal(puppet.identity, Abort(puppet.ch, 0))
    await puppet.send(lie)
    await disputed(node, puppet, "abort", lie)


async def test_a_disputed_channel_still_closes_by_agreement(both: Both) -> None:
    node, puppet = both
    await puppet.send(puppet.pay(100), puppet.pay(1, peer_cum=1))
    await until(lambda: look(node, puppet)[0] == "disputed")
    await puppet.send(puppet.close())
    task = asyncio.create_task(node.service.close(puppet.ch.hex()))
    _, settle = await puppet.receive(Settle)
    await puppet.send(settle)
    assert (await task).reason == "cooperative"
    assert node.service.owed() == (100, 0)


async def test_a_liar_who_claims_payments_i_never_made(both: Both) -> None:
    node, puppet = both
    await puppet.take_pay(node, 100)
    await puppet.again(node)
    await puppet.receive(Reestablish)
    fake = seal(puppet.identity, Pay(puppet.ch, 2, 900, b"x" * 32, 0, 0, puppet.ch, 1, (line(800),)))
    lie = seal(puppet.identity, puppet.where(recv_seq=2, recv_cum=900, recv_head=b"y" * 32, your_last_pay=fake))
    await puppet.send(lie)
    await disputed(node, puppet, "false_ack", lie)
    assert node.service.view(puppet.ch.hex()).mine_u == 4_900


async def test_pays_of_mine_that_i_never_signed_are_not_adopted(both: Both) -> None:
    node, puppet = both
    forged = bytearray(seal(node.identity, puppet_body(puppet)))
    forged[-1] ^= 1
    await puppet.send(bytes(forged))
    assert await puppet.dropped()
    assert node.service.view(puppet.ch.hex()).sequence == 0


async def test_a_pull_gives_only_what_there_is(both: Both) -> None:
    node, puppet = both
    raws = [puppet.pay(1) for _ in range(3)]
    await puppet.send(*raws)
    await until(lambda: look(node, puppet)[2] == 3)
    await puppet.send(LogPull(puppet.ch, 2, 2**53 - 1))
    assert [(await puppet.receive(Pay))[0].raw for _ in range(2)] == raws[1:]


@pytest.mark.parametrize("noise", [b"", b"\x00", b"\x95" * 100, b"\xc1" * 65_000])
async def test_noise_drops_the_link(both: Both, noise: bytes) -> None:
    node, puppet = both
    await puppet.send(puppet.pay(10), noise)
    assert await puppet.dropped()
    await until(lambda: look(node, puppet)[2] in (0, 10))
    assert look(node, puppet)[0] == "active"


async def test_proof_survives_noise_behind_it(both: Both) -> None:
    node, puppet = both
    lie = seal(puppet.identity, Ack(puppet.ch, 5, 5, b"x" * 32))
    await puppet.send(lie, puppet.pay(1, seq=9))
    await disputed(node, puppet, "false_ack", lie)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"net": "elsewhere"}, "TERMS"),
        ({"driver": "chain"}, "TERMS"),
        ({"m": 3}, "TERMS"),
        ({"witnesses": (b"w" * 32,)}, "TERMS"),
        ({"challenge_s": 60}, "TERMS"),
        ({"expires_ms": 1}, "TERMS"),
        ({"dep_lo": 999, "dep_hi": 999}, "DEPOSIT"),
        ({"dep_lo": 2**53 - 1, "dep_hi": 2**53 - 1}, "DEPOSIT"),
        ({"epoch": 0}, "EPOCH"),
        ({"epoch": 2**31 - 1}, "EPOCH"),
    ],
)
async def test_refused_proposals(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    hub = MemoryHub()
    node = await Node(hub, 1, tmp_path).start()
    puppet = Puppet(hub, 2)
    await puppet.dial(node)
    proposal = puppet.proposal(node, **changes)
    await puppet.send(proposal)
    _, reject = await puppet.receive(OpenReject)
    assert (reject.draft, reject.code) == (channel_id(proposal.draft), code)
    assert node.service.views() == []


async def test_a_clock_off_by_a_day(tmp_path: Path) -> None:
    hub = MemoryHub()
    node = await Node(hub, 1, tmp_path).start()
    puppet = Puppet(hub, 2)
    await puppet.dial(node)
    honest = puppet.proposal(node).draft
    day = 86_400_000
    await puppet.send(puppet.proposal(node, created_ms=honest.created_ms - day, expires_ms=honest.expires_ms - day))
    _, reject = await puppet.receive(OpenReject)
    assert reject.code == "CLOCK"


async def test_credit_limit_counts_what_is_owed(both: Both) -> None:
    node, puppet = both
    await puppet.send(puppet.pay(4_000), puppet.close())
    _, settle = await puppet.receive(Settle)
    await puppet.send(settle)
    await until(lambda: look(node, puppet)[0] == "closed")
    node.limit = 10_000
    await puppet.send(puppet.proposal(node, 6_001))
    _, reject = await puppet.receive(OpenReject)
    assert (reject.code, reject.next) == ("CREDIT", 6_000)
    await puppet.open(node, 6_000)
    await puppet.send(puppet.close())
    _, settle = await puppet.receive(Settle)
    await puppet.send(settle)
    await until(lambda: look(node, puppet)[0] == "closed")
    with pytest.raises(CreditExceeded, match=r"0\.004 it owes"):
        await node.service.open(puppet.id, 1_000, 6_001, 86_400)


async def test_a_second_proposal_replaces_one_never_confirmed(tmp_path: Path) -> None:
    hub = MemoryHub()
    node = await Node(hub, 1, tmp_path).start()
    puppet = Puppet(hub, 2)
    await puppet.dial(node)
    proposal = puppet.proposal(node)
    await puppet.send(proposal, proposal)
    one, _ = await puppet.receive(OpenAccept)
    again, accept = await puppet.receive(OpenAccept)
    assert one.raw == again.raw
    old = channel_id(accept.params)
    await puppet.open(node)
    assert [v.state for v in node.service.views()] == ["active"]
    await puppet.send(OpenConfirm(old, sign_opening(puppet.identity, old)))
    _, abort = await puppet.receive(Abort)
    assert abort.id == old


async def test_an_unknown_memo_is_credited_all_the_same(both: Both) -> None:
    node, puppet = both
    await puppet.send(puppet.pay(5))
    await until(lambda: look(node, puppet)[2] == 5)
    received = [e for e in node.seen(events.PaymentProcessed) if isinstance(e, events.PaymentProcessed)]
    assert [(e.status, e.amount_u) for e in received] == [("received", 5)]
    assert PayLine(5, b"a" * 32, 1, 0, b"r" * 32).amount_u == 5
