"""Proofs of fraud: what proves one, what does not, and the file that anyone can verify."""

from __future__ import annotations

import pytest

from tests.engine.channels.disputes.ledger import HI, LO, WITNESSES
from tests.engine.channels.rig import line
from zstui.engine.channels.disputes.faults import as_file, find, prove, verify_file
from zstui.engine.channels.disputes.messages import FraudProof, Verdict
from zstui.engine.channels.messages import Close, Pay, Reestablish, take
from zstui.engine.channels.state import Half, next_pay
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import seal

CH = b"c" * 32
START = Half.start(CH)


def pay(amount: int, out: Half = START, issued: int = 1) -> Pay:
    return next_pay(CH, out, START, (line(amount, no=1),), issued)


def raw(body: Pay) -> bytes:
    return seal(LO, body)


FIRST = pay(5)
AFTER = START.after(FIRST, take(raw(FIRST)).digest)
OTHER = pay(7)
OTHER_AFTER = START.after(OTHER, take(raw(OTHER)).digest)
SECOND = pay(3, AFTER)
CLOSE = Close(CH, 1, 5, AFTER.head)
WHERE = Reestablish(CH, "active", 1, b"x" * 32, 0, 0, CH, b"", b"", b"", False)
VERDICTS = (Verdict(CH, 5, 0, 5, 15, ()), Verdict(CH, 6, 0, 4, 16, ()))


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        ("FORK", raw(FIRST), raw(OTHER)),
        ("FORK", raw(FIRST), raw(pay(3, OTHER_AFTER))),
        ("FORK", raw(OTHER), seal(LO, CLOSE)),
        ("FORK", seal(LO, CLOSE), seal(LO, Close(CH, 1, 6, AFTER.head))),
        ("FORK", raw(FIRST), seal(LO, WHERE)),
        ("STALE_CLAIM", seal(LO, CLOSE), raw(SECOND)),
        ("DOUBLE_VERDICT", seal(WITNESSES[0], VERDICTS[0]), seal(WITNESSES[0], VERDICTS[1])),
    ],
)
def test_what_proves_a_fault(kind: str, a: bytes, b: bytes) -> None:
    for docs in ((a, b), (b, a)):
        proof = find((b"noise", *docs))
        assert proof is not None
        assert proof.kind == kind
        assert proof.culprit == take(a).signer
        assert proof.words.endswith(".")
        assert prove(FraudProof(proof.kind, docs)) == proof
        content = as_file(proof)
        again, checks = verify_file(content)
        assert again == proof
        assert all(check.ok for check in checks)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (raw(FIRST), raw(FIRST)),
        (raw(FIRST), raw(SECOND)),
        (raw(FIRST), seal(HI, OTHER)),
        (raw(FIRST), seal(LO, next_pay(b"d" * 32, Half.start(b"d" * 32), Half.start(b"d" * 32), (line(9),), 1))),
        (raw(FIRST), seal(LO, CLOSE)),
        (seal(WITNESSES[0], VERDICTS[0]), seal(WITNESSES[1], VERDICTS[1])),
        (raw(FIRST), raw(FIRST)[:-1] + b"\0"),
    ],
)
def test_what_proves_nothing(a: bytes, b: bytes) -> None:
    assert find((a, b)) is None
    with pytest.raises(ProtocolError):
        prove(FraudProof("FORK", (a, b)))


def test_a_proof_says_what_it_proves() -> None:
    with pytest.raises(ProtocolError):
        prove(FraudProof("STALE_CLAIM", (raw(FIRST), raw(OTHER))))


@pytest.mark.parametrize(
    "change",
    [
        {"culprit": HI.peer_id},
        {"words": "It is innocent."},
        {"documents": []},
        {"documents": ["!", "!"]},
        {"documents": 5},
        {"kind": "FALSE_ACK"},
        {"kind": 7},
        {"zerostate_fraud_proof": 2},
    ],
)
def test_a_changed_file_does_not_verify(change: dict[str, object]) -> None:
    proof = find((raw(FIRST), raw(OTHER)))
    assert proof is not None
    _, checks = verify_file(as_file(proof) | change)
    assert not all(check.ok for check in checks)
