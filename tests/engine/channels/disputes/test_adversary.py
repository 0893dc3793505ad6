"""One lie, loss or crash at a time against real witnesses and an honest party."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from tests.engine.channels.disputes.court import DAY, HOUR, Court, CourtNode, court, shift
from tests.engine.channels.disputes.liar import Liar
from tests.engine.channels.rig import identity, line, until
from tests.engine.channels.wire import filtered
from zstui.engine.channels.disputes import hearing, nomination, protocol, store
from zstui.engine.channels.disputes.faults import verify_file
from zstui.engine.channels.disputes.messages import Evidence, FraudProof, Opening, Ready, Verdict, WitnessAsk
from zstui.engine.channels.disputes.unit import Unit, parts_of
from zstui.engine.channels.messages import Ack, channel_id, sign_opening, take
from zstui.engine.clock import US
from zstui.engine.errors import StoreError
from zstui.engine.identity.envelope import seal

pytestmark = pytest.mark.usefixtures("clean")


async def paid(c: Court) -> str:
    """The first side pays 100, 200, 300; the second pays 50 back, having all three."""
    view = await c.a.service.open(c.b.id, 10_000, 5_000, 86_400)
    for amount in (100, 200, 300):
        await c.a.service.pay(view.channel_id, line(amount))
    await c.b.service.pay(view.channel_id, line(50))
    return view.channel_id


async def liar(c: Court, channel: str) -> Liar:
    return await Liar.instead_of(c.a, channel)


async def file_with_all(c: Court, who: Liar, *docs: bytes) -> None:
    for node in c.witnesses:
        assert (await who.say(node.id, who.filing(*docs))).kind == "Taken"


async def test_a_stale_filing_while_the_victim_is_awake(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    await file_with_all(full, who, who.pays[0], who.close_at(1, 100))
    await full.heard(channel, full.b, *full.witnesses)
    await until(lambda: all(w.case(channel).evidence_theirs >= 1 for w in full.witnesses))
    await until(lambda: who.identity.peer_id in full.b.blacklisted)
    assert full.b.blacklisted[who.identity.peer_id][0] == 30 * 24
    assert full.b.service._books.limit(who.identity.peer_id) == 0
    assert not any(w.blacklisted for w in full.witnesses), "a witness acts once the case is decided"
    full.shift(DAY + 60)
    await full.closed(channel, full.b)
    assert full.b.balance(channel) == ("closed", "verdict", 5_550, 9_450)
    await until(lambda: all(who.identity.peer_id in w.blacklisted for w in full.witnesses))
    view = full.b.case(channel)
    assert view.verdict is not None
    assert len(view.verdict.faults) == 1
    (fraud,) = await full.b.disputes.frauds(channel)
    assert (fraud.kind, fraud.proven) == ("STALE_CLAIM", True)
    proof, checks = verify_file(fraud.file)
    assert proof is not None
    assert proof.culprit == who.identity.peer_id
    assert all(check.ok for check in checks)


async def cheated_asleep(full: Court) -> tuple[str, Liar]:
    """A channel of b's that a verdict on an old state closed while it was down, and who filed that; b is back."""
    channel = await paid(full)
    who = await liar(full, channel)
    await full.b.stop()
    await file_with_all(full, who, who.pays[0], who.close_at(1, 100))
    await full.heard(channel)
    full.shift(DAY + 60)
    await until(lambda: all(w.case(channel).state == "decided" for w in full.witnesses))
    full.b.clock.shift(DAY + 60)
    await full.b.revive()
    await full.closed(channel, full.b)
    return channel, who


async def test_a_stale_filing_while_the_victim_sleeps(full: Court) -> None:
    """The victim loses what it did not show in time, and can prove the fraud to everyone when it is back."""
    channel, who = await cheated_asleep(full)
    assert full.b.balance(channel) == ("closed", "verdict", 5_100, 9_900)
    await until(lambda: who.identity.peer_id in full.b.blacklisted)
    await until(lambda: all(who.identity.peer_id in w.blacklisted for w in full.witnesses))


async def test_evidence_after_the_deadline_is_refused(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    await full.b.stop()
    await file_with_all(full, who, who.pays[0])
    await full.heard(channel)
    for node in full.witnesses[2:]:
        await node.stop()
    full.shift(DAY + 60)
    judge = full.witnesses[0]
    await until(lambda: judge.case(channel).state == "deciding")
    answer = await who.say(judge.id, who.evidence(who.pays[2]))
    assert answer.kind == "Declined"
    assert judge.case(channel).evidence_mine == 1


async def test_hiding_behind_the_others_payment_binds_to_what_it_acknowledges(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    await full.b.stop()
    await file_with_all(full, who, who.theirs[-1])
    await full.heard(channel)
    verdict = full.witnesses[0].disputes.verdict(channel)
    assert {verdict.lo_u, verdict.hi_u} == {9_450, 5_550}
    assert verdict.faults == ()


async def test_a_byzantine_witness_with_two_of_four_offline(full: Court) -> None:
    channel = await paid(full)
    await full.b.stop()
    await full.a.disputes.dispute(channel)
    await full.heard(channel, full.a, *full.witnesses)
    await full.witnesses[2].stop()
    await full.witnesses[3].stop()
    traitor = await Liar.instead_of_witness(full.witnesses[0], full.a, channel)
    params = traitor.opening.params
    theft = Verdict(traitor.ch, 0, 0, params.dep_lo, params.dep_hi, ())
    assert (await traitor.say(full.a.id, theft)).kind == "Taken"
    digest = hashlib.sha256(msgspec.msgpack.encode(theft)).digest()
    assert (await traitor.say(full.witnesses[1].id, Ready(traitor.ch, digest))).kind == "Taken"
    full.shift(DAY + 60)
    await full.a.disputes._turn()
    await full.witnesses[1].disputes._turn()
    assert full.a.service.view(channel).state == "disputed"
    assert not full.a.disputes.verdict(channel).final

    other = msgspec.structs.replace(theft, bal_lo=0, bal_hi=params.dep_lo + params.dep_hi)
    assert (await traitor.say(full.a.id, other)).kind == "Taken"
    await until(lambda: traitor.identity.peer_id in full.a.blacklisted)
    assert (await full.a.disputes.frauds(channel))[0].kind == "DOUBLE_VERDICT"

    for node in full.witnesses[2:]:
        node.clock.shift(DAY + 60)
        await node.revive()
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_450, 5_550)
    agrees = {w.peer_id: w.agrees for w in full.a.case(channel).witnesses}
    assert agrees[traitor.identity.peer_id] is False


async def test_settles_that_are_lost_for_ever_end_in_a_verdict(clean: None, tmp_path: Path) -> None:
    c = await court(tmp_path, 1, lambda node: setattr(node, "wrap", filtered(lambda raw: take(raw).kind != "Settle")))
    view = await c.a.service.open(c.b.id, 10_000, 5_000, 86_400)
    channel = view.channel_id
    await c.a.service.pay(channel, line(100))
    await c.a.service.close(channel)
    assert c.a.service.view(channel).state == "closing"
    c.shift(1)
    await c.a.service._expire()
    c.shift(700)
    await until(lambda: c.a.service.view(channel).state == "disputed")
    await c.heard(channel, c.a, c.b)
    assert c.a.case(channel).reason == "the peer does not answer the closing"
    c.shift(DAY + 60)
    await c.closed(channel, c.a, c.b)
    assert c.a.balance(channel) == ("closed", "verdict", 9_900, 5_100)
    assert c.b.balance(channel) == ("closed", "verdict", 5_100, 9_900)


async def test_forged_and_stolen_evidence(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    judge = full.witnesses[0]
    tampered = msgspec.structs.replace(who.opening.params, dep_hi=1)
    other = channel_id(tampered)
    assert (await who.say(judge.id, msgspec.structs.replace(who.filing(), ch=b"x" * 32))).kind == "Declined"
    bad = Opening(tampered, sign_opening(who.identity, other), sign_opening(who.identity, other))
    assert (await who.say(judge.id, msgspec.structs.replace(who.filing(), ch=other, opening=bad))).kind == "Declined"
    assert judge.disputes.views() == []

    await file_with_all(full, who, who.pays[-1])
    mine = (b"",)
    for docs in (mine, (who.pays[0][:-1] + b"\0",), (seal(identity(9), Ack(who.ch, 1, 1, b"h" * 32)),)):
        assert (await who.say(judge.id, who.evidence(*docs))).kind == "Declined"
    as_other = seal(full.witnesses[1].identity, Evidence(who.ch, (who.pays[0],), b""))
    assert (await who.say(judge.id, as_other)).kind == "Declined", "a witness gives no evidence"
    stranger = full.a.hub.add(identity(9).peer_id)
    stolen = seal(who.identity, who.evidence(who.pays[1]))
    answer = take(await stranger.request(judge.id, "/zerostate/dispute/1.0.0", stolen, 5))
    assert answer.kind == "Declined", "who has no part in a case cannot even pass on true evidence"
    assert judge.case(channel).evidence_mine == 1


async def test_a_flood_of_cases_evidence_and_requests(full: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BURST", 10_000)
    channel = await paid(full)
    who = await liar(full, channel)
    judge = full.witnesses[0]
    await file_with_all(full, who, who.pays[0])
    answers = [await who.say(judge.id, who.evidence(who.close_at(0, n))) for n in range(hearing.MAX_DIRECT + 4)]
    assert sum(a.kind == "Taken" for a in answers) == hearing.MAX_DIRECT - 1

    partner = identity(9)
    lo, hi = sorted((who.identity, partner), key=lambda i: i.public_key)
    until_ms = judge.clock.now_us() // 1000 + 86_400_000
    assert (await who.say(judge.id, WitnessAsk(lo.public_key, hi.public_key, until_ms))).kind == "Consent"
    taken = 0
    for number in range(hearing.MAX_CASES_OF_PEER + 4):
        params = msgspec.structs.replace(who.opening.params, pk_lo=lo.public_key, pk_hi=hi.public_key, epoch=number + 1)
        id = channel_id(params)
        opening = Opening(params, sign_opening(lo, id), sign_opening(hi, id))
        filing = msgspec.structs.replace(who.filing(), ch=id, opening=opening)
        taken += (await who.say(judge.id, filing)).kind == "Taken"
    assert taken == hearing.MAX_CASES_OF_PEER - 1

    monkeypatch.setattr(nomination, "MAX_CONSENTS_OF_PEER", 3)
    kinds = []
    for number in range(20, 30):
        pair = sorted((who.identity.public_key, identity(number).public_key))
        kinds.append((await who.say(judge.id, WitnessAsk(pair[0], pair[1], until_ms))).kind)
    assert kinds.count("Consent") < 3


async def test_one_peer_cannot_talk_without_end(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    answers = [await who.say(full.witnesses[0].id, who.evidence()) for _ in range(protocol.BURST + 30)]
    assert all(a.kind == "Declined" for a in answers)


async def test_a_case_that_was_not_consented_to(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    judge = full.witnesses[0]
    await judge.db.write(lambda tx: tx.execute("DELETE FROM dispute_consents") and None)
    assert (await who.say(judge.id, who.filing(who.pays[0]))).kind == "Declined"


@pytest.mark.parametrize("off", [DAY, -DAY])
async def test_a_witness_whose_clock_is_off_by_a_day(full: Court, off: float) -> None:
    channel = await paid(full)
    await full.b.stop()
    wrong, *right = full.witnesses
    shift(off, wrong)
    await full.a.disputes.dispute(channel)
    await full.heard(channel, full.a, *full.witnesses)
    deadline = full.a.case(channel).deadline_at
    assert deadline is not None
    assert abs(deadline - (full.a.clock.now_us() / US + DAY)) < 60
    shift(120, wrong)
    for node in full.witnesses:
        await node.disputes._turn()
    assert all(w.case(channel).state == "filed" for w in right), "its haste hurries nobody"
    assert not wrong.disputes.verdict(channel).signed_by_me, "and it signs nothing alone"
    full.shift(DAY + 60)
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_450, 5_550)


async def test_a_denied_acknowledgement_is_answered_or_judged(full: Court) -> None:
    """The liar denies a true acknowledgement: it is answered by itself. The victim's node is never blamed."""
    channel = await paid(full)
    who = await liar(full, channel)
    await file_with_all(full, who, who.pays[-1])
    for node in full.witnesses:
        await who.say(node.id, who.evidence(denied=who.theirs[-1]))
    await full.heard(channel, full.b)
    await until(lambda: all(w.disputes.verdict(channel).faults == () for w in full.witnesses))

    false = seal(full.b.identity, Ack(who.ch, 9, 900, b"f" * 32))
    assert (await who.say(full.witnesses[0].id, who.evidence(denied=false))).kind == "Taken"
    assert len(full.witnesses[0].disputes.verdict(channel).faults) == 1
    full.shift(DAY + 60)
    await until(lambda: all(("guild", full.b.id) in w.blocked for w in full.witnesses))
    assert {w.blocked["guild", full.b.id][0] for w in full.witnesses} == {24}, "what only a verdict shows weighs less"
    assert not any(w.blacklisted for w in full.witnesses), "and counts in the guild of the two alone"
    assert not any(w.disputes.at_fault(full.b.id) for w in full.witnesses)


async def test_a_witness_restored_from_an_older_copy_cannot_be_made_to_sign_twice(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    witness = full.witnesses[0]
    await witness.stop()
    before = witness.path.read_bytes()
    await witness.start()
    await file_with_all(full, who, who.pays[-1])
    await full.heard(channel, full.b, *full.witnesses)
    full.shift(DAY + 60)
    await full.closed(channel, full.b)
    await until(lambda: all(w.case(channel).state == "decided" for w in full.witnesses))
    await witness.stop()
    for path in witness.path.parent.glob(f"{witness.path.name}*"):
        path.unlink()
    witness.path.write_bytes(before)
    witness.tainted = True
    await witness.start()
    answer = await who.say(witness.id, who.filing(who.pays[0]))
    assert answer.kind == "Declined", "it no longer knows what it has signed"


async def test_a_penalty_that_a_crash_cut_off_comes_in_force_at_the_next_start(
    full: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*penalty: object) -> None:
        raise StoreError("The power is gone.")

    channel = await paid(full)
    judge = full.witnesses[0]
    await judge.stop()
    with monkeypatch.context() as patch:
        patch.setattr(judge, "_blacklist", cut_off)
        await judge.start()
        who = await liar(full, channel)
        assert (await who.say(judge.id, FraudProof("STALE_CLAIM", (who.close_at(1, 100), who.pays[2])))).kind == "Taken"
        await judge.stop()
    assert judge.blacklisted == {}
    judge.clock.shift(DAY)
    await judge.start()
    assert judge.blacklisted[who.identity.peer_id][0] == 29 * 24, "for what is left of its time"
    assert judge.disputes.at_fault(who.identity.peer_id)
    judge.blacklisted.clear()
    await judge.stop()
    await judge.start()
    assert judge.blacklisted == {}, "once; a person may have lifted it since"


async def test_fraud_is_believed_by_proof_only_and_from_fellows_only(full: Court) -> None:
    channel = await paid(full)
    who = await liar(full, channel)
    docs = (who.close_at(1, 100), who.pays[2])
    innocent = FraudProof("STALE_CLAIM", (who.pays[0], who.pays[1]))
    reporter = Liar.as_member(full.witnesses[1], who)
    judge = full.witnesses[0]
    assert (await reporter.say(judge.id, innocent)).kind == "Declined"
    assert judge.blacklisted == {}
    assert (await reporter.say(judge.id, FraudProof("STALE_CLAIM", docs))).kind == "Taken"
    await until(lambda: who.identity.peer_id in judge.blacklisted)
    again = FraudProof("STALE_CLAIM", docs[::-1])
    judge.blacklisted.clear()
    assert (await reporter.say(judge.id, again)).kind == "Taken"
    assert judge.blacklisted == {}, "one fault is punished once"
    full.b.members.remove(reporter.identity.peer_id)
    assert (await reporter.say(full.b.id, FraudProof("STALE_CLAIM", docs))).kind == "Declined"


@pytest.mark.parametrize("line_of_crash", ["filing", "evidence", "ready", "verdict"])
async def test_a_witness_that_dies_after_a_commit_and_before_a_send(
    full: Court, line_of_crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on record is sent after the restart, and never signed anew."""
    channel = await paid(full)
    victim, *rest = full.witnesses
    await full.b.stop()
    for node in rest[1:]:
        await node.stop()  # three of four are needed, so the victim's words count
    await full.witnesses[2].revive()

    async def mute() -> None:
        await victim.disputes._post.stop()

    async def reborn() -> None:
        before = await signed(victim)
        await victim.stop()
        await victim.revive()
        assert before <= await signed(victim)

    async def signed(node: CourtNode) -> set[bytes]:
        return await node.db.read(
            lambda tx: {
                row[0]
                for table in ("receipts", "verdicts")
                for row in tx.execute(f"SELECT raw FROM dispute_{table} WHERE witness = ?", (node.id,))
            }
        )

    if line_of_crash == "filing":
        await mute()
    await full.a.disputes.dispute(channel)
    await until(lambda: victim.disputes.views() != [])
    if line_of_crash == "filing":
        await reborn()
    await full.heard(channel, full.a, victim, rest[0], rest[1])
    if line_of_crash == "evidence":
        await mute()
        docs = parts_of((await victim.db.read(lambda tx: store.submissions(tx, bytes.fromhex(channel))))[0][1])[0]
        await full.a.disputes.evidence(channel, docs[:1])
        await until(lambda: victim.case(channel).evidence_mine == 2)
        await reborn()
    if line_of_crash == "ready":
        await mute()
    if line_of_crash == "verdict":
        real = Unit.mail

        def only_ready(unit: Unit, to: object, case: bytes, raw: bytes) -> None:
            real(unit, to, case, raw)  # type: ignore[arg-type]
            if take(raw).kind == "Verdict" and unit.me == victim.id:
                unit.out.mailed.clear()

        monkeypatch.setattr(Unit, "mail", only_ready)
    full.shift(DAY + 60)
    if line_of_crash in ("ready", "verdict"):
        await until(lambda: next(w for w in victim.case(channel).witnesses if w.peer_id == victim.id).state != "heard")
        if line_of_crash == "verdict":
            await until(lambda: victim.disputes.verdict(channel).signed_by_me)
        monkeypatch.undo()
        await reborn()
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_450, 5_550)
    assert await full.a.disputes.frauds("") == []
    assert len(await signed(victim)) <= 2


async def test_a_party_that_dies_between_the_verdict_and_its_closing(
    full: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await paid(full)
    await full.b.stop()

    async def dies(*_: object) -> None:
        return None

    monkeypatch.setattr(full.a.disputes, "_decide", dies)
    await full.a.disputes.dispute(channel)
    await full.heard(channel, full.a, *full.witnesses)
    full.shift(DAY + HOUR)
    await until(lambda: full.a.case(channel).state == "decided")
    assert full.a.service.view(channel).state == "disputed"
    await full.a.stop()
    await full.a.revive()
    await full.closed(channel, full.a)
    assert full.a.balance(channel) == ("closed", "verdict", 9_450, 5_550)
    assert full.a.service.owed() == (0, 550)
