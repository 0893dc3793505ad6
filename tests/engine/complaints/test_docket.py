"""Hostile complaints, verdicts and refunds; and honest ones in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.channels.rig import identity
from tests.engine.complaints.docs import NOW_US, WITNESSES, Papers, opening, params, unit
from tests.engine.jobs.docs import EXECUTOR, PAYER
from zstui.engine.channels.disputes import fault_store
from zstui.engine.channels.disputes.protocol import Busy
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import take
from zstui.engine.complaints import docket, portable, store
from zstui.engine.complaints.messages import KINDS, Heard
from zstui.engine.complaints.model import decide, examine, receipts_result, result_of
from zstui.engine.errors import ProtocolError, Refused
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.receipt import files_hash

PAPERS = Papers()
COMPLAINT = PAPERS.raw()


def deliver(at: Unit, raw: bytes, sender: Identity | None = None) -> None:
    """As the disputes' protocol does, but for the network."""
    signed = take(raw)
    body = msgspec.msgpack.decode(signed.body, type=KINDS[signed.kind])
    docket.carry_out(at, signed.signer if sender is None else sender.peer_id, signed, body)


def state(at: Unit) -> str:
    case = store.load(at.tx, PAPERS.case)
    return "" if case is None else case.state


def verdict_by(number: int, **changes: object) -> bytes:
    return seal(WITNESSES[number], PAPERS.verdict(**changes))  # type: ignore[arg-type]


# --- complaints ------------------------------------------------------------------------------------------------------


def test_a_complete_complaint_says_what_was_paid() -> None:
    claim = examine(COMPLAINT)
    assert (claim.paid_u, claim.refund_u) == (PAPERS.due, PAPERS.due)
    assert (claim.payer, claim.executor) == (PAYER.peer_id, EXECUTOR.peer_id)


def test_no_more_is_returned_than_was_due() -> None:
    twice = Papers()
    raw = twice.raw(pays=(twice.paid(twice.due * 3),), ack=twice.acked(twice.paid(twice.due * 3)))
    claim = examine(raw)
    assert (claim.paid_u, claim.refund_u) == (twice.due * 3, twice.due)


def _other() -> Papers:
    return Papers({"active_us": 1_000_000})


HOSTILE: dict[str, Callable[[Papers], bytes]] = {
    "by the executor": lambda p: p.raw(EXECUTOR),
    "by a stranger": lambda p: p.raw(identity(77)),
    "another channel's terms": lambda p: p.raw(opening=opening(params(1))),
    "no witnesses": lambda p: p.raw(ch=Papers(panel=0).ch, opening=opening(params(0))),
    "one signature twice": lambda p: p.raw(opening=replace(p.body.opening, sig_hi=p.body.opening.sig_lo)),
    "an agreement signed by one": lambda p: p.raw(agreements=(p.body.agreements[0],) * 2),
    "another job's manifest": lambda p: p.raw(manifest=seal(PAYER, replace(p.claim().manifest, nonce=b"x" * 16))),
    "another job's receipt": lambda p: p.raw(receipt=Papers({"agreement": bytes(32)}).job.receipt),
    "a receipt by the payer": lambda p: p.raw(receipt=seal(PAYER, p.receipt)),
    "a run that cannot be repeated": lambda p: Papers({"status": "timeout", "ok": False, "fault": "payer"}).raw(),
    "a free job": lambda p: Papers({"total_due_u": 0}).raw(pays=(p.pay,), ack=p.acked(p.pay)),
    "nothing paid for it": lambda p: p.raw(pays=(seal(PAYER, _unrelated(p)),), ack=p.acked(seal(PAYER, _unrelated(p)))),
    "a payment by the executor": lambda p: p.raw(pays=(seal(EXECUTOR, _pay(p)),)),
    "a payment on another channel": lambda p: p.raw(pays=(p.paid(p.due, ch=bytes(32)),)),
    "a payment past the acknowledgement": lambda p: p.raw(pays=(p.pay, p.paid(p.due, 2))),
    "the same payment twice": lambda p: p.raw(pays=(p.pay, p.pay)),
    "another payment than was acknowledged": lambda p: p.raw(pays=(p.paid(p.due * 2),)),
    "its own acknowledgement": lambda p: p.raw(ack=p.acked(p.pay, PAYER)),
    "an acknowledgement on another channel": lambda p: p.raw(ack=p.acked(p.pay, ch=bytes(32))),
    "no acknowledgement": lambda p: p.raw(ack=p.job.receipt),
    "noise": lambda p: p.raw(receipt=b"\xff" * 40),
}


def _pay(p: Papers) -> Any:
    from zstui.engine.channels.messages import Pay, read

    return read(take(p.pay), Pay)


def _unrelated(p: Papers) -> Any:
    pay = _pay(p)
    return replace(pay, lines=(replace(pay.lines[0], agreement=b"z" * 32),))


@pytest.mark.parametrize("forge", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_complaint_that_proves_nothing_is_refused(forge: Callable[[Papers], bytes]) -> None:
    with pytest.raises(ProtocolError):
        examine(forge(PAPERS))


def test_only_who_agreed_to_judge_between_the_two_hears_it() -> None:
    at = unit(WITNESSES[0])
    at.tx.execute("DELETE FROM dispute_consents")
    with pytest.raises(Refused, match="did not agree"):
        deliver(at, COMPLAINT)
    with pytest.raises(Refused, match="no part"):
        deliver(unit(PAYER), COMPLAINT)
    with pytest.raises(Refused, match="parties and witnesses"):
        deliver(unit(WITNESSES[0]), COMPLAINT, identity(77))


def test_one_payer_gets_a_few_cases_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at = unit(WITNESSES[0])
    deliver(at, COMPLAINT)
    another = Papers({"active_us": 1_500_000})
    assert another.case == PAPERS.case, "of one agreement there is one case, whatever is complained of"
    deliver(at, another.raw())
    assert store.count_witnessed(at.tx) == 1
    monkeypatch.setattr(docket, "MAX_CASES_OF_PEER", 1)
    at.tx.execute("UPDATE complaint_case SET id = x'00'")
    with pytest.raises(Busy):
        deliver(at, COMPLAINT)


# --- what a run shows ------------------------------------------------------------------------------------------------


def ended(**changes: object) -> Ended:
    r = PAPERS.receipt
    same = Ended(status=r.status, fault="none", reason="", exit_code=r.exit_code, gas=1, gas_exact=True)
    return msgspec.structs.replace(same, **changes)


def test_each_part_of_a_result_counts_and_gas_does_not() -> None:
    claim = PAPERS.claim()
    right = PAPERS.receipt.output_hash
    assert decide(claim, ended(), right).finding == "rejected"
    for how, output in (
        (ended(), b"o" * 32),
        (ended(exit_code=3), right),
        (ended(status="failure", fault="payer", exit_code=None), right),
        (ended(results=("7",)), right),
    ):
        verdict = decide(claim, how, output)
        assert (verdict.finding, verdict.refund_u) == ("upheld", PAPERS.due)
    for silent in (None, ended(status="timeout"), ended(fault="executor")):
        assert decide(claim, silent).finding == "unjudgeable"
    assert result_of("success", 0, right, files_hash(()), ()) == receipts_result(PAPERS.receipt)


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def judge() -> Unit:
    at = unit(WITNESSES[0])
    deliver(at, COMPLAINT)
    return at


def test_a_byzantine_witness_with_two_of_four_offline(judge: Unit) -> None:
    deliver(judge, verdict_by(1, finding="rejected"))
    docket.sign(judge, PAPERS.case, PAPERS.verdict())
    assert state(judge) == "open"
    deliver(judge, verdict_by(2))
    assert state(judge) == "open", "two of four decide nothing"
    deliver(judge, verdict_by(3))
    assert state(judge) == "upheld"


def test_a_witness_that_signs_twice_proves_its_own_fraud(judge: Unit) -> None:
    deliver(judge, verdict_by(1))
    deliver(judge, verdict_by(1))
    assert fault_store.load(judge.tx) == []
    deliver(judge, verdict_by(1, finding="rejected"))
    (fault,) = fault_store.load(judge.tx)
    assert (fault.culprit, fault.kind, fault.proven) == (WITNESSES[1].peer_id, "DOUBLE_VERDICT", True)
    assert [proof.kind for proof in judge.out.proofs] == ["DOUBLE_VERDICT"]
    deliver(judge, verdict_by(2))
    docket.sign(judge, PAPERS.case, PAPERS.verdict())
    assert state(judge) == "upheld", "its first word counts"


def test_verdicts_that_do_not_count(judge: Unit) -> None:
    with pytest.raises(ProtocolError, match="Only a witness"):
        deliver(judge, seal(EXECUTOR, PAPERS.verdict()))
    with pytest.raises(Refused):
        deliver(judge, seal(identity(77), PAPERS.verdict()))
    for number in (1, 2, 3):
        deliver(judge, verdict_by(number, refund_u=PAPERS.due * 2))
    assert state(judge) == "open", "no verdict asks for more than was paid"
    other = unit(WITNESSES[0])
    deliver(other, COMPLAINT)
    for number in (1, 2, 3):
        deliver(other, verdict_by(number, complaint=bytes(32)))
    assert state(other) == "open", "nor is one on another complaint of the same payer"


def test_i_sign_once_whatever_i_find_later(judge: Unit) -> None:
    docket.sign(judge, PAPERS.case, PAPERS.verdict())
    docket.sign(judge, PAPERS.case, PAPERS.verdict("unjudgeable"))
    assert len(store.verdicts(judge.tx, PAPERS.case)) == 1
    assert fault_store.load(judge.tx) == []


# --- refunds ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def upheld(judge: Unit) -> Unit:
    for number in (1, 2, 3):
        deliver(judge, verdict_by(number))
    assert state(judge) == "upheld"
    return judge


@pytest.mark.parametrize(
    "shown",
    [
        seal(PAYER, PAPERS.refund()),
        seal(EXECUTOR, PAPERS.refund(PAYER)),
        seal(EXECUTOR, PAPERS.refund(amount=PAPERS.due - 1)),
        seal(EXECUTOR, PAPERS.refund(cum=10**8)),
        seal(EXECUTOR, PAPERS.refund(ch=bytes(32))),
        seal(EXECUTOR, replace(PAPERS.refund(), opening=opening(params(1)))),
        seal(EXECUTOR, replace(PAPERS.refund(), pay=PAPERS.pay)),
    ],
    ids=[
        "by the payer",
        "paid by the payer",
        "too little",
        "overdrawn",
        "no channel",
        "another channel",
        "the payment",
    ],
)
def test_a_refund_is_believed_only_where_the_executor_signed_it(upheld: Unit, shown: bytes) -> None:
    with pytest.raises(ProtocolError):
        deliver(upheld, shown)
    assert state(upheld) == "upheld"


def test_a_refund_in_time_is_no_fault_and_a_late_one_is(upheld: Unit) -> None:
    case = store.load(upheld.tx, PAPERS.case)
    assert case is not None
    early = unit(WITNESSES[0], docket.fault_at(case) - 1, upheld.tx)
    docket.expire(early, PAPERS.case)
    assert state(upheld) == "upheld"
    late = unit(WITNESSES[0], docket.fault_at(case), upheld.tx)
    docket.expire(late, PAPERS.case)
    docket.expire(late, PAPERS.case)
    assert state(upheld) == "unpaid"
    (penalty,) = late.out.penalties
    fault = penalty.fault
    assert (fault.culprit, fault.until_us - fault.at_us) == (EXECUTOR.peer_id, 86_400_000_000)
    assert set(fault.parties or ()) == {PAYER.peer_id, EXECUTOR.peer_id}, "it counts in the guilds of the two alone"
    deliver(upheld, seal(EXECUTOR, PAPERS.refund()))
    assert state(upheld) == "refunded"


# --- any order -------------------------------------------------------------------------------------------------------

MESSAGES = (
    COMPLAINT,
    *(seal(w, Heard(PAPERS.case, examine(COMPLAINT).digest, NOW_US // 1000)) for w in WITNESSES),
    *(verdict_by(number) for number in (1, 2, 3)),
    seal(EXECUTOR, PAPERS.refund()),
)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(len(MESSAGES))), st.lists(st.sampled_from(range(len(MESSAGES))), max_size=8))
def test_messages_in_any_order_and_any_number_of_times_come_to_the_same(order: Sequence[int], again: list[int]) -> None:
    at = unit(WITNESSES[0])
    waiting = [*order, *again]
    for _ in range(len(MESSAGES)):
        busy = []
        for number in waiting:
            try:
                deliver(at, MESSAGES[number], EXECUTOR)
            except Busy:
                busy.append(number)
        waiting = busy
    assert not waiting
    assert state(at) == "refunded"
    assert len(store.heard(at.tx, PAPERS.case)) == 4
    assert fault_store.load(at.tx) == []


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_verdict_as_a_file_verifies_and_every_change_is_found() -> None:
    verdicts = tuple(verdict_by(number) for number in (1, 2, 3))
    good = portable.as_file(COMPLAINT, verdicts)
    assert all(check.ok for check in portable.verify_file(good))
    forged: list[dict[str, object]] = [
        portable.as_file(COMPLAINT, verdicts[:2]),
        portable.as_file(COMPLAINT, (verdicts[0],) * 3),
        portable.as_file(COMPLAINT, (*verdicts[:2], seal(PAYER, PAPERS.verdict()))),
        portable.as_file(COMPLAINT, tuple(verdict_by(n, refund_u=1) for n in (1, 2, 3))),
        portable.as_file(COMPLAINT, tuple(verdict_by(n, finding="rejected") for n in (1, 2, 3))),
        good | {"finding": "rejected"},
        good | {"refund_u": 1},
        good | {"complaint": "AAAA"},
        good | {"verdicts": []},
        good | {"zerostate_output_verdict": 2},
        {"zerostate_output_verdict": 1},
    ]
    for content in forged:
        checks = portable.verify_file(content)
        assert not all(check.ok for check in checks)
        assert all(check.detail for check in checks)
